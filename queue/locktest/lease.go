package locktest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/queuetest"
)

func testExclusive(t *testing.T, s *suite) {
	l := s.acquire("a", "one", hour)
	s.wantLocked("a", "two")
	other := s.acquire("b", "two", hour)
	s.wantLocked("b", "one")
	for _, l := range []queue.Lease{l, other} {
		s.wantExpires(l, hour, 0)
		if l.Expires().Sub(s.h.Now()) < hour/2 {
			t.Errorf("lease of an hour ends in %v", l.Expires().Sub(s.h.Now()))
		}
	}
	s.wantErr("Renew", l.Renew(s.ctx), nil)
	s.wantErr("Release", other.Release(s.ctx), nil)
	s.wantLocked("a", "two")
}

// testAgain has an owner acquire what it holds.
func testAgain(t *testing.T, s *suite) {
	s.rounds(func() {
		a := s.name("a")
		first := s.acquire(a, "one", TTL)
		end := first.Expires()
		s.h.Advance(TTL / 2)
		second := s.acquire(a, "one", TTL)
		s.alive(end)
		if second.Fence() != first.Fence() {
			t.Errorf("fence %d, then %d for the same holder", first.Fence(), second.Fence())
		}
		s.h.Advance(TTL * 3 / 4)
		s.stillLocked(second, a, "two") // it was extended
		s.expire()
		if third := s.acquire(a, "one", TTL); third.Fence() <= first.Fence() {
			t.Errorf("fence %d after %d and an expiry", third.Fence(), first.Fence())
		}
	})
}

func testRelease(t *testing.T, s *suite) {
	one := s.acquire("a", "one", hour)
	s.wantErr("Release", one.Release(s.ctx), nil)
	s.wantErr("Release again", one.Release(s.ctx), nil)
	s.wantErr("Renew after Release", one.Renew(s.ctx), queue.ErrLeaseLost)
	two := s.acquire("a", "two", hour)
	if two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	s.wantErr("Renew by the former holder", one.Renew(s.ctx), queue.ErrLeaseLost)
	s.wantErr("Release by the former holder", one.Release(s.ctx), nil)
	s.wantLocked("a", "three")
	s.wantErr("Renew", two.Renew(s.ctx), nil)
	s.wantErr("Release", two.Release(s.ctx), nil)
	// The same owner is a new holder, too.
	again := s.acquire("a", "two", hour)
	if again.Fence() <= two.Fence() {
		t.Errorf("fence %d after %d and a Release", again.Fence(), two.Fence())
	}
	s.wantErr("Release of the older lease", two.Release(s.ctx), nil)
	s.wantErr("Renew of the older lease", two.Renew(s.ctx), queue.ErrLeaseLost)
	s.wantLocked("a", "one")
}

// testReleaseLate has an owner acquire what it holds before its Release of the
// former lease comes: that does not free what it has now.
func testReleaseLate(t *testing.T, s *suite) {
	s.releaseLate("a", s.locker(), s.locker())
}

func (s *suite) releaseLate(name string, mine, again queue.Locker) {
	s.Helper()
	first := s.acquireBy(mine, name, "one", hour)
	second := s.acquireBy(again, name, "one", hour)
	s.wantErr("Release of the former lease", first.Release(s.ctx), nil)
	s.wantLockedBy(mine, name, "two")
	s.wantErr("Renew", second.Renew(s.ctx), nil)
	s.wantErr("Release of the former lease again", first.Release(s.ctx), nil)
	s.wantLockedBy(again, name, "two")
	s.wantErr("Release", second.Release(s.ctx), nil)
	if third := s.acquireBy(mine, name, "two", hour); third.Fence() <= second.Fence() {
		s.Errorf("fence %d after %d", third.Fence(), second.Fence())
	}
}

func testExpire(t *testing.T, s *suite) {
	one := s.acquire("a", "one", TTL)
	s.expire()
	two := s.acquire("a", "two", hour)
	if two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	s.wantErr("Renew of the lost lease", one.Renew(s.ctx), queue.ErrLeaseLost)
	s.wantErr("Release of the lost lease", one.Release(s.ctx), nil)
	s.wantLocked("a", "one")
	s.wantErr("Renew", two.Renew(s.ctx), nil)
	// Nobody took this one: it is lost all the same.
	three := s.acquire("b", "one", TTL)
	s.expire()
	s.wantErr("Renew too late", three.Renew(s.ctx), queue.ErrLeaseLost)
	if four := s.acquire("b", "one", hour); four.Fence() <= three.Fence() {
		t.Errorf("fence %d after %d and an expiry", four.Fence(), three.Fence())
	}
	s.wantErr("Renew of the former lease", three.Renew(s.ctx), queue.ErrLeaseLost)
}

