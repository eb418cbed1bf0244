package lifecycle

import (
	"math"
	"strings"
	"time"

	"herald/store"
)

// Clock tells how long a day is.
type Clock struct {
	// Debug, when not zero, is how long a day lasts (RGW:
	// rgw_lc_debug_interval). Else a day has 24 hours, and what is due becomes
	// so at the midnight, UTC, that follows.
	Debug time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
}

func (c *Clock) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// dueAt is when something is due that many days after a moment. Days may be so
// many that a time.Duration cannot hold them.
func (c *Clock) dueAt(from time.Time, days int) time.Time {
	if c.Debug > 0 {
		most := math.MaxInt64 / c.Debug
		return from.Add(min(time.Duration(days), most) * c.Debug)
	}
	return nextMidnight(from.UTC().AddDate(0, 0, days))
}

func nextMidnight(t time.Time) time.Time {
	const day = 24 * time.Hour
	if m := t.UTC().Truncate(day); m.Equal(t) {
		return m
	}
	return t.UTC().Truncate(day).Add(day)
}

// Expiry tells when an object will expire and by which rule, the earliest;
// days are of 24 hours whatever the debug interval (RGW). ok is false when it
// will not. The object is taken for its key's current version.
func Expiry(rules []Rule, info *store.Info) (at time.Time, rule string, ok bool) {
	var clock Clock
	for i := range rules {
		r := &rules[i]
		if !r.Enabled || info.DeleteMarker || r.Days == 0 && r.Date.IsZero() || !r.Filter.Match(info.Key, info.Size, info.Attrs) {
			continue
		}
		due := r.Date
		if r.Days > 0 {
			due = clock.dueAt(info.ModTime, r.Days)
		}
		if !ok || due.Before(at) {
			at, rule, ok = due, r.ID, true
		}
	}
	return at, rule, ok
}

// action is what is to be done with a version.
type action uint8

const (
	keep action = iota
	expireCurrent
	expireNoncurrent
	expireMarker
)

// place is where a version stands among those of its key.
type place struct {
	latest bool
	only   bool      // there is no other
	since  time.Time // when it became noncurrent
	newer  int       // noncurrent versions that are newer
}

// decide tells what is to be done with a version. attrs is asked for its
// attributes, which are needed for tags only.
func (c *Clock) decide(rules []Rule, v *store.Info, at place, attrs func() store.Attrs) action {
	for i := range rules {
		r := &rules[i]
		if !r.Enabled || !strings.HasPrefix(v.Key, r.Filter.Prefix) || !r.Filter.Match(v.Key, v.Size, r.tagsOf(attrs)) {
			continue
		}
		if a := c.decideBy(r, v, at); a != keep {
			return a
		}
	}
	return keep
}

func (r *Rule) tagsOf(attrs func() store.Attrs) store.Attrs {
	if len(r.Filter.Tags) == 0 {
		return nil
	}
	return attrs()
}

func (c *Clock) decideBy(r *Rule, v *store.Info, at place) action {
	now := c.now()
	switch {
	case !at.latest:
		if r.NoncurrentDays > 0 && at.newer >= r.NewerVersions && !now.Before(c.dueAt(at.since, r.NoncurrentDays)) {
			return expireNoncurrent
		}
	case v.DeleteMarker:
		old := r.Days > 0 && !now.Before(c.dueAt(v.ModTime, r.Days)) || !r.Date.IsZero() && !now.Before(r.Date)
		if at.only && (r.DeleteMarker || old) {
			return expireMarker
		}
	case r.Days > 0 && !now.Before(c.dueAt(v.ModTime, r.Days)), !r.Date.IsZero() && !now.Before(r.Date):
		return expireCurrent
	}
	return keep
}
