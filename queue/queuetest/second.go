package queuetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
)

// Two drivers over one place, as in two gateways.

// second opens another driver, or skips the test.
func (s *suite) second(shift time.Duration) queue.Driver {
	s.Helper()
	return Second(s.T, s.h, shift)
}

func (s *suite) openBy(d queue.Driver, name string) queue.Queue {
	s.Helper()
	q, err := d.Open(s.ctx, name)
	if err != nil {
		s.Fatalf("Open(%s) by the other driver = %v", name, err)
	}
	return q
}

func testTwoDrivers(t *testing.T, s *suite) {
	d := s.second(0)
	a := s.create("q", 1<<20)
	s.wantErr("Create by the other", d.Create(s.ctx, "q", 1), queue.ErrQueueExists)
	if names, err := d.List(s.ctx, ""); err != nil || len(names) != 1 {
		t.Errorf("List by the other = %q, %v", names, err)
	}
	b := s.openBy(d, "q")
	s.put(a, "1", "2")
	s.put(b, "3")
	s.put(a, "4")
	for _, q := range []queue.Queue{a, b} {
		if diff := cmp.Diff([]string{"1", "2", "3", "4"}, dataOf(s.all(q))); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	}
	entries := s.all(a)
	if diff := cmp.Diff(markersOf(entries), markersOf(s.all(b))); diff != "" {
		t.Errorf("markers differ (-one +other):\n%s", diff)
	}
	s.ack(b, queue.Ack{UpTo: entries[0].Marker, Done: markersOf(entries[2:3]), Fence: 5,
		Failed: []queue.Attempt{{Marker: entries[1].Marker, Attempts: 3, LastTry: s.h.Now()}}})
	s.wantErr("Ack by one with the older fence", a.Ack(s.ctx, queue.Ack{UpTo: entries[3].Marker, Fence: 4}), queue.ErrFenced)
	got := s.all(a)
	if diff := cmp.Diff([]string{"2", "4"}, dataOf(got)); diff != "" || got[0].Attempts != 3 {
		t.Errorf("entries after the other's Ack: %d attempts (-want +got):\n%s", got[0].Attempts, diff)
	}
	id := s.reserve(a, "intent", 10, 1)
	if rs := s.reservations(b, s.later()); len(rs) != 1 || rs[0].ID != id || string(rs[0].Intent) != "intent" {
		t.Errorf("reservations listed by the other = %+v", rs)
	}
	s.wantErr("Renew by the other", b.Renew(s.ctx, id), nil)
	s.commit(b, id, "5")
	s.wantUse(a, 3, 33, 0, 0)
	s.wantUse(b, 3, 33, 0, 0)
}

// gone wants each call of a handle to answer ErrNoSuchQueue.
func (s *suite) gone(q queue.Queue, id queue.ID) {
	s.Helper()
	_, err := q.Reserve(s.ctx, nil, 1, 1)
	s.wantErr("Reserve", err, queue.ErrNoSuchQueue)
	s.wantErr("Commit", q.Commit(s.ctx, id, nil), queue.ErrNoSuchQueue)
	s.wantErr("Renew", q.Renew(s.ctx, id), queue.ErrNoSuchQueue)
	s.wantErr("Abort", q.Abort(s.ctx, id), queue.ErrNoSuchQueue)
	s.wantErr("Ack", q.Ack(s.ctx, queue.Ack{Fence: 1}), queue.ErrNoSuchQueue)
	_, _, err = q.List(s.ctx, "", 1)
	s.wantErr("List", err, queue.ErrNoSuchQueue)
	_, err = q.Reservations(s.ctx, s.later(), 1)
	s.wantErr("Reservations", err, queue.ErrNoSuchQueue)
	_, err = q.Stats(s.ctx)
	s.wantErr("Stats", err, queue.ErrNoSuchQueue)
}

func testTwoDelete(t *testing.T, s *suite) {
	d := s.second(0)
	a := s.create("q", 1000)
	id := s.reserve(a, "", 10, 1)
	if err := d.Delete(s.ctx, "q"); err != nil {
		t.Fatalf("Delete by the other = %v", err)
	}
	s.gone(a, id)
	_, err := s.h.Driver().Open(s.ctx, "q")
	s.wantErr("Open", err, queue.ErrNoSuchQueue)
	s.wantErr("Delete", s.h.Driver().Delete(s.ctx, "q"), queue.ErrNoSuchQueue)
	if err := d.Create(s.ctx, "q", 2000); err != nil {
		t.Fatalf("Create by the other = %v", err)
	}
	s.oldHandle(a, s.openBy(d, "q"), id)
}

// testOldHandle keeps a handle, a reservation and a marker of a queue that is
// deleted and made again: they harm nothing in the new one.
func testOldHandle(t *testing.T, s *suite) {
	old := s.create("q", 1000)
	id := s.reserve(old, "old", 10, 1)
	if err := s.h.Driver().Delete(s.ctx, "q"); err != nil {
		t.Fatalf("Delete = %v", err)
	}
	s.oldHandle(old, s.create("q", 1000), id)
}

func (s *suite) oldHandle(old, q queue.Queue, id queue.ID) {
	s.Helper()
	for range 5 {
		s.reserve(q, "new", 10, 1)
	}
	s.put(q, "x")
	s.gone(old, id)
	for _, r := range s.reservations(q, s.later()) {
		s.gone(old, r.ID)
	}
	s.wantErr("Commit of the old queue's reservation", q.Commit(s.ctx, id, nil), queue.ErrNoSuchReservation)
	s.wantUse(q, 1, 11, 5, 100)
}