func testRenew(t *testing.T, s *suite) {
	s.rounds(func() {
		a := s.name("a")
		l := s.acquire(a, "one", TTL)
		for range 3 {
			before := l.Expires()
			s.h.Advance(TTL / 2)
			s.stillRenews(l)
			if !l.Expires().After(before) {
				t.Errorf("lease ends at %v after Renew, %v before", l.Expires(), before)
			}
			s.wantExpires(l, TTL, 0)
			s.stillLocked(l, a, "two")
		}
		s.expire()
		s.wantErr("Renew too late", l.Renew(s.ctx), queue.ErrLeaseLost)
	})
}

func testMany(t *testing.T, s *suite) {
	const n = 300
	forAll := func(f func(i int)) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < n; i += 8 {
					f(i)
				}
			})
		}
		wg.Wait()
	}
	forAll(func(i int) {
		if _, err := s.locker().Acquire(s.ctx, fmt.Sprintf(":topic.%d", i), "one", hour); err != nil {
			t.Errorf("Acquire number %d = %v", i, err)
		}
	})
	forAll(func(i int) {
		_, err := s.locker().Acquire(s.ctx, fmt.Sprintf(":topic.%d", i), "two", hour)
		s.wantErr(fmt.Sprintf("Acquire number %d by another", i), err, queue.ErrLocked)
	})
}

// names are such as a careless driver takes for one another.
func names() []string {
	return []string{"a", "a ", "A", "a/b", "a:b", "a{b}", "{a}b", "..", "ü", "a\x00b", "a\nb", "queue/:topic.1", strings.Repeat("x", 300)}
}

func testNames(t *testing.T, s *suite) {
	for i, name := range names() {
		s.acquire(name, fmt.Sprintf("owner %d\x00\n{}", i), hour)
	}
	for _, name := range names() {
		s.wantLocked(name, "another")
	}
}

// testRace has many acquire one lock: one gets it, and each holder's fence is
// newer than that of the one before.
func testRace(t *testing.T, s *suite) {
	s.race("a", max(queuetest.Scaled(s.h, 400), 20), new(atomic.Int32), s.locker())
}

// race has 8 owners, spread over the lockers, acquire and release until got
// counts n holders.
func (s *suite) race(name string, n int, got *atomic.Int32, lockers ...queue.Locker) {
	var (
		holders atomic.Int32
		last    atomic.Uint64
		wg      sync.WaitGroup
	)
	end := time.Now().Add(2 * time.Minute)
	hold := func(w int) error {
		l, err := lockers[w%len(lockers)].Acquire(s.ctx, name, fmt.Sprint("owner ", w), hour)
		if errors.Is(err, queue.ErrLocked) {
			return nil
		}
		if err != nil {
			return err
		}
		if n := holders.Add(1); n != 1 {
			s.Errorf("%d holders", n)
		}
		if prev := last.Swap(l.Fence()); prev >= l.Fence() {
			s.Errorf("fence %d after %d", l.Fence(), prev)
		}
		got.Add(1)
		holders.Add(-1)
		return l.Release(s.ctx)
	}
	for w := range 8 {
		wg.Go(func() {
			for int(got.Load()) < n && !s.Failed() && time.Now().Before(end) {
				if err := hold(w); err != nil {
					s.Errorf("owner %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		s.Error("nobody got the lock")
	}
}

// testHonest takes a lock from a holder as soon as that is possible: the
// holder knew before that its lease had ended, whatever it did.
func testHonest(t *testing.T, s *suite) {
	s.honest(s.locker(), s.locker())
}

func (s *suite) honest(mine, theirs queue.Locker) {
	for i := range 3 {
		name := fmt.Sprint("honest", i)
		l := s.acquireBy(mine, name, "one", TTL)
		if i == 1 {
			s.h.Advance(TTL / 4)
			_ = l.Renew(s.ctx) // a stall may have ended it
		}
		if i == 2 {
			s.h.Advance(TTL / 4)
			l = s.acquireBy(mine, name, "one", TTL)
		}
		two := s.eventually(theirs, name, "two", TTL)
		if now := s.h.Now(); now.Before(l.Expires()) {
			s.Errorf("another has the lock %v before the end of the holder's lease", l.Expires().Sub(now))
		}
		if two.Fence() <= l.Fence() {
			s.Errorf("fence %d after %d", two.Fence(), l.Fence())
		}
	}
}
