package s3api

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"

	"herald/auth"
	"herald/store"
)

const grantPrefix = "X-Amz-Grant-"

// grantHeaders are the headers that give permissions, in the order in which
// their grants are kept (RGW). It is never written.
var grantHeaders = [...]struct {
	name string
	perm auth.Permission
}{
	{"X-Amz-Grant-Read", auth.PermRead},
	{"X-Amz-Grant-Write", auth.PermWrite},
	{"X-Amz-Grant-Read-Acp", auth.PermReadACP},
	{"X-Amz-Grant-Write-Acp", auth.PermWriteACP},
	{"X-Amz-Grant-Full-Control", auth.PermFullControl},
}

// Grantees' types in documents.
const (
	typeUser  = "CanonicalUser"
	typeGroup = "Group"
	typeEmail = "AmazonCustomerByEmail"
	nsSchema  = "http://www.w3.org/2001/XMLSchema-instance"
)

// aclOf is what is kept of the ACL that the headers of a request ask for:
// "" when they ask for none, or for a private one. granted tells that there are
// x-amz-grant- headers. Errors: InvalidRequest, InvalidArgument, AccessDenied,
// and those of auth.Users.ResolveGrants.
func (s *Server) aclOf(ctx context.Context, r *request, h http.Header, granted bool, owner, bucketOwner string) (string, error) {
	canned := first(h, hACL)
	if !granted {
		if canned == "" {
			return "", nil
		}
		acl, err := auth.CannedACL(canned, owner, bucketOwner)
		return acl.Encode(), err
	}
	if canned != "" {
		return "", fail(codeInvalidRequest, "Give either a canned ACL or grants, not both.")
	}
	var grants []auth.GrantRequest
	for _, g := range grantHeaders {
		for _, value := range h[g.name] {
			more, err := auth.ParseGrants(value, g.perm)
			if err != nil {
				return "", err
			}
			grants = append(grants, more...)
		}
	}
	if len(grants) == 0 {
		return "", fail(codeInvalidArgument, "There is no such x-amz-grant- header.")
	}
	return s.resolveACL(ctx, r, owner, grants)
}

// resolveACL makes of grants what is kept of them. Who does not sign may not
// try e-mail addresses.
func (s *Server) resolveACL(ctx context.Context, r *request, owner string, grants []auth.GrantRequest) (string, error) {
	if r.user.Anonymous() && slices.ContainsFunc(grants, func(g auth.GrantRequest) bool { return g.Kind == auth.GranteeEmail }) {
		return "", codeAccessDenied
	}
	acl, err := s.users.ResolveGrants(ctx, owner, grants)
	if err != nil {
		return "", err
	}
	return acl.Encode(), nil
}

// newACL is what is kept of the ACL that a PutBucketAcl or PutObjectAcl brings,
// in its headers or as a document. Errors: as aclOf, MissingSecurityHeader,
// UnexpectedContent, MalformedACLError, and those of reading the body.
func (s *Server) newACL(ctx context.Context, r *request, owner string) (string, error) {
	data, err := r.readAll(maxDocument)
	if err != nil {
		return "", err
	}
	empty := len(bytes.TrimSpace(data)) == 0
	h := r.http.Header
	granted := hasGrants(h)
	if granted || first(h, hACL) != "" {
		if !empty {
			return "", codeUnexpectedContent
		}
		return s.aclOf(ctx, r, h, granted, owner, r.bucket.Info.Owner)
	}
	if empty {
		return "", fail(codeMissingSecurityHeader, "An ACL is needed: as x-amz-acl, as x-amz-grant- headers or as a document.").
			with("MissingHeaderName", "x-amz-acl")
	}
	doc, err := parseXML(data)
	if err != nil {
		return "", failWith(codeMalformedACL, err)
	}
	named, grants, err := parseACL(doc)
	if err != nil {
		return "", err
	}
	if named != "" && named != owner {
		return "", fail(codeAccessDenied, "An ACL cannot change the owner.")
	}
	return s.resolveACL(ctx, r, owner, grants)
}

func hasGrants(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, grantPrefix) {
			return true
		}
	}
	return false
}

// parseACL reads an AccessControlPolicy. Errors: MalformedACLError.
func parseACL(doc *node) (owner string, grants []auth.GrantRequest, err error) {
	o, list := doc.child("Owner"), doc.child("AccessControlList")
	if doc.name != "AccessControlPolicy" || o == nil || o.child("ID") == nil || list == nil || doc.repeats() || o.repeats() {
		return "", nil, codeMalformedACL
	}
	for i := range list.children {
		g, ok := parseGrant(&list.children[i])
		if !ok {
			return "", nil, codeMalformedACL
		}
		grants = append(grants, g)
	}
	return o.childText("ID"), grants, nil
}

