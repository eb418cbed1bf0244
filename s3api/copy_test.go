package s3api

import (
	"strings"
	"testing"
)

func TestCopyObject_Directives(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("src")
	f.bucket("dst")
	f.want(200, call{method: "PUT", path: "/src/a%20b", body: "data", header: headers(
		"Content-Type", "text/plain", "x-amz-meta-a", "1", "x-amz-tagging", "t=1", "x-amz-storage-class", "GLACIER",
		"x-amz-website-redirect-location", "/x", "x-amz-checksum-sha1", encodeSum(algSHA1.sum([]byte("data"))))})
	tests := []struct {
		name        string
		header      []string
		meta, tags  string
		class, ctyp string
	}{
		{"Copy", nil, "1", "1", "", "text/plain"},
		{"MetadataIgnoredOnCopy", []string{"x-amz-meta-a", "2", "x-amz-tagging", "t=1&u=2"}, "1", "1", "", "text/plain"},
		{"ReplaceMetadata", []string{"x-amz-metadata-directive", "REPLACE", "x-amz-meta-a", "2"}, "2", "1", "", defaultType},
		{"ReplaceTags", []string{"x-amz-tagging-directive", "REPLACE", "x-amz-tagging", "t=1&u=2"}, "1", "2", "", "text/plain"},
		{"DropTags", []string{"x-amz-tagging-directive", "REPLACE"}, "1", "", "", "text/plain"},
		{"Class", []string{"x-amz-storage-class", "ONEZONE_IA"}, "1", "1", "ONEZONE_IA", "text/plain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			h := headers(append([]string{"x-amz-copy-source", "/src/a%20b"}, tt.header...)...)
			a := f.want(200, call{method: "PUT", path: "/dst/k", header: h})
			for _, want := range []string{"<CopyObjectResult", "<ETag>&#34;" + strings.Trim(etagOf("data"), `"`), "<ChecksumSHA1>" + encodeSum(algSHA1.sum([]byte("data"))), "<LastModified>"} {
				if !strings.Contains(a.body, want) {
					t.Errorf("answer %s lacks %s", a.body, want)
				}
			}
			got := f.want(200, call{method: "GET", path: "/dst/k", header: headers("x-amz-checksum-mode", "ENABLED")})
			wantHeader(t, got, "x-amz-meta-a", tt.meta, "x-amz-tagging-count", tt.tags, "x-amz-storage-class", tt.class,
				"Content-Type", tt.ctyp, "x-amz-website-redirect-location", "", "ETag", etagOf("data"),
				"x-amz-checksum-sha1", encodeSum(algSHA1.sum([]byte("data"))))
			if got.body != "data" {
				t.Errorf("body = %q", got.body)
			}
		})
	}
}

func TestCopyObject_Checksum(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "data"})
	f.want(200, call{method: "PUT", path: "/bkt/k2", header: headers("x-amz-copy-source", "bkt/k", "x-amz-checksum-algorithm", "SHA256")})
	got := f.want(200, call{method: "GET", path: "/bkt/k2", header: headers("x-amz-checksum-mode", "ENABLED")})
	wantHeader(t, got, "x-amz-checksum-sha256", encodeSum(algSHA256.sum([]byte("data"))), "x-amz-checksum-crc64nvme", "", "ETag", etagOf("data"))
	f.wantError(400, codeInvalidRequest, call{method: "PUT", path: "/bkt/k2", header: headers("x-amz-copy-source", "bkt/k", "x-amz-checksum-algorithm", "MD4")})
}

func TestCopyObject_Large(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	data := strings.Repeat("0123456789abcdef", 1<<17)
	f.want(200, call{method: "PUT", path: "/bkt/k", body: data})
	f.want(200, call{method: "PUT", path: "/bkt/k2", header: headers("x-amz-copy-source", "bkt/k")})
	if got := f.want(200, call{method: "GET", path: "/bkt/k2"}); got.body != data {
		t.Errorf("%d bytes came back, want the same %d", len(got.body), len(data))
	}
}

func TestCopyObject_Self(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "data"})
	self := func(h ...string) call {
		return call{method: "PUT", path: "/bkt/k", header: headers(append([]string{"x-amz-copy-source", "bkt/k"}, h...)...)}
	}
	f.wantError(400, codeInvalidRequest, self())
	f.wantError(400, codeInvalidRequest, self("x-amz-metadata-directive", "COPY"))
	f.want(200, self("x-amz-metadata-directive", "REPLACE", "x-amz-meta-a", "b"))
	f.want(200, self("x-amz-storage-class", "STANDARD_IA"))
	got := f.want(200, call{method: "GET", path: "/bkt/k"})
	wantHeader(t, got, "x-amz-meta-a", "b", "x-amz-storage-class", "STANDARD_IA")
	if got.body != "data" {
		t.Errorf("body = %q", got.body)
	}
}

