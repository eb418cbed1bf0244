//go:build rados

package rados

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRGWObjects(t *testing.T) {
	for _, c := range []struct {
		name, tenanted, bare string
		ok                   bool
	}{
		{":t", ":t", "t", true},
		{"acme:t-1_x", "acme:t-1_x", "t-1_x", true},
		{":t.3", ":t.3", "t.3", true},
		{":a%2Eb.10", ":a.b.10", "a.b.10", true},
		{name: ":t.dead"}, {name: ":t.0"}, {name: ":t.03"}, {name: ":t."}, {name: ":t.1.2"}, {name: ":t.9999999999"},
		{":" + strings.Repeat("x", 89), ":" + strings.Repeat("x", 89), strings.Repeat("x", 89), true},
		{name: ":" + strings.Repeat("x", 90)},
		{name: "t"}, {name: ""}, {name: ":"}, {name: ":.1"}, {name: "a:b:c"}, {name: ":" + rgwRegistry},
	} {
		tenanted, bare, ok := rgwObjects(c.name)
		if ok != c.ok || ok && (tenanted != c.tenanted || bare != c.bare) {
			t.Errorf("rgwObjects(%q) = %q, %q, %v", c.name, tenanted, bare, ok)
		}
	}
}

func TestRGWIndex(t *testing.T) {
	entries := func(at ...uint64) (list []rgwPlaced) {
		for i := range len(at) - 1 {
			list = append(list, rgwPlaced{at: at[i], end: at[i+1]})
		}
		return list
	}
	var x rgwIndex
	x.add(entries(10, 30, 45, 60))
	x.add(entries(45, 60, 70)) // overlaps
	if want := []uint64{10, 30, 45, 60}; !slices.Equal(x.at, want) || x.end != 70 {
		t.Errorf("index = %v, %d", x.at, x.end)
	}
	for at, want := range map[uint64]uint64{10: 30, 45: 60, 60: 70, 31: 0, 70: 0, 5: 0} {
		if end, ok := x.next(at); end != want || ok != (want != 0) {
			t.Errorf("next(%d) = %d, %v", at, end, ok)
		}
	}
	x.drop(45)
	x.add(entries(80, 90)) // after a gap
	if want := []uint64{80}; !slices.Equal(x.at, want) || x.end != 90 {
		t.Errorf("index after a gap = %v, %d", x.at, x.end)
	}
	x.add(entries(10, 20)) // before it
	if want := []uint64{10}; !slices.Equal(x.at, want) || x.end != 20 {
		t.Errorf("index of what is before = %v, %d", x.at, x.end)
	}
	x.drop(100)
	if len(x.at) != 0 {
		t.Errorf("index after all is dropped = %v", x.at)
	}
}

// anRGWEntry writes what rgwEntryTime reads of RGW's event_entry_t.
func anRGWEntry(version uint8, event, created time.Time) []byte {
	e := encoder{}
	return e.framed(version, func(e *encoder) {
		inner := encoder{}
		e.b = append(e.b, inner.framed(4, func(e *encoder) {
			e.str("2.2")
			e.str("ceph:s3")
			e.str("default")
			e.seconds(event.UnixNano())
			e.str("ObjectCreated:Put")
		})...)
		e.str("http://h")
		e.str("")
		e.str("t")
		if version > 1 {
			e.seconds(created.UnixNano())
		}
		if version > 2 {
			e.u64(0)
			e.u32(0)
		}
	})
}

func TestRGWEntryTime(t *testing.T) {
	event, created := time.Unix(1_700_000_000, 5), time.Unix(1_700_000_060, 7)
	for _, c := range []struct {
		name string
		data []byte
		want time.Time
	}{
		{"version 1", anRGWEntry(1, event, created), event},
		{"version 2", anRGWEntry(2, event, created), created},
		{"version 3", anRGWEntry(3, event, created), created},
		{"not created", anRGWEntry(3, event, time.Unix(0, 0)), event},
		{"not an entry", []byte("some text that is none"), time.Time{}},
		{"nothing", nil, time.Time{}},
		{"no time", anRGWEntry(1, time.Unix(0, 0), created), time.Time{}},
	} {
		got, ok := rgwEntryTime(c.data)
		if ok != !c.want.IsZero() || ok && !got.Equal(c.want) {
			t.Errorf("%s: rgwEntryTime = %v, %v, want %v", c.name, got, ok, c.want)
		}
	}
}

func TestRGWID(t *testing.T) {
	for _, id := range []rgwID{{}, {incarnation{1, 2}, true}} {
		if got, err := decodeRGWID(id.encode()); err != nil || got != id {
			t.Errorf("decodeRGWID of %+v = %+v, %v", id, got, err)
		}
	}
	if n, err := parseFence(fenceText(1<<63 + 5)); err != nil || n != 1<<63+5 {
		t.Errorf("parseFence = %d, %v", n, err)
	}
	if n, err := parseFence(nil); n != 0 || err != nil {
		t.Errorf("parseFence of none = %d, %v", n, err)
	}
	if bytes.Compare(fenceText(9), fenceText(10)) >= 0 {
		t.Error("texts of fences do not compare as they do")
	}
}

func FuzzRGWState(f *testing.F) {
	f.Add(anRGWEntry(3, time.Unix(1, 2), time.Unix(3, 4)))
	f.Add(rgwID{incarnation{1}, true}.encode())
	f.Add((&rgwHeld{reservation: reservation{time: 1, size: 2, entries: 3, intent: []byte("i")}, class: 4, taken: 5}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		rgwEntryTime(b)
		_, _ = parseFence(b)
		if h, err := decodeRGWHeld(b); err == nil {
			if again, err := decodeRGWHeld(h.encode()); err != nil || again.class != h.class || !bytes.Equal(again.intent, h.intent) {
				t.Errorf("round trip of %x: %v", b, err)
			}
		}
		if id, err := decodeRGWID(b); err == nil && !bytes.Equal(id.encode(), b) {
			t.Errorf("round trip of %x", b)
		}
		rgwObjects(string(b))
	})
}
