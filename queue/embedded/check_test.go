package embedded

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/queue"
)

// Drift falsifies one figure after the other.
func (h *harness) Drift(t *testing.T, name string) string {
	q := h.queue(t, name)
	if h.drifts == 0 {
		h.checkpoint(t) // entries are in segments
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	drifts := []struct {
		kind string
		do   func()
	}{
		{"reserved", func() { q.reserved += 4106 }},
		{"reserved", func() { q.reserved = -1 }},
		{"entries", func() { q.log.entries-- }},
		{"bytes", func() { q.log.bytes += 10 }},
		{"tail", func() { q.log.tailBytes -= 5 }},
		{"ids", func() { q.nextID = 1 }},
		{"attempts", func() { q.log.attempts[1<<40] = attempt{n: 1} }},
	}
	if len(q.log.segs) > 0 {
		s := q.log.segs[0]
		drifts = append(drifts, []struct {
			kind string
			do   func()
		}{
			{"segment", func() { s.live++; q.log.entries++ }},
			{"segment", func() { s.liveBytes -= 10; q.log.bytes -= 10 }},
		}...)
	}
	if h.drifts == len(drifts) {
		return ""
	}
	d := drifts[h.drifts]
	h.drifts++
	d.do()
	return d.kind
}

// TestCheck_Segments repairs figures of segment files, for good.
func TestCheck_Segments(t *testing.T) {
	h := newHarness(t, manual(), Options{TailBytes: 500, SegmentBytes: 2000})
	q := h.queue(t, "q")
	for range 30 {
		put(t, q, strings.Repeat("x", 90))
	}
	h.checkpoint(t)
	h.Reopen(t) // nothing is loaded
	q = h.queue(t, "q")
	q.log.segs[0].live, q.log.segs[1].liveBytes = 1000, 7
	q.log.segs[1].unload()
	want := []queue.Finding{{Queue: "q", Kind: "segment"}, {Queue: "q", Kind: "segment"}, {Queue: "q", Kind: "entries"}, {Queue: "q", Kind: "bytes"}}
	details := cmpopts.IgnoreFields(queue.Finding{}, "Detail")
	got, err := h.d.Check(t.Context(), "q", false)
	if diff := cmp.Diff(want, got, details); err != nil || diff != "" {
		t.Errorf("Check = %v (-want +got):\n%s", err, diff)
	}
	if got, err = h.d.Check(t.Context(), "q", true); err != nil || len(got) == 0 || !got[0].Repaired {
		t.Errorf("Check with repair = %+v, %v", got, err)
	}
	h.checkpoint(t) // though there is no new record
	for range 2 {
		if got, err := h.d.Check(t.Context(), "q", false); err != nil || len(got) != 0 {
			t.Errorf("Check of the repaired = %+v, %v", got, err)
		}
		if st, err := h.queue(t, "q").Stats(t.Context()); err != nil || st.Entries != 30 || st.Bytes != 3000 {
			t.Errorf("Stats = %+v, %v", st, err)
		}
		h.Reopen(t)
	}
}

// TestCheck_Damaged removes an entry that cannot be read, so that those behind
// it can be listed.
func TestCheck_Damaged(t *testing.T) {
	h := newHarness(t, manual(), Options{})
	q := h.queue(t, "q")
	for _, data := range []string{"first", "second", "third"} {
		put(t, q, data)
	}
	h.checkpoint(t)
	h.Reopen(t)
	q = h.queue(t, "q")
	damage(t, segmentPath(q.dir, q.log.segs[0].slot), frameHeader+int64(len("first"))+frameHeader)
	for _, repair := range []bool{false, true} {
		got, err := h.d.Check(t.Context(), "q", repair)
		if err != nil || len(got) != 1 || got[0].Kind != "damaged" || got[0].Repaired != repair || !strings.HasPrefix(got[0].Detail, "entry 2:") {
			t.Errorf("Check, repair %v = %+v, %v", repair, got, err)
		}
	}
	if data, _ := contents(t, q); !cmp.Equal(data, []string{"first", "third"}) {
		t.Errorf("entries = %q", data)
	}
	if got, err := h.d.Check(t.Context(), "q", true); err != nil || len(got) != 0 {
		t.Errorf("Check of the repaired = %+v, %v", got, err)
	}
	// A frame whose length is wrong is reported, not repaired.
	h.checkpoint(t)
	h.Reopen(t)
	q = h.queue(t, "q")
	damage(t, segmentPath(q.dir, q.log.segs[0].slot), 3)
	got, err := h.d.Check(t.Context(), "q", true)
	if err != nil || len(got) != 1 || got[0].Kind != "damaged" || got[0].Repaired {
		t.Errorf("Check of a damaged frame = %+v, %v", got, err)
	}
}
