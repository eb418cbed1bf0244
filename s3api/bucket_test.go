package s3api

import (
	"net/http"
	"strings"
	"testing"
)

func TestCreateBucket(t *testing.T) {
	f := newFixture(t, nil)
	a := f.want(200, call{method: "PUT", path: "/bkt"})
	if got := a.header.Get("Location"); got != "/bkt" || a.body != "" {
		t.Errorf("Location = %q, body = %q", got, a.body)
	}
	const config = `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>%</LocationConstraint></CreateBucketConfiguration>`
	located := func(region string) string { return strings.ReplaceAll(config, "%", region) }
	acl := func(v string) http.Header { return http.Header{"X-Amz-Acl": {v}} }
	tests := []struct {
		name   string
		call   call
		status int
		code   code
	}{
		{"again", call{path: "/bkt"}, 200, ""},
		{"again, elsewhere", call{path: "/bkt", body: located("eu-west-1")}, 409, codeBucketAlreadyOwnedByYou},
		{"of another", call{user: "bob", path: "/bkt"}, 409, codeBucketAlreadyExists},
		{"of another, administrator", call{user: "root", path: "/bkt"}, 409, codeBucketAlreadyExists},
		{"in a tenant", call{user: "carol", path: "/bkt"}, 200, ""},
		{"in another tenant", call{path: "/acme:new"}, 403, codeAccessDenied},
		{"anonymous", call{user: "-", path: "/new"}, 403, codeAccessDenied},
		{"located", call{path: "/located", body: located("eu-west-1")}, 200, ""},
		{"default location", call{path: "/default", body: located("us-east-1")}, 200, ""},
		{"bad location", call{path: "/new", body: located("Not a region")}, 400, codeInvalidLocationConstraint},
		{"malformed", call{path: "/new", body: "<Create"}, 400, codeMalformedXML},
		{"another document", call{path: "/new", body: "<Delete/>"}, 400, codeMalformedXML},
		{"private", call{path: "/private", header: acl("private")}, 200, ""},
		{"private, again public", call{path: "/private", header: acl("public-read")}, 409, codeBucketAlreadyExists},
		{"public", call{path: "/public", header: acl("public-read")}, 200, ""},
		{"public, again", call{path: "/public", header: acl("public-read")}, 200, ""},
		{"public, again private", call{path: "/public"}, 409, codeBucketAlreadyExists},
		{"odd ACL", call{path: "/new", header: acl("odd")}, 400, codeInvalidArgument},
		{"lock", call{path: "/new", header: http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {"true"}}}, 501, codeNotImplemented},
		{"bad label", call{path: "/foo-.bar"}, 400, codeInvalidBucketName},
		{"bad name", call{path: "/192.168.0.1"}, 400, codeInvalidBucketName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := *f
			f.t = t
			tt.call.method = "PUT"
			if tt.code == "" {
				f.want(tt.status, tt.call)
			} else {
				f.wantError(tt.status, tt.code, tt.call)
			}
		})
	}
	f.wantError(404, codeNoSuchBucket, call{method: "HEAD", path: "/new"})
	for bucket, location := range map[string]string{"bkt": "", "located": "eu-west-1", "default": ""} {
		a := f.want(200, call{method: "GET", path: "/" + bucket + "?location"})
		wantXML(t, a.body, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+location+`</LocationConstraint>`)
	}
	if a := f.want(200, call{method: "HEAD", path: "/located"}); a.header.Get("X-Amz-Bucket-Region") != "eu-west-1" {
		t.Errorf("HeadBucket = %v", a.header)
	}
}

func TestListBuckets(t *testing.T) {
	f := newFixture(t, nil)
	wantXML(t, f.want(200, call{method: "GET", path: "/"}).body, `
		<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
		<Owner><ID>alice</ID><DisplayName>Alice</DisplayName></Owner><Buckets></Buckets></ListAllMyBucketsResult>`)
	for _, b := range []string{"ccc", "aaa", "bbb"} {
		f.bucket(b)
	}
	f.want(200, call{user: "bob", method: "PUT", path: "/bobs"})
	f.want(200, call{user: "carol", method: "PUT", path: "/carols"})
	wantXML(t, f.want(200, call{method: "GET", path: "/?prefix=b"}).body, `
		<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
		<Owner><ID>alice</ID><DisplayName>Alice</DisplayName></Owner>
		<Buckets><Bucket><Name>bbb</Name><CreationDate>TIME</CreationDate></Bucket></Buckets>
		<Prefix>b</Prefix></ListAllMyBucketsResult>`)
	wantXML(t, f.want(200, call{user: "carol", method: "GET", path: "/"}).body, `
		<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
		<Owner><ID>acme$carol</ID><DisplayName>acme$carol</DisplayName></Owner>
		<Buckets><Bucket><Name>carols</Name><CreationDate>TIME</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>`)

	var names []string
	token := ""
	for range 4 {
		a := f.want(200, call{method: "GET", path: "/?max-buckets=1&continuation-token=" + token})
		names = append(names, between(a.body, "Name")...)
		next := between(a.body, "ContinuationToken")
		if len(next) == 0 {
			break
		}
		token = next[0]
	}
	if got := strings.Join(names, " "); got != "aaa bbb ccc" {
		t.Errorf("pages of one = %q", got)
	}
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/?max-buckets=0"})
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/?max-buckets=-1"})
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/?max-buckets=10001"})
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/?continuation-token=%21"})
}

func TestDeleteBucket(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.put("", "bkt", "a/b", "data", nil)
	wantXML(t, f.wantError(409, codeBucketNotEmpty, call{method: "DELETE", path: "/bkt"}).body, `
		<Error><Code>BucketNotEmpty</Code><Message>The bucket still holds objects or versions.</Message>
		<BucketName>bkt</BucketName><RequestId>ID</RequestId><HostId>host-1</HostId></Error>`)
	f.want(200, call{method: "POST", path: "/bkt?delete", body: `<Delete><Object><Key>a/b</Key></Object></Delete>`})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "DELETE", path: "/bkt"})
	if a := f.want(204, call{method: "DELETE", path: "/bkt"}); a.body != "" {
		t.Errorf("body = %q", a.body)
	}
	f.wantError(404, codeNoSuchBucket, call{method: "DELETE", path: "/bkt"})
	f.bucket("bkt")
}

// between returns the texts of all elements of a name.
func between(doc, name string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(doc, "<"+name+">")
		if !ok {
			return out
		}
		text, rest, _ := strings.Cut(rest, "</"+name+">")
		out = append(out, text)
		doc = rest
	}
}
