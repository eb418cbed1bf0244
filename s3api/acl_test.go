package s3api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"herald/auth"
	"herald/store"
)

// accessCall is a request on bucket "bkt", its object "own" or an upload of it,
// with the permission that lets others than the owner do that: of the bucket or
// of the object.
type accessCall struct {
	op       string
	call     call
	perm     auth.Permission
	ofObject bool
}

// accessCalls are those of all operations that an ACL can allow.
func accessCalls(t *testing.T, upload string) []accessCall {
	policy := `<AccessControlPolicy><Owner><ID>alice</ID></Owner><AccessControlList/></AccessControlPolicy>`
	md5 := func(sum string) http.Header { return http.Header{"Content-Md5": {sum}} }
	source := func(key string) http.Header { return http.Header{hCopySource: {"bkt/" + key}} }
	return []accessCall{
		{"HeadBucket", call{method: "HEAD", path: "/bkt"}, auth.PermRead, false},
		{"ListObjects", call{method: "GET", path: "/bkt"}, auth.PermRead, false},
		{"ListObjectsV2", call{method: "GET", path: "/bkt?list-type=2"}, auth.PermRead, false},
		{"ListObjectVersions", call{method: "GET", path: "/bkt?versions"}, auth.PermRead, false},
		{"ListMultipartUploads", call{method: "GET", path: "/bkt?uploads"}, auth.PermRead, false},
		{"PutObject", call{method: "PUT", path: "/bkt/new", body: "x"}, auth.PermWrite, false},
		{"DeleteObject", call{method: "DELETE", path: "/bkt/new"}, auth.PermWrite, false},
		{"DeleteObjects", call{
			method: "POST", path: "/bkt?delete", body: "<Delete><Object><Key>new</Key></Object></Delete>", header: md5("xZmzr//X6Lztv69pohhbPg=="),
		}, auth.PermWrite, false},
		{"PostObject", postForm{user: "-", fields: [][2]string{{"key", "new"}}, file: "x"}.call(t), auth.PermWrite, false},
		{"CreateMultipartUpload", call{method: "POST", path: "/bkt/new?uploads"}, auth.PermWrite, false},
		{"UploadPart", call{method: "PUT", path: "/bkt/own?partNumber=1&uploadId=" + upload, body: "x"}, auth.PermWrite, false},
		{"CompleteMultipartUpload", call{
			method: "POST", path: "/bkt/own?uploadId=" + store.NewOpID().String(),
			body: `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>9dd4e461268c8034f5c8564e155c67a6</ETag></Part></CompleteMultipartUpload>`,
		}, auth.PermWrite, false},
		{"AbortMultipartUpload", call{method: "DELETE", path: "/bkt/own?uploadId=" + store.NewOpID().String()}, auth.PermWrite, false},
		{"CopyObject", call{method: "PUT", path: "/bkt/new", header: source("public")}, auth.PermWrite, false},
		{"UploadPartCopy", call{method: "PUT", path: "/bkt/own?partNumber=1&uploadId=" + upload, header: source("public")}, auth.PermWrite, false},
		{"GetBucketAcl", call{method: "GET", path: "/bkt?acl"}, auth.PermReadACP, false},
		{"PutBucketAcl", call{method: "PUT", path: "/bkt?acl", body: policy}, auth.PermWriteACP, false},
		{"GetObject", call{method: "GET", path: "/bkt/own"}, auth.PermRead, true},
		{"HeadObject", call{method: "HEAD", path: "/bkt/own"}, auth.PermRead, true},
		{"GetObjectAttributes", call{method: "GET", path: "/bkt/own?attributes", header: http.Header{hObjectAttributes: {"ETag"}}}, auth.PermRead, true},
		{"GetObjectTagging", call{method: "GET", path: "/bkt/own?tagging"}, auth.PermRead, true},
		{"PutObjectTagging", call{method: "PUT", path: "/bkt/own?tagging", body: "<Tagging><TagSet/></Tagging>"}, auth.PermWrite, true},
		{"DeleteObjectTagging", call{method: "DELETE", path: "/bkt/own?tagging"}, auth.PermWrite, true},
		{"GetObjectAcl", call{method: "GET", path: "/bkt/own?acl"}, auth.PermReadACP, true},
		{"PutObjectAcl", call{method: "PUT", path: "/bkt/own?acl", body: policy}, auth.PermWriteACP, true},
		{"ListParts", call{method: "GET", path: "/bkt/own?uploadId=" + upload}, auth.PermRead, true},
	}
}

