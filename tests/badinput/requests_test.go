package badinput

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

const unsigned = "UNSIGNED-PAYLOAD"

func contentMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestRefusedRequests(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	ok(t, g, "PUT", "/bucket/there", "0123456789")
	long := strings.Repeat("k", 1025)
	deep := "<Delete>" + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000) + "</Delete>"
	deleteHeader := func(body string) map[string]string { return map[string]string{"Content-MD5": contentMD5(body)} }
	tests := []struct {
		name   string
		q      request
		status int
		code   string
	}{
		{"wrong secret", request{method: "GET", path: "/bucket", secret: "wrong"}, 403, "SignatureDoesNotMatch"},
		{"clock too late", request{method: "GET", path: "/bucket", at: time.Now().Add(-time.Hour)}, 403, "RequestTimeTooSkewed"},
		{"clock too early", request{method: "GET", path: "/bucket", at: time.Now().Add(time.Hour)}, 403, "RequestTimeTooSkewed"},
		{"body is not what was signed", request{method: "PUT", path: "/bucket/x", body: "x", hash: strings.Repeat("0", 64)}, 400, "XAmzContentSHA256Mismatch"},
		{"nonsense content hash", request{method: "PUT", path: "/bucket/x", body: "x", hash: "nonsense"}, 400, "InvalidArgument"},
		{"key of 1,025 bytes", request{method: "PUT", path: "/bucket/" + long, body: "x"}, 400, "KeyTooLongError"},
		{"bucket name too short", request{method: "PUT", path: "/ab"}, 400, "InvalidBucketName"},
		{"bucket name in capitals", request{method: "PUT", path: "/BUCKET"}, 400, "InvalidBucketName"},
		{"bucket named as our own directory", request{method: "PUT", path: "/.herald"}, 400, "InvalidBucketName"},
		{"negative max-keys", request{method: "GET", path: "/bucket?max-keys=-1"}, 400, "InvalidArgument"},
		{"huge max-keys", request{method: "GET", path: "/bucket?max-keys=99999999999999999999"}, 400, "InvalidArgument"},
		{"max-keys no number", request{method: "GET", path: "/bucket?max-keys=x"}, 400, "InvalidArgument"},
		{"unknown encoding type", request{method: "GET", path: "/bucket?encoding-type=x"}, 400, "InvalidArgument"},
		{"broken continuation token", request{method: "GET", path: "/bucket?list-type=2&continuation-token=%00"}, 400, "InvalidArgument"},
		{"part number 0", request{method: "PUT", path: "/bucket/x?partNumber=0&uploadId=x", body: "x"}, 400, "InvalidArgument"},
		{"part number 10,001", request{method: "PUT", path: "/bucket/x?partNumber=10001&uploadId=x", body: "x"}, 400, "InvalidArgument"},
		{"unknown upload", request{method: "PUT", path: "/bucket/x?partNumber=1&uploadId=x", body: "x"}, 404, "NoSuchUpload"},
		{"upload id like a path", request{method: "PUT", path: "/bucket/x?partNumber=1&uploadId=..%2F..%2Fx", body: "x"}, 404, "NoSuchUpload"},
		{"version id like a path", request{method: "GET", path: "/bucket/there?versionId=..%2F..%2Flock"}, 404, "NoSuchVersion"},
		{"Content-MD5 no digest", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"Content-MD5": "x"}}, 400, "InvalidDigest"},
		{"Content-MD5 of another body", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"Content-MD5": contentMD5("y")}}, 400, "BadDigest"},
		{"CRC32 of another body", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"X-Amz-Checksum-Crc32": "AAAAAA=="}}, 400, "BadDigest"},
		{"CRC32 no checksum", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"X-Amz-Checksum-Crc32": "!"}}, 400, "InvalidRequest"},
		{"too much metadata", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"X-Amz-Meta-A": strings.Repeat("m", 3000)}}, 400, "MetadataTooLarge"},
		{"range past the end", request{method: "GET", path: "/bucket/there", header: map[string]string{"Range": "bytes=10-20"}}, 416, "InvalidRange"},
		{"XML that ends too early", request{method: "POST", path: "/bucket?delete", body: "<Delete><Object>", header: deleteHeader("<Delete><Object>")}, 400, "MalformedXML"},
		{"XML too deep", request{method: "POST", path: "/bucket?delete", body: deep, header: deleteHeader(deep)}, 400, "MalformedXML"},
		{"versioning neither on nor off", request{method: "PUT", path: "/bucket?versioning", body: "<VersioningConfiguration><Status>Maybe</Status></VersioningConfiguration>"}, 400, "IllegalVersioningConfigurationException"},
		{"eleven tags", request{method: "PUT", path: "/bucket/x", body: "x", header: map[string]string{"X-Amz-Tagging": "a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1"}}, 400, "InvalidTag"},
		{"copy from nowhere", request{method: "PUT", path: "/bucket/x", header: map[string]string{"X-Amz-Copy-Source": "nonsense"}}, 400, "InvalidArgument"},
		{"copy of a missing key", request{method: "PUT", path: "/bucket/x", header: map[string]string{"X-Amz-Copy-Source": "bucket/none"}}, 404, "NoSuchKey"},
		{"not implemented", request{method: "GET", path: "/bucket?website"}, 501, "NotImplemented"},
		{"unknown method", request{method: "PATCH", path: "/bucket/there"}, 405, "MethodNotAllowed"},
		{"missing bucket", request{method: "GET", path: "/missing"}, 404, "NoSuchBucket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.q.want(t, g, tt.status, tt.code) })
	}
	gone(t, g, "/bucket/x")
	if a := (request{method: "GET", path: "/bucket/there"}).send(t, g); a.body != "0123456789" {
		t.Errorf("GET = %q, want what was put", a.body)
	}
}

