//go:build rados

package rados

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRing_Markers(t *testing.T) {
	r := ring(8192)
	for _, c := range []struct {
		at     uint64
		marker string
	}{{0, "0/24576"}, {15, "0/24591"}, {8191, "0/32767"}, {8192, "1/24576"}, {3*8192 + 100, "3/24676"}} {
		if got := r.marker(c.at); got != c.marker {
			t.Errorf("marker(%d) = %s, want %s", c.at, got, c.marker)
		}
		p, err := parsePosition(c.marker)
		if at, errAt := r.place(p); err != nil || errAt != nil || at != c.at {
			t.Errorf("place(%s) = %d, %v, %v, want %d", c.marker, at, err, errAt, c.at)
		}
	}
	for _, bad := range []string{"", "7", "a/b", "1/", "/24576", "1/-1", "18446744073709551616/1"} {
		if p, err := parsePosition(bad); err == nil {
			t.Errorf("parsePosition(%q) = %v", bad, p)
		}
	}
	if at, err := r.place(position{0, 24575}); err == nil {
		t.Errorf("place(before the ring) = %d", at)
	}
}

func TestRing_Spans(t *testing.T) {
	r := ring(1000)
	for _, c := range []struct {
		at, n         uint64
		first, second span
	}{
		{0, 1000, span{24576, 1000}, span{24576, 0}},
		{900, 100, span{25476, 100}, span{24576, 0}},
		{2900, 150, span{25476, 100}, span{24576, 50}},
	} {
		if first, second := r.spans(c.at, c.n); first != c.first || second != c.second {
			t.Errorf("spans(%d, %d) = %v, %v", c.at, c.n, first, second)
		}
	}
}

// A frame must not be larger than what is reckoned with when room is reserved.
func TestFrame_Room(t *testing.T) {
	for _, n := range []int{1, 2, 300} {
		f := frame{number: 1<<64 - 1, first: 1<<64 - 1, before: 1<<64 - 1, time: -1}
		size := int64(0)
		for i := range n {
			f.data = append(f.data, make([]byte, i*300))
			size += int64(i * 300)
		}
		if got, most := uint64(len(f.encode())+entryHeader), room(size, n); got > most {
			t.Errorf("%d entries take %d, room for %d was reserved", n, got, most)
		}
	}
}

func sampleFrames() []*frame {
	return []*frame{
		{number: 0, first: 1, time: 1, data: [][]byte{[]byte("a")}},
		{number: 7, first: 300, before: 1 << 40, time: 1795270315112937000, data: [][]byte{{}, []byte("bc"), {}, make([]byte, 300)}},
	}
}

