package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"herald/notify"
	"herald/store"
)

// headers makes a header of pairs.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func etagOf(data string) string {
	sum := md5.Sum([]byte(data))
	return quoted(hex.EncodeToString(sum[:]))
}

// wantHeader checks headers of an answer; "" means that it must not be there.
func wantHeader(t testing.TB, a answer, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := a.header.Get(pairs[i]); got != pairs[i+1] {
			t.Errorf("header %s = %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

func (f *fixture) enableVersioning(bucket, status string) {
	f.t.Helper()
	f.want(200, call{method: "PUT", path: "/" + bucket + "?versioning",
		body: "<VersioningConfiguration><Status>" + status + "</Status></VersioningConfiguration>"})
}

func TestPutObject_HeadersComeBack(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	put := f.want(200, call{method: "PUT", path: "/bkt/a/b", body: "hello", header: headers(
		"Content-Type", "text/plain", "Cache-Control", "no-cache", "Content-Disposition", "inline",
		"Content-Encoding", "deflate", "Content-Language", "de", "Expires", "Thu, 01 Dec 2033 16:00:00 GMT",
		"x-amz-meta-One", "1", "x-amz-meta-empty", "", "x-amz-meta-utf8", "häß",
		"x-amz-tagging", "a=b&c=d%20e", "x-amz-storage-class", "STANDARD_IA", "x-amz-acl", "private",
		"x-amz-website-redirect-location", "/other")})
	crc := encodeSum(algCRC64NVME.sum([]byte("hello")))
	wantHeader(t, put, "ETag", etagOf("hello"), "x-amz-checksum-crc64nvme", crc, "x-amz-checksum-type", typeFullObject, "x-amz-version-id", "")
	for _, method := range []string{"GET", "HEAD"} {
		got := f.want(200, call{method: method, path: "/bkt/a/b"})
		if want := map[string]string{"GET": "hello"}[method]; got.body != want {
			t.Errorf("%s body = %q, want %q", method, got.body, want)
		}
		wantHeader(t, got, "Content-Type", "text/plain", "Cache-Control", "no-cache", "Content-Disposition", "inline",
			"Content-Encoding", "deflate", "Content-Language", "de", "Expires", "Thu, 01 Dec 2033 16:00:00 GMT",
			"x-amz-meta-one", "1", "x-amz-meta-utf8", "häß", "x-amz-tagging-count", "2", "x-amz-storage-class", "STANDARD_IA",
			"x-amz-website-redirect-location", "/other", "ETag", etagOf("hello"), "Content-Length", "5", "Accept-Ranges", "bytes",
			"x-amz-checksum-crc64nvme", "", "x-amz-version-id", "")
		if _, ok := got.header["X-Amz-Meta-Empty"]; !ok {
			t.Errorf("%s: the empty metadata is gone", method)
		}
		if _, err := http.ParseTime(got.header.Get("Last-Modified")); err != nil {
			t.Errorf("%s: Last-Modified: %v", method, err)
		}
	}
	with := f.want(200, call{method: "GET", path: "/bkt/a/b", header: headers("x-amz-checksum-mode", "ENABLED")})
	wantHeader(t, with, "x-amz-checksum-crc64nvme", crc, "x-amz-checksum-type", typeFullObject)
}

func TestPutObject_Defaults(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/empty"})
	got := f.want(200, call{method: "GET", path: "/bkt/empty"})
	wantHeader(t, got, "Content-Type", defaultType, "ETag", etagOf(""), "Content-Length", "0", "x-amz-storage-class", "", "x-amz-tagging-count", "")
	f.want(200, call{method: "PUT", path: "/bkt/chunked", body: "x", header: headers("x-amz-storage-class", "STANDARD")})
	wantHeader(t, f.want(200, call{method: "HEAD", path: "/bkt/chunked"}), "x-amz-storage-class", "")
}

func TestPutObject_Refused(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	tests := []struct {
		name   string
		status int
		code   code
		header http.Header
	}{
		{"ContentMD5Invalid", 400, codeInvalidDigest, headers("Content-MD5", "nonsense")},
		{"ContentMD5Empty", 400, codeInvalidDigest, headers("Content-MD5", "")},
		{"ContentMD5OfAnother", 400, codeBadDigest, headers("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")},
		{"ChecksumOfAnother", 400, codeBadDigest, headers("x-amz-checksum-crc32", "AAAAAA==")},
		{"ChecksumInvalid", 400, codeInvalidRequest, headers("x-amz-checksum-crc32", "AA")},
		{"TwoChecksums", 400, codeInvalidRequest, headers("x-amz-checksum-crc32", "AAAAAA==", "x-amz-checksum-crc32c", "AAAAAA==")},
		{"AlgorithmWithoutChecksum", 400, codeInvalidRequest, headers("x-amz-sdk-checksum-algorithm", "CRC32")},
		{"StorageClass", 400, codeInvalidStorageClass, headers("x-amz-storage-class", "MARBLE")},
		{"NoCannedACL", 400, codeInvalidArgument, headers("x-amz-acl", "everyone")},
		{"Grant", 400, codeInvalidArgument, headers("x-amz-grant-read", "id=nobody")},
		{"GrantAndCannedACL", 400, codeInvalidRequest, headers("x-amz-grant-read", "id=bob", "x-amz-acl", "public-read")},
		{"Encryption", 501, codeNotImplemented, headers("x-amz-server-side-encryption", "AES256")},
		{"CustomerKey", 501, codeNotImplemented, headers("x-amz-server-side-encryption-customer-algorithm", "AES256")},
		{"Lock", 501, codeNotImplemented, headers("x-amz-object-lock-mode", "GOVERNANCE")},
		{"Append", 501, codeNotImplemented, headers("x-amz-write-offset-bytes", "0")},
		{"Metadata", 400, codeMetadataTooLarge, headers("x-amz-meta-a", strings.Repeat("x", maxMetadata))},
		{"Tags", 400, codeInvalidTag, headers("x-amz-tagging", "=b")},
		{"Redirect", 400, codeInvalidArgument, headers("x-amz-website-redirect-location", "ftp://x")},
		{"IfMatch", 404, codeNoSuchKey, headers("If-Match", `"x"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			f.wantError(tt.status, tt.code, call{method: "PUT", path: "/bkt/k", body: "hello", header: tt.header})
			f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})
		})
	}
}

func TestPutObject_Checksums(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	for alg := algCRC32; int(alg) < algorithmCount; alg++ {
		value := encodeSum(alg.sum([]byte("data")))
		put := f.want(200, call{method: "PUT", path: "/bkt/" + alg.String(), body: "data",
			header: headers(alg.header(), value, "x-amz-sdk-checksum-algorithm", alg.String())})
		wantHeader(t, put, alg.header(), value, "x-amz-checksum-type", typeFullObject)
		got := f.want(200, call{method: "HEAD", path: "/bkt/" + alg.String(), header: headers("x-amz-checksum-mode", "ENABLED")})
		wantHeader(t, got, alg.header(), value, "x-amz-checksum-type", typeFullObject)
		got = f.want(206, call{method: "GET", path: "/bkt/" + alg.String(), header: headers("x-amz-checksum-mode", "ENABLED", "Range", "bytes=0-1")})
		wantHeader(t, got, alg.header(), "")
	}
}

func TestPutObject_Conditions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	put := func(status int, c code, body string, h http.Header) {
		t.Helper()
		r := call{method: "PUT", path: "/bkt/k", body: body, header: h}
		if c == "" {
			f.want(status, r)
		} else {
			f.wantError(status, c, r)
		}
	}
	put(200, "", "one", headers("If-None-Match", "*"))
	put(412, codePreconditionFailed, "two", headers("If-None-Match", "*"))
	put(412, codePreconditionFailed, "two", headers("If-Match", `"abc"`))
	put(412, codePreconditionFailed, "two", headers("If-None-Match", etagOf("one")))
	put(200, "", "two", headers("If-Match", etagOf("one")))
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != "two" {
		t.Errorf("body = %q, want two", got.body)
	}
}

// rawRequest sends bytes as they are, and returns the status line.
func (f *fixture) rawRequest(text string) string {
	f.t.Helper()
	c, err := net.Dial("tcp", f.http.Listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := c.Write([]byte(text)); err != nil {
		f.t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	var b bytes.Buffer
	_, _ = b.ReadFrom(c)
	return b.String()
}

// signed returns a signed request's head, without Content-Length.
func (f *fixture) signed(c call) string {
	req := f.request(c)
	req.Header.Set("X-Amz-Content-Sha256", req.Header.Get("X-Amz-Content-Sha256"))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.method, c.path, req.URL.Host)
	for k, v := range req.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v[0])
	}
	return b.String()
}

func TestPutObject_Lengths(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	none := f.rawRequest(f.signed(call{method: "PUT", path: "/bkt/k"}) + "\r\n")
	if !strings.HasPrefix(none, "HTTP/1.1 411 ") || !strings.Contains(none, "<Code>MissingContentLength</Code>") {
		t.Errorf("without a length: %s", none)
	}
	// The signature of these covers the length that the client library chose,
	// so the body is sent unsigned as far as that goes.
	short := f.unsignedPut("/bkt/k", "10", "hello")
	if !strings.HasPrefix(short, "HTTP/1.1 400 ") || !strings.Contains(short, "<Code>IncompleteBody</Code>") {
		t.Errorf("a short body: %s", short)
	}
	huge := f.unsignedPut("/bkt/k", "5368709121", "")
	if !strings.HasPrefix(huge, "HTTP/1.1 400 ") || !strings.Contains(huge, "<Code>EntityTooLarge</Code>") {
		t.Errorf("a huge body: %s", huge)
	}
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})
}

// unsignedPut sends a PUT with any length and body through a presigned URL.
func (f *fixture) unsignedPut(path, length, body string) string {
	u := f.presign(call{method: "PUT", path: path})
	return f.rawRequest(fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %s\r\n\r\n%s", u.RequestURI(), u.Host, length, body))
}

func TestGetObject_Ranges(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "0123456789"})
	tests := []struct {
		header        string
		status        int
		body, content string
	}{
		{"bytes=0-3", 206, "0123", "bytes 0-3/10"},
		{"bytes=7-", 206, "789", "bytes 7-9/10"},
		{"bytes=-2", 206, "89", "bytes 8-9/10"},
		{"bytes=0-99", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=0-1,3-4", 200, "0123456789", ""},
		{"bytes=5-1", 200, "0123456789", ""},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			got := f.want(tt.status, call{method: method, path: "/bkt/k", header: headers("Range", tt.header)})
			wantHeader(t, got, "Content-Range", tt.content, "Content-Length", fmt.Sprint(len(tt.body)))
			if method == "GET" && got.body != tt.body {
				t.Errorf("%s = %q, want %q", tt.header, got.body, tt.body)
			}
		}
	}
	bad := f.wantError(416, codeInvalidRange, call{method: "GET", path: "/bkt/k", header: headers("Range", "bytes=10-")})
	wantHeader(t, bad, "Content-Range", "bytes */10")
	f.want(200, call{method: "GET", path: "/bkt/k", header: headers("Range", "bytes=0-3", "If-Range", `"old"`)})
	f.want(206, call{method: "GET", path: "/bkt/k", header: headers("Range", "bytes=0-3", "If-Range", etagOf("0123456789"))})
	f.wantError(400, codeInvalidRequest, call{method: "GET", path: "/bkt/k?partNumber=1", header: headers("Range", "bytes=0-3")})
	one := f.want(206, call{method: "GET", path: "/bkt/k?partNumber=1"})
	wantHeader(t, one, "Content-Range", "bytes 0-9/10", "x-amz-mp-parts-count", "")
	f.wantError(416, codeInvalidPartNumber, call{method: "GET", path: "/bkt/k?partNumber=2"})
	for _, n := range []string{"0", "-1", "10001", "x", "99999999999999999999"} {
		f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt/k?partNumber=" + n})
	}
}

func TestGetObject_Large(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	data := strings.Repeat("0123456789abcdef", 7<<16) // 7 MiB: pipelined, and sent in two pieces
	put := f.want(200, call{method: "PUT", path: "/bkt/k", body: data})
	wantHeader(t, put, "ETag", etagOf(data))
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != data {
		t.Errorf("%d bytes came back, want the same %d", len(got.body), len(data))
	}
	if got := f.want(206, call{method: "GET", path: "/bkt/k", header: headers("Range", "bytes=100-6000000")}); got.body != data[100:6000001] {
		t.Errorf("the range is not what was asked for: %d bytes", len(got.body))
	}
}

func TestGetObject_Conditions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x", header: headers("Cache-Control", "max-age=1")})
	head := f.want(200, call{method: "HEAD", path: "/bkt/k"})
	modified, err := http.ParseTime(head.header.Get("Last-Modified"))
	if err != nil {
		t.Fatal(err)
	}
	before, after := modified.Add(-time.Hour).Format(http.TimeFormat), modified.Add(time.Hour).Format(http.TimeFormat)
	etag := etagOf("x")
	tests := []struct {
		name   string
		header http.Header
		status int
	}{
		{"IfMatch", headers("If-Match", etag), 200},
		{"IfMatchStar", headers("If-Match", "*"), 200},
		{"IfMatchOther", headers("If-Match", `"a"`), 412},
		{"IfNoneMatch", headers("If-None-Match", etag), 304},
		{"IfNoneMatchOther", headers("If-None-Match", `"a"`), 200},
		{"IfModifiedSinceBefore", headers("If-Modified-Since", before), 200},
		{"IfModifiedSinceAfter", headers("If-Modified-Since", after), 304},
		{"IfUnmodifiedSinceBefore", headers("If-Unmodified-Since", before), 412},
		{"IfUnmodifiedSinceAfter", headers("If-Unmodified-Since", after), 200},
		{"IfMatchWins", headers("If-Match", etag, "If-Unmodified-Since", before), 200},
		{"IfNoneMatchWins", headers("If-None-Match", etag, "If-Modified-Since", before), 304},
		{"NoDate", headers("If-Modified-Since", "tomorrow"), 200},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			got := f.want(tt.status, call{method: method, path: "/bkt/k", header: tt.header})
			if tt.status == 304 {
				wantHeader(t, got, "ETag", etag, "Last-Modified", head.header.Get("Last-Modified"), "Cache-Control", "max-age=1")
			}
			if tt.status == 304 && got.body != "" {
				t.Errorf("%s: a 304 has a body: %q", tt.name, got.body)
			}
		}
	}
	f.wantError(412, codePreconditionFailed, call{method: "GET", path: "/bkt/k", header: headers("If-Match", `"a"`)})
}

func TestGetObject_Overrides(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x", header: headers("Content-Type", "text/plain")})
	got := f.want(200, call{method: "GET", path: "/bkt/k?response-cache-control=no-cache&response-content-disposition=bla&response-content-encoding=aaa&response-content-language=esperanto&response-content-type=foo%2Fbar&response-expires=123"})
	wantHeader(t, got, "Cache-Control", "no-cache", "Content-Disposition", "bla", "Content-Encoding", "aaa",
		"Content-Language", "esperanto", "Content-Type", "foo/bar", "Expires", "123")
}

func TestObject_Versions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "null"})
	f.enableVersioning("bkt", "Enabled")
	wantHeader(t, f.want(200, call{method: "HEAD", path: "/bkt/k"}), "x-amz-version-id", "null")
	one := f.want(200, call{method: "PUT", path: "/bkt/k", body: "one"}).header.Get("x-amz-version-id")
	two := f.want(200, call{method: "PUT", path: "/bkt/k", body: "two"}).header.Get("x-amz-version-id")
	if one == "" || one == two {
		t.Fatalf("versions %q and %q", one, two)
	}
	for id, want := range map[string]string{"null": "null", one: "one", two: "two"} {
		got := f.want(200, call{method: "GET", path: "/bkt/k?versionId=" + id})
		wantHeader(t, got, "x-amz-version-id", id)
		if got.body != want {
			t.Errorf("version %s = %q, want %q", id, got.body, want)
		}
	}
	del := f.want(204, call{method: "DELETE", path: "/bkt/k"})
	marker := del.header.Get("x-amz-version-id")
	wantHeader(t, del, "x-amz-delete-marker", "true")
	gone := f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})
	wantHeader(t, gone, "x-amz-delete-marker", "true", "x-amz-version-id", marker)
	no := f.wantError(405, codeMethodNotAllowed, call{method: "GET", path: "/bkt/k?versionId=" + marker})
	wantHeader(t, no, "x-amz-delete-marker", "true", "Allow", "DELETE", "x-amz-version-id", marker)
	f.want(404, call{method: "HEAD", path: "/bkt/k"})
	f.want(405, call{method: "HEAD", path: "/bkt/k?versionId=" + marker})
	f.wantError(404, codeNoSuchVersion, call{method: "GET", path: "/bkt/k?versionId=" + strings.Repeat("0", len(one))})
	wantHeader(t, f.want(404, call{method: "HEAD", path: "/bkt/never"}), "x-amz-delete-marker", "false") // RGW
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt/k?versionId="})

	undo := f.want(204, call{method: "DELETE", path: "/bkt/k?versionId=" + marker})
	wantHeader(t, undo, "x-amz-delete-marker", "true", "x-amz-version-id", marker)
	rm := f.want(204, call{method: "DELETE", path: "/bkt/k?versionId=" + two})
	wantHeader(t, rm, "x-amz-delete-marker", "", "x-amz-version-id", two)
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != "one" {
		t.Errorf("after the newest version went: %q, want one", got.body)
	}
	f.enableVersioning("bkt", "Suspended")
	wantHeader(t, f.want(200, call{method: "PUT", path: "/bkt/k", body: "null2"}), "x-amz-version-id", "")
	wantHeader(t, f.want(200, call{method: "GET", path: "/bkt/k"}), "x-amz-version-id", "null")
	wantHeader(t, f.want(204, call{method: "DELETE", path: "/bkt/k"}), "x-amz-delete-marker", "true", "x-amz-version-id", "null")
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})
}

func TestDeleteObject_Unversioned(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x"})
	f.wantError(412, codePreconditionFailed, call{method: "DELETE", path: "/bkt/k", header: headers("If-Match", `"a"`)})
	f.wantError(412, codePreconditionFailed, call{method: "DELETE", path: "/bkt/k", header: headers("x-amz-if-match-size", "2")})
	f.wantError(400, codeInvalidArgument, call{method: "DELETE", path: "/bkt/k", header: headers("x-amz-if-match-size", "-2")})
	f.wantError(400, codeInvalidArgument, call{method: "DELETE", path: "/bkt/k", header: headers("x-amz-if-match-last-modified-time", "x")})
	del := f.want(204, call{method: "DELETE", path: "/bkt/k", header: headers("If-Match", etagOf("x"), "x-amz-if-match-size", "1")})
	wantHeader(t, del, "x-amz-delete-marker", "", "x-amz-version-id", "")
	f.want(204, call{method: "DELETE", path: "/bkt/k"})
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/k"})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "DELETE", path: "/bkt/k"})
}

// events returns the names of the next n events of a bucket, after do ran.
func (f *fixture) events(bucket string, n int, do func()) []string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := f.notify.Listen(ctx, notify.ListenRequest{Bucket: bucket})
	if err != nil {
		f.t.Fatal(err)
	}
	do()
	var names []string
	for len(names) < n {
		e, ok := <-c
		if !ok {
			f.t.Fatalf("events %v, want %d", names, n)
		}
		if e.Record == nil {
			continue
		}
		_, rest, _ := bytes.Cut(e.Record, []byte(`"eventName":"`))
		name, _, _ := bytes.Cut(rest, []byte(`"`))
		names = append(names, string(name))
	}
	return names
}

func TestObject_Events(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	got := f.events("bkt", 6, func() {
		f.want(200, call{method: "PUT", path: "/bkt/k", body: "x"})
		f.wantError(400, codeBadDigest, call{method: "PUT", path: "/bkt/k", body: "x", header: headers("x-amz-checksum-crc32", "AAAAAA==")})
		f.want(200, call{method: "PUT", path: "/bkt/copy", header: headers("x-amz-copy-source", "bkt/k")})
		f.want(204, call{method: "DELETE", path: "/bkt/k"})
		f.want(204, call{method: "DELETE", path: "/bkt/k"}) // nothing changes: no event
		f.enableVersioning("bkt", "Enabled")
		marker := f.want(204, call{method: "DELETE", path: "/bkt/copy"}).header.Get("x-amz-version-id")
		f.want(204, call{method: "DELETE", path: "/bkt/copy?versionId=" + marker})
		f.want(200, call{method: "PUT", path: "/bkt/last", body: "x"})
	})
	want := []string{"ObjectCreated:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete",
		"ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete", "ObjectCreated:Put"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("events = %v, want %v", got, want)
	}
}

func TestGetObject_Foreign(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.put("", "bkt", "k", "data", store.Attrs{})
	got := f.want(200, call{method: "GET", path: "/bkt/k", header: headers("x-amz-checksum-mode", "ENABLED")})
	wantHeader(t, got, "Content-Type", defaultType, "ETag", `"etag-4"`)
	// A copy of what has no digest of its own gets one.
	f.want(200, call{method: "PUT", path: "/bkt/copy", header: headers("x-amz-copy-source", "bkt/k")})
	wantHeader(t, f.want(200, call{method: "GET", path: "/bkt/copy"}), "ETag", etagOf("data"))
}