// setACLs writes ACLs past the front end.
func (f *fixture) setACLs(bucket, object auth.ACL) {
	f.t.Helper()
	err := f.store.UpdateBucket(f.t.Context(), "", "bkt", func(b *store.BucketInfo) error {
		b.Attrs[attrBucketACL] = bucket.Encode()
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.put("", "bkt", "own", "data", store.Attrs{store.AttrOwner: "alice", attrObjectACL: object.Encode()})
}

// newUpload creates an upload of bkt/own by alice.
func (f *fixture) newUpload(header http.Header) string {
	f.t.Helper()
	return between(f.want(200, call{method: "POST", path: "/bkt/own?uploads", header: header}).body, "UploadId")[0]
}

// TestAccess: each operation on a bucket is denied to those whom its ACLs do not
// allow it, and allowed by the one permission that it needs.
func TestAccess(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	public := auth.ACL{{Grantee: auth.AllUsers, Permission: auth.PermRead}}
	f.put("", "bkt", "public", "data", store.Attrs{store.AttrOwner: "alice", attrObjectACL: public.Encode()})
	for _, g := range grantHeaders {
		for _, ofObject := range []bool{false, true} {
			for i, c := range accessCalls(t, "") {
				for _, user := range []string{"bob", "-"} {
					t.Run(fmt.Sprintf("%s of object %v/%s/%s", g.perm, ofObject, c.op, user), func(t *testing.T) {
						f := *f
						f.t = t
						f.checkAccess(i, user, g.name, g.perm, ofObject)
					})
				}
			}
		}
	}
}

// checkAccess grants everybody one permission of the bucket or of the object,
// and sends one of accessCalls.
func (f *fixture) checkAccess(i int, user, header string, p auth.Permission, ofObject bool) {
	f.t.Helper()
	grant := auth.ACL{{Grantee: auth.AllUsers, Permission: p}}
	upload := ""
	if ofObject {
		f.setACLs(auth.PrivateACL(), grant)
		upload = f.newUpload(http.Header{header: {"uri=" + auth.AllUsers}})
	} else {
		f.setACLs(grant, auth.PrivateACL())
		upload = f.newUpload(nil)
	}
	c := accessCalls(f.t.(*testing.T), upload)[i]
	c.call.user = user
	if c.op == "PostObject" {
		c.call.user = "-" // the form says who it is
	}
	a := f.do(c.call)
	switch allowed := p&c.perm == c.perm && ofObject == c.ofObject; {
	case allowed && (a.status < 300 || strings.Contains(a.body, string(codeNoSuchUpload))):
	case !allowed && a.status == 403:
	default:
		f.t.Errorf("status %d %s, allowed: %v", a.status, a.body, allowed)
	}
}

const allUsersGrantee = `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>`

// userGrant is a grant to a user, as documents show it.
func userGrant(id, name, perm string) string {
	return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>` + id + `</ID><DisplayName>` + name +
		`</DisplayName></Grantee><Permission>` + perm + `</Permission></Grant>`
}

// aclXML is an ACL of alice's as documents show it.
func aclXML(grants ...string) string {
	return `<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>alice</ID><DisplayName>Alice</DisplayName></Owner><AccessControlList>` +
		strings.Join(grants, "") + `</AccessControlList></AccessControlPolicy>`
}

func TestACL_PutAndGet(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x"})
	owner := userGrant("alice", "Alice", "FULL_CONTROL")
	public := "<Grant>" + allUsersGrantee + "<Permission>READ</Permission></Grant>"
	tests := []struct {
		name   string
		header http.Header
		body   string
		want   string
	}{
		{"private", headers("x-amz-acl", "private"), "", aclXML(owner)},
		{"public-read", headers("x-amz-acl", "public-read"), "", aclXML(public, owner)},
		{"public-read-write", headers("x-amz-acl", "public-read-write"), "", aclXML(public, strings.Replace(public, "READ", "WRITE", 1), owner)},
		{"bucket-owner-read", headers("x-amz-acl", "bucket-owner-read"), "", aclXML(owner)},
		{"headers", headers("x-amz-grant-read", "id=bob,uri="+auth.AllUsers, "x-amz-grant-write-acp", "id=bob"), "",
			aclXML(public, userGrant("bob", "bob", "READ"), userGrant("bob", "bob", "WRITE_ACP"))},
		{"document", nil, aclXML(userGrant("bob", "", "READ"), public, owner), aclXML(public, owner, userGrant("bob", "bob", "READ"))},
		{"tenant's user", nil, aclXML(userGrant("acme$carol", "", "READ_ACP")), aclXML(userGrant("acme$carol", "acme$carol", "READ_ACP"))},
		{"own grant", nil, aclXML(userGrant("alice", "", "WRITE")), aclXML(userGrant("alice", "Alice", "WRITE"))},
		{"no grants", nil, aclXML(), aclXML()},
	}
	for _, path := range []string{"/bkt?acl", "/bkt/k?acl"} {
		wantXML(t, f.want(200, call{method: "GET", path: path}).body, aclXML(owner))
		for _, tt := range tests {
			t.Run(tt.name+path, func(t *testing.T) {
				f.t = t
				f.want(200, call{method: "PUT", path: path, header: tt.header, body: tt.body})
				wantXML(t, f.want(200, call{method: "GET", path: path}).body, tt.want)
			})
		}
		f.t = t
		f.want(200, call{method: "GET", path: "/bkt/k"}) // the owner always may
		f.want(200, call{method: "PUT", path: path, body: aclXML(owner)})
	}
	b, err := f.store.OpenBucket(t.Context(), "", "bkt")
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Stat(t.Context(), "k", "")
	if _, there := info.Attrs[attrObjectACL]; err != nil || there || len(b.Info.Attrs) > 0 {
		t.Errorf("of private ACLs is kept: %v, %v, %v", info.Attrs, b.Info.Attrs, err)
	}
}

func TestPutACL_Errors(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x"})
	grant := func(kind, inner string) string {
		return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="` + kind + `">` + inner + `</Grantee><Permission>READ</Permission></Grant>`
	}
	owner := userGrant("alice", "", "READ")
	tests := []struct {
		name   string
		status int
		code   code
		header http.Header
		body   string
	}{
		{"nothing", 400, codeMissingSecurityHeader, nil, ""},
		{"canned", 400, codeInvalidArgument, headers("x-amz-acl", "everybody"), ""},
		{"canned empty", 400, codeMissingSecurityHeader, headers("x-amz-acl", ""), ""},
		{"log delivery", 400, codeInvalidArgument, headers("x-amz-acl", "log-delivery-write"), ""},
		{"canned and grants", 400, codeInvalidRequest, headers("x-amz-acl", "private", "x-amz-grant-read", "id=bob"), ""},
		{"canned and document", 400, codeUnexpectedContent, headers("x-amz-acl", "private"), aclXML(owner)},
		{"grants and document", 400, codeUnexpectedContent, headers("x-amz-grant-read", "id=bob"), aclXML(owner)},
		{"unknown grant", 400, codeInvalidArgument, headers("x-amz-grant-delete", "id=bob"), ""},
		{"grant syntax", 400, codeInvalidArgument, headers("x-amz-grant-read", "bob"), ""},
		{"grant to nobody", 400, codeInvalidArgument, headers("x-amz-grant-read", "id=nobody"), ""},
		{"grant by email", 400, codeUnresolvableEmail, headers("x-amz-grant-read", "emailAddress=a@b"), ""},
		{"not XML", 400, codeMalformedACL, nil, "<AccessControl"},
		{"another document", 400, codeMalformedACL, nil, "<Tagging/>"},
		{"no owner", 400, codeMalformedACL, nil, strings.Replace(aclXML(owner), "Owner", "Sender", 2)},
		{"no list", 400, codeMalformedACL, nil, "<AccessControlPolicy><Owner><ID>alice</ID></Owner></AccessControlPolicy>"},
		{"another owner", 403, codeAccessDenied, nil, strings.Replace(aclXML(owner), "<ID>alice", "<ID>bob", 1)},
		{"no type", 400, codeMalformedACL, nil, aclXML(strings.Replace(owner, "xsi:type", "xsi:kind", 1))},
		{"type", 400, codeMalformedACL, nil, aclXML(grant("User", "<ID>bob</ID>"))},
		{"permission", 400, codeMalformedACL, nil, aclXML(userGrant("bob", "", "DELETE"))},
		{"no ID", 400, codeMalformedACL, nil, aclXML(grant("CanonicalUser", ""))},
		{"nobody", 400, codeInvalidArgument, nil, aclXML(userGrant("nobody", "", "READ"))},
		{"group", 400, codeInvalidArgument, nil, aclXML(grant("Group", "<URI>http://acs.amazonaws.com/groups/s3/LogDelivery</URI>"))},
		{"email", 400, codeUnresolvableEmail, nil, aclXML(grant("AmazonCustomerByEmail", "<EmailAddress>a@b</EmailAddress>"))},
		{"two lists", 400, codeMalformedACL, nil, strings.Replace(aclXML(owner), "<AccessControlList>", "<AccessControlList></AccessControlList><AccessControlList>", 1)},
		{"two owners", 400, codeMalformedACL, nil, strings.Replace(aclXML(owner), "<Owner>", "<Owner><ID>alice</ID></Owner><Owner>", 1)},
		{"two owner IDs", 400, codeMalformedACL, nil, strings.Replace(aclXML(owner), "<Owner>", "<Owner><ID>alice</ID>", 1)},
		{"two permissions", 400, codeMalformedACL, nil, aclXML(strings.Replace(owner, "<Permission>", "<Permission>FULL_CONTROL</Permission><Permission>", 1))},
		{"two grantees", 400, codeMalformedACL, nil, aclXML(strings.Replace(owner, "<Grant>", "<Grant>"+allUsersGrantee, 1))},
		{"two IDs", 400, codeMalformedACL, nil, aclXML(grant("CanonicalUser", "<ID>bob</ID><ID>alice</ID>"))},
		{"too many", 400, codeLimitExceeded, nil, aclXML(strings.Repeat(owner, auth.MaxGrants+1))},
	}
	for _, path := range []string{"/bkt?acl", "/bkt/k?acl"} {
		for _, tt := range tests {
			t.Run(tt.name+path, func(t *testing.T) {
				f.t = t
				f.wantError(tt.status, tt.code, call{method: "PUT", path: path, header: tt.header, body: tt.body})
				wantXML(t, f.want(200, call{method: "GET", path: path}).body, aclXML(userGrant("alice", "Alice", "FULL_CONTROL")))
			})
		}
	}
	f.t = t
	f.wantError(404, codeNoSuchKey, call{method: "PUT", path: "/bkt/absent?acl", header: headers("x-amz-acl", "private")})
	f.wantError(404, codeNoSuchKey, call{method: "GET", path: "/bkt/absent?acl"})
	f.wantError(404, codeNoSuchVersion, call{method: "GET", path: "/bkt/k?acl&versionId=" + store.NewOpID().String()})
}

// TestACL_OfNewObjects: every way of making an object takes an ACL, and none
// takes it from elsewhere.
func TestACL_OfNewObjects(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{method: "PUT", path: "/bkt", header: headers("x-amz-acl", "public-read-write")})
	public := headers("x-amz-acl", "public-read")
	f.want(200, call{method: "PUT", path: "/bkt/put", body: "x", header: public})
	f.want(200, call{method: "PUT", path: "/bkt/granted", body: "x", header: headers("x-amz-grant-read", "uri="+auth.AllUsers)})
	f.want(204, postForm{
		fields: [][2]string{{"key", "posted"}, {"acl", "public-read"}}, conditions: []any{startsWith("key", ""), startsWith("acl", "")}, file: "x",
	}.call(t))
	f.want(204, postForm{user: "-", fields: [][2]string{{"key", "anonymous"}, {"acl", "public-read"}}, file: "x"}.call(t))
	f.want(200, call{method: "PUT", path: "/bkt/copied", header: headers("x-amz-acl", "public-read", "x-amz-copy-source", "bkt/put")})
	id := between(f.want(200, call{method: "POST", path: "/bkt/parts?uploads", header: public}).body, "UploadId")[0]
	etag := f.want(200, call{method: "PUT", path: "/bkt/parts?partNumber=1&uploadId=" + id, body: "x"}).header.Get(hETag)
	f.want(200, call{
		method: "POST", path: "/bkt/parts?uploadId=" + id,
		body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>",
	})
	for _, key := range []string{"put", "granted", "posted", "anonymous", "copied", "parts"} {
		f.want(200, call{user: "-", method: "GET", path: "/bkt/" + key})
	}

	f.want(200, call{method: "PUT", path: "/bkt/plain copy", header: headers("x-amz-copy-source", "bkt/put")})
	f.wantError(403, codeAccessDenied, call{user: "-", method: "GET", path: "/bkt/plain%20copy"})
	f.want(200, call{method: "PUT", path: "/bkt/put", body: "again"})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt/put"})
}

