package soak

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const created, deleted = "ObjectCreated:Put", "ObjectRemoved:Delete"

// story is a history of two keys, with the arrivals that are right.
func story() (*history, []arrival) {
	h := newHistory()
	r := h.rule("b", "t")
	r.begin(true)
	r.done()
	var arrivals []arrival
	for i := range int64(5) {
		for _, key := range []keyID{{"b", "x"}, {"b", "y"}} {
			c := &change{events: []string{created}, op: 10*i + int64(len(key.key)), etag: fmt.Sprint(key, i), call: time.Now()}
			if i%2 == 1 {
				c.events, c.op, c.etag = []string{deleted}, 10*(i-1)+1, fmt.Sprint(key, i-1)
			}
			c.ret = time.Now()
			h.add(key, c)
			arrivals = append(arrivals, arrival{key: key, name: c.events[0], sequencer: fmt.Sprintf("%016X", i+1), etag: c.etag, op: c.op})
		}
	}
	return h, arrivals
}

// TestCheck: the checker finds what is wrong, and that alone.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name                            string
		harm                            func(h *history, a []arrival) []arrival
		lost, invented, disorder, again int
	}{
		{"right", func(_ *history, a []arrival) []arrival { return a }, 0, 0, 0, 0},
		{"again", func(_ *history, a []arrival) []arrival { return append(a, a[2], a[2], a[0]) }, 0, 0, 0, 3},
		{"lost", func(_ *history, a []arrival) []arrival { return slices.Delete(a, 4, 5) }, 1, 0, 0, 0},
		{"lost in the end", func(_ *history, a []arrival) []arrival { return a[:len(a)-2] }, 2, 0, 0, 0},
		{"all lost", func(*history, []arrival) []arrival { return nil }, 10, 0, 0, 0},
		{"keys in another order", func(_ *history, a []arrival) []arrival {
			slices.SortStableFunc(a, func(a, b arrival) int { return int(b.key.key[0]) - int(a.key.key[0]) })
			return a
		}, 0, 0, 0, 0},
		{"reordered", func(_ *history, a []arrival) []arrival { a[2], a[4] = a[4], a[2]; return a }, 0, 0, 1, 0},
		{"first after last", func(_ *history, a []arrival) []arrival { return append(a[1:], a[0]) }, 0, 0, 1, 0},
		{"sequencer that does not grow", func(_ *history, a []arrival) []arrival { a[4].sequencer = a[2].sequencer; return a }, 0, 0, 1, 0},
		{"one change, two events", func(_ *history, a []arrival) []arrival {
			b := a[8]
			b.sequencer = "00000000000000FF"
			return append(a, b)
		}, 0, 1, 0, 0},
		{"event of what did not happen", func(_ *history, a []arrival) []arrival { a[4].op, a[4].etag = 77, "other"; return a }, 1, 1, 0, 0},
		{"other content", func(_ *history, a []arrival) []arrival { a[4].etag = "other"; return a }, 1, 1, 0, 0},
		{"other event", func(_ *history, a []arrival) []arrival { a[4].name = "ObjectCreated:Copy"; return a }, 1, 1, 0, 0},
		{"key that nobody changed", func(_ *history, a []arrival) []arrival {
			return append(a, arrival{key: keyID{"b", "z"}, name: created, sequencer: "1"})
		}, 0, 1, 0, 0},
		{"no notification", func(h *history, a []arrival) []arrival { h.rules["b"] = nil; return a }, 0, 10, 0, 0},
		{"notification taken away before", func(h *history, a []arrival) []arrival { toggle(h, false); return extra(h, a, true) }, 0, 1, 0, 0},
		{"notification taken away, and no event", func(h *history, a []arrival) []arrival { toggle(h, false); return extra(h, a, false) }, 0, 0, 0, 0},
		{"notification put back, and no event", func(h *history, a []arrival) []arrival {
			toggle(h, false)
			toggle(h, true)
			return extra(h, a, false)
		}, 1, 0, 0, 0},
		{"nobody knows of the notification", func(h *history, a []arrival) []arrival {
			h.rule("b", "t").begin(false)
			return extra(h, extra(h, a, true), false)
		}, 0, 0, 0, 0},
		{"tried to take away, then put back, and no event", func(h *history, a []arrival) []arrival {
			h.rule("b", "t").begin(false)
			toggle(h, true)
			return extra(h, a, false)
		}, 1, 0, 0, 0},
		{"nobody knows of the change", func(h *history, a []arrival) []arrival {
			for _, op := range []int64{91, 92} {
				h.add(keyID{"b", "x"}, &change{events: []string{created}, op: op, call: time.Now(), ret: time.Now(), unsure: true})
			}
			return append(a, arrival{key: keyID{"b", "x"}, name: created, sequencer: "00000000000000FF", etag: "e", op: 92})
		}, 0, 0, 0, 0},
		{"queue deleted", func(h *history, a []arrival) []arrival { h.rule("b", "t").forget(); return a[4:] }, 0, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, a := story()
			r := h.check("t", tt.harm(h, a))
			if len(r.lost) != tt.lost || len(r.invented) != tt.invented || len(r.disorder) != tt.disorder || r.again != tt.again {
				t.Errorf("found lost %q, invented %q, disorder %q, %d again; want %d, %d, %d, %d", r.lost, r.invented, r.disorder, r.again,
					tt.lost, tt.invented, tt.disorder, tt.again)
			}
		})
	}
}

