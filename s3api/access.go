package s3api

import (
	"cmp"
	"context"
	"errors"

	"herald/auth"
	"herald/store"
)

// Where ACLs are: an attribute of the bucket, and of the object. Absent:
// private (see auth.ACL).
const (
	attrBucketACL = "acl"
	attrObjectACL = "herald-acl"
)

// authorize decides whether the sender may run the operation, as far as that
// depends on the bucket: its owner and administrators may, others what its ACL
// allows. To the topic API, anonymous requests are no requests at all (RGW).
func authorize(r *request) error {
	switch access := r.route.access; {
	case access == byForm || access == byAnyone:
		return nil
	case r.user.Anonymous() && r.route.sns:
		return fail(codeInvalidRequest, "Requests to the topic API must be signed.")
	case access == byUser && r.user.Anonymous():
		return codeAccessDenied
	case access == byUser:
		return nil
	}
	return r.allowBucket(r.bucket.Info, r.route.access)
}

// allowBucket decides whether the sender may do something with the bucket that
// the request addresses. Errors: AccessDenied.
func (r *request) allowBucket(b *store.BucketInfo, how access) error {
	if want := r.header(hExpectedOwner); want != "" && want != b.Owner {
		return codeAccessDenied
	}
	switch {
	case how == byObject, mayUse(r.user, b):
		return nil
	case how != byOwner && bucketAllows(r.user, b, how.permission()):
		return nil
	}
	return codeAccessDenied
}

// updateBucket changes the record of the open bucket in one atomic step, if it
// still is that bucket and the sender still may: a body comes when its sender
// likes. f may be called more than once.
// Errors: ErrNoSuchBucket, AccessDenied, and f's.
func (s *Server) updateBucket(ctx context.Context, r *request, f func(*store.BucketInfo) error) error {
	return s.store.UpdateBucket(ctx, r.tenant, r.bucketName, func(b *store.BucketInfo) error {
		if was := r.bucket.Info.ID; was != "" && was != b.ID {
			return store.ErrNoSuchBucket // another has its name now
		}
		if err := r.allowBucket(b, r.route.access); err != nil {
			return err
		}
		return f(b)
	})
}

// permission is what a bucket's ACL must give for an access; 0, which none
// gives, when no ACL can allow it.
func (a access) permission() auth.Permission {
	switch a {
	case byReader:
		return auth.PermRead
	case byWriter:
		return auth.PermWrite
	case byACPReader:
		return auth.PermReadACP
	case byACPWriter:
		return auth.PermWriteACP
	}
	return 0
}

// mayUse tells whether a bucket is the user's: its owner's, which may be an
// account, and administrators'.
func mayUse(u *auth.User, b *store.BucketInfo) bool {
	return u.Privileged() || u.Owns(b.Owner)
}

// bucketAllows tells whether the bucket's ACL gives the user a permission.
func bucketAllows(u *auth.User, b *store.BucketInfo, p auth.Permission) bool {
	stored := b.Attrs[attrBucketACL]
	if stored == "" {
		return false
	}
	acl, err := auth.DecodeACL(stored)
	return err == nil && acl.Allows(u, p)
}

// mayList tells whether the user may know which keys a bucket has.
func mayList(u *auth.User, b *store.BucketInfo) bool {
	return mayUse(u, b) || bucketAllows(u, b, auth.PermRead)
}

// ownerOf is the owner of an object or an upload: who made it or, when another
// program did, the bucket's owner.
func ownerOf(attrs store.Attrs, b *store.BucketInfo) string {
	return cmp.Or(attrs[store.AttrOwner], b.Owner)
}

// objectAllows decides whether the user may do something with an object: its
// owner and administrators may do everything, others what its ACL allows. The
// bucket's owner is one of the others (S3).
func objectAllows(u *auth.User, b *store.BucketInfo, attrs store.Attrs, p auth.Permission) bool {
	if u.Owns(ownerOf(attrs, b)) || u.Privileged() {
		return true
	}
	stored := attrs[attrObjectACL]
	if stored == "" {
		return false
	}
	acl, err := auth.DecodeACL(stored)
	return err == nil && acl.Allows(u, p)
}

