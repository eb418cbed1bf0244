package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

func TestVerify_Version2(t *testing.T) {
	tests := []struct {
		name, method, url string
		headers           map[string]string
		virtual           bool
	}{
		{"plain", "GET", "http://h:7480/bucket/key", nil, false},
		{"service", "GET", "http://h/", nil, false},
		{"sub-resources", "PUT", "http://h/b/k?uploadId=a%2Fb&partNumber=2&other=1", nil, false},
		{"valueless", "PUT", "http://h/b?notification", nil, false},
		{"overrides", "GET", "http://h/b/k?response-content-type=text%2Fplain&versionId=null", nil, false},
		{"list", "GET", "http://h/b?prefix=a&max-keys=3", nil, false},
		{"headers", "PUT", "http://h/b/k%20+x", map[string]string{"X-Amz-Meta-B": "b", "X-Amz-Acl": "private", "Content-Md5": "x", "Content-Type": "text/plain"}, false},
		{"virtual host", "GET", "http://bucket.example.com:7480/key?acl", nil, true},
		{"virtual host, root", "GET", "http://bucket.example.com/", nil, true},
	}
	v := newTestVerifier(t, VerifierOptions{Domains: []string{"Example.com"}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRequest(t, tt.method, tt.url, "")
			for k, h := range tt.headers {
				r.Header.Set(k, h)
			}
			got, err := v.Verify(sent(t, signer.SignV2(*r, testAccess, testSecret, tt.virtual)))
			if err != nil || got.UID() != "tester" || got.Presigned {
				t.Errorf("header: Verify = %+v, %v", got, err)
			}
			r = mustRequest(t, tt.method, tt.url, "")
			for k, h := range tt.headers {
				r.Header.Set(k, h)
			}
			got, err = v.Verify(sent(t, signer.PreSignV2(*r, testAccess, testSecret, 60, tt.virtual)))
			if err != nil || got.UID() != "tester" || !got.Presigned {
				t.Errorf("query: Verify = %+v, %v", got, err)
			}
		})
	}
}

// The way in which RGW's own test suite signs GetTopic and ListTopics.
func TestVerify_Version2OfRGWTests(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	r := mustRequest(t, "POST", "http://h/", "Action=ListTopics")
	date := time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000")
	const contentType = "application/x-www-form-urlencoded; charset=utf-8"
	r.Header.Set("Date", date)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "AWS "+testAccess+":"+sign2(testSecret, "POST\n\n"+contentType+"\n"+date+"\n/"))
	if got, err := v.Verify(sent(t, r)); err != nil || got.UID() != "tester" {
		t.Errorf("Verify = %+v, %v", got, err)
	}
}

func TestVerify_Version2AmzDate(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	r := mustRequest(t, "GET", "http://h/b", "")
	date := time.Now().UTC().Format(http.TimeFormat)
	r.Header.Set("X-Amz-Date", date)
	r.Header.Set("Date", "nonsense, but not looked at")
	r.Header.Set("Authorization", "AWS "+testAccess+":"+sign2(testSecret, "GET\n\n\n\nx-amz-date:"+date+"\n/b"))
	if _, err := v.Verify(sent(t, r)); err != nil {
		t.Errorf("Verify = %v", err)
	}
}

