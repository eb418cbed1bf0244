package queuetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
)

func testCommit(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	var want []string
	for i := range 200 {
		id := s.reserve(q, "intent", 23*20, 23)
		batch := numbered(fmt.Sprintf("batch-%03d", i), 23)
		s.commit(q, id, batch...)
		want = append(want, batch...)
	}
	for range 2 {
		s.wantUse(q, 200*23, 200*23*(16+queue.EntryOverhead), 0, 0)
		if diff := cmp.Diff(want, dataOf(s.all(q))); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		q = s.reopen("q")
	}
}

func testCommitError(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	id := s.reserve(q, "i", 10, 2)
	one := bytesOf([]string{"x"})
	s.wantErr("Commit(unknown)", q.Commit(s.ctx, id+1, one), queue.ErrNoSuchReservation)
	s.wantErr("Commit(0)", q.Commit(s.ctx, 0, one), queue.ErrNoSuchReservation)
	s.wantErr("Commit of too many bytes", q.Commit(s.ctx, id, bytesOf([]string{"123456", "78901"})), queue.ErrTooLarge)
	s.wantErr("Commit of too many entries", q.Commit(s.ctx, id, bytesOf([]string{"1", "2", "3"})), queue.ErrTooLarge)
	s.wantUse(q, 0, 0, 1, 30)
	s.commit(q, id, "12345", "67890")
	s.wantErr("Commit again", q.Commit(s.ctx, id, one), queue.ErrNoSuchReservation)
	s.wantUse(q, 2, 30, 0, 0)
}

func testCommitNothing(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	id := s.reserve(q, "i", 10, 2)
	s.commit(q, id)
	s.wantUse(q, 0, 0, 0, 0)
	s.commit(q, s.reserve(q, "i", 10, 2), "", "")
	s.wantUse(s.reopen("q"), 2, 20, 0, 0)
}

func testCommitLess(t *testing.T, s *suite) {
	q := s.create("q", 1000)
	s.commit(q, s.reserve(q, "i", 900, 5), "x")
	s.wantUse(q, 1, 11, 0, 0)
	s.reserve(q, "i", 1000-11-10, 1)
}

// testCommitOrder has entries listed in the order of commits, not of
// reservations.
func testCommitOrder(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	var ids []queue.ID
	for range 50 {
		ids = append(ids, s.reserve(q, "i", 10, 1))
	}
	var want []string
	for i := range ids {
		n := (i * 17) % len(ids)
		s.commit(q, ids[n], fmt.Sprint(n))
		want = append(want, fmt.Sprint(n))
		if i == 25 {
			q = s.reopen("q")
		}
	}
	for range 2 {
		if diff := cmp.Diff(want, dataOf(s.all(q))); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		q = s.reopen("q")
	}
}

func testStats(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	for range 10 {
		s.put(q, numbered("e", 10)...)
	}
	s.wantUse(q, 100, 100*18, 0, 0)
	entries := s.all(q)
	s.ack(q, queue.Ack{UpTo: entries[29].Marker})
	s.wantUse(q, 70, 70*18, 0, 0)
	s.ack(q, queue.Ack{UpTo: entries[29].Marker, Done: markersOf(entries[20:40])})
	s.wantUse(q, 60, 60*18, 0, 0)
	q = s.reopen("q")
	s.wantUse(q, 60, 60*18, 0, 0)
	s.ack(q, queue.Ack{UpTo: entries[99].Marker})
	s.wantUse(q, 0, 0, 0, 0)
}

func testBinary(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	want := []string{string(all), "", "\x00", strings.Repeat("x", 100_000), "\r\n\xff\xfe"}
	s.put(q, want...)
	id := s.reserve(q, string(all), 1, 1)
	q = s.reopen("q")
	if diff := cmp.Diff(want, dataOf(s.all(q))); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	rs := s.reservations(q, s.later())
	if len(rs) != 1 || rs[0].ID != id || string(rs[0].Intent) != string(all) {
		t.Errorf("reservations = %+v", rs)
	}
}

