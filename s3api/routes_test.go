package s3api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/auth"
)

func TestMatch(t *testing.T) {
	copySource := http.Header{"X-Amz-Copy-Source": {"/b/k"}}
	tests := []struct {
		method string
		level  level
		query  string
		header http.Header
		want   string // operation, or error code
	}{
		{"GET", levelService, "", nil, "ListBuckets"},
		{"GET", levelService, "max-buckets=3", nil, "ListBuckets"},
		{"POST", levelService, "", nil, "TopicAction"},
		{"DELETE", levelService, "", nil, "MethodNotAllowed"},
		{"GET", levelBucket, "", nil, "ListObjects"},
		{"GET", levelBucket, "list-type=2&prefix=a", nil, "ListObjectsV2"},
		{"GET", levelBucket, "list-type=1", nil, "ListObjects"},
		{"GET", levelBucket, "versions", nil, "ListObjectVersions"},
		{"GET", levelBucket, "prefix=x&versions=", nil, "ListObjectVersions"},
		{"GET", levelBucket, "events=s3:ObjectCreated:*", nil, "ListenBucketNotification"},
		{"GET", levelBucket, "acl", nil, "GetBucketAcl"},
		{"PUT", levelBucket, "", nil, "CreateBucket"},
		{"PUT", levelBucket, "x-id=CreateBucket", nil, "CreateBucket"},
		{"PUT", levelBucket, "versioning", nil, "PutBucketVersioning"},
		{"PUT", levelBucket, "location", nil, "MethodNotAllowed"},
		{"DELETE", levelBucket, "", nil, "DeleteBucket"},
		{"DELETE", levelBucket, "tagging", nil, "DeleteBucketTagging"},
		{"DELETE", levelBucket, "policy", nil, "DeleteBucketPolicy"},
		{"DELETE", levelBucket, "versioning", nil, "MethodNotAllowed"},
		{"DELETE", levelBucket, "object-lock", nil, "MethodNotAllowed"},
		{"HEAD", levelBucket, "", nil, "HeadBucket"},
		{"POST", levelBucket, "delete", nil, "DeleteObjects"},
		{"POST", levelBucket, "", nil, "PostObject"},
		{"PATCH", levelBucket, "", nil, "MethodNotAllowed"},
		{"GET", levelObject, "", nil, "GetObject"},
		{"GET", levelObject, "versionId=x&response-content-type=y", nil, "GetObject"},
		{"GET", levelObject, "uploadId=x", nil, "ListParts"},
		{"GET", levelObject, "attributes", nil, "GetObjectAttributes"},
		{"HEAD", levelObject, "partNumber=1", nil, "HeadObject"},
		{"PUT", levelObject, "", nil, "PutObject"},
		{"PUT", levelObject, "", copySource, "CopyObject"},
		{"PUT", levelObject, "partNumber=1&uploadId=x", nil, "UploadPart"},
		{"PUT", levelObject, "partNumber=1&uploadId=x", copySource, "UploadPartCopy"},
		{"PUT", levelObject, "tagging", nil, "PutObjectTagging"},
		{"PUT", levelObject, "torrent", nil, "MethodNotAllowed"},
		{"POST", levelObject, "uploads", nil, "CreateMultipartUpload"},
		{"POST", levelObject, "uploadId=x", nil, "CompleteMultipartUpload"},
		{"POST", levelObject, "select&select-type=2", nil, "SelectObjectContent"},
		{"POST", levelObject, "", nil, "MethodNotAllowed"},
		{"DELETE", levelObject, "uploadId=x", nil, "AbortMultipartUpload"},
		{"DELETE", levelObject, "versionId=x", nil, "DeleteObject"},
		{"DELETE", levelObject, "legal-hold", nil, "MethodNotAllowed"},
	}
	index := newRouteIndex(routes)
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.query, func(t *testing.T) {
			q, err := parseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			rt, err := index.match(tt.method, tt.level, q, tt.header)
			if err != nil {
				e, _ := describe(err)
				got = string(e.code)
			} else {
				got = rt.op
			}
			if got != tt.want {
				t.Errorf("match(%s, %d, %q) = %s, want %s", tt.method, tt.level, tt.query, got, tt.want)
			}
		})
	}
}

// A row that follows the plain operation of its method would never be tried.
func TestRoutes_PlainLast(t *testing.T) {
	type place struct {
		method string
		level  level
	}
	plain := map[place]string{}
	for _, rt := range routes {
		p := place{rt.method, rt.level}
		if op, seen := plain[p]; seen {
			t.Errorf("%s follows %s, the plain operation of %s", rt.op, op, rt.method)
		}
		if rt.query == "" && rt.header == "" {
			plain[p] = rt.op
		}
	}
}

