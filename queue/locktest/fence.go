package locktest

import (
	"errors"
	"fmt"
	"testing"

	"herald/queue"
)

// fill makes a queue with two entries.
func (s *suite) fill(name string) (queue.Queue, []queue.Entry) {
	s.Helper()
	d := s.h.Driver()
	if err := d.Create(s.ctx, name, 1<<20); err != nil {
		s.Fatal(err)
	}
	q, err := d.Open(s.ctx, name)
	if err != nil {
		s.Fatal(err)
	}
	id, err := q.Reserve(s.ctx, []byte("i"), 10, 2)
	if err == nil {
		err = q.Commit(s.ctx, id, [][]byte{[]byte("a"), []byte("b")})
	}
	if err != nil {
		s.Fatal(err)
	}
	return q, s.list(q, 2)
}

func (s *suite) list(q queue.Queue, want int) []queue.Entry {
	s.Helper()
	entries, _, err := q.List(s.ctx, "", 10)
	if err != nil || len(entries) != want {
		s.Fatalf("List = %d entries, %v, want %d", len(entries), err, want)
	}
	return entries
}

// testPausedHolder pauses an owner beyond its lease. What it then does with
// its old fence is refused, once the new owner has acted.
func testPausedHolder(t *testing.T, s *suite) {
	s.paused(s.locker(), s.locker())
}

func (s *suite) paused(mine, theirs queue.Locker) {
	s.rounds(func() {
		name := s.name("q")
		q, entries := s.fill(name)
		paused := s.acquireBy(mine, name, "one", TTL)
		err := q.Ack(s.ctx, queue.Ack{Done: []queue.Marker{entries[0].Marker}, Fence: paused.Fence()})
		s.alive(paused.Expires())
		s.wantErr("Ack while it is held", err, nil)
		s.expire()
		owner := s.acquireBy(theirs, name, "two", hour)
		s.wantErr("Ack by the owner", q.Ack(s.ctx, queue.Ack{Fence: owner.Fence()}), nil)
		s.wantErr("Ack by the paused", q.Ack(s.ctx, queue.Ack{UpTo: entries[1].Marker, Fence: paused.Fence()}), queue.ErrFenced)
		s.wantErr("Renew by the paused", paused.Renew(s.ctx), queue.ErrLeaseLost)
		s.wantErr("Release by the paused", paused.Release(s.ctx), nil)
		s.wantLockedBy(theirs, name, "three")
		s.wantErr("Renew by the owner", owner.Renew(s.ctx), nil)
		s.list(q, 1)
		s.wantErr("Ack by the owner", q.Ack(s.ctx, queue.Ack{UpTo: entries[1].Marker, Fence: owner.Fence()}), nil)
		s.list(q, 0)
	})
}

// testPausedHolderFirst has the paused owner act when the new one has the lock,
// but has not acted yet. The driver may refuse that or not; it does one of them
// wholly.
func testPausedHolderFirst(t *testing.T, s *suite) {
	q, entries := s.fill("q")
	paused := s.acquire("q", "one", TTL)
	s.expire()
	owner := s.acquire("q", "two", hour)
	err := q.Ack(s.ctx, queue.Ack{UpTo: entries[0].Marker, Fence: paused.Fence()})
	switch {
	case err == nil:
		s.list(q, 1)
	case errors.Is(err, queue.ErrFenced):
		s.list(q, 2)
	default:
		t.Errorf("Ack by the paused = %v", err)
	}
	s.wantErr("Ack by the owner", q.Ack(s.ctx, queue.Ack{UpTo: entries[1].Marker, Fence: owner.Fence()}), nil)
	s.list(q, 0)
}

// testReopen has fences grow across a restart, whoever holds the lock.
func testReopen(t *testing.T, s *suite) {
	last := uint64(0)
	for i := range 4 {
		l := s.acquire("a", fmt.Sprint("owner ", i), TTL)
		if l.Fence() <= last {
			t.Errorf("fence %d after %d", l.Fence(), last)
		}
		last = l.Fence()
		if i%2 == 0 {
			s.expire()
		} else {
			s.wantErr("Release", l.Release(s.ctx), nil)
		}
		s.h.Reopen(t)
	}
}

// testReopenHeld restarts while the lock is held. A driver that several share
// still has it held; of one that only one process has open it may be free.
func testReopenHeld(t *testing.T, s *suite) {
	one := s.acquire("a", "one", hour)
	s.h.Reopen(t)
	two, err := s.locker().Acquire(s.ctx, "a", "two", hour)
	x, ok := s.h.Driver().(queue.Exclusive)
	if exclusive := ok && x.Exclusive(); err == nil && !exclusive {
		t.Error("the lock was free after a restart of its holder's process")
	}
	if err == nil && two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	if err == nil {
		return
	}
	s.wantErr("Acquire by another", err, queue.ErrLocked)
	if again := s.acquire("a", "one", hour); again.Fence() < one.Fence() {
		t.Errorf("fence %d after %d", again.Fence(), one.Fence())
	}
}

func testCrash(t *testing.T, s *suite) {
	last := uint64(0)
	for i := range 4 {
		l := s.acquire("a", fmt.Sprint("owner ", i), TTL)
		if l.Fence() <= last {
			t.Errorf("fence %d after %d", l.Fence(), last)
		}
		last = l.Fence()
		s.expire()
		if !s.h.Crash(t) {
			t.Skip("the harness cannot crash its driver")
		}
	}
}
