package crash

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// hotKey is a key that all clients change at once. Which order the gateway
// gives their ops is not known, but its events tell.
type hotKey struct {
	key

	mu    sync.Mutex // guards what follows
	asked []*op      // all that did or may have come true
	made  []string   // version ids
}

func newHotKeys(b buckets) []*hotKey {
	var out []*hotKey
	for _, bucket := range b.all() {
		for i := range 2 {
			out = append(out, &hotKey{key: key{
				bucket: bucket, name: fmt.Sprintf("hot/key %d", i), versioned: bucket == b.versioned,
			}})
		}
	}
	return out
}

// changeHot does one op on a hot key.
func (w *worker) changeHot(ctx context.Context) error {
	h := w.hot[w.rand.IntN(len(w.hot))]
	o, from := w.chooseHot(h)
	a, err := w.judge(o, w.send(ctx, &h.key, o, from))
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.kind, h.id(), err)
	}
	if a != acked && a != cut {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, o)
	if h.versioned && a == acked && o.kind != removeVersion {
		h.made = append(h.made, o.versionID)
	}
	return nil
}

func (w *worker) chooseHot(h *hotKey) (o *op, from *key) {
	from = w.source(&h.key)
	dice := w.rand.IntN(100)
	if id := h.pick(w.rand.IntN); id != "" && dice < 40 {
		return &op{kind: removeVersion, versionID: id}, nil
	}
	switch {
	case dice < 60:
		return &op{kind: put}, nil
	case dice < 70:
		return &op{kind: put, exclusive: true}, nil
	case dice < 80 && from != nil:
		return &op{kind: copyObject}, from
	case dice < 84:
		return &op{kind: multipart}, nil
	}
	return &op{kind: remove}, nil
}

// pick returns a version id, a new one rather than an old one; others may pick
// it at the same time.
func (h *hotKey) pick(intN func(int) int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.made) == 0 {
		return ""
	}
	i := max(len(h.made)-1-intN(4), 0)
	if len(h.made) > manyVersions {
		i = intN(len(h.made))
	}
	id := h.made[i]
	if intN(3) > 0 { // else it is picked again
		h.made = slices.Delete(h.made, i, i+1)
	}
	return id
}

// checkHot compares a hot key's events, in the order of arrival, with what was
// asked for, and what is there with the end of the history that they tell.
func (w *worker) checkHot(ctx context.Context, h *hotKey, events []record) []string {
	wrong := growing(events)
	t := newTrial(h)
	for _, e := range events {
		wrong = append(wrong, t.take(e)...)
	}
	wrong = append(wrong, t.missing()...)
	s, err := w.look(ctx, &h.key)
	if err == nil {
		h.versions = t.told.versions
		err = w.compareHot(ctx, h, s)
	}
	if err != nil {
		wrong = append(wrong, fmt.Sprintf("P1 or P2: %v (want: what the events tell)", err))
	}
	return wrong
}

// compareHot is compare without tags, which events do not tell here.
func (w *worker) compareHot(_ context.Context, h *hotKey, s seen) error {
	etag := ""
	if cur := h.current(); cur != nil {
		etag = cur.etag
	}
	if s.etag != etag {
		return fmt.Errorf("has ETag %q, want %q", s.etag, etag)
	}
	return h.compareVersions(s)
}

// what identifies the ops that an event may be of.
type what struct{ name, etag, versionID string }

// trial goes through a hot key's events.
type trial struct {
	h        *hotKey
	told     key             // as the events tell
	asked    map[what]*claim // by name, and ETag or version id
	happened map[string]bool // version ids of events
	begun    op              // of the ops so far, the one that began last
}

// claim is how many ops were asked for that cause the same event, as far as
// can be told, and how many events came.
type claim struct {
	ops        []*op
	acked, got int
}