func parseGrant(n *node) (g auth.GrantRequest, ok bool) {
	grantee := n.child("Grantee")
	if n.name != "Grant" || grantee == nil || n.repeats() || grantee.repeats() {
		return g, false
	}
	switch grantee.xsiType {
	case typeUser:
		g.Kind, g.Name = auth.GranteeID, grantee.childText("ID")
	case typeGroup:
		g.Kind, g.Name = auth.GranteeGroup, grantee.childText("URI")
	case typeEmail:
		g.Kind, g.Name = auth.GranteeEmail, grantee.childText("EmailAddress")
	}
	g.Permission, ok = auth.ParsePermission(n.childText("Permission"))
	return g, ok && g.Name != ""
}

// aclDocument writes an AccessControlPolicy: groups first, then users in order
// of their ids (RGW).
func (s *Server) aclDocument(ctx context.Context, owner, stored string) (*response, error) {
	acl, err := auth.DecodeACL(stored)
	if err != nil {
		return nil, err
	}
	for i := range acl {
		if acl[i].Grantee == auth.OwnerGrantee {
			acl[i].Grantee = owner
		}
	}
	slices.SortStableFunc(acl, func(a, b auth.Grant) int { return strings.Compare(userOf(a), userOf(b)) })
	x := newXML("AccessControlPolicy", nsS3)
	s.owner(ctx, x, "Owner", owner)
	x.open("AccessControlList")
	for _, g := range acl {
		x.open("Grant")
		s.grantee(ctx, x, g)
		x.elem("Permission", g.Permission.String())
		x.end("Grant")
	}
	x.end("AccessControlList")
	x.end("AccessControlPolicy")
	return x.response(), nil
}

// userOf is the grantee's id, "" for groups.
func userOf(g auth.Grant) string {
	if g.Grantee == auth.AllUsers || g.Grantee == auth.AuthenticatedUsers {
		return ""
	}
	return g.Grantee
}

func (s *Server) grantee(ctx context.Context, x *xmlWriter, g auth.Grant) {
	id := userOf(g)
	kind := typeUser
	if id == "" && g.Grantee != "" {
		kind = typeGroup
	}
	x.open(`Grantee xmlns:xsi="` + nsSchema + `" xsi:type="` + kind + `"`)
	if kind == typeGroup {
		x.elem("URI", g.Grantee)
	} else {
		x.elem("ID", id)
		x.elem("DisplayName", s.displayName(ctx, id))
	}
	x.end("Grantee")
}

func (s *Server) getBucketACL(ctx context.Context, r *request) (*response, error) {
	return s.aclDocument(ctx, r.bucket.Info.Owner, r.bucket.Info.Attrs[attrBucketACL])
}

func (s *Server) putBucketACL(ctx context.Context, r *request) (*response, error) {
	acl, err := s.newACL(ctx, r, r.bucket.Info.Owner)
	if err != nil {
		return nil, err
	}
	err = s.updateBucket(ctx, r, func(b *store.BucketInfo) error {
		if acl == "" {
			delete(b.Attrs, attrBucketACL)
		} else {
			b.Attrs[attrBucketACL] = acl
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(), nil
}

func (s *Server) getObjectACL(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	info, err := s.statObject(ctx, r, versionID, auth.PermReadACP)
	if err != nil {
		return nil, err
	}
	r.setVersion(info)
	return s.aclDocument(ctx, ownerOf(info.Attrs, r.bucket.Info), info.Attrs[attrObjectACL])
}

// putObjectACL answers PutObjectAcl. No event tells of it (RGW).
func (s *Server) putObjectACL(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	info, err := s.statObject(ctx, r, versionID, auth.PermWriteACP)
	if err != nil {
		return nil, err
	}
	owner := ownerOf(info.Attrs, r.bucket.Info)
	acl, err := s.newACL(ctx, r, owner)
	if err != nil {
		return nil, err
	}
	err = s.updateObject(ctx, r, versionID, auth.PermWriteACP, func(_ *store.Info, attrs store.Attrs) error {
		switch {
		case ownerOf(attrs, r.bucket.Info) != owner:
			return codeOperationAborted // it is another object now
		case acl == "":
			delete(attrs, attrObjectACL)
		default:
			attrs[attrObjectACL] = acl
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(), nil
}
