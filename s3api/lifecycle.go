package s3api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"herald/lifecycle"
	"herald/store"
)

const hExpiration = "X-Amz-Expiration"

// maxLifecycle bounds a bucket's lifecycle rules, encoded, in bytes: the
// bucket's record is read with every request.
const maxLifecycle = 256 << 10

func (s *Server) getLifecycle(_ context.Context, r *request) (*response, error) {
	rules, err := s.lifecycle.Of(r.bucket.Info)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, codeNoSuchLifecycle
	}
	x := newXML("LifecycleConfiguration", nsS3)
	for i := range rules {
		x.lifecycleRule(&rules[i])
	}
	x.end("LifecycleConfiguration")
	return x.response(), nil
}

// putLifecycle replaces the bucket's rules. All is checked before anything is
// stored.
func (s *Server) putLifecycle(ctx context.Context, r *request) (*response, error) {
	doc, err := r.document(maxDocument, "LifecycleConfiguration")
	if err != nil {
		return nil, err
	}
	rules, err := parseLifecycle(doc)
	if err != nil {
		return nil, err
	}
	attr, err := lifecycle.Format(rules)
	if err != nil {
		return nil, err
	}
	if len(attr) > maxLifecycle {
		return nil, fail(codeInvalidRequest, "The bucket's lifecycle rules would be too long.")
	}
	return ok(), s.setLifecycle(ctx, r, attr)
}

func (s *Server) deleteLifecycle(ctx context.Context, r *request) (*response, error) {
	return noContent(), s.setLifecycle(ctx, r, "")
}

func (s *Server) setLifecycle(ctx context.Context, r *request, attr string) error {
	return s.updateBucket(ctx, r, func(b *store.BucketInfo) error {
		if attr == "" {
			delete(b.Attrs, lifecycle.Attr)
		} else {
			b.Attrs[lifecycle.Attr] = attr
		}
		return nil
	})
}

// setExpiration tells when an object of a bucket with lifecycle rules expires.
func (r *request) setExpiration(info *store.Info) {
	if info == nil {
		return
	}
	rules, err := r.lifecycle.Of(r.bucket.Info)
	if err != nil {
		return // who reads or changes the rules is told
	}
	const lastYear = 9999 // that a date of HTTP can name
	if at, rule, ok := lifecycle.Expiry(rules, info); ok && at.Year() <= lastYear {
		r.setHeader(hExpiration, fmt.Sprintf(`expiry-date="%s", rule-id="%s"`, at.UTC().Format(http.TimeFormat), url.QueryEscape(rule)))
	}
}

func (x *xmlWriter) lifecycleRule(r *lifecycle.Rule) {
	x.open("Rule")
	x.elem("ID", r.ID)
	x.lifecycleFilter(&r.Filter)
	status := "Disabled"
	if r.Enabled {
		status = "Enabled"
	}
	x.elem("Status", status)
	if r.Days > 0 || !r.Date.IsZero() || r.DeleteMarker {
		x.open("Expiration")
		x.positive("Days", r.Days)
		if !r.Date.IsZero() {
			x.elem("Date", r.Date.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		if r.DeleteMarker {
			x.elem("ExpiredObjectDeleteMarker", "true")
		}
		x.end("Expiration")
	}
	if r.NoncurrentDays > 0 {
		x.open("NoncurrentVersionExpiration")
		x.positive("NoncurrentDays", r.NoncurrentDays)
		x.positive("NewerNoncurrentVersions", r.NewerVersions)
		x.end("NoncurrentVersionExpiration")
	}
	if r.AbortDays > 0 {
		x.open("AbortIncompleteMultipartUpload")
		x.positive("DaysAfterInitiation", r.AbortDays)
		x.end("AbortIncompleteMultipartUpload")
	}
	x.end("Rule")
}

func (x *xmlWriter) positive(name string, n int) {
	if n > 0 {
		x.number(name, int64(n))
	}
}

// lifecycleFilter writes the filter in the form in which it was given.
func (x *xmlWriter) lifecycleFilter(f *lifecycle.Filter) {
	if f.Form == lifecycle.FormPrefix {
		x.elem("Prefix", f.Prefix)
		return
	}
	x.open("Filter")
	if f.Form == lifecycle.FormAnd {
		x.open("And")
	}
	if f.HasPrefix {
		x.elem("Prefix", f.Prefix)
	}
	for _, t := range f.Tags {
		x.open("Tag")
		x.elem("Key", t.Key)
		x.elem("Value", t.Value)
		x.end("Tag")
	}
	if f.Greater != nil {
		x.number("ObjectSizeGreaterThan", *f.Greater)
	}
	if f.Less != nil {
		x.number("ObjectSizeLessThan", *f.Less)
	}
	if f.Form == lifecycle.FormAnd {
		x.end("And")
	}
	x.end("Filter")
}
