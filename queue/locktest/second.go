package locktest

import (
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/queuetest"
)

// Two drivers over one place, as in two gateways.

func (s *suite) second(shift time.Duration) queue.Locker {
	s.Helper()
	return queuetest.Second(s.T, s.h, shift).Locker()
}

func testTwoDrivers(t *testing.T, s *suite) {
	b := s.second(0)
	one := s.acquire("a", "one", hour)
	s.wantLockedBy(b, "a", "two")
	s.wantErr("Release", one.Release(s.ctx), nil)
	two := s.acquireBy(b, "a", "two", hour)
	if two.Fence() <= one.Fence() {
		t.Errorf("fence %d after %d", two.Fence(), one.Fence())
	}
	s.wantLocked("a", "one")
	s.wantErr("Renew by the former holder", one.Renew(s.ctx), queue.ErrLeaseLost)
	s.wantErr("Release by the former holder", one.Release(s.ctx), nil)
	s.wantErr("Renew by the other", two.Renew(s.ctx), nil)
	// The owner counts, not the driver that it came by.
	if again := s.acquire("a", "two", hour); again.Fence() != two.Fence() {
		t.Errorf("fence %d, then %d for the same holder", two.Fence(), again.Fence())
	}
	s.releaseLate("late", s.locker(), b)
	s.honest(s.locker(), b)
}

func testTwoRace(t *testing.T, s *suite) {
	s.race("a", max(queuetest.Scaled(s.h, 400), 20), new(atomic.Int32), s.locker(), s.second(0))
}

func testTwoPaused(t *testing.T, s *suite) {
	s.paused(s.locker(), s.second(0))
}

func testTwoGroups(t *testing.T, s *suite) {
	b := s.second(0)
	s.join("g", "a", hour)
	s.wantMembers("joined by the other", s.joinBy(b, "g", "b", hour), "a", "b")
	s.wantMembers("seen by the first", s.join("g", "a", hour), "a", "b")
	s.wantErr("Leave by the other", b.Leave(s.ctx, "g", "a"), nil)
	s.wantMembers("after one left", s.joinBy(b, "g", "b", hour), "b")
	s.joinRace("race", s.locker(), b)
}

// shifts are how far the second gateway's clock is off.
var shifts = []time.Duration{time.Hour, -time.Hour}

// testClockLeases has a gateway whose clock is off neither take a lease early
// nor hold one longer, and know when its own ends.
func testClockLeases(t *testing.T, s *suite) {
	for i, shift := range shifts {
		s.round = i
		b := s.second(shift)
		one := s.acquire(s.name("long"), "one", 30*time.Minute)
		s.wantLockedBy(b, s.name("long"), "two")
		two := s.acquireBy(b, s.name("other"), "two", 30*time.Minute)
		s.wantLocked(s.name("other"), "one")
		s.wantExpires(one, 30*time.Minute, 0)
		s.wantExpires(two, 30*time.Minute, shift)
		s.wantErr("Renew", one.Renew(s.ctx), nil)
		s.wantErr("Renew by the other", two.Renew(s.ctx), nil)

		former := s.acquireBy(b, s.name("short"), "two", TTL)
		first := s.acquire(s.name("mine"), "one", TTL)
		s.expire()
		s.wantErr("Renew too late", former.Renew(s.ctx), queue.ErrLeaseLost)
		next := s.acquire(s.name("short"), "one", hour)
		taken := s.acquireBy(b, s.name("mine"), "two", hour)
		if next.Fence() <= former.Fence() || taken.Fence() <= first.Fence() {
			t.Errorf("fences %d and %d after %d and %d", next.Fence(), taken.Fence(), former.Fence(), first.Fence())
		}
		s.wantLockedBy(b, s.name("short"), "two")
		s.wantLocked(s.name("mine"), "one")
	}
}

// testClockGroups has a member whose clock is off stay as long as the others.
func testClockGroups(t *testing.T, s *suite) {
	for i, shift := range shifts {
		s.round = i
		b, g := s.second(shift), s.name("g")
		s.join(g, "a", 30*time.Minute)
		s.wantMembers("joined by the other", s.joinBy(b, g, "b", 30*time.Minute), "a", "b")
		s.wantMembers("seen by the right one", s.join(g, "a", 30*time.Minute), "a", "b")
		theirs, mine := s.name("theirs"), s.name("mine")
		s.joinBy(b, theirs, "b", TTL)
		s.join(mine, "a", TTL)
		s.expire()
		s.wantMembers("after the end of the other", s.join(theirs, "a", hour), "a")
		s.wantMembers("after the end of the right one", s.joinBy(b, mine, "b", hour), "b")
	}
}