func testTwoWait(t *testing.T, s *suite) {
	d := s.second(0)
	a := s.create("q", 1<<20)
	b := s.openBy(d, "q")
	w, ok := b.(queue.Waiter)
	if !ok {
		t.Skip("the queues have no queue.Waiter")
	}
	woken := make(chan error, 1)
	after := queue.Marker("")
	for i := range 3 {
		go func() { woken <- w.Wait(s.ctx, after) }()
		s.h.Advance(tick) // most likely it waits by now
		s.put(a, fmt.Sprint(i))
		s.wantErr("Wait", s.await("Wait for the other's commit", woken), nil)
		after = last(s.all(b)).Marker
	}
	go func() { woken <- w.Wait(s.ctx, after) }()
	s.h.Advance(tick)
	if err := s.h.Driver().Delete(s.ctx, "q"); err != nil {
		t.Fatalf("Delete = %v", err)
	}
	s.wantErr("Wait", s.await("Wait for what the other deletes", woken), queue.ErrNoSuchQueue)
}

// testTwoLoad has both fill one queue: both list the same order, in which each
// producer's is kept, and each sees at once what it has committed itself.
func testTwoLoad(t *testing.T, s *suite) {
	d := s.second(0)
	a := s.create("q", 10<<20)
	b := s.openBy(d, "q")
	n := max(s.scale(200), 10)
	var mu sync.Mutex
	want := make(map[string]bool)
	each(16, func(w int) {
		q := []queue.Queue{a, b}[w%2]
		for i := range n {
			data := fmt.Sprintf("%02d %04d", w, i)
			if err := putWhenRoom(s.ctx, q, data); err != nil {
				t.Errorf("put = %v", err)
				return
			}
			mu.Lock()
			want[data] = true
			mu.Unlock()
		}
	})
	one, other := s.all(a), s.after(b, "", 33)
	if diff := cmp.Diff(dataOf(one), dataOf(other)); diff != "" {
		t.Errorf("the drivers list different things (-one +other):\n%s", diff)
	}
	next := make(map[string]int)
	for _, e := range one {
		w := string(e.Data[:2])
		if got := fmt.Sprintf("%s %04d", w, next[w]); got != string(e.Data) {
			t.Fatalf("entry %q, want %q", e.Data, got)
		}
		next[w]++
	}
	s.wantCommitted(b, want)
	s.ack(b, queue.Ack{UpTo: last(one).Marker})
	s.wantUse(a, 0, 0, 0, 0)
}

// shifts are how far the second gateway's clock is off.
var shifts = []time.Duration{time.Hour, -time.Hour}

// clockSlack is more than a driver may be wrong about the difference of two clocks:
// what it takes for a steady one, and half of the time of the call by which it was
// measured.
const clockSlack = 800 * time.Millisecond

// testClockReservations has a resolver whose clock is off: what it finds stale
// is so by age.
func testClockReservations(t *testing.T, s *suite) {
	for i, shift := range shifts {
		d := s.second(shift)
		a := s.create(fmt.Sprint("q", i), 1<<20)
		b := s.openBy(d, fmt.Sprint("q", i))
		one, other := s.reserve(a, "one", 10, 1), s.reserve(b, "other", 10, 1)
		now := s.h.Now
		for who, rs := range map[string][]queue.Reservation{
			"the right one": s.reservations(a, now().Add(-timeSlack)),
			"the other":     s.reservations(b, now().Add(shift-timeSlack)),
		} {
			if len(rs) != 0 {
				t.Errorf("clock off by %v: %s finds %+v stale, which is fresh", shift, who, rs)
			}
		}
		s.h.Advance(clockSlack)
		line := s.h.Now()
		s.h.Advance(clockSlack)
		s.wantErr("Renew by the other", b.Renew(s.ctx, one), nil)
		for who, rs := range map[string][]queue.Reservation{
			"the right one": s.olderThan(a, line), "the other": s.olderThan(b, line.Add(shift)),
		} {
			if len(rs) != 1 || rs[0].ID != other {
				t.Errorf("clock off by %v: %s finds %+v stale, want %d", shift, who, rs, other)
			}
		}
		for _, r := range s.reservations(a, s.later()) {
			s.wantTime("Time of a reservation", r.Time, now())
		}
		for _, r := range s.reservations(b, s.later().Add(shift)) {
			s.wantTime("Time of a reservation for the other", r.Time, now().Add(shift))
		}
		s.commit(a, one, "1")
		s.commit(b, other, "2")
	}
}

// testClockEntries has times of entries in the clock of who asks.
func testClockEntries(t *testing.T, s *suite) {
	for i, shift := range shifts {
		d := s.second(shift)
		a := s.create(fmt.Sprint("q", i), 1<<20)
		b := s.openBy(d, fmt.Sprint("q", i))
		s.put(a, "one")
		s.put(b, "other")
		entries := s.all(a)
		if len(entries) != 2 {
			t.Fatalf("%d entries, want 2", len(entries))
		}
		now := s.h.Now()
		s.ack(a, queue.Ack{Failed: []queue.Attempt{{Marker: entries[0].Marker, Attempts: 1, LastTry: now.Add(-time.Minute)}}})
		s.ack(b, queue.Ack{Failed: []queue.Attempt{{Marker: entries[1].Marker, Attempts: 1, LastTry: now.Add(shift - time.Minute)}}})
		for _, v := range []struct {
			who string
			q   queue.Queue
			now time.Time
		}{{"one", a, now}, {"the other", b, now.Add(shift)}} {
			for _, e := range s.all(v.q) {
				s.wantTime("Enqueued for "+v.who, e.Enqueued, v.now)
				s.wantTime("LastTry for "+v.who, e.LastTry, v.now)
			}
			s.wantTime("Oldest for "+v.who, s.stats(v.q).Oldest, v.now)
		}
	}
}