func testListPages(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	if entries, more, err := q.List(s.ctx, "", 10); len(entries) != 0 || more || err != nil {
		t.Errorf("List of an empty queue = %d, %v, %v", len(entries), more, err)
	}
	want := numbered("e", 1000)
	s.put(q, want...)
	for _, page := range []int{1, 7, 1000, 5000} {
		if diff := cmp.Diff(want, dataOf(s.after(q, "", page))); diff != "" {
			t.Errorf("by pages of %d (-want +got):\n%s", page, diff)
		}
	}
	entries, more, err := q.List(s.ctx, "", 1000)
	if len(entries) != 1000 || more || err != nil {
		t.Errorf("List(1000) = %d, more %v, %v; want no more", len(entries), more, err)
	}
	last := entries[999].Marker
	if entries, more, err := q.List(s.ctx, last, 10); len(entries) != 0 || more || err != nil {
		t.Errorf("List after the last = %d, %v, %v", len(entries), more, err)
	}
}

// testListLarge has entries that do not fit one answer.
func testListLarge(t *testing.T, s *suite) {
	q := s.create("q", 100<<20)
	var want []string
	for i := range 20 {
		data := fmt.Sprintf("%d %s", i, strings.Repeat("x", 900_000))
		s.put(q, data)
		want = append(want, data)
	}
	entries, more, err := q.List(s.ctx, "", 100)
	size := 0
	for _, e := range entries {
		size += len(e.Data)
	}
	if err != nil || !more || size > 8<<20 {
		t.Errorf("List = %d bytes, more %v, %v; want about 4 MiB", size, more, err)
	}
	if diff := cmp.Diff(want, dataOf(s.after(q, "", 100))); diff != "" {
		t.Error("entries differ")
	}
}

// testStableMarkers goes on listing from markers whose entries are gone.
func testStableMarkers(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	want := numbered("e", 100)
	s.put(q, want...)
	entries := s.all(q)
	s.ack(q, queue.Ack{UpTo: entries[9].Marker, Done: markersOf(entries[40:60])})
	for range 2 {
		for _, c := range []struct{ after, first, n int }{{5, 10, 70}, {9, 10, 70}, {10, 11, 69}, {45, 60, 40}, {59, 60, 40}} {
			got := s.after(q, entries[c.after].Marker, 30)
			if len(got) != c.n || string(got[0].Data) != want[c.first] || got[0].Marker != entries[c.first].Marker {
				t.Errorf("List after %d = %d entries from %q, want %d from %q", c.after, len(got), got[0].Data, c.n, want[c.first])
			}
		}
		q = s.reopen("q")
	}
	s.ack(q, queue.Ack{UpTo: entries[99].Marker})
	s.put(q, "new")
	if got := s.after(q, entries[50].Marker, 10); len(got) != 1 || string(got[0].Data) != "new" {
		t.Errorf("List after a marker of old = %v", dataOf(got))
	}
}

func testAckOutOfOrder(t *testing.T, s *suite) {
	q := s.create("q", 10<<20)
	want := numbered("e", 3000)
	for i := 0; i < len(want); i += 30 {
		s.put(q, want[i:i+30]...)
	}
	entries := s.after(q, "", 1000)
	left := make(map[string]bool)
	var done []queue.Marker
	for i, e := range entries {
		if (i*7919)%10 < 3 {
			left[string(e.Data)] = true
		} else {
			done = append(done, e.Marker)
		}
	}
	for i := len(done) - 1; i >= 0; i -= 50 {
		s.ack(q, queue.Ack{Done: done[max(0, i-49) : i+1]})
		if i > len(done)/2 && i-50 <= len(done)/2 {
			q = s.reopen("q")
		}
	}
	for range 2 {
		s.wantUse(q, int64(len(left)), int64(len(left))*18, 0, 0)
		got := s.after(q, "", 500)
		if len(got) != len(left) {
			t.Errorf("%d entries left, want %d", len(got), len(left))
		}
		for _, e := range got {
			if !left[string(e.Data)] {
				t.Errorf("entry %q came again", e.Data)
			}
		}
		q = s.reopen("q")
	}
}