// allowObject is objectAllows, and lets a user have what another made before
// both came to one account. Errors: AccessDenied.
func (s *Server) allowObject(ctx context.Context, u *auth.User, b *store.BucketInfo, attrs store.Attrs, p auth.Permission) error {
	owner := ownerOf(attrs, b)
	if objectAllows(u, b, attrs, p) {
		return nil
	}
	if u.Account == "" || auth.ValidAccountID(owner) {
		return codeAccessDenied
	}
	maker, err := s.users.Get(ctx, owner)
	switch {
	case errors.Is(err, auth.ErrNoSuchUser):
		return codeAccessDenied
	case err != nil:
		return err
	case maker.Account != u.Account:
		return codeAccessDenied
	}
	return nil
}

// openObject opens the object that the request names for reading.
func (s *Server) openObject(ctx context.Context, r *request, versionID string) (store.Reader, error) {
	reader, err := r.bucket.Open(ctx, r.key, versionID)
	if err != nil {
		return nil, r.readFailure(err, versionID)
	}
	if err := s.allowObject(ctx, r.user, r.bucket.Info, reader.Info().Attrs, auth.PermRead); err != nil {
		_ = reader.Close() // read only
		return nil, err
	}
	return reader, nil
}

// statObject looks at the object that the request names, if the sender has the
// permission.
func (s *Server) statObject(ctx context.Context, r *request, versionID string, p auth.Permission) (*store.Info, error) {
	info, err := r.bucket.Stat(ctx, r.key, versionID)
	if err != nil {
		return nil, r.readFailure(err, versionID)
	}
	return info, s.allowObject(ctx, r.user, r.bucket.Info, info.Attrs, p)
}

// admitUpdate refuses those whom updateObject would, before a body is read.
// The bucket's owner, who mostly owns the object too, waits for the update.
func (s *Server) admitUpdate(ctx context.Context, r *request, versionID string, p auth.Permission) error {
	if mayUse(r.user, r.bucket.Info) {
		return nil
	}
	_, err := s.statObject(ctx, r, versionID, p)
	return err
}

// updateObject changes attributes of the object that the request names, if the
// sender has the permission, in one atomic step. f may be called more than once.
func (s *Server) updateObject(ctx context.Context, r *request, versionID string, p auth.Permission, f func(*store.Info, store.Attrs) error) error {
	b, allowedOwner := r.bucket.Info, ""
	change := func(info *store.Info) (store.Attrs, error) {
		attrs := info.Attrs
		if attrs == nil {
			attrs = store.Attrs{}
		}
		if !objectAllows(r.user, b, attrs, p) && (allowedOwner == "" || ownerOf(attrs, b) != allowedOwner) {
			return nil, codeAccessDenied
		}
		return attrs, f(info, attrs)
	}
	info, err := r.bucket.Update(ctx, r.key, versionID, change)
	if errors.Is(err, codeAccessDenied) && r.user.Account != "" {
		// The whole of allowObject may not run under the key's guard.
		if info, err = s.statObject(ctx, r, versionID, p); err != nil {
			return err
		}
		allowedOwner = ownerOf(info.Attrs, b)
		info, err = r.bucket.Update(ctx, r.key, versionID, change)
	}
	if err != nil {
		return r.readFailure(err, versionID)
	}
	r.setVersion(info)
	return nil
}

// allowConditions decides whether the sender may make a write or a removal
// depend on what is there: it learns whether the conditions hold, without having
// to change anything. S3 wants GetObject for that; who may list the bucket knows
// all that they compare. That a key is new may be asked for by all who write.
// Errors: AccessDenied.
func (s *Server) allowConditions(ctx context.Context, r *request, key, versionID string, cond *store.Conditions) error {
	if *cond == (store.Conditions{IfNoneMatch: "*"}) || mayList(r.user, r.bucket.Info) {
		return nil
	}
	info, err := r.bucket.Stat(ctx, key, versionID)
	switch {
	case isMissing(err):
		return codeAccessDenied
	case err != nil:
		return err
	}
	return s.allowObject(ctx, r.user, r.bucket.Info, info.Attrs, auth.PermRead)
}

// isMissing tells whether an error says that there is no such object.
func isMissing(err error) bool {
	return errors.Is(err, store.ErrNoSuchKey) || errors.Is(err, store.ErrNoSuchVersion) || errors.Is(err, store.ErrDeleteMarker)
}