func newTrial(h *hotKey) *trial {
	t := &trial{h: h, told: key{versioned: h.versioned}, asked: map[what]*claim{}, happened: map[string]bool{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.asked {
		c := t.claim(o.kind, o.etag, o.versionID)
		c.ops = append(c.ops, o)
		if o.acked {
			c.acked++
		}
	}
	return t
}

// claim finds the claim of an op or event: of new content by its ETag, of
// a delete of a version by that. Deletes without a version are all alike.
func (t *trial) claim(k kind, etag, versionID string) *claim {
	w := what{name: k.event(t.h.versioned)}
	switch k {
	case put, copyObject, multipart:
		w.etag = etag
	case removeVersion:
		w.versionID = versionID
	}
	if t.asked[w] == nil {
		t.asked[w] = &claim{}
	}
	return t.asked[w]
}

// kindOf is the kind of the ops that cause an event.
func (t *trial) kindOf(e record) (kind, bool) {
	for k := put; k < tag; k++ {
		if k.event(t.h.versioned) == e.name {
			if k == removeVersion || k == remove && t.h.versioned && e.name == removeVersion.event(true) {
				return removeVersion, true
			}
			return k, true
		}
	}
	return 0, false
}

// take goes one event on, and returns what is impossible about it.
func (t *trial) take(e record) (wrong []string) {
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf(format, args...)+": "+e.String())
	}
	k, ok := t.kindOf(e)
	if !ok {
		complain("P2: unknown event")
		return wrong
	}
	c := t.claim(k, e.etag, e.versionID)
	if c.got++; c.got > len(c.ops) {
		complain("P2: asked for %d times, delivered %d times", len(c.ops), c.got)
	}
	t.happened[e.versionID] = true
	cur := t.told.current()
	switch k {
	case put, copyObject, multipart:
		if len(c.ops) > 0 && e.size != c.ops[0].size {
			complain("P2: want size %d", c.ops[0].size)
		}
		if len(c.ops) == 1 && c.ops[0].exclusive && cur != nil {
			complain("an If-None-Match: * came true over %s", cur.etag)
		}
		t.told.add(version{id: e.versionID, etag: e.etag, size: e.size})
	case remove:
		if cur == nil && !t.h.versioned {
			complain("P2 or P3: deleted, when nothing was there")
		}
		if cur == nil {
			cur = &version{}
		}
		if e.etag != cur.etag || e.size != cur.size {
			complain("P2 or P3: deleted %q of size %d was there", cur.etag, cur.size)
		}
		t.told.add(version{id: e.versionID, marker: true})
	case removeVersion:
		wrong = append(wrong, t.takeRemoval(e)...)
	}
	return append(wrong, t.takeTime(c, e)...)
}

func (t *trial) takeRemoval(e record) []string {
	i := t.told.find(e.versionID)
	if i < 0 {
		return []string{"P2 or P3: deleted a version that was not there: " + e.String()}
	}
	v := t.told.versions[i]
	t.told.versions = slices.Delete(t.told.versions, i, i+1)
	if v.etag != e.etag || v.size != e.size {
		return []string{fmt.Sprintf("P2: version with ETag %q and size %d deleted: %s", v.etag, v.size, e)}
	}
	return nil
}

// takeTime checks that an op that ended before another began comes first.
func (t *trial) takeTime(c *claim, e record) (wrong []string) {
	if len(c.ops) != 1 {
		return nil // which op it was cannot be told
	}
	o := c.ops[0]
	if o.acked && o.end.Before(t.begun.begin) {
		wrong = append(wrong, fmt.Sprintf("P3: %s, which ended before %s began, comes after it", e, &t.begun))
	}
	if o.begin.After(t.begun.begin) {
		t.begun = *o
	}
	return wrong
}

// missing returns the acknowledged ops without an event.
func (t *trial) missing() (wrong []string) {
	for w, c := range t.asked {
		if w.etag != "" && c.got < c.acked {
			wrong = append(wrong, fmt.Sprintf("P2: %d events of %d acknowledged: %s", c.got, c.acked, c.ops[0]))
		}
	}
	for _, o := range t.h.asked {
		switch {
		case !o.acked || !t.h.versioned:
		case o.kind == removeVersion && t.told.find(o.versionID) >= 0:
			wrong = append(wrong, "P2: no event of the acknowledged "+o.String())
		case o.kind != removeVersion && !t.happened[o.versionID]:
			wrong = append(wrong, "P2: no event of the acknowledged "+o.String())
		}
	}
	return wrong
}
