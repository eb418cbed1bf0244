// Package crash kills the gateway under load and checks its three promises
// with a client that remembers every acknowledgement:
//
//	P1  nothing acknowledged is lost
//	P2  no event is lost, none is invented
//	P3  per key, events are delivered in the order of the changes
package crash

import (
	"fmt"
	"strings"
	"sync"
)

// The buckets.
const (
	plainBucket     = "plain"
	versionedBucket = "versioned"
)

// kind of an op.
type kind int

const (
	put kind = iota
	copyObject
	multipart
	remove
)

func (k kind) String() string {
	return [...]string{"put", "copy", "multipart", "delete"}[k]
}

// event is the name of the event that an op causes.
func (k kind) event(versioned bool) string {
	switch {
	case k == put:
		return "ObjectCreated:Put"
	case k == copyObject:
		return "ObjectCreated:Copy"
	case k == multipart:
		return "ObjectCreated:CompleteMultipartUpload"
	case versioned:
		return "ObjectRemoved:DeleteMarkerCreated"
	}
	return "ObjectRemoved:Delete"
}

// op is one change that a client asked for.
type op struct {
	kind kind
	etag string // of the object written, or of the one a delete takes away; "" when none was there
	size int64
	// acked: the gateway answered with success. An op that is neither acked nor
	// refused was cut by a kill: came tells, once its key was read again,
	// whether it came true.
	acked, came bool
	versionID   string // in a versioned bucket, of the new version or marker, once known
}

// key is one key of one client: only that client changes it, one op at a time,
// so that the order of its ops is known.
type key struct {
	bucket, name string
	versioned    bool
	ops          []*op // that came true, in order
	pending      *op   // cut by a kill, not resolved yet
}

// current is the object that should be there; nil: none.
func (k *key) current() *op {
	if len(k.ops) == 0 || k.ops[len(k.ops)-1].kind == remove {
		return nil
	}
	return k.ops[len(k.ops)-1]
}

// record is an event as the endpoint got it.
type record struct {
	bucket, key, name, etag, versionID, sequencer string
	size                                          int64
}

// deliveries are all events that the endpoint got, in order.
type deliveries struct {
	mu      sync.Mutex
	records []record
}

func (d *deliveries) add(r record) {
	d.mu.Lock()
	d.records = append(d.records, r)
	d.mu.Unlock()
}

// byKey returns the first delivery of each event, per bucket and key, in the
// order of arrival.
func (d *deliveries) byKey() map[string][]record {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]record{}
	seen := map[record]bool{}
	for _, r := range d.records {
		if seen[r] {
			continue // at least once: may come again
		}
		seen[r] = true
		id := r.bucket + "/" + r.key
		out[id] = append(out[id], r)
	}
	return out
}

// check compares a key's history with the first deliveries of its events, and
// returns what is wrong. Every op that came true has its event, in order, and
// nothing else was delivered.
func (k *key) check(events []record) []string {
	var wrong []string
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s/%s: ", k.bucket, k.name)+fmt.Sprintf(format, args...))
	}
	last := ""
	for _, e := range events {
		if e.sequencer <= last {
			complain("P3: sequencer %s of %s after %s", e.sequencer, e.name, last)
		}
		last = e.sequencer
	}
	for i := range max(len(k.ops), len(events)) {
		switch {
		case i >= len(events):
			complain("P2: no event for %d: %s", i, k.ops[i].describe(k.versioned))
		case i >= len(k.ops):
			complain("P2: invented event %d: %+v", i, events[i])
		case !k.ops[i].matches(events[i], k.versioned):
			complain("P2 or P3: event %d is %+v, want %s", i, events[i], k.ops[i].describe(k.versioned))
			return wrong // what follows is shifted
		}
	}
	return wrong
}

func (o *op) describe(versioned bool) string {
	return fmt.Sprintf("%s etag %s size %d version %q acked %v", o.kind.event(versioned), o.etag, o.size, o.versionID, o.acked)
}

func (o *op) matches(e record, versioned bool) bool {
	return e.name == o.kind.event(versioned) && e.etag == o.etag && e.size == o.size &&
		(o.versionID == "" || e.versionID == o.versionID)
}

func unquote(etag string) string { return strings.Trim(etag, `"`) }
