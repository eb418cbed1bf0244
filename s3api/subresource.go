package s3api

import (
	"context"

	"herald/auth"
	"herald/store"
)

const hVersionID = "X-Amz-Version-Id"

func (s *Server) getBucketVersioning(_ context.Context, r *request) (*response, error) {
	x := newXML("VersioningConfiguration", nsS3)
	switch r.bucket.Info.Versioning {
	case store.Enabled:
		x.elem("Status", "Enabled")
	case store.Suspended:
		x.elem("Status", "Suspended")
	}
	x.end("VersioningConfiguration")
	return x.response(), nil
}

// putBucketVersioning enables or suspends versioning; it can never be taken
// back to "never enabled". MFA delete is not supported.
func (s *Server) putBucketVersioning(ctx context.Context, r *request) (*response, error) {
	doc, err := r.document(maxDocument, "VersioningConfiguration")
	if err != nil {
		return nil, err
	}
	if mfa := doc.childText("MfaDelete") + doc.childText("MFADelete"); mfa != "" && mfa != "Disabled" {
		return nil, codeNotImplemented
	}
	var state store.Versioning
	switch doc.childText("Status") {
	case "Enabled":
		state = store.Enabled
	case "Suspended":
		state = store.Suspended
	default:
		return nil, codeIllegalVersioning
	}
	err = s.updateBucket(ctx, r, func(b *store.BucketInfo) error {
		b.Versioning = state
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(), nil
}

func (s *Server) getBucketTagging(_ context.Context, r *request) (*response, error) {
	stored := r.bucket.Info.Attrs[attrBucketTagging]
	if stored == "" {
		return nil, codeNoSuchTagSet
	}
	set, err := parseTagging(stored, maxBucketTags)
	if err != nil {
		return nil, err
	}
	return taggingDocument(set).response(), nil
}

func (s *Server) putBucketTagging(ctx context.Context, r *request) (*response, error) {
	set, err := r.tagSet(maxBucketTags)
	if err != nil {
		return nil, err
	}
	return noContent(), s.setBucketTags(ctx, r, set)
}

func (s *Server) deleteBucketTagging(ctx context.Context, r *request) (*response, error) {
	return noContent(), s.setBucketTags(ctx, r, nil)
}

func (s *Server) setBucketTags(ctx context.Context, r *request, set tagSet) error {
	return s.updateBucket(ctx, r, func(b *store.BucketInfo) error {
		if len(set) == 0 {
			delete(b.Attrs, attrBucketTagging)
		} else {
			b.Attrs[attrBucketTagging] = set.encode()
		}
		return nil
	})
}

// tagSet reads the Tagging document of the request.
func (r *request) tagSet(limit int) (tagSet, error) {
	doc, err := r.document(maxDocument, "Tagging")
	if err != nil {
		return nil, err
	}
	return parseTaggingDocument(doc, limit)
}

func (s *Server) getObjectTagging(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	info, err := s.statObject(ctx, r, versionID, auth.PermRead)
	if err != nil {
		return nil, err
	}
	set, err := parseTagging(info.Attrs[attrObjectTagging], maxObjectTags)
	if err != nil {
		return nil, err
	}
	r.setVersion(info)
	return taggingDocument(set).response(), nil
}

func (s *Server) putObjectTagging(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	if err := s.admitUpdate(ctx, r, versionID, auth.PermWrite); err != nil {
		return nil, err
	}
	set, err := r.tagSet(maxObjectTags)
	if err != nil {
		return nil, err
	}
	return ok(), s.setObjectTags(ctx, r, versionID, set)
}

func (s *Server) deleteObjectTagging(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	return noContent(), s.setObjectTags(ctx, r, versionID, nil)
}

func (s *Server) setObjectTags(ctx context.Context, r *request, versionID string, set tagSet) error {
	return s.updateObject(ctx, r, versionID, auth.PermWrite, func(_ *store.Info, attrs store.Attrs) error {
		if len(set) == 0 {
			delete(attrs, attrObjectTagging)
		} else {
			attrs[attrObjectTagging] = set.encode()
		}
		return nil
	})
}

// setVersion sets x-amz-version-id, in a bucket that has versions.
func (r *request) setVersion(info *store.Info) {
	if v := r.shownVersion(info); v != "" {
		r.setHeader(hVersionID, v)
	}
}
