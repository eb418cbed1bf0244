package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"herald/auth"
	"herald/store"
)

// lateBody is a body that comes only after what happens meanwhile.
type lateBody struct {
	io.Reader
	meanwhile func()
}

func (b *lateBody) Read(p []byte) (int, error) {
	if b.meanwhile != nil {
		b.meanwhile()
		b.meanwhile = nil
	}
	return b.Reader.Read(p)
}

// doLate sends a request whose body is asked for, by "100 Continue", when the
// handler reads it: meanwhile runs after the sender was found to be allowed.
func (f *fixture) doLate(c call, meanwhile func()) answer {
	f.t.Helper()
	req := f.request(c)
	req.Header.Set("Expect", "100-continue")
	req.Body = io.NopCloser(&lateBody{strings.NewReader(c.body), meanwhile})
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	return f.send(transport.RoundTrip, req)
}

// bucketChanges are requests that change the record of "bkt".
var bucketChanges = []struct{ op, query, body string }{
	{"PutBucketAcl", "acl", `<AccessControlPolicy><Owner><ID/></Owner><AccessControlList><Grant>` + allUsersGrantee +
		`<Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>`},
	{"PutBucketVersioning", "versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"},
	{"PutBucketTagging", "tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"},
	{"PutBucketLifecycleConfiguration", "lifecycle", `<LifecycleConfiguration><Rule><Prefix/><Status>Enabled</Status>` +
		`<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`},
	{"PutBucketNotificationConfiguration", "notification", `<NotificationConfiguration><TopicConfiguration><Id>n</Id>` +
		`<Topic>arn:aws:sns:default::t</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration></NotificationConfiguration>`},
}

// TestAccess_BucketReplaced: who may change a bucket may not change another's
// that got its name while the request's body was on its way.
func TestAccess_BucketReplaced(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{method: "POST", path: "/", body: "Action=CreateTopic&Name=t&push-endpoint=http%3A%2F%2F127.0.0.1%3A9"})
	for _, c := range bucketChanges {
		t.Run(c.op, func(t *testing.T) {
			f.t = t
			f.bucket("bkt")
			a := f.doLate(call{method: "PUT", path: "/bkt?" + c.query, body: c.body}, func() {
				f.want(204, call{method: "DELETE", path: "/bkt"})
				f.want(200, call{user: "bob", method: "PUT", path: "/bkt"})
			})
			b, err := f.store.BucketInfo(t.Context(), "", "bkt")
			if err != nil || len(b.Attrs) > 0 || b.Versioning != store.Unversioned {
				t.Errorf("bob's bucket has %v, %v, %v", b.Attrs, b.Versioning, err)
			}
			if a.status != 404 {
				t.Errorf("%s = %d %s, want 404", c.op, a.status, a.body)
			}
			f.want(204, call{user: "bob", method: "DELETE", path: "/bkt"})
		})
	}
}

// TestAccess_BucketRevoked: nor one that is no longer its sender's.
func TestAccess_BucketRevoked(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.setACLs(auth.ACL{{Grantee: "bob", Permission: auth.PermWriteACP}}, auth.PrivateACL())
	a := f.doLate(call{user: "bob", method: "PUT", path: "/bkt?acl", body: bucketChanges[0].body}, func() {
		f.want(200, call{method: "PUT", path: "/bkt?acl", header: headers("x-amz-acl", "private")})
	})
	if a.status != 403 {
		t.Errorf("PutBucketAcl = %d %s, want 403", a.status, a.body)
	}
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt"})
}

// TestAccess_MissingUpload: whether there is an upload is told to those who may
// know.
func TestAccess_MissingUpload(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	for _, id := range []string{store.NewOpID().String(), "nope"} {
		c := call{method: "GET", path: "/bkt/k?uploadId=" + id}
		f.wantError(404, codeNoSuchUpload, c)
		for _, c.user = range []string{"bob", "-"} {
			f.want(200, call{method: "PUT", path: "/bkt?acl", header: headers("x-amz-acl", "private")})
			f.wantError(403, codeAccessDenied, c)
			f.want(200, call{method: "PUT", path: "/bkt?acl", header: headers("x-amz-acl", "public-read")})
			f.wantError(404, codeNoSuchUpload, c)
		}
	}
}

// TestAccess_Conditions: who may write but neither list nor read learns nothing
// of what is there by conditions.
func TestAccess_Conditions(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	write := auth.ACL{{Grantee: auth.AllUsers, Permission: auth.PermWrite}}
	f.setACLs(write, auth.PrivateACL())
	etag := f.want(200, call{method: "HEAD", path: "/bkt/own"}).header.Get(hETag)
	f.want(200, call{method: "PUT", path: "/bkt/source", body: "x", header: headers("x-amz-acl", "public-read")})
	wrongSum := "1B2M2Y8AsgTpgAmY7PhCfg==" // so that nothing is stored
	for _, key := range []string{"own", "absent"} {
		path := "/bkt/" + key
		calls := []call{
			{method: "PUT", path: path, body: "y", header: headers("If-Match", "guess")},
			{method: "PUT", path: path, body: "y", header: headers("If-Match", etag, "Content-MD5", wrongSum)},
			{method: "PUT", path: path, body: "y", header: headers("If-None-Match", etag, "Content-MD5", wrongSum)},
			{method: "PUT", path: path, header: headers("If-Match", "guess", "x-amz-copy-source", "bkt/source")},
			{method: "DELETE", path: path, header: headers("If-Match", "guess")},
			{method: "DELETE", path: path, header: headers("x-amz-if-match-size", "5")},
			{method: "DELETE", path: path, header: headers("x-amz-if-match-last-modified-time", "2020-01-01T00:00:00Z")},
		}
		for _, user := range []string{"bob", "-"} {
			for i, c := range calls {
				c.user = user
				if a := f.do(c); a.status != 403 {
					t.Errorf("%s %s (%d) = %d %s, want 403", c.method, path, i, a.status, a.body)
				}
			}
			list := "<Delete><Object><Key>" + key + "</Key><ETag>guess</ETag></Object></Delete>"
			sum := md5.Sum([]byte(list))
			doc := f.want(200, call{
				user: user, method: "POST", path: "/bkt?delete", body: list, header: headers("Content-MD5", base64.StdEncoding.EncodeToString(sum[:])),
			}).body
			if !strings.Contains(doc, "<Code>AccessDenied</Code>") {
				t.Errorf("DeleteObjects = %s", doc)
			}
		}
	}
	// S3 tells those who write whether a key is new.
	f.wantError(412, codePreconditionFailed, call{user: "bob", method: "PUT", path: "/bkt/own", body: "y", header: headers("If-None-Match", "*")})
	// Who may read the object, or list the bucket, knows all that.
	f.setACLs(write, auth.ACL{{Grantee: "bob", Permission: auth.PermRead}})
	f.wantError(412, codePreconditionFailed, call{user: "bob", method: "DELETE", path: "/bkt/own", header: headers("If-Match", "guess")})
	f.setACLs(auth.ACL{{Grantee: "bob", Permission: auth.PermRead}, write[0]}, auth.PrivateACL())
	f.wantError(412, codePreconditionFailed, call{user: "bob", method: "DELETE", path: "/bkt/own", header: headers("If-Match", "guess")})
	f.wantError(404, codeNoSuchKey, call{user: "bob", method: "PUT", path: "/bkt/absent", body: "y", header: headers("If-Match", "guess")})
}
