package store

import (
	"strings"
	"time"
)

// Conditions are those of a request's conditional headers, as S3 has them. The
// zero value holds always. ETag lists are kept as the client wrote them:
// "*", or tags with or without quotes, separated by commas.
type Conditions struct {
	IfMatch           string
	IfNoneMatch       string
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
	// IfMatchSize and IfMatchModTime are those of conditional deletes; nil
	// and zero when absent.
	IfMatchSize    *int64
	IfMatchModTime time.Time
}

// IsZero tells whether there is no condition.
func (c *Conditions) IsZero() bool { return *c == Conditions{} }

// CheckWrite decides whether a write may replace cur (nil: the key has no
// current object, or its current version is a delete marker).
// Errors: ErrPreconditionFailed; ErrNoSuchKey for If-Match without an object.
func (c *Conditions) CheckWrite(cur *Info) error {
	if cur == nil {
		if c.IfMatch != "" || c.IfMatchSize != nil || !c.IfMatchModTime.IsZero() {
			return ErrNoSuchKey
		}
		return nil
	}
	return c.compare(cur)
}

// CheckRemove decides whether a removal may take cur, the version addressed,
// or hide it: a delete marker counts as an object without an ETag. Where there
// is nothing (nil) there is nothing to protect: to remove it is no error (RGW).
// Errors: ErrPreconditionFailed.
func (c *Conditions) CheckRemove(cur *Info) error {
	if cur == nil {
		return nil
	}
	return c.compare(cur)
}

func (c *Conditions) compare(cur *Info) error {
	switch {
	case c.IfMatch != "" && !matchETag(c.IfMatch, cur.ETag),
		c.IfNoneMatch != "" && matchETag(c.IfNoneMatch, cur.ETag),
		c.IfMatchSize != nil && *c.IfMatchSize != cur.Size,
		!c.IfMatchModTime.IsZero() && !sameSecond(c.IfMatchModTime, cur.ModTime):
		return ErrPreconditionFailed
	}
	return nil
}

// CheckRead decides whether cur may be read: If-Match before
// If-Unmodified-Since, If-None-Match before If-Modified-Since (RFC 9110,
// 13.2.2; S3 does the same). Errors: ErrPreconditionFailed, ErrNotModified.
func (c *Conditions) CheckRead(cur *Info) error {
	mod := cur.ModTime.Truncate(time.Second)
	switch {
	case c.IfMatch != "":
		if !matchETag(c.IfMatch, cur.ETag) {
			return ErrPreconditionFailed
		}
	case !c.IfUnmodifiedSince.IsZero() && mod.After(c.IfUnmodifiedSince):
		return ErrPreconditionFailed
	}
	switch {
	case c.IfNoneMatch != "":
		if matchETag(c.IfNoneMatch, cur.ETag) {
			return ErrNotModified
		}
	case !c.IfModifiedSince.IsZero() && !mod.After(c.IfModifiedSince):
		return ErrNotModified
	}
	return nil
}

func matchETag(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.TrimSpace(tag)
		tag = strings.TrimPrefix(tag, "W/")
		if tag == "*" || strings.Trim(tag, `"`) == etag {
			return true
		}
	}
	return false
}

func sameSecond(a, b time.Time) bool { return a.Unix() == b.Unix() }
