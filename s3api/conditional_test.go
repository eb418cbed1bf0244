package s3api

import (
	"net/http"
	"strings"
	"testing"

	"herald/auth"
	"herald/store"
)

// FuzzRequestHeaders gives strangers' values to everything that reads headers
// of objects.
func FuzzRequestHeaders(f *testing.F) {
	for _, v := range []string{"", "1", "-1", "99999999999999999999", "Thu, 01 Dec 2033 16:00:00 GMT", "2033-12-01T16:00:00Z", `"a", W/"b"`, "*", "COPY", "ETag,ObjectParts", "a=b&c=%zz", "\x00\xff"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		h := http.Header{}
		for _, name := range []string{
			hIfMatch, hIfNoneMatch, hIfModifiedSince, hIfUnmodifiedSince, hIfMatchSize, hIfMatchModTime, hMaxParts, hPartNumberMarker,
			hMetadataDirective, hTagging, hStorageClass, hACL, "Content-Encoding", hRedirect, metaHeader + "A",
		} {
			h[name] = []string{v}
		}
		r := &request{
			http: &http.Request{Header: h}, user: auth.AnonymousUser(),
			bucket: &store.OpenBucket{Info: &store.BucketInfo{Owner: "alice"}},
		}
		check := func(err error) {
			if err != nil {
				if _, d := describe(err); d.status < 400 || d.status > 501 || d.status == 500 {
					t.Fatalf("%q: status %d, %v", v, d.status, err)
				}
			}
		}
		_ = readConditions(h)
		_ = copyConditions(h)
		c, err := deleteConditions(h)
		check(err)
		if err == nil && c.IfMatchSize != nil && *c.IfMatchSize < 0 {
			t.Fatalf("%q: a negative size", v)
		}
		_, err = parseObjectAttributes([]string{v})
		check(err)
		p, err := r.partPage()
		check(err)
		if err == nil && (p.max < 0 || p.max > maxListParts || p.marker < 0) {
			t.Fatalf("%q: %+v", v, p)
		}
		if n, err := parsePartNumber(v); err == nil && (n < 1 || n > maxPartNumber) {
			t.Fatalf("%q: part %d", v, n)
		}
		_, err = directive(r, hMetadataDirective)
		check(err)
		attrs, err := new(Server).requestAttrs(t.Context(), r)
		check(err)
		if err == nil && strings.Contains(strings.ToLower(attrs["content-encoding"]), "aws-chunked") {
			t.Fatalf("%q: aws-chunked was stored", v)
		}
	})
}