func testAckAttempts(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	s.put(q, "a", "b", "c")
	entries := s.all(q)
	if entries[0].Attempts != 0 || !entries[0].LastTry.IsZero() || entries[0].Enqueued.IsZero() {
		t.Errorf("fresh entry = %+v", entries[0])
	}
	last := s.h.Now().Add(-24 * time.Hour)
	s.ack(q, queue.Ack{
		Done:   []queue.Marker{entries[0].Marker},
		Failed: []queue.Attempt{{Marker: entries[1].Marker, Attempts: 3, LastTry: last}},
	})
	s.ack(q, queue.Ack{Failed: []queue.Attempt{{Marker: entries[1].Marker, Attempts: 4, LastTry: last.Add(time.Hour)}}})
	for range 2 {
		got := s.all(q)
		if len(got) != 2 || got[0].Attempts != 4 || got[1].Attempts != 0 || !got[1].LastTry.IsZero() {
			t.Fatalf("entries = %+v", got)
		}
		s.wantTime("LastTry", got[0].LastTry, last.Add(time.Hour))
		s.wantTime("Enqueued", got[0].Enqueued, s.h.Now())
		q = s.reopen("q")
	}
}

func testAckUnknown(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	s.put(q, "a", "b")
	entries := s.all(q)
	gone := []queue.Marker{entries[0].Marker}
	for range 2 {
		s.ack(q, queue.Ack{Done: gone, Failed: []queue.Attempt{{Marker: entries[0].Marker, Attempts: 1}}})
		s.wantUse(q, 1, 11, 0, 0)
	}
	s.ack(q, queue.Ack{})
	s.wantUse(s.reopen("q"), 1, 11, 0, 0)
}

// testAckFenced refuses who owned the queue before somebody else.
func testAckFenced(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	s.put(q, "a", "b", "c", "d")
	entries := s.all(q)
	s.ack(q, queue.Ack{Done: markersOf(entries[:1]), Fence: 5})
	s.ack(q, queue.Ack{Done: markersOf(entries[1:2]), Fence: 7})
	for range 2 {
		err := q.Ack(s.ctx, queue.Ack{UpTo: entries[3].Marker, Fence: 5,
			Failed: []queue.Attempt{{Marker: entries[3].Marker, Attempts: 9}}})
		s.wantErr("Ack with an old fence", err, queue.ErrFenced)
		s.wantUse(q, 2, 22, 0, 0)
		if got := s.all(q); got[1].Attempts != 0 {
			t.Errorf("a fenced Ack noted an attempt")
		}
		s.ack(q, queue.Ack{Fence: 7})
		q = s.reopen("q")
	}
	s.ack(q, queue.Ack{Done: markersOf(entries[2:3])}) // none given
	s.ack(q, queue.Ack{UpTo: entries[3].Marker, Fence: 7})
	s.wantUse(q, 0, 0, 0, 0)
}

func testOldest(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	if got := s.stats(q).Oldest; !got.IsZero() {
		t.Errorf("Oldest of an empty queue = %v", got)
	}
	for i := range 5 {
		s.put(q, fmt.Sprint(i))
		s.h.Advance(tick)
	}
	entries := s.all(q)
	for i, e := range entries {
		s.eventually(func() string { // a slow call is not precise
			if got, want := s.stats(q).Oldest, s.all(q)[0].Enqueued; got.Sub(want).Abs() > tick/2 {
				return fmt.Sprintf("Oldest = %v, want %v", got, want)
			}
			return ""
		})
		s.ack(q, queue.Ack{Done: []queue.Marker{e.Marker}})
		if i == 2 {
			q = s.reopen("q")
		}
	}
	if got := s.stats(q).Oldest; !got.IsZero() {
		t.Errorf("Oldest of an emptied queue = %v", got)
	}
}