func TestCopyObject_Refused(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "data"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bobs"})
	f.want(200, call{user: "carol", method: "PUT", path: "/bkt"}) // of another tenant
	tests := []struct {
		name   string
		status int
		code   code
		header []string
	}{
		{"NoKey", 404, codeNoSuchKey, []string{"x-amz-copy-source", "bkt/none"}},
		{"NoBucket", 404, codeNoSuchBucket, []string{"x-amz-copy-source", "none/k"}},
		{"NoVersion", 404, codeNoSuchVersion, []string{"x-amz-copy-source", "bkt/k?versionId=none"}},
		{"OthersBucket", 403, codeAccessDenied, []string{"x-amz-copy-source", "bobs/k"}},
		{"OthersTenant", 403, codeAccessDenied, []string{"x-amz-copy-source", "acme:bkt/k"}},
		{"NoSource", 400, codeInvalidArgument, []string{"x-amz-copy-source", "bkt"}},
		{"Directive", 400, codeInvalidArgument, []string{"x-amz-copy-source", "bkt/k", "x-amz-metadata-directive", "MOVE"}},
		{"TaggingDirective", 400, codeInvalidArgument, []string{"x-amz-copy-source", "bkt/k", "x-amz-tagging-directive", "copy"}},
		{"SourceKey", 501, codeNotImplemented, []string{"x-amz-copy-source", "bkt/k", "x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"}},
		{"IfMatch", 412, codePreconditionFailed, []string{"x-amz-copy-source", "bkt/k", "x-amz-copy-source-if-match", `"a"`}},
		{"IfNoneMatch", 412, codePreconditionFailed, []string{"x-amz-copy-source", "bkt/k", "x-amz-copy-source-if-none-match", etagOf("data")}},
		{"IfModifiedSince", 412, codePreconditionFailed, []string{"x-amz-copy-source", "bkt/k", "x-amz-copy-source-if-modified-since", "Thu, 01 Dec 2044 16:00:00 GMT"}},
		{"IfUnmodifiedSince", 412, codePreconditionFailed, []string{"x-amz-copy-source", "bkt/k", "x-amz-copy-source-if-unmodified-since", "Thu, 01 Dec 1994 16:00:00 GMT"}},
		{"TargetIfMatch", 404, codeNoSuchKey, []string{"x-amz-copy-source", "bkt/k", "If-Match", `"a"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			f.wantError(tt.status, tt.code, call{method: "PUT", path: "/bkt/copy", header: headers(tt.header...)})
			f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/copy"})
		})
	}
	f.want(200, call{user: "root", method: "PUT", path: "/bkt/copy", header: headers("x-amz-copy-source", "bkt/k")})
}

func TestCopyObject_Versions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.enableVersioning("bkt", "Enabled")
	one := f.want(200, call{method: "PUT", path: "/bkt/k", body: "one"}).header.Get("x-amz-version-id")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "two"})
	restored := f.want(200, call{method: "PUT", path: "/bkt/k", header: headers("x-amz-copy-source", "bkt/k?versionId="+one)})
	wantHeader(t, restored, "x-amz-copy-source-version-id", one)
	if v := restored.header.Get("x-amz-version-id"); v == "" || v == one {
		t.Errorf("x-amz-version-id = %q", v)
	}
	if got := f.want(200, call{method: "GET", path: "/bkt/k"}); got.body != "one" {
		t.Errorf("body = %q, want one", got.body)
	}
	marker := f.want(204, call{method: "DELETE", path: "/bkt/k"}).header.Get("x-amz-version-id")
	f.wantError(404, codeNoSuchKey, call{method: "PUT", path: "/bkt/c", header: headers("x-amz-copy-source", "bkt/k")})
	f.wantError(400, codeInvalidRequest, call{method: "PUT", path: "/bkt/c", header: headers("x-amz-copy-source", "bkt/k?versionId="+marker)})
}

func TestCopyObject_SourceExpectedOwner(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/a", body: "data"})
	copyOf := func(owner string) call {
		return call{method: "PUT", path: "/bkt/b", header: headers("x-amz-copy-source", "bkt/a", "x-amz-source-expected-bucket-owner", owner)}
	}
	f.wantError(403, codeAccessDenied, copyOf("bob"))
	f.want(200, copyOf("alice"))
}

// An error about the source names it, not the copy.
func TestCopyObject_ErrorsNameSource(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/a", body: "data"})
	for _, tt := range []struct {
		source string
		code   code
		want   string
	}{
		{"absent/a", codeNoSuchBucket, "<BucketName>absent</BucketName>"},
		{"bkt/none", codeNoSuchKey, "<Key>none</Key>"},
		{"bkt/a?versionId=v", codeNoSuchVersion, "<Key>a</Key><VersionId>v</VersionId>"},
	} {
		a := f.wantError(404, tt.code, call{method: "PUT", path: "/bkt/b", header: headers("x-amz-copy-source", tt.source)})
		if !strings.Contains(a.body, tt.want+"<RequestId>") {
			t.Errorf("copy of %s = %s, want %s", tt.source, a.body, tt.want)
		}
	}
}