func TestFrame(t *testing.T) {
	for i, f := range sampleFrames() {
		b := f.encode()
		got, err := decodeFrame(b)
		if diff := cmp.Diff(f, got, cmp.AllowUnexported(frame{})); diff != "" || err != nil {
			t.Errorf("frame %d: %v (-want +got):\n%s", i, err, diff)
		}
		for range 100 {
			bad := bytes.Clone(b)
			bad[rand.IntN(len(bad))] ^= 1 << rand.IntN(8)
			if _, err := decodeFrame(bad); err == nil {
				t.Errorf("frame %d with a bit turned is decoded", i)
			}
			if _, err := decodeFrame(b[:rand.IntN(len(b))]); err == nil {
				t.Errorf("frame %d cut short is decoded", i)
			}
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, fr := range sampleFrames() {
		f.Add(fr.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := decodeFrame(b)
		if err != nil {
			return
		}
		if again, err := decodeFrame(fr.encode()); err != nil || !cmp.Equal(fr, again, cmp.AllowUnexported(frame{})) {
			t.Errorf("decoded again: %v, %v", again, err)
		}
	})
}

func FuzzNextEntry(f *testing.F) {
	f.Add(unhex(f, "efbe 0300000000000000 616263 efbe 0300000000000000 646566"))
	f.Add(unhex(f, "efbe ffffffffffffffff 616263"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			data, size, err := nextEntry(b)
			if err != nil || data == nil {
				return
			}
			if uint64(len(data))+entryHeader != size {
				t.Fatalf("%d bytes of data in %d", len(data), size)
			}
			b = b[size:]
		}
	})
}

func sampleRecord() *record {
	r := newRecord(incarnation{1, 2, 3}, 128_000_000, time.Now().UnixNano())
	for i, n := range r.numbers()[3:] {
		*n += uint64(i) << 20
	}
	r.from, r.nextSeq = 5, 700
	r.front, r.live, r.tail = 10, 20, 30
	r.frontFrame, r.liveFrame, r.frames = 1, 2, 3
	r.sign(42, 1)
	r.sign(43, 1)
	return r
}

func TestRecord(t *testing.T) {
	r := sampleRecord()
	got, err := decodeRecord(r.encode())
	if diff := cmp.Diff(r, got, cmp.AllowUnexported(record{}, client{})); diff != "" || err != nil {
		t.Errorf("decodeRecord = %v (-want +got):\n%s", err, diff)
	}
	if _, err := decodeRecord(r.encode()[:30]); err == nil {
		t.Error("a record cut short is decoded")
	}
}

// The record remembers the last change of each driver, and forgets the driver
// that made none for longest.
func TestRecord_Sign(t *testing.T) {
	r := newRecord(incarnation{}, 1000, 0)
	for i := range uint64(maxClients + 10) {
		r.sign(1, i+1)
		r.sign(100+i, 7)
		if !r.has(1, i+1) || r.has(1, i) || !r.has(100+i, 7) || r.has(100+i, 8) || r.has(99, 0) {
			t.Fatalf("after %d others: %v", i, r.clients)
		}
	}
	if len(r.clients) != maxClients || r.has(100, 7) {
		t.Errorf("%d drivers are remembered", len(r.clients))
	}
	if _, err := decodeRecord(r.encode()); err != nil {
		t.Errorf("decodeRecord = %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(sampleRecord().encode())
	f.Add(newRecord(incarnation{}, 1, 0).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		if again, err := decodeRecord(r.encode()); err != nil || !cmp.Equal(r, again, cmp.AllowUnexported(record{}, client{})) {
			t.Errorf("decoded again: %+v, %v", again, err)
		}
	})
}

func FuzzDecodeValues(f *testing.F) {
	r := reservation{time: 1795270315112937000, size: 1024, entries: 3, intent: []byte("intent")}
	f.Add(r.encode())
	g := group{time: 1795270315112937000}
	g.add(member{1024, 3, []byte("intent")})
	g.add(member{1, 1, nil})
	f.Add(g.encode())
	f.Add(g.encodeStates())
	f.Add(mark{gone: true, cost: 17}.encode())
	f.Add(mark{attempts: 3, last: -5}.encode())
	f.Add(parked{time: 5, data: []byte("event")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeReservation(b); err == nil {
			if again, err := decodeReservation(r.encode()); err != nil || !cmp.Equal(r, again, cmp.AllowUnexported(reservation{})) {
				t.Errorf("reservation decoded again: %+v, %v", again, err)
			}
		}
		if g, err := decodeGroup(b); err == nil {
			if again, err := decodeGroup(g.encode()); err != nil || !cmp.Equal(g, again, cmp.AllowUnexported(group{}, member{})) {
				t.Errorf("reservations decoded again: %+v, %v", again, err)
			}
			_ = g.decodeStates(b)
		}
		if m, err := decodeMark(b); err == nil {
			if again, err := decodeMark(m.encode()); err != nil || m != again {
				t.Errorf("mark decoded again: %+v, %v", again, err)
			}
		}
		if p, err := decodeParked(b); err == nil {
			if again, err := decodeParked(p.encode()); err != nil || !cmp.Equal(p, again, cmp.AllowUnexported(parked{})) {
				t.Errorf("parked entry decoded again: %+v, %v", again, err)
			}
		}
		_, _ = parsePosition(string(b))
		_, _ = parseKey(keyMark, string(b))
	})
}

func TestPlaces(t *testing.T) {
	var ps places
	at := uint64(0)
	for i := range uint64(100) {
		ps.add(&place{number: i, first: 1 + 3*i, at: at, end: at + 50, lengths: make([]uint32, 3)})
		at += 50
	}
	ps.add(&place{number: 4, first: 13, lengths: make([]uint32, 3)}) // known
	for _, seq := range []uint64{1, 13, 15, 16, 300} {
		if p := ps.find(seq); p == nil || p.first > seq || p.next() <= seq || p.end == 0 {
			t.Errorf("find(%d) = %+v", seq, p)
		}
	}
	if p := ps.find(301); p != nil {
		t.Errorf("find(301) = %+v", p)
	}
	if p := ps.before(301); p == nil || p.number != 99 {
		t.Errorf("before(301) = %+v", p)
	}
	ps.forget(200)
	if ps.find(190) != nil || ps.find(200) == nil || ps.entries != 3*len(ps.list) {
		t.Errorf("%d frames with %d entries after forget(200)", len(ps.list), ps.entries)
	}
	ps.forget(1000)
	if len(ps.list) != 1 || ps.before(301) == nil {
		t.Errorf("the last frame is forgotten: %v", ps.list)
	}
	big := &place{first: 301, lengths: make([]uint32, maxPlaces)}
	ps.add(big)
	if len(ps.list) != 1 || ps.find(301) != big {
		t.Errorf("%d frames after a large one", len(ps.list))
	}
}

// Times come back as they were given, whatever the difference of the clocks,
// and ages are the same on both sides.
func TestClock(t *testing.T) {
	for _, off := range []time.Duration{0, 300 * time.Millisecond, time.Hour, -time.Hour} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // time stands still
				now := time.Now()
				c := &clock{now: func() time.Time { return now }}
				c.sample(now.Add(-off), time.Now())
				if got := c.timeOf(c.stamp()); !got.Equal(now) {
					t.Errorf("now comes back as %v, is %v", got, now)
				}
				old := now.Add(-time.Minute)
				if got := c.timeOf(c.stampOf(old)); !got.Equal(old) {
					t.Errorf("%v comes back as %v", old, got)
				}
				if age := time.Duration(c.stamp() - c.stampOf(old)); age != time.Minute {
					t.Errorf("a minute is %v", age)
				}
				server := now.Add(-off)
				if d := time.Unix(0, c.stamp()).Sub(server).Abs(); d > steady+time.Second {
					t.Errorf("the stamp is %v off the cluster's time", d)
				}
				now = now.Add(2 * time.Hour) // the caller's clock jumps
				if d := time.Unix(0, c.stamp()).Sub(server).Abs(); d > steady+time.Minute {
					t.Errorf("after a jump the stamp is %v off", d)
				}
			})
		})
	}
}