// Every code of the table has a status and a message; every sentinel is in it.
func TestErrorTable(t *testing.T) {
	for c, d := range errorTable {
		if d.status < 300 || d.message == "" {
			t.Errorf("errorTable[%s] = %+v", c, d)
		}
	}
	for _, s := range sentinels {
		if _, ok := errorTable[s.code]; !ok {
			t.Errorf("sentinel %v has code %s, which is not in the table", s.err, s.code)
		}
		e, _ := describe(failWith(s.code, s.err))
		if e.code != s.code {
			t.Errorf("describe(%s) = %s", s.code, e.code)
		}
	}
	for _, c := range []string{
		auth.CodeAccessDenied, auth.CodeHeaderMalformed, auth.CodeQueryParameters, auth.CodeIncompleteBody,
		auth.CodeInvalidAccessKeyID, auth.CodeInvalidArgument, auth.CodeInvalidChunkSize, auth.CodeInvalidRequest,
		auth.CodeInvalidToken, auth.CodeInvalidURI, auth.CodeMalformedPolicy, auth.CodeMalformedTrailer,
		auth.CodeMissingContentLength, auth.CodeNotImplemented, auth.CodeRequestTimeTooSkewed, auth.CodeSHA256Mismatch,
		auth.CodeSignatureDoesNotMatch, auth.CodeUserSuspended, auth.CodeEntityTooLarge,
	} {
		if e, _ := describe(&auth.Error{Code: c, Message: "m"}); string(e.code) != c {
			t.Errorf("describe(%s) = %s: it is not in the table", c, e.code)
		}
	}
	if e, d := describe(errors.New("disk on fire at /secret/path")); e.code != codeInternalError || d.status != 500 || strings.Contains(e.message, "secret") {
		t.Errorf("describe(unknown error) = %v %v", e, d)
	}
	if e, _ := describe(code("Invented")); e.code != codeInternalError {
		t.Errorf("describe(code that is in no table) = %v", e)
	}
}

func TestParseTarget(t *testing.T) {
	long := strings.Repeat("k", 1025)
	domains := []string{"s3.example.com", "example.org"}
	tests := []struct {
		host, path string
		want       target
		code       code
	}{
		{host: "h", path: "/", want: target{level: levelService}},
		{host: "h", path: "/b", want: target{level: levelBucket, bucket: "b"}},
		{host: "h", path: "/b/", want: target{level: levelBucket, bucket: "b"}},
		{host: "h", path: "/b/k", want: target{level: levelObject, bucket: "b", key: "k"}},
		{host: "h", path: "/b//k/", want: target{level: levelObject, bucket: "b", key: "/k/"}},
		{host: "h", path: "/b/../x", want: target{level: levelObject, bucket: "b", key: "../x"}},
		{host: "h", path: "/t:b/k", want: target{level: levelObject, bucket: "b", key: "k", tenant: "t", hasTenant: true}},
		{host: "h", path: "/:b", want: target{level: levelBucket, bucket: "b", hasTenant: true}},
		{host: "b.s3.example.com", path: "/", want: target{level: levelBucket, bucket: "b"}},
		{host: "B.S3.example.com:7480", path: "/k", want: target{level: levelObject, bucket: "b", key: "k"}},
		{host: "a.b.example.org", path: "/k/l", want: target{level: levelObject, bucket: "a.b", key: "k/l"}},
		{host: "s3.example.com", path: "/b/k", want: target{level: levelObject, bucket: "b", key: "k"}},
		{host: "[::1]:80", path: "/b/k", want: target{level: levelObject, bucket: "b", key: "k"}},
		{host: "h", path: "//k", code: codeInvalidBucketName},
		{host: "h", path: "*", code: codeInvalidURI},
		{host: "h", path: "", code: codeInvalidURI},
		{host: "h", path: "/b/\xff", code: codeInvalidURI},
		{host: "h", path: "/b/" + long, code: codeKeyTooLong},
		{host: "h", path: "/b/" + long[1:], want: target{level: levelObject, bucket: "b", key: long[1:]}},
	}
	for _, tt := range tests {
		t.Run(tt.host+tt.path[:min(len(tt.path), 20)], func(t *testing.T) {
			got, err := parseTarget(domains, tt.host, tt.path)
			if tt.code != "" {
				if e, _ := describe(err); err == nil || e.code != tt.code {
					t.Fatalf("parseTarget(%q, %q) error = %v, want %s", tt.host, tt.path, err, tt.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(target{})); diff != "" {
				t.Errorf("parseTarget(%q, %q) (-want +got):\n%s", tt.host, tt.path, diff)
			}
		})
	}
}

func TestParseQuery(t *testing.T) {
	tests := []struct {
		raw  string
		want query
		bad  bool
	}{
		{raw: ""},
		{raw: "acl", want: query{{"acl", ""}}},
		{raw: "a=b&&c=&a=d", want: query{{"a", "b"}, {"c", ""}, {"a", "d"}}},
		{raw: "prefix=a%2Fb+c%20d", want: query{{"prefix", "a/b c d"}}},
		{raw: "a=b=c", want: query{{"a", "b=c"}}},
		{raw: "a;b=c", want: query{{"a;b", "c"}}},
		{raw: "a=%zz", bad: true},
		{raw: "a=%", bad: true},
		{raw: "a=%ff", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			got, err := parseQuery(tt.raw)
			if (err != nil) != tt.bad {
				t.Fatalf("parseQuery(%q) error = %v, want error %v", tt.raw, err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(param{})); !tt.bad && diff != "" {
				t.Errorf("parseQuery(%q) (-want +got):\n%s", tt.raw, diff)
			}
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("b.s3.example.com:80", "/t:b/k", "a=%20&b=+")
	f.Add("[::1]", "//", "&&=")
	f.Fuzz(func(t *testing.T, host, path, rawQuery string) {
		got, err := parseTarget([]string{"s3.example.com"}, host, path)
		if err == nil {
			if len(got.key) > 1024 || got.level == levelService && got.bucket != "" || (got.key != "") != (got.level == levelObject) {
				t.Errorf("parseTarget(%q, %q) = %+v", host, path, got)
			}
		}
		if q, err := parseQuery(rawQuery); err == nil {
			for _, p := range q {
				if v, ok := q.lookup(p.key); !ok && v != "" {
					t.Errorf("lookup(%q) found nothing", p.key)
				}
			}
		}
	})
}
