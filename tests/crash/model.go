// Package crash kills the gateway under load, or cuts the power of its disk,
// and checks its three promises with clients that remember every
// acknowledgement:
//
//	P1  nothing acknowledged is lost
//	P2  no event is lost, none is invented
//	P3  per key, events are delivered in the order of the changes
//
// Most keys belong to one client, which changes them one op at a time: what
// must be there, and which events, is known exactly. Hot keys are changed by
// all clients at once: there the events must tell a history that is possible,
// holds every acknowledged op, and ends with what is there.
package crash

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// buckets are the names of a gateway's buckets. Gateways that share queues have
// buckets of other names.
type buckets struct{ plain, versioned string }

// bucketsOf are the buckets of the gateway of that name; "" when it is alone.
func bucketsOf(name string) buckets {
	if name != "" {
		name = "-" + name
	}
	return buckets{"plain" + name, "versioned" + name}
}

func (b buckets) all() []string { return []string{b.plain, b.versioned} }

// has tells whether a key "bucket/key" is in one of them.
func (b buckets) has(id string) bool {
	return strings.HasPrefix(id, b.plain+"/") || strings.HasPrefix(id, b.versioned+"/")
}

// kind of an op.
type kind int

const (
	put kind = iota
	copyObject
	multipart
	remove        // without a version id
	removeVersion // by version id
	tag           // causes no event
)

func (k kind) String() string {
	return [...]string{"put", "copy", "multipart", "delete", "delete version", "tag"}[k]
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
	case k == tag:
		return ""
	case k == remove && versioned:
		return "ObjectRemoved:DeleteMarkerCreated"
	}
	return "ObjectRemoved:Delete"
}

// op is one change that a client asked for.
type op struct {
	kind kind
	etag string // of the object written, or of the one that a delete takes away; "" when none was there
	size int64
	tags string // given to the object
	// versionID, in a versioned bucket: of the new version or marker, once
	// known, or of the one that is deleted or tagged.
	versionID  string
	exclusive  bool // If-None-Match: *
	acked      bool // the gateway answered with success; else a kill cut it
	begin, end time.Time
}

func (o *op) String() string {
	s := fmt.Sprintf("%s %-14s etag %q size %d version %q", o.begin.Format("05.000"), o.kind, o.etag, o.size, o.versionID)
	if o.tags != "" {
		s += " tags " + o.tags
	}
	if o.exclusive {
		s += " if-none-match"
	}
	if !o.acked {
		s += " (cut)"
	}
	return s
}

// matches tells whether an event is that of the op.
func (o *op) matches(e record, versioned bool) bool {
	return e.name == o.kind.event(versioned) && e.etag == o.etag && e.size == o.size &&
		(o.versionID == "" || e.versionID == o.versionID)
}

// version is a version of an object, or a delete marker.
type version struct {
	id, etag, tags string
	size           int64
	marker         bool
}

// key is one key, as it should be.
type key struct {
	bucket, name string
	versioned    bool
	versions     []version // oldest first; in a plain bucket at most one
	history      []*op     // all that came true, in order
	ops          []*op     // those of them that cause an event
	pending      *op       // cut by a kill, not resolved yet
}

func (k *key) id() string { return k.bucket + "/" + k.name }

// current is the object that should be there; nil: none.
func (k *key) current() *version {
	if len(k.versions) == 0 || k.versions[len(k.versions)-1].marker {
		return nil
	}
	return &k.versions[len(k.versions)-1]
}

// find returns the index of a version, or -1.
func (k *key) find(id string) int {
	return slices.IndexFunc(k.versions, func(v version) bool { return v.id == id })
}

// idle tells whether an op changes nothing, so that it has no event either.
func (k *key) idle(o *op) bool {
	switch o.kind {
	case remove:
		return !k.versioned && k.current() == nil
	case removeVersion:
		return k.find(o.versionID) < 0
	}
	return o.exclusive && k.current() != nil
}

// apply does what an op does that came true.
func (k *key) apply(o *op) {
	k.history = append(k.history, o)
	if o.kind != tag {
		k.ops = append(k.ops, o)
	}
	switch o.kind {
	case tag:
		k.versions[k.find(o.versionID)].tags = o.tags
	case removeVersion:
		i := k.find(o.versionID)
		k.versions = slices.Delete(k.versions, i, i+1)
	case remove:
		k.add(version{id: o.versionID, marker: true})
	default:
		k.add(version{id: o.versionID, etag: o.etag, size: o.size, tags: o.tags})
	}
}

// add makes v the newest version, or the only one.
func (k *key) add(v version) {
	if !k.versioned {
		k.versions = nil
		if v.marker {
			return
		}
	}
	k.versions = append(k.versions, v)
}

// check compares a key's history with its events, and returns what is wrong.
// Every op that came true has its event, in order, and nothing else was
// delivered.
func (k *key) check(events []record) []string {
	wrong := growing(events)
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for i := range max(len(k.ops), len(events)) {
		switch {
		case i >= len(events):
			complain("P2: no event for op %d: %s", i, k.ops[i])
		case i >= len(k.ops):
			complain("P2: invented event %d: %s", i, events[i])
		case !k.ops[i].matches(events[i], k.versioned):
			complain("P2 or P3: event %d is %s, want that of %s", i, events[i], k.ops[i])
			return wrong // what follows is shifted
		}
	}
	return wrong
}

// growing checks that sequencers grow.
func growing(events []record) (wrong []string) {
	for i := 1; i < len(events); i++ {
		if a, b := events[i-1], events[i]; b.sequencer <= a.sequencer {
			wrong = append(wrong, fmt.Sprintf("P3: %s delivered after %s", b, a))
		}
	}
	return wrong
}

// describe is what is known about a key, for a person: the end of its history
// and of its deliveries.
func (k *key) describe(all []delivery) string {
	const most = 40
	var b strings.Builder
	fmt.Fprintf(&b, "%s: history (%d ops):\n", k.id(), len(k.history))
	for _, o := range k.history[max(0, len(k.history)-most):] {
		fmt.Fprintf(&b, "    %s\n", o)
	}
	if k.pending != nil {
		fmt.Fprintf(&b, "    pending: %s\n", k.pending)
	}
	fmt.Fprintf(&b, "  deliveries (%d):\n", len(all))
	for _, d := range all[max(0, len(all)-2*most):] {
		fmt.Fprintf(&b, "    %s\n", d)
	}
	return b.String()
}

func unquote(etag string) string { return strings.Trim(etag, `"`) }
