package s3api

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// presign returns a URL that alice signed, for any body.
func (f *fixture) presign(c call) *url.URL {
	f.t.Helper()
	req := f.request(call{user: "-", method: c.method, path: c.path})
	q := req.URL.Query()
	q.Set("X-Amz-Expires", "60")
	req.URL.RawQuery = q.Encode()
	creds := aws.Credentials{AccessKeyID: testAccessKey("alice"), SecretAccessKey: testSecretKey("alice")}
	req.ContentLength = 0
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now(),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		f.t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func TestPresigned_HeadersInQuery(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	u := f.presign(call{method: "PUT", path: "/bkt/k?x-amz-storage-class=GLACIER&x-amz-meta-a=b&x-amz-checksum-crc32=x"})
	f.wantError(400, codeInvalidRequest, call{user: "-", method: "PUT", path: u.RequestURI(), body: "hello"})
	u = f.presign(call{method: "PUT", path: "/bkt/k?x-amz-storage-class=GLACIER&x-amz-meta-a=b&x-amz-checksum-crc32=NhCmhg%3D%3D"})
	f.want(200, call{user: "-", method: "PUT", path: u.RequestURI(), body: "hello"})
	u = f.presign(call{method: "GET", path: "/bkt/k?response-content-type=x%2Fy&x-amz-checksum-mode=ENABLED"})
	got := f.want(200, call{user: "-", method: "GET", path: u.RequestURI()})
	wantHeader(t, got, "Content-Type", "x/y", "x-amz-storage-class", "GLACIER", "x-amz-meta-a", "b", "x-amz-checksum-crc32", "NhCmhg==")
}

func TestPresigned_ExpectedOwnerInQuery(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	u := f.presign(call{method: "GET", path: "/bkt?x-amz-expected-bucket-owner=bob"})
	f.wantError(403, codeAccessDenied, call{user: "-", method: "GET", path: u.RequestURI()})
	u = f.presign(call{method: "GET", path: "/bkt?x-amz-expected-bucket-owner=alice"})
	f.want(200, call{user: "-", method: "GET", path: u.RequestURI()})
}

// presign2 returns a path with a signature of alice's in version 2.
func presign2(method, path string) string {
	expires := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	mac := hmac.New(sha1.New, []byte(testSecretKey("alice")))
	fmt.Fprintf(mac, "%s\n\n\n%s\n%s", method, expires, path)
	q := url.Values{"AWSAccessKeyId": {testAccessKey("alice")}, "Expires": {expires}, "Signature": {base64.StdEncoding.EncodeToString(mac.Sum(nil))}}
	return path + "?" + q.Encode()
}

// TestPresigned2_Operation: a URL signed in version 2 is for no operation but
// that which was signed.
func TestPresigned2_Operation(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.http.Client().Timeout = time.Minute // a stream would have no end
	f.want(200, call{user: "-", method: "GET", path: presign2("GET", "/bkt")})
	f.wantError(403, codeSignatureDoesNotMatch, call{user: "-", method: "GET", path: presign2("GET", "/") + "&events="})
	done := make(map[string]bool)
	for _, rt := range routes {
		if rt.query == "" || rt.run == nil || rt.level == levelService || done[rt.method+rt.query] || rt.query == "list-type=2" || rt.query == "attributes" {
			continue // the same permission as without it; or it needs a header, which would be signed
		}
		done[rt.method+rt.query] = true
		path := cmp.Or(map[level]string{levelObject: "/bkt/k"}[rt.level], "/bkt")
		f.wantError(403, codeSignatureDoesNotMatch, call{user: "-", method: rt.method, path: presign2(rt.method, path) + "&" + rt.query})
	}
}