func TestAuthorizationHeaders(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	now := time.Now().UTC().Format("20060102T150405Z")
	tests := []struct {
		name, value, date string
		status            int
		code              string
	}{
		{"none", "", "", 403, "AccessDenied"},
		{"unknown scheme", "Basic eA==", "", 400, "InvalidArgument"},
		{"cut off", "AWS4-HMAC-SHA256 Credential=x", "20261121T000000Z", 400, "AuthorizationHeaderMalformed"},
		{"unknown key", "AWS4-HMAC-SHA256 Credential=NOSUCHKEY/" + now[:8] + "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0", 64), now, 403, "InvalidAccessKeyId"},
		{"nonsense date", "AWS4-HMAC-SHA256 Credential=" + gatewaytest.AccessKey + "/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=" + strings.Repeat("0", 64), "yesterday", 403, "AccessDenied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", g.URL+"/bucket", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.value != "" {
				req.Header.Set("Authorization", tt.value)
			}
			if tt.date != "" {
				req.Header.Set("X-Amz-Date", tt.date)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if a := read(t, resp); a.status != tt.status || a.code() != tt.code {
				t.Errorf("= %d %s, want %d %s", a.status, a.code(), tt.status, tt.code)
			}
		})
	}
}

// TestLyingLengths: bodies that are shorter or longer than announced, chunked
// ones that are broken. Nothing of them is stored.
func TestLyingLengths(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	put := request{method: "PUT", path: "/bucket/x", hash: unsigned}

	t.Run("client gone in the middle", func(t *testing.T) {
		a, err := wire(t, g, append(put.head(t, g, 1000), "only this"...), true)
		if err == nil && (a.status != 400 || a.code() != "IncompleteBody") {
			t.Errorf("= %d %s, want 400 IncompleteBody or a closed connection", a.status, a.code())
		}
	})
	t.Run("no length", func(t *testing.T) {
		head := strings.Replace(string(put.head(t, g, 0)), "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", 1)
		a, err := wire(t, g, []byte(head+"1\r\nx\r\n0\r\n\r\n"), false)
		if err != nil || a.status != 411 || a.code() != "MissingContentLength" {
			t.Errorf("= %d %s %v, want 411 MissingContentLength", a.status, a.code(), err)
		}
	})
	t.Run("negative length", func(t *testing.T) {
		a, err := wire(t, g, put.head(t, g, -1), false)
		if err != nil || a.status != 400 {
			t.Errorf("= %d %v, want 400", a.status, err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		a, err := wire(t, g, put.head(t, g, 6<<30), false)
		if err != nil || a.status != 400 || a.code() != "EntityTooLarge" {
			t.Errorf("= %d %s %v, want 400 EntityTooLarge", a.status, a.code(), err)
		}
	})
	chunked := func(name, decoded, body string, code ...string) {
		t.Run("chunked, "+name, func(t *testing.T) {
			q := request{method: "PUT", path: "/bucket/x", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", header: map[string]string{
				"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": decoded, "X-Amz-Trailer": "x-amz-checksum-crc32",
			}}
			a, err := wire(t, g, append(q.head(t, g, len(body)), body...), true)
			for _, c := range code {
				if err == nil && a.code() == c {
					return
				}
			}
			t.Errorf("= %d %s %v, want %q", a.status, a.code(), err, code)
		})
	}
	trailer := "0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n" // of "hello": not verified unless the rest is right
	chunked("no hexadecimal size", "5", "zz\r\nhello\r\n"+trailer, "InvalidChunkSizeError", "InvalidRequest", "IncompleteBody")
	chunked("huge size", "5", "ffffffffffffffffff\r\nhello\r\n"+trailer, "InvalidChunkSizeError", "InvalidRequest", "IncompleteBody", "EntityTooLarge")
	chunked("ends too early", "5", "5\r\nhel", "IncompleteBody")
	chunked("shorter than announced", "6", "5\r\nhello\r\n"+trailer, "IncompleteBody")
	chunked("longer than announced", "4", "5\r\nhello\r\n"+trailer, "IncompleteBody", "InvalidRequest")
	chunked("wrong checksum", "5", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "BadDigest")
	chunked("no trailer", "5", "5\r\nhello\r\n0\r\n\r\n", "MalformedTrailerError", "IncompleteBody", "InvalidRequest")
	gone(t, g, "/bucket/x")
}

// TestHugeHeader: a header of 1 MB gets an S3 error.
func TestHugeHeader(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	for _, size := range []int{20_000, 1_000_000} {
		raw := fmt.Sprintf("GET / HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", size))
		a, err := wire(t, g, []byte(raw), false)
		if err != nil || a.status != 400 || a.code() != "RequestHeaderSectionTooLarge" {
			t.Errorf("header of %d bytes = %d %s %v, want 400 RequestHeaderSectionTooLarge", size, a.status, a.code(), err)
		}
	}
}

// TestExpectContinue: a client that waits for 100 Continue is refused before
// it sent its body, and let through when it may.
func TestExpectContinue(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	q := request{method: "PUT", path: "/bucket/x", hash: unsigned, secret: "wrong", header: map[string]string{"Expect": "100-continue"}}
	a, err := wire(t, g, q.head(t, g, 1<<30), false)
	if err != nil || a.status != 403 {
		t.Errorf("wrong signature = %d %v, want 403 without 100 Continue", a.status, err)
	}
	q.secret = ""
	a, err = wire(t, g, append(q.head(t, g, 5), "hello"...), false)
	if err != nil || (a.status != 100 && a.status != 200) {
		t.Errorf("right signature = %d %v, want 100 Continue", a.status, err)
	}
}
