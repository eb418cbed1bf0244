// Package locktest is the suite that every queue.Locker passes.
package locktest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/queuetest"
)

// TTL is the leases' time in the suite. A harness whose clock cannot be moved
// sleeps beyond it.
const TTL = 300 * time.Millisecond

// Run runs the suite. open is called for each test; it cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) queuetest.Harness) {
	cases := []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Exclusive", testExclusive}, {"Again", testAgain}, {"Release", testRelease},
		{"Expire", testExpire}, {"Renew", testRenew}, {"PausedHolder", testPausedHolder},
		{"Reopen", testReopen}, {"Crash", testCrash}, {"Many", testMany}, {"Race", testRace},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, &suite{t, open(t)}) })
	}
}

type suite struct {
	*testing.T
	h queuetest.Harness
}

func (s *suite) acquire(name, owner string) queue.Lease {
	s.Helper()
	l, err := s.h.Driver().Locker().Acquire(s.Context(), name, owner, TTL)
	if err != nil {
		s.Fatalf("Acquire(%s, %s) = %v", name, owner, err)
	}
	if l.Fence() == 0 {
		s.Errorf("Acquire(%s, %s) = fence 0", name, owner)
	}
	return l
}

func (s *suite) wantLocked(name, owner string) {
	s.Helper()
	l, err := s.h.Driver().Locker().Acquire(s.Context(), name, owner, TTL)
	if !errors.Is(err, queue.ErrLocked) {
		s.Errorf("Acquire(%s, %s) = %v, %v, want ErrLocked", name, owner, l, err)
	}
}

func (s *suite) wantErr(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s = %v, want %v", what, got, want)
	}
}

func (s *suite) expire() { s.h.Advance(TTL + TTL/2) }

func testExclusive(t *testing.T, s *suite) {
	l := s.acquire("a", "one")
	s.wantLocked("a", "two")
	other := s.acquire("b", "two")
	s.wantLocked("b", "one")
	for _, l := range []queue.Lease{l, other} {
		if d := l.Expires().Sub(s.h.Now()); d <= 0 || d > TTL {
			t.Errorf("lease ends in %v, want up to %v", d, TTL)
		}
	}
}

// testAgain has an owner acquire what it holds.
func testAgain(t *testing.T, s *suite) {
	first := s.acquire("a", "one")
	s.h.Advance(TTL / 2)
	second := s.acquire("a", "one")
	if second.Fence() != first.Fence() {
		t.Errorf("fence %d, then %d for the same holder", first.Fence(), second.Fence())
	}
	s.h.Advance(TTL / 2)
	s.wantLocked("a", "two") // it was extended
	s.expire()
	if third := s.acquire("a", "one"); third.Fence() <= first.Fence() {
		t.Errorf("fence %d after %d and an expiry", third.Fence(), first.Fence())
	}
}

func testRelease(t *testing.T, s *suite) {
	one := s.acquire("a", "one")
	s.wantErr("Release", one.Release(t.Context()), nil)
	s.wantErr("Release again", one.Release(t.Context()), nil)
	s.wantErr("Renew after Release", one.Renew(t.Context()), queue.ErrLeaseLost)
	two := s.acquire("a", "two")
	if two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	s.wantErr("Release by the former holder", one.Release(t.Context()), nil)
	s.wantLocked("a", "three")
}

func testExpire(t *testing.T, s *suite) {
	one := s.acquire("a", "one")
	s.expire()
	two := s.acquire("a", "two")
	if two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	s.wantErr("Renew of the lost lease", one.Renew(t.Context()), queue.ErrLeaseLost)
	s.wantErr("Release of the lost lease", one.Release(t.Context()), nil)
	s.wantLocked("a", "one")
	s.wantErr("Renew", two.Renew(t.Context()), nil)
}

func testRenew(t *testing.T, s *suite) {
	l := s.acquire("a", "one")
	for range 5 {
		s.h.Advance(TTL / 2)
		s.wantErr("Renew", l.Renew(t.Context()), nil)
		s.wantLocked("a", "two")
	}
	if d := l.Expires().Sub(s.h.Now()); d <= 0 || d > TTL {
		t.Errorf("renewed lease ends in %v, want up to %v", d, TTL)
	}
	s.expire()
	s.wantErr("Renew too late", l.Renew(t.Context()), queue.ErrLeaseLost)
}

// testPausedHolder pauses an owner beyond its lease. What it then does with
// its old fence is refused, once the new owner has acted.
func testPausedHolder(t *testing.T, s *suite) {
	ctx := t.Context()
	if err := s.h.Driver().Create(ctx, "q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q, err := s.h.Driver().Open(ctx, "q")
	if err != nil {
		t.Fatal(err)
	}
	id, err := q.Reserve(ctx, []byte("i"), 10, 2)
	if err == nil {
		err = q.Commit(ctx, id, [][]byte{[]byte("a"), []byte("b")})
	}
	if err != nil {
		t.Fatal(err)
	}
	paused := s.acquire("q", "one")
	entries, _, err := q.List(ctx, "", 10)
	if err != nil || len(entries) != 2 {
		t.Fatalf("List = %d, %v", len(entries), err)
	}
	s.expire()
	owner := s.acquire("q", "two")
	s.wantErr("Ack by the owner", q.Ack(ctx, queue.Ack{Fence: owner.Fence()}), nil)
	s.wantErr("Ack by the paused", q.Ack(ctx, queue.Ack{UpTo: entries[1].Marker, Fence: paused.Fence()}), queue.ErrFenced)
	s.wantErr("Renew by the paused", paused.Renew(ctx), queue.ErrLeaseLost)
	if entries, _, err := q.List(ctx, "", 10); err != nil || len(entries) != 2 {
		t.Errorf("List = %d, %v, want both entries", len(entries), err)
	}
}

// testReopen has fences grow across a restart, whoever holds the lock.
func testReopen(t *testing.T, s *suite) {
	last := uint64(0)
	for i := range 4 {
		l := s.acquire("a", fmt.Sprint("owner ", i))
		if l.Fence() <= last {
			t.Errorf("fence %d after %d", l.Fence(), last)
		}
		last = l.Fence()
		s.expire()
		s.h.Reopen(t)
	}
}

func testCrash(t *testing.T, s *suite) {
	last := uint64(0)
	for i := range 4 {
		l := s.acquire("a", fmt.Sprint("owner ", i))
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

func testMany(t *testing.T, s *suite) {
	for i := range 300 {
		s.acquire(fmt.Sprintf(":topic.%d", i), "one")
	}
	for i := range 300 {
		s.wantLocked(fmt.Sprintf(":topic.%d", i), "two")
	}
}

// testRace has many acquire one lock: one gets it, and each holder's fence is
// newer than that of the one before.
func testRace(t *testing.T, s *suite) {
	locker := s.h.Driver().Locker()
	var (
		holders atomic.Int32
		last    atomic.Uint64
		got     atomic.Int32
		wg      sync.WaitGroup
	)
	for w := range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := locker.Acquire(t.Context(), "a", fmt.Sprint("owner ", w), time.Hour)
				if errors.Is(err, queue.ErrLocked) {
					continue
				}
				if err != nil {
					t.Errorf("Acquire = %v", err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				if prev := last.Swap(l.Fence()); prev >= l.Fence() {
					t.Errorf("fence %d after %d", l.Fence(), prev)
				}
				got.Add(1)
				holders.Add(-1)
				if err := l.Release(t.Context()); err != nil {
					t.Errorf("Release = %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		t.Error("nobody got the lock")
	}
}
