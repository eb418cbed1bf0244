package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func testCredentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: testAccess, SecretAccessKey: testSecret}
}

func s3Rules(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }

// sent returns r as a server receives it.
func sent(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&b))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustRequest(t testing.TB, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// signed returns a request that the SDK's signer signed for S3 at now.
func signed(t testing.TB, r *http.Request, payload string) *http.Request {
	t.Helper()
	r.Header.Set("X-Amz-Content-Sha256", payload)
	err := v4.NewSigner(s3Rules).SignHTTP(t.Context(), testCredentials(), r, payload, "s3", "eu-west-1", now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify_HeaderAgainstSDKSigner(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	tests := []struct {
		name, method, url string
		headers           map[string]string
	}{
		{"plain", "GET", "http://127.0.0.1:7480/bucket/key", nil},
		{"service", "GET", "http://127.0.0.1:7480/", nil},
		{"no path", "GET", "http://bucket.example.com", nil},
		{"list", "GET", "http://h/b?list-type=2&prefix=a%2Fb&delimiter=%2F&continuation-token=a%2Bb%3D", nil},
		{"valueless", "PUT", "http://h/b?notification", nil},
		{"same name", "GET", "http://h/b?b=2&a=2&a=1&A=0", nil},
		{"blank", "GET", "http://h/b?prefix=a%20b", nil},
		{"odd key", "PUT", "http://h/b/a%20b+c/%C3%A4%21%27%28%29%2A;=@$,:&x//y/../z", nil},
		{"percent", "PUT", "http://h/b/100%25%2541", nil},
		{"tilde", "PUT", "http://h/b/~a-b_c.d", nil},
		{"spaces", "PUT", "http://h/b/k", map[string]string{"X-Amz-Meta-A": "  a   b  c ", "Content-Type": "text/plain"}},
		{"utf8", "PUT", "http://h/b/k", map[string]string{"X-Amz-Meta-A": "grün"}},
		{"expect", "PUT", "http://h/b/k", map[string]string{"Range": "bytes=0-1", "If-Match": `"x"`}},
		{"empty header", "PUT", "http://h/b/k", map[string]string{"X-Amz-Meta-Empty": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRequest(t, tt.method, tt.url, "data")
			for k, h := range tt.headers {
				r.Header.Set(k, h)
			}
			got, err := v.Verify(sent(t, signed(t, r, hashOf("data"))))
			if err != nil {
				t.Fatalf("Verify = %v", err)
			}
			if got.UID() != "tester" || got.AccessKey != testAccess || got.Service != "s3" || !got.PayloadSigned || got.Presigned {
				t.Errorf("Verify = %+v", got)
			}
			body, err := io.ReadAll(got.Body)
			if string(body) != "data" || err != nil {
				t.Errorf("body = %q, %v", body, err)
			}
		})
	}
}

func TestVerify_HeaderRefusals(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now), Region: "eu-west-1"})
	auth := func(r *http.Request, old, with string) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
	}
	tests := []struct {
		name   string
		change func(r *http.Request)
		want   string
	}{
		{"other method", func(r *http.Request) { r.Method = "DELETE" }, CodeSignatureDoesNotMatch},
		{"other path", func(r *http.Request) { r.URL.Path += "x" }, CodeSignatureDoesNotMatch},
		{"other query", func(r *http.Request) { r.URL.RawQuery = "x=1" }, CodeSignatureDoesNotMatch},
		{"other host", func(r *http.Request) { r.Host = "evil" }, CodeSignatureDoesNotMatch},
		{"other header", func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "z") }, CodeSignatureDoesNotMatch},
		{"header gone", func(r *http.Request) { r.Header.Del("X-Amz-Meta-A") }, CodeSignatureDoesNotMatch},
		{"other hash", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hashOf("x")) }, CodeSignatureDoesNotMatch},
		{"header added", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, CodeAccessDenied},
		{"unsigned hash", func(r *http.Request) { auth(r, "x-amz-content-sha256;", "") }, CodeAccessDenied},
		{"host not signed", func(r *http.Request) { auth(r, "host;", "") }, CodeHeaderMalformed},
		{"no hash", func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, CodeInvalidRequest},
		{"unknown key", func(r *http.Request) { auth(r, testAccess, "AKIDUNKNOWN") }, CodeInvalidAccessKeyID},
		{"odd key", func(r *http.Request) { auth(r, testAccess, "../user/x") }, CodeInvalidAccessKeyID},
		{"suspended", func(r *http.Request) {}, ""},
		{"region", func(r *http.Request) { auth(r, "eu-west-1", "us-east-1") }, CodeHeaderMalformed},
		{"service", func(r *http.Request) { auth(r, "/s3/", "/ec2/") }, CodeHeaderMalformed},
		{"terminator", func(r *http.Request) { auth(r, "aws4_request", "aws5_request") }, CodeHeaderMalformed},
		{"short credential", func(r *http.Request) { auth(r, "/s3/aws4_request", "") }, CodeHeaderMalformed},
		{"short signature", func(r *http.Request) { auth(r, "Signature=", "Signature=0") }, CodeHeaderMalformed},
		{"no signature", func(r *http.Request) { auth(r, "Signature=", "X=") }, CodeHeaderMalformed},
		{"twice", func(r *http.Request) { auth(r, "Signature=", "Signature=00,Signature=") }, CodeHeaderMalformed},
		{"scope of another day", func(r *http.Request) { auth(r, "20260304/", "20260303/") }, CodeHeaderMalformed},
		{"bad date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "Bad Date") }, CodeAccessDenied},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, CodeAccessDenied},
		{"token", func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, CodeInvalidToken},
		{"old", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260304T045000Z") }, CodeRequestTimeTooSkewed},
		{"early", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260304T052200Z") }, CodeRequestTimeTooSkewed},
		{"scheme", func(r *http.Request) { auth(r, "AWS4-HMAC-SHA256", "Bearer") }, CodeInvalidArgument},
		{"ecdsa", func(r *http.Request) { auth(r, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256") }, CodeInvalidArgument},
		{"only scheme", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") }, CodeHeaderMalformed},
		{"both", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=x" }, CodeInvalidArgument},
		{"both, version 2", func(r *http.Request) { r.URL.RawQuery = "AWSAccessKeyId=x&Signature=y" }, CodeInvalidArgument},
		{"bad escape", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, CodeInvalidURI},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRequest(t, "PUT", "http://h/b/k?tagging", "data")
			r.Header.Set("X-Amz-Meta-A", "a")
			r = sent(t, signed(t, r, hashOf("data")))
			tt.change(r)
			if _, err := v.Verify(r); code(err) != tt.want {
				t.Errorf("Verify = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestVerify_Suspended(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	r := mustRequest(t, "GET", "http://h/b", "")
	r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
	c := aws.Credentials{AccessKeyID: "GONEGONEGONEGONEGONE", SecretAccessKey: testSecret}
	if err := v4.NewSigner(s3Rules).SignHTTP(t.Context(), c, r, emptySHA256, "s3", "x", now); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(sent(t, r)); code(err) != CodeUserSuspended {
		t.Errorf("Verify = %v, want UserSuspended", err)
	}
}

func TestVerify_MismatchShowsWhatWasSigned(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	r := sent(t, signed(t, mustRequest(t, "GET", "http://h/b", ""), emptySHA256))
	r.Method = "HEAD"
	_, err := v.Verify(r)
	e, ok := err.(*Error)
	if !ok || e.Code != CodeSignatureDoesNotMatch {
		t.Fatalf("Verify = %v", err)
	}
	details := map[string]string{}
	for _, d := range e.Details {
		details[d.Name] = d.Value
	}
	if !strings.HasPrefix(details["CanonicalRequest"], "HEAD\n/b\n\nhost:h\n") ||
		!strings.HasPrefix(details["StringToSign"], "AWS4-HMAC-SHA256\n20260304T050607Z\n20260304/eu-west-1/s3/aws4_request\n") ||
		details["AWSAccessKeyId"] != testAccess {
		t.Errorf("details = %q", details)
	}
	for _, d := range e.Details {
		if strings.Contains(d.Value, testSecret) {
			t.Errorf("%s shows the secret", d.Name)
		}
	}
}

func TestVerify_AcceptEncodingRewritten(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	for _, tt := range []struct {
		was, is string
		want    string
	}{
		{"identity", "identity,gzip(gfe)", ""},
		{"identity", "gzip, br", ""},
		{"gzip", "br", ""},
		{"gzip", "gzip, br", ""},
		{"identity", "", ""},
		{"deflate", "br", CodeSignatureDoesNotMatch},
	} {
		// The SDK's signer leaves accept-encoding out; older ones do not.
		r := mustRequest(t, "GET", "http://h/b/k", "")
		r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
		r.Header.Set("X-Amz-Date", now.Format(layout4))
		r.Header.Set("Accept-Encoding", tt.was)
		signByHand(r, "accept-encoding;host;x-amz-content-sha256;x-amz-date", "s3")
		r = sent(t, r)
		r.Header.Set("Accept-Encoding", tt.is)
		if tt.is == "" {
			r.Header.Del("Accept-Encoding")
		}
		if _, err := v.Verify(r); code(err) != tt.want {
			t.Errorf("%q rewritten to %q: Verify = %v, want %q", tt.was, tt.is, err, tt.want)
		}
	}
}

// signByHand signs exactly the given headers; each must have one simple value.
func signByHand(r *http.Request, headers, service string) {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n")
	for name := range strings.SplitSeq(headers, ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		b.WriteString(name + ":" + value + "\n")
	}
	b.WriteString("\n" + headers + "\n" + r.Header.Get("X-Amz-Content-Sha256"))
	scope := now.Format("20060102") + "/eu-west-1/" + service + "/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + now.Format(layout4) + "\n" + scope + "\n" + hashOf(b.String())
	h := hmac.New(sha256.New, deriveKey(testSecret, now.Format("20060102"), "eu-west-1", service)[:])
	h.Write([]byte(toSign))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+testAccess+"/"+scope+
		",SignedHeaders="+headers+",Signature="+hex.EncodeToString(h.Sum(nil)))
}

func TestVerify_SpecialHeaders(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	t.Run("Date instead of x-amz-date", func(t *testing.T) {
		r := mustRequest(t, "GET", "http://h/b/k", "")
		r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
		r.Header.Set("Date", now.Format(http.TimeFormat))
		signByHand(r, "date;host;x-amz-content-sha256", "s3")
		if _, err := v.Verify(sent(t, r)); err != nil {
			t.Errorf("Verify = %v", err)
		}
	})
	t.Run("content-length", func(t *testing.T) {
		r := mustRequest(t, "PUT", "http://h/b/k", "data")
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		r.Header.Set("X-Amz-Date", now.Format(layout4))
		signByHand(r, "content-length;host;x-amz-content-sha256;x-amz-date", "s3")
		if _, err := v.Verify(sent(t, r)); err != nil {
			t.Errorf("Verify = %v", err)
		}
	})
	t.Run("transfer-encoding and user-agent", func(t *testing.T) {
		r := mustRequest(t, "PUT", "http://h/b/k", "data")
		r.ContentLength = -1
		r.Body = io.NopCloser(io.LimitReader(strings.NewReader("data"), 4))
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		r.Header.Set("X-Amz-Date", now.Format(layout4))
		r.Header.Set("User-Agent", "me")
		r.Header.Set("Expect", "100-continue")
		r.Header.Set("Transfer-Encoding", "chunked")
		signByHand(r, "expect;host;transfer-encoding;user-agent;x-amz-content-sha256;x-amz-date", "s3")
		r.Header.Del("Transfer-Encoding")
		if _, err := v.Verify(sent(t, r)); err != nil {
			t.Errorf("Verify = %v", err)
		}
	})
	t.Run("repeated", func(t *testing.T) {
		r := mustRequest(t, "PUT", "http://h/b/k", "")
		r.Header["X-Amz-Meta-A"] = []string{"one", " two"}
		r = signed(t, r, emptySHA256)
		if _, err := v.Verify(sent(t, r)); err != nil {
			t.Errorf("Verify = %v", err)
		}
	})
}

func TestVerify_SNSWithoutHash(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	const form = "Action=ListTopics&Version=2010-03-31"
	r := mustRequest(t, "POST", "http://h/", form)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := v4.NewSigner().SignHTTP(t.Context(), testCredentials(), r, hashOf(form), "sns", "default", now); err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(sent(t, r))
	if err != nil {
		t.Fatalf("Verify = %v", err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || string(body) != form || got.Service != "sns" || got.DecodedLength != int64(len(form)) {
		t.Errorf("body = %q, %v; %+v", body, err, got)
	}
	r.Body = io.NopCloser(strings.NewReader(form))
	other := sent(t, r)
	other.Body = io.NopCloser(strings.NewReader(strings.Replace(form, "List", "Kill", 1)))
	if _, err := v.Verify(other); code(err) != CodeSignatureDoesNotMatch {
		t.Errorf("another form: Verify = %v", err)
	}
	r.Body = io.NopCloser(strings.NewReader(form))
	long := sent(t, r)
	long.ContentLength = MaxFormBody + 1
	if _, err := v.Verify(long); code(err) != CodeEntityTooLarge {
		t.Errorf("a long form: Verify = %v", err)
	}
}

func presigned(t testing.TB, r *http.Request, expires string) *http.Request {
	t.Helper()
	q := r.URL.Query()
	q.Set("X-Amz-Expires", expires)
	r.URL.RawQuery = q.Encode()
	uri, headers, err := v4.NewSigner(s3Rules).PresignHTTP(t.Context(), testCredentials(), r, "UNSIGNED-PAYLOAD", "s3", "eu-west-1", now)
	if err != nil {
		t.Fatal(err)
	}
	out := mustRequest(t, r.Method, uri, "data")
	for k, v := range headers {
		if k != "Host" {
			out.Header[k] = v
		}
	}
	return sent(t, out)
}

func TestVerify_Presigned(t *testing.T) {
	tests := []struct {
		name, expires string
		now           time.Time
		change        func(r *http.Request)
		want          string
	}{
		{"good", "60", now, nil, ""},
		{"last second", "60", now.Add(60 * time.Second), nil, ""},
		{"a week", "604800", now.Add(6 * 24 * time.Hour), nil, ""},
		{"expired", "60", now.Add(61 * time.Second), nil, CodeAccessDenied},
		{"clock behind", "60", now.Add(-14 * time.Minute), nil, ""},
		{"not yet", "60", now.Add(-16 * time.Minute), nil, CodeAccessDenied},
		{"too long", "604801", now, nil, CodeAccessDenied},
		{"far too long", "99999999999999999999999", now, nil, CodeAccessDenied},
		{"zero", "0", now, nil, CodeAccessDenied},
		{"negative", "-1", now, nil, CodeAccessDenied},
		{"words", "soon", now, nil, CodeQueryParameters},
		{"empty", "", now, nil, CodeQueryParameters},
		{"other method", "60", now, func(r *http.Request) { r.Method = "DELETE" }, CodeSignatureDoesNotMatch},
		{"query added", "60", now, func(r *http.Request) { r.URL.RawQuery += "&versionId=x" }, CodeSignatureDoesNotMatch},
		{"header added", "60", now, func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }, CodeAccessDenied},
		{"free header added", "60", now, func(r *http.Request) { r.Header.Set("Content-Type", "x") }, ""},
		{"signature twice", "60", now, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=x" }, CodeQueryParameters},
		{"token", "60", now, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Security-Token=x" }, CodeInvalidToken},
		{"no date", "60", now, func(r *http.Request) { replaceQuery(r, "X-Amz-Date", "") }, CodeQueryParameters},
		{"bad date", "60", now, func(r *http.Request) { replaceQuery(r, "X-Amz-Date", "2026") }, CodeQueryParameters},
		{"other day", "60", now, func(r *http.Request) { replaceQuery(r, "X-Amz-Date", "20260303T050607Z") }, CodeQueryParameters},
		{"algorithm", "60", now, func(r *http.Request) { replaceQuery(r, "X-Amz-Algorithm", "AWS4-HMAC-SHA1") }, CodeQueryParameters},
		{"credential", "60", now, func(r *http.Request) { replaceQuery(r, "X-Amz-Credential", "a/b") }, CodeQueryParameters},
		{"key", "60", now, func(r *http.Request) {
			replaceQuery(r, "X-Amz-Credential", "AKIDX/20260304/eu-west-1/s3/aws4_request")
		}, CodeInvalidAccessKeyID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newTestVerifier(t, VerifierOptions{Now: at(tt.now)})
			in := mustRequest(t, "PUT", "http://h:1/b/a%20b%2Bc?partNumber=1&uploadId=x%2Fy", "")
			in.Header.Set("X-Amz-Meta-A", "a")
			r := presigned(t, in, tt.expires)
			if tt.change != nil {
				tt.change(r)
			}
			got, err := v.Verify(r)
			if code(err) != tt.want {
				t.Fatalf("Verify = %v, want %q", err, tt.want)
			}
			if err == nil && (!got.Presigned || got.UID() != "tester" || got.PayloadSigned) {
				t.Errorf("Verify = %+v", got)
			}
		})
	}
}

func replaceQuery(r *http.Request, name, value string) {
	q := r.URL.Query()
	q.Set(name, value)
	r.URL.RawQuery = q.Encode()
}

func TestVerify_Anonymous(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{})
	r := httptest.NewRequest("PUT", "/b/k?acl", strings.NewReader("data"))
	got, err := v.Verify(r)
	if err != nil || !got.Anonymous() || got.DecodedLength != 4 {
		t.Fatalf("Verify = %+v, %v", got, err)
	}
	r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	if _, err := v.Verify(r); code(err) != CodeInvalidRequest {
		t.Errorf("signed chunks: Verify = %v", err)
	}
}

func TestVerify_ReadsNoBody(t *testing.T) {
	v := newTestVerifier(t, VerifierOptions{Now: at(now)})
	for _, payload := range []string{hashOf("x"), unsignedPayload, streamSigned, streamSignedTrailer, streamUnsignedTrailer} {
		r := mustRequest(t, "PUT", "http://h/b/k", "data")
		r.Header.Set("X-Amz-Decoded-Content-Length", "4")
		r = signed(t, r, payload)
		r.Body = io.NopCloser(untouchable{t})
		if _, err := v.Verify(r); err != nil {
			t.Errorf("%s: Verify = %v", payload, err)
		}
	}
}

type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestHMACSum(t *testing.T) {
	key := [32]byte{1, 2, 3}
	for _, n := range []int{0, 1, 63, 64, 65, 511, 512, 513, 5000} {
		msg := bytes.Repeat([]byte{'x'}, n)
		h := hmac.New(sha256.New, key[:])
		h.Write(msg)
		if got := hmacSum(&key, msg); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("hmacSum of %d bytes differs from crypto/hmac", n)
		}
	}
}

func TestSigningKeys_Bounded(t *testing.T) {
	var c signingKeys
	for i := range maxSigningKeys + 10 {
		s := &signature4{date: "20260101", region: strconv.Itoa(i), service: "s3"}
		k, cached := c.get(Key{"a", "b"}, s)
		if cached {
			t.Fatal("cached before it was remembered")
		}
		c.remember(Key{"a", "b"}, s, k)
		if again, cached := c.get(Key{"a", "b"}, s); !cached || again != k {
			t.Fatal("not cached")
		}
		if _, cached := c.get(Key{"a", "other"}, s); cached {
			t.Fatal("cached for another secret")
		}
	}
	if len(c.m) > maxSigningKeys {
		t.Errorf("%d entries", len(c.m))
	}
}

func BenchmarkVerify_Header(b *testing.B) {
	v := newTestVerifier(b, VerifierOptions{Now: at(now)})
	r := mustRequest(b, "PUT", "http://127.0.0.1:7480/bucket/some/key?x-id=PutObject", "data")
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Amz-Sdk-Invocation-Id", "0d4e0a5e-5f9b-4ec5-9a44-a1f3c8f4b5a6")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	r.Header.Set("X-Amz-Decoded-Content-Length", "4")
	r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
	r.Header.Set("X-Amz-Sdk-Checksum-Algorithm", "CRC32")
	r = sent(b, signed(b, r, streamUnsignedTrailer)).WithContext(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
