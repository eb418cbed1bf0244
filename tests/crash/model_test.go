package crash

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestChecks feeds the checkers what a broken gateway would deliver: a checker
// that finds nothing proves nothing.
func TestChecks(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	ops := []*op{
		{kind: put, etag: "a", size: 1, versionID: "1", acked: true, begin: at(1), end: at(2)},
		{kind: put, etag: "b", size: 2, versionID: "2", acked: true, begin: at(3), end: at(4)},
		{kind: remove, etag: "b", size: 2, versionID: "3", acked: true, begin: at(5), end: at(6)},
		{kind: removeVersion, etag: "a", size: 1, versionID: "1", acked: true, begin: at(7), end: at(8)},
	}
	var good []record
	for i, o := range ops {
		good = append(good, record{
			name: o.kind.event(true), etag: o.etag, size: o.size, versionID: o.versionID, sequencer: string(rune('A' + i)),
		})
	}
	swapped := slices.Clone(good)
	swapped[0], swapped[1] = good[1], good[0]
	renumbered := slices.Clone(swapped)
	renumbered[0].sequencer, renumbered[1].sequencer = "A", "B"
	resized := slices.Clone(good)
	resized[3].size = 7
	for _, c := range []struct {
		name   string
		events []record
		want   string // in a complaint; "": none
	}{
		{"good", good, ""},
		{"lost first", good[1:], "P2"},
		{"lost last", good[:3], "P2"},
		{"invented", append(slices.Clone(good), record{name: put.event(true), etag: "x", sequencer: "Z"}), "P2"},
		{"twice", append(slices.Clone(good), record{name: put.event(true), etag: "b", size: 2, versionID: "2", sequencer: "Z"}), "P2"},
		{"out of order", swapped, "P3"},
		{"in the wrong order", renumbered, "P3"},
		{"other size", resized, "P2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &key{versioned: true}
			for _, o := range ops {
				k.apply(o)
			}
			h := &hotKey{key: key{versioned: true}, asked: ops}
			tr := newTrial(h)
			hot := growing(c.events)
			for _, e := range c.events {
				hot = append(hot, tr.take(e)...)
			}
			hot = append(hot, tr.missing()...)
			for _, wrong := range [][]string{k.check(c.events), hot} {
				got := strings.Join(wrong, "\n")
				if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
					t.Errorf("complaints %q, want %q", got, c.want)
				}
			}
		})
	}
}
