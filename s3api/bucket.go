package s3api

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"herald/auth"
	"herald/store"
)

// attrLocation is the bucket attribute that holds the location constraint the
// bucket was made with.
const attrLocation = "location"

// defaultLocation is the region that S3 does not show.
const defaultLocation = "us-east-1"

const maxBucketsPage = 10_000

// listBuckets: the caller's buckets, and those of nobody (directories that
// another program made) for administrators. Who does not sign has none (RGW).
func (s *Server) listBuckets(ctx context.Context, r *request) (*response, error) {
	limit, err := r.query.number("max-buckets", maxBucketsPage)
	if err != nil {
		return nil, err
	}
	if r.query.has("max-buckets") && (limit < 1 || limit > maxBucketsPage) {
		return nil, invalidArgument("max-buckets", r.query.get("max-buckets"), "max-buckets must be from 1 to %d.", maxBucketsPage)
	}
	after, err := decodeToken(r.query.get("continuation-token"))
	if err != nil {
		return nil, err
	}
	prefix := r.query.get("prefix")
	var buckets []*store.BucketInfo
	if !r.user.Anonymous() {
		buckets, err = s.store.ListBuckets(ctx, func(b *store.BucketInfo) bool {
			mine := r.user.Owns(b.Owner) || b.Owner == "" && b.Tenant == r.user.Tenant && r.user.Privileged()
			return mine && strings.HasPrefix(b.Name, prefix) && b.Name > after
		})
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(buckets, func(a, b *store.BucketInfo) int { return strings.Compare(a.Name, b.Name) })
	next := ""
	if len(buckets) > limit {
		buckets = buckets[:limit]
		next = encodeToken(buckets[limit-1].Name)
	}
	x := newXML("ListAllMyBucketsResult", nsS3)
	s.owner(ctx, x, "Owner", r.user.Owner())
	x.open("Buckets")
	for _, b := range buckets {
		x.open("Bucket")
		x.elem("Name", b.Name)
		x.time("CreationDate", b.Created)
		x.end("Bucket")
	}
	x.end("Buckets")
	x.optional("ContinuationToken", next)
	x.optional("Prefix", prefix)
	x.end("ListAllMyBucketsResult")
	return x.response(), nil
}

// createBucket makes a bucket of the caller. To make again a bucket that the
// caller owns succeeds in the default region, as S3 has it, and changes
// nothing.
func (s *Server) createBucket(ctx context.Context, r *request) (*response, error) {
	granted, err := checkWriteHeaders(r.http.Header)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(r.header("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
		return nil, codeNotImplemented
	}
	if r.tenant != r.user.Tenant {
		return nil, codeAccessDenied
	}
	if !newBucketName(r.bucketName) {
		return nil, codeInvalidBucketName
	}
	location, err := r.locationConstraint()
	if err != nil {
		return nil, err
	}
	acl, err := s.aclOf(ctx, r, r.http.Header, granted, r.owner(), r.owner())
	if err != nil {
		return nil, err
	}
	info := store.BucketInfo{Name: r.bucketName, Tenant: r.tenant, Owner: r.owner(), Attrs: map[string]string{}}
	if location != "" {
		info.Attrs[attrLocation] = location
	}
	if acl != "" {
		info.Attrs[attrBucketACL] = acl
	}
	err = s.store.CreateBucket(ctx, info)
	if errors.Is(err, store.ErrBucketAlreadyExists) {
		err = s.bucketExists(ctx, r, location, acl)
	}
	if err != nil {
		return nil, err
	}
	r.setHeader("Location", "/"+r.bucketName)
	return ok(), nil
}

// newBucketName tells whether a bucket may be made of that name: each part
// between dots must do in a host's name (RGW). Buckets that exist under other
// valid names, as directories do, can be used.
func newBucketName(name string) bool {
	return store.ValidBucketName(name) && !strings.Contains(name, ".-") && !strings.Contains(name, "-.")
}

// bucketExists is the answer to CreateBucket of a bucket that exists. Its ACL is
// not changed that way (RGW).
func (s *Server) bucketExists(ctx context.Context, r *request, location, acl string) error {
	cur, err := s.store.BucketInfo(ctx, r.tenant, r.bucketName)
	switch {
	case errors.Is(err, store.ErrNoSuchBucket): // made and deleted meanwhile
		return codeOperationAborted
	case err != nil:
		return err
	case !r.user.Owns(cur.Owner), acl != cur.Attrs[attrBucketACL]:
		return codeBucketAlreadyExists
	case location != "" && location != defaultLocation && location != s.region:
		return codeBucketAlreadyOwnedByYou
	}
	return nil
}

// locationConstraint reads CreateBucket's optional document. Any region's name
// is accepted, as any is accepted in signatures, and shown again by
// GetBucketLocation.
func (r *request) locationConstraint() (string, error) {
	if r.http.ContentLength == 0 {
		return "", nil
	}
	doc, err := r.document(maxDocument, "CreateBucketConfiguration")
	if errors.Is(err, codeMissingRequestBody) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	location := doc.childText("LocationConstraint")
	if !validRegion(location) {
		return "", fail(codeInvalidLocationConstraint, "").with("LocationConstraint", location)
	}
	return location, nil
}

// validRegion tells whether s could be a region's name: lower-case letters,
// digits and hyphens, at most 63 ("" included; "EU" is an old alias).
func validRegion(s string) bool {
	if len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return s == "EU"
		}
	}
	return true
}

func (s *Server) headBucket(_ context.Context, r *request) (*response, error) {
	region := s.region
	if l := r.bucket.Info.Attrs[attrLocation]; l != "" {
		region = l
	}
	r.setHeader("X-Amz-Bucket-Region", region)
	return ok(), nil
}

func (s *Server) deleteBucket(ctx context.Context, r *request) (*response, error) {
	if err := s.store.DeleteBucket(ctx, r.tenant, r.bucketName); err != nil {
		return nil, err
	}
	return noContent(), nil
}

func (s *Server) getBucketLocation(_ context.Context, r *request) (*response, error) {
	location := r.bucket.Info.Attrs[attrLocation]
	if location == defaultLocation {
		location = ""
	}
	x := newXML("LocationConstraint", nsS3)
	x.text(location)
	x.end("LocationConstraint")
	return x.response(), nil
}

// owner writes an element with the id and the display name of a user.
func (s *Server) owner(ctx context.Context, x *xmlWriter, name, uid string) {
	x.open(name)
	x.elem("ID", uid)
	x.elem("DisplayName", s.displayName(ctx, uid))
	x.end(name)
}

// displayName is the user's or the account's, or the id when there is none.
func (s *Server) displayName(ctx context.Context, uid string) string {
	if auth.ValidAccountID(uid) {
		if a, err := s.users.Account(ctx, uid); err == nil && a.Name != "" {
			return a.Name
		}
	} else if uid != "" {
		if u, err := s.users.Get(ctx, uid); err == nil && u.DisplayName != "" {
			return u.DisplayName
		}
	}
	return uid
}

// encodeToken makes an opaque continuation token of a marker.
func encodeToken(marker string) string {
	return base64.RawURLEncoding.EncodeToString([]byte("1" + marker))
}

// decodeToken is the inverse; the empty token is the beginning.
// Errors: InvalidArgument.
func decodeToken(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) == 0 || b[0] != '1' {
		return "", invalidArgument("continuation-token", token, "The continuation token is not one of ours.")
	}
	return string(b[1:]), nil
}