// TestACL_Owners: who writes to another's bucket owns the object.
func TestACL_Owners(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{method: "PUT", path: "/bkt", header: headers("x-amz-acl", "public-read-write")})
	for _, user := range []string{"bob", "-"} {
		f.want(200, call{user: user, method: "PUT", path: "/bkt/k", body: "x"})
		f.want(200, call{user: user, method: "GET", path: "/bkt/k"})
		f.wantError(403, codeAccessDenied, call{method: "GET", path: "/bkt/k"})
		f.wantError(403, codeAccessDenied, call{method: "GET", path: "/bkt/k?acl"})
		f.wantError(403, codeAccessDenied, call{method: "PUT", path: "/bkt/k?acl", header: headers("x-amz-acl", "public-read")})
		f.wantError(403, codeAccessDenied, call{method: "PUT", path: "/bkt/c", header: headers("x-amz-copy-source", "bkt/k")})
		f.want(200, call{user: "root", method: "GET", path: "/bkt/k"})
		f.want(200, call{user: user, method: "PUT", path: "/bkt/k?acl", header: headers("x-amz-acl", "bucket-owner-read")})
		f.want(200, call{method: "GET", path: "/bkt/k"})
		f.wantError(403, codeAccessDenied, call{method: "GET", path: "/bkt/k?acl"})
		f.want(200, call{user: user, method: "PUT", path: "/bkt/k?acl", header: headers("x-amz-acl", "bucket-owner-full-control")})
		f.want(200, call{method: "GET", path: "/bkt/k?acl"})
		f.want(204, call{method: "DELETE", path: "/bkt/k"})
	}
	a := f.want(200, call{user: "-", method: "PUT", path: "/bkt/k", body: "x"})
	if a.header.Get(hETag) == "" {
		t.Errorf("PutObject = %v", a.header)
	}
	if list := f.want(200, call{method: "GET", path: "/bkt"}).body; !strings.Contains(list, "<Owner><ID>anonymous</ID><DisplayName>anonymous</DisplayName></Owner>") {
		t.Errorf("ListObjects = %s", list)
	}
	f.put("", "bkt", "foreign", "made by another program", nil)
	f.want(200, call{method: "GET", path: "/bkt/foreign"})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt/foreign"})

	list := f.want(200, call{user: "-", method: "GET", path: "/"}).body
	wantXML(t, list, `<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
		<Owner><ID>anonymous</ID><DisplayName>anonymous</DisplayName></Owner><Buckets></Buckets></ListAllMyBucketsResult>`)
}