func toggle(h *history, on bool) {
	r := h.rule("b", "t")
	r.begin(on)
	r.done()
}

// extra adds one more change, and its event if it arrived.
func extra(h *history, a []arrival, arrived bool) []arrival {
	n := len(h.keys[keyID{"b", "x"}])
	c := &change{events: []string{created}, op: 90 + int64(n), etag: fmt.Sprint("extra", n), call: time.Now(), ret: time.Now()}
	h.add(keyID{"b", "x"}, c)
	if arrived {
		a = append(a, arrival{key: keyID{"b", "x"}, name: created, sequencer: fmt.Sprintf("%016X", n+1), etag: c.etag, op: c.op})
	}
	return a
}

// TestCheckPair: a change with two events, which come in any order.
func TestCheckPair(t *testing.T) {
	h := newHistory()
	toggle(h, true)
	k := keyID{"b", "k"}
	h.add(k, &change{events: []string{created}, op: 1, etag: "e", call: time.Now(), ret: time.Now()})
	h.add(k, &change{events: expired, op: 1, etag: "e", call: time.Now(), ret: time.Now()})
	put := arrival{key: k, name: created, sequencer: "1", op: 1, etag: "e"}
	a, b := arrival{key: k, name: expired[0], sequencer: "2", op: 1, etag: "e"}, arrival{key: k, name: expired[1], sequencer: "2", op: 1, etag: "e"}
	for _, tt := range []struct {
		arrivals       []arrival
		lost, disorder int
	}{
		{[]arrival{put, a, b}, 0, 0}, {[]arrival{put, b, a}, 0, 0}, {[]arrival{put, b}, 1, 0}, {[]arrival{a, put, b}, 0, 1},
	} {
		if r := h.check("t", tt.arrivals); len(r.lost) != tt.lost || len(r.disorder) != tt.disorder || len(r.invented) > 0 {
			t.Errorf("%v: %+v", tt.arrivals, r)
		}
	}
}

func TestRead(t *testing.T) {
	a, ok, err := read([]byte(`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"w1/k","eTag":"e","sequencer":"01","metadata":[{"key":"x-amz-meta-op","val":"7"}]}}}]}`))
	if want := (arrival{key: keyID{"b", "w1/k"}, name: created, sequencer: "01", etag: "e", op: 7}); err != nil || !ok || a != want {
		t.Errorf("read = %v, %v, %v, want %v", a, ok, err, want)
	}
	if _, ok, err := read([]byte(`{"Service":"Amazon S3","Event":"s3:TestEvent"}`)); ok || err != nil {
		t.Errorf("a test event: %v, %v", ok, err)
	}
	if _, _, err := read([]byte(`{"Records":[]}`)); err == nil {
		t.Error("a message without a record is one")
	}
}