func TestVerify_Version2Refusals(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	auth := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", s) }
	}
	date := func(s string) func(*http.Request) { return func(r *http.Request) { r.Header.Set("Date", s) } }
	tests := []struct {
		name   string
		change func(r *http.Request)
		want   string
	}{
		{"garbage", auth("AWS HAHAHA"), CodeInvalidArgument},
		{"no signature", auth("AWS key:"), CodeInvalidArgument},
		{"unknown key", auth("AWS AKIAIGR7ZNNBHC5BKSUB:FWeDfwojDSdS2Ztmpfeubhd9isU="), CodeInvalidAccessKeyID},
		{"signature", auth("AWS " + testAccess + ":FWeDfwojDSdS2Ztmpfeubhd9isU="), CodeSignatureDoesNotMatch},
		{"method", func(r *http.Request) { r.Method = "DELETE" }, CodeSignatureDoesNotMatch},
		{"sub-resource", func(r *http.Request) { r.URL.RawQuery = "acl" }, CodeSignatureDoesNotMatch},
		{"header", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }, CodeSignatureDoesNotMatch},
		{"token", func(r *http.Request) { r.Header.Set(headerToken, "x") }, CodeInvalidToken},
		{"bad date", date("Bad Date"), CodeAccessDenied},
		{"no date", date(""), CodeAccessDenied},
		{"empty x-amz-date", func(r *http.Request) { r.Header[headerDate] = []string{""} }, CodeAccessDenied},
		{"before 1970", date("Tue, 07 Jul 1950 21:53:04 GMT"), CodeAccessDenied},
		{"old", date("Tue, 07 Jul 2010 21:53:04 GMT"), CodeRequestTimeTooSkewed},
		{"far", date("Tue, 07 Jul 9999 21:53:04 GMT"), CodeRequestTimeTooSkewed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sent(t, signer.SignV2(*mustRequest(t, "GET", "http://h/b", ""), testAccess, testSecret, false))
			tt.change(r)
			if _, err := v.Verify(r); code(err) != tt.want {
				t.Errorf("Verify = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestVerify_Version2QueryRefusals(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	past := strconv.FormatInt(time.Now().Unix()-1, 10)
	for _, tt := range []struct{ name, value, want string }{
		{"Expires", past, CodeAccessDenied},
		{"Expires", "-99999999999999999999", CodeAccessDenied},
		{"Expires", "", CodeAccessDenied},
		{"Expires", "99999999999", CodeSignatureDoesNotMatch},
		{"AWSAccessKeyId", "nobody", CodeInvalidAccessKeyID},
		{"Signature", "x", CodeSignatureDoesNotMatch},
		{"acl", "", CodeSignatureDoesNotMatch},
	} {
		r := sent(t, signer.PreSignV2(*mustRequest(t, "GET", "http://h/b", ""), testAccess, testSecret, 60, false))
		replaceQuery(r, tt.name, tt.value)
		if _, err := v.Verify(r); code(err) != tt.want {
			t.Errorf("%s=%s: Verify = %v, want %s", tt.name, tt.value, err, tt.want)
		}
	}
}

// fuzzRequest is a request with stranger's headers; nil if net/http would not
// let it in.
func fuzzRequest(method, target string) *http.Request {
	u, err := url.ParseRequestURI(target)
	if err != nil || method == "" {
		return nil
	}
	return &http.Request{Method: method, URL: u, Host: "h", Header: http.Header{}, Body: http.NoBody}
}

func FuzzSigV2(f *testing.F) {
	f.Add("/b/k?acl", "AWS "+testAccess+":FWeDfwojDSdS2Ztmpfeubhd9isU=", "Tue, 07 Jul 2026 21:53:04 GMT")
	f.Add("/?AWSAccessKeyId=a&Expires=1&Signature=b", "", "")
	f.Add("/b", "AWS :", "\x00")
	v := newTestVerifier(f, VerifierOptions{Domains: []string{"h"}})
	f.Fuzz(func(t *testing.T, target, authorization, date string) {
		r := fuzzRequest("GET", target)
		if r == nil {
			return
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Date", date)
		checkFuzzed(t, v, r)
	})
}

// checkFuzzed: nobody becomes somebody by chance, and refusals have codes.
func checkFuzzed(t *testing.T, v *Verifier, r *http.Request) {
	t.Helper()
	got, err := v.Verify(r)
	if strings.HasPrefix(code(err), "not an") {
		t.Fatalf("Verify = %v", err)
	}
	if err == nil && !got.Anonymous() {
		t.Fatalf("Verify took %v for %s", r.Header, got.UID())
	}
	if err == nil && got.Body == nil {
		t.Fatal("no Body")
	}
}

func FuzzSigV4Parse(f *testing.F) {
	const auth = "AWS4-HMAC-SHA256 Credential=" + testAccess + "/20260304/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + emptySHA256
	f.Add("GET", "/b/k?a=b&c", auth, "20260304T050607Z", emptySHA256)
	f.Add("PUT", "/", "AWS4-HMAC-SHA256", "", streamSigned)
	f.Add("PUT", "/", "AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;;,Signature=0", "", "")
	v := newTestVerifier(f, VerifierOptions{Now: at(now)})
	f.Fuzz(func(t *testing.T, method, target, authorization, date, hash string) {
		r := fuzzRequest(method, target)
		if r == nil {
			return
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		r.Header.Set("X-Amz-Content-Sha256", hash)
		checkFuzzed(t, v, r)
	})
}

func FuzzPresign(f *testing.F) {
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+testAccess+"%2F20260304%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260304T050607Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="+emptySHA256, "")
	f.Add("X-Amz-Signature", "x")
	f.Add("X-Amz-Algorithm=%zz", "")
	v := newTestVerifier(f, VerifierOptions{Now: at(now)})
	f.Fuzz(func(t *testing.T, query, token string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/b/k", RawQuery: query}, Host: "h", Header: http.Header{}, Body: http.NoBody}
		if token != "" {
			r.Header.Set(headerToken, token)
		}
		checkFuzzed(t, v, r)
	})
}

// presign2 returns a request whose query is signed over toSign, %s in which
// stands for the expiry.
func presign2(t *testing.T, method, target, toSign string) *http.Request {
	t.Helper()
	expires := strconv.FormatInt(time.Now().Unix()+60, 10)
	r := mustRequest(t, method, target, "")
	q := url.Values{"AWSAccessKeyId": {testAccess}, "Expires": {expires}, "Signature": {sign2(testSecret, fmt.Sprintf(toSign, expires))}}
	if r.URL.RawQuery != "" {
		r.URL.RawQuery += "&"
	}
	r.URL.RawQuery += q.Encode()
	return sent(t, r)
}

// Headers that a URL carries as parameters are honoured, so they are signed.
func TestVerify_Version2QueryHeaders(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	tests := []struct{ name, target, toSign, want string }{
		{"signed", "http://h/b/k?x-amz-meta-a=1&X-Amz-Acl=private", "PUT\n\n\n%s\nx-amz-acl:private\nx-amz-meta-a:1\n/b/k", ""},
		{"added", "http://h/b/k?x-amz-tagging=a%3Db", "PUT\n\n\n%s\n/b/k", CodeSignatureDoesNotMatch},
		{"changed", "http://h/b/k?x-amz-meta-a=2", "PUT\n\n\n%s\nx-amz-meta-a:1\n/b/k", CodeSignatureDoesNotMatch},
		{"two in one", "http://h/b/k?x-amz-meta-a=1%0Ax-amz-meta-b:2", "PUT\n\n\n%s\nx-amz-meta-a:1\nx-amz-meta-b:2\n/b/k", CodeSignatureDoesNotMatch},
		{"token", "http://h/b/k?x-amz-security-token=t", "PUT\n\n\n%s\nx-amz-security-token:t\n/b/k", CodeInvalidToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := v.Verify(presign2(t, "PUT", tt.target, tt.toSign)); code(err) != tt.want {
				t.Errorf("Verify = %v, want %q", err, tt.want)
			}
		})
	}
	r := presign2(t, "PUT", "http://h/b/k?x-amz-acl=private", "PUT\n\n\n%s\nx-amz-acl:private\n/b/k")
	r.Header.Set("X-Amz-Acl", "public-read")
	if _, err := v.Verify(r); code(err) != CodeSignatureDoesNotMatch {
		t.Errorf("another header: Verify = %v", err)
	}
}

// botocore signs the path of a bucket with a slash that it does not send.
func TestVerify_Version2BucketSlash(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	for target, want := range map[string]string{
		"http://h/b": "", "http://h/b/": "", "http://h/b/k": CodeSignatureDoesNotMatch, "http://h/c": CodeSignatureDoesNotMatch,
	} {
		if _, err := v.Verify(presign2(t, "GET", target, "GET\n\n\n%s\n/b/")); code(err) != want {
			t.Errorf("%s: Verify = %v, want %q", target, err, want)
		}
	}
}

// What is signed as two parameters must not come as one, whose value looks
// like both: the URL of a part would store an object.
func TestVerify_Version2MergedParameters(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	const toSign = "PUT\n\n\n%s\n/b/k?partNumber=1&uploadId=u"
	if _, err := v.Verify(presign2(t, "PUT", "http://h/b/k?uploadId=u&partNumber=1", toSign)); err != nil {
		t.Errorf("apart: Verify = %v", err)
	}
	if _, err := v.Verify(presign2(t, "PUT", "http://h/b/k?partNumber=1%26uploadId%3Du", toSign)); code(err) != CodeSignatureDoesNotMatch {
		t.Errorf("merged: Verify = %v, want %s", err, CodeSignatureDoesNotMatch)
	}
	const named = "GET\n\n\n%s\n/b/k?response-content-disposition=attachment; filename=\"a&b\""
	if _, err := v.Verify(presign2(t, "GET", "http://h/b/k?response-content-disposition="+url.QueryEscape(`attachment; filename="a&b"`), named)); err != nil {
		t.Errorf("a plain ampersand: Verify = %v", err)
	}
}

// Of nested domains the longest counts; a domain itself names no bucket.
func TestHostBucket(t *testing.T) {
	domains := []string{"example.com", "s3.example.com"}
	for host, want := range map[string]string{
		"b.example.com": "b", "B.example.com:7480": "b", "b.c.example.com": "b.c",
		"s3.example.com": "", "s3.example.com:80": "", "example.com": "", "b.s3.example.com": "b",
		".example.com": "", "bexample.com": "", "h": "", "": "", "[::1]:80": "", "example.com.": "",
	} {
		if got := HostBucket(host, domains); got != want {
			t.Errorf("HostBucket(%q) = %q, want %q", host, got, want)
		}
	}
}
