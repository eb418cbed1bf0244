package s3api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"herald/store"
)

// Names of conditional headers, in canonical form.
const (
	hIfMatch           = "If-Match"
	hIfNoneMatch       = "If-None-Match"
	hIfModifiedSince   = "If-Modified-Since"
	hIfUnmodifiedSince = "If-Unmodified-Since"
	hIfMatchModTime    = "X-Amz-If-Match-Last-Modified-Time"
	hIfMatchSize       = "X-Amz-If-Match-Size"
	copySourcePrefix   = "X-Amz-Copy-Source-"
)

// readConditions are those of a GET or HEAD. Dates that are none are ignored
// (RFC 9110).
func readConditions(h http.Header) store.Conditions {
	return store.Conditions{
		IfMatch:           first(h, hIfMatch),
		IfNoneMatch:       first(h, hIfNoneMatch),
		IfModifiedSince:   headerDate(h, hIfModifiedSince),
		IfUnmodifiedSince: headerDate(h, hIfUnmodifiedSince),
	}
}

// copyConditions are those on the source of a copy.
func copyConditions(h http.Header) store.Conditions {
	return store.Conditions{
		IfMatch:           first(h, copySourcePrefix+hIfMatch),
		IfNoneMatch:       first(h, copySourcePrefix+hIfNoneMatch),
		IfModifiedSince:   headerDate(h, copySourcePrefix+hIfModifiedSince),
		IfUnmodifiedSince: headerDate(h, copySourcePrefix+hIfUnmodifiedSince),
	}
}

// writeConditions are those of a PUT, a copy's target or a Complete.
func writeConditions(h http.Header) store.Conditions {
	return store.Conditions{IfMatch: first(h, hIfMatch), IfNoneMatch: first(h, hIfNoneMatch)}
}

// deleteConditions are those of a DELETE. Errors: InvalidArgument.
func deleteConditions(h http.Header) (store.Conditions, error) {
	c := store.Conditions{IfMatch: first(h, hIfMatch)}
	if v := first(h, hIfMatchSize); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return c, invalidArgument("x-amz-if-match-size", v, "x-amz-if-match-size must be a number of bytes.")
		}
		c.IfMatchSize = &n
	}
	if v := first(h, hIfMatchModTime); v != "" {
		t, err := parseTime(v)
		if err != nil {
			return c, invalidArgument("x-amz-if-match-last-modified-time", v, "x-amz-if-match-last-modified-time must be a date.")
		}
		c.IfMatchModTime = t
	}
	return c, nil
}

// checkRead decides whether info may be read, and names the condition that
// did not hold. A 304 repeats the headers that caches need (RFC 9110, 15.4.5).
// Errors: PreconditionFailed, NotModified.
func checkRead(c *store.Conditions, info *store.Info) error {
	if c.IsZero() {
		return nil
	}
	err := c.CheckRead(info)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotModified):
		e := failWith(codeNotModified, nil).
			header(hETag, quoted(info.ETag)).
			header(hLastModified, httpTime(info.ModTime))
		for _, name := range [...]string{"cache-control", "expires"} {
			if v := info.Attrs[name]; v != "" {
				e = e.header(http.CanonicalHeaderKey(name), v)
			}
		}
		return e
	}
	if c.IfMatch != "" {
		return conditionFailed(hIfMatch)
	}
	return conditionFailed(hIfUnmodifiedSince)
}

// checkCopySource is checkRead for the source of a copy, where every condition
// that does not hold is PreconditionFailed.
func checkCopySource(c *store.Conditions, info *store.Info) error {
	if c.IsZero() || c.CheckRead(info) == nil {
		return nil
	}
	return codePreconditionFailed
}

func conditionFailed(name string) error {
	return fail(codePreconditionFailed, "").with("Condition", name)
}

func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// headerDate reads a date; zero when there is none, or it is not understood.
func headerDate(h http.Header, name string) time.Time {
	v := first(h, name)
	if v == "" {
		return time.Time{}
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return time.Time{}
	}
	return t
}