// TestACL_Account: users of an account have what any of them made.
func TestACL_Account(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x"})
	const account = "RGW00000000000000001"
	if err := f.users.CreateAccount(t.Context(), &auth.Account{ID: account, Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	enter := func(uid string) {
		if _, err := f.users.Update(t.Context(), uid, func(u *auth.User) error { u.Account = account; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	enter("bob")
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt/k"})
	enter("alice")
	err := f.store.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error { b.Owner = account; return nil })
	if err != nil {
		t.Fatal(err)
	}
	f.want(200, call{user: "bob", method: "GET", path: "/bkt/k"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bkt/k?tagging", body: "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bkt/k?acl", header: headers("x-amz-acl", "authenticated-read")})
	f.want(200, call{user: "carol", method: "GET", path: "/:bkt/k"})
	f.wantError(403, codeAccessDenied, call{user: "-", method: "GET", path: "/bkt/k"})
}

// TestACL_Missing: whether there is a key is told to those who may list.
func TestACL_Missing(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt?versioning", body: "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"})
	f.want(200, call{method: "PUT", path: "/bkt/gone", body: "x", header: headers("x-amz-acl", "public-read")})
	marker := f.want(204, call{method: "DELETE", path: "/bkt/gone"}).header.Get(hVersionID)
	calls := []call{
		{method: "GET", path: "/bkt/absent"}, {method: "GET", path: "/bkt/gone"}, {method: "GET", path: "/bkt/gone?acl"}, {method: "GET", path: "/bkt/gone?tagging"},
		{method: "DELETE", path: "/bkt/absent?tagging"},
	}
	for _, user := range []string{"bob", "-"} {
		f.want(200, call{method: "PUT", path: "/bkt?acl", header: headers("x-amz-acl", "private")})
		for _, c := range calls {
			c.user = user
			if a := f.wantError(403, codeAccessDenied, c); a.header.Get(hDeleteMarker) != "" {
				t.Errorf("%s = %v", c.path, a.header)
			}
		}
		f.wantError(403, codeAccessDenied, call{user: user, method: "GET", path: "/bkt/gone?versionId=" + marker})
		f.want(200, call{method: "PUT", path: "/bkt?acl", header: headers("x-amz-acl", "public-read")})
		for _, c := range calls {
			c.user = user
			f.wantError(404, codeNoSuchKey, c)
		}
	}
}

func TestAnonymous(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{method: "PUT", path: "/bkt", header: headers("x-amz-acl", "public-read-write")})
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "x", header: headers("x-amz-acl", "public-read")})
	f.wantError(400, codeInvalidRequest, call{user: "-", method: "GET", path: "/bkt/k?response-content-type=text/html"})
	f.wantError(403, codeAccessDenied, call{user: "-", method: "GET", path: "/bkt/k", header: headers("x-amz-expected-bucket-owner", "bob")})
	f.want(200, call{user: "-", method: "GET", path: "/bkt/k", header: headers("x-amz-expected-bucket-owner", "alice")})
	f.wantError(403, codeAccessDenied, call{user: "-", method: "PUT", path: "/bkt/m", body: "x", header: headers("x-amz-grant-read", "emailAddress=alice@example.com")})
	c := postForm{user: "-", fields: [][2]string{{"key", "p"}}, file: "x"}.call(t)
	c.header.Set("x-amz-expected-bucket-owner", "bob")
	f.wantError(403, codeAccessDenied, c)
	f.wantError(404, codeNoSuchBucket, postForm{user: "-", path: "/none", fields: [][2]string{{"key", "p"}}, file: "x"}.call(t))
	f.wantError(400, codeInvalidArgument, postForm{user: "-", fields: [][2]string{{"key", "p"}, {"acl", "x"}}, file: "x"}.call(t))
}

// FuzzParseACL gives strangers' documents to the parser of ACLs.
func FuzzParseACL(f *testing.F) {
	for _, s := range []string{
		aclXML(), aclXML("<Grant>" + allUsersGrantee + "<Permission>READ</Permission></Grant>"), aclXML(userGrant("bob", "Bob", "FULL_CONTROL")),
		"<AccessControlPolicy><Owner/></AccessControlPolicy>", "<a", strings.Replace(aclXML(userGrant("bob", "", "READ")), "ID", "URI", -1),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		doc, err := parseXML([]byte(s))
		if err != nil {
			return
		}
		_, grants, err := parseACL(doc)
		if err != nil && err != error(codeMalformedACL) {
			t.Fatalf("parseACL(%q): %v", s, err)
		}
		for _, g := range grants {
			if g.Name == "" || g.Kind > auth.GranteeEmail || strings.Contains(g.Permission.String(), "Permission") {
				t.Fatalf("parseACL(%q) = %+v", s, grants)
			}
		}
	})
}

// TestAccess_Others: what no ACL allows stays the owner's.
func TestAccess_Others(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	full := auth.ACL{{Grantee: auth.AllUsers, Permission: auth.PermFullControl}}
	f.setACLs(full, full)
	known := make(map[string]bool)
	for _, c := range accessCalls(t, "") {
		known[c.op] = true
	}
	for _, rt := range routes {
		if known[rt.op] || rt.level == levelService {
			continue
		}
		path := "/bkt"
		if rt.level == levelObject {
			path += "/own"
		}
		if rt.query != "" {
			path += "?" + rt.query
		}
		for _, user := range []string{"bob", "-"} {
			c := call{user: user, method: rt.method, path: path}
			switch a := f.do(c); {
			case rt.op == "CreateBucket" && user == "bob":
				f.wantError(409, codeBucketAlreadyExists, c)
			case a.status != 403:
				t.Errorf("%s by %s = %d %s, want 403", rt.op, user, a.status, a.body)
			}
		}
	}
	f.want(200, call{method: "HEAD", path: "/bkt/own"})
}
