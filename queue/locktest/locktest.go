// Package locktest is the suite that every queue.Locker passes: one text for
// all drivers. What only some of them can do is asked of the harness by the
// optional interfaces of queuetest.
//
// Time: a case that needs a lease to be held takes it for an hour. One that
// needs it to end, or to be just before its end, takes it for TTL; where the
// clock shows that it ran out because the machine stalled, the case begins
// again with other names.
package locktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/queuetest"
)

// TTL is for how long the suite takes a lease that is to end. A harness whose
// clock cannot be moved sleeps beyond it.
const TTL = 500 * time.Millisecond

// hour is for how long the suite takes a lease that must not end.
const hour = time.Hour

// Run runs the suite. open is called for each test; it cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) queuetest.Harness) {
	cases := []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Exclusive", testExclusive}, {"Again", testAgain}, {"Release", testRelease}, {"ReleaseLate", testReleaseLate},
		{"Expire", testExpire}, {"Renew", testRenew}, {"Many", testMany}, {"Names", testNames},
		{"Race", testRace}, {"Honest", testHonest},

		{"PausedHolder", testPausedHolder}, {"PausedHolderFirst", testPausedHolderFirst},
		{"Reopen", testReopen}, {"ReopenHeld", testReopenHeld}, {"Crash", testCrash},

		{"Join", testJoin}, {"JoinExpire", testJoinExpire}, {"JoinAgain", testJoinAgain},
		{"JoinMany", testJoinMany}, {"JoinRace", testJoinRace}, {"JoinReopen", testJoinReopen},

		{"LostAcquire", testLostAcquire}, {"LostRenew", testLostRenew}, {"LostRelease", testLostRelease},
		{"LostJoin", testLostJoin}, {"LossRace", testLossRace},

		{"TwoDrivers", testTwoDrivers}, {"TwoRace", testTwoRace}, {"TwoPaused", testTwoPaused},
		{"TwoGroups", testTwoGroups}, {"ClockLeases", testClockLeases}, {"ClockGroups", testClockGroups},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := open(t)
			c.run(t, &suite{T: t, h: h, ctx: t.Context()})
		})
	}
}

type suite struct {
	*testing.T
	h     queuetest.Harness
	ctx   context.Context
	round int
}

func (s *suite) locker() queue.Locker { return s.h.Driver().Locker() }

// name makes a name of the round.
func (s *suite) name(base string) string { return fmt.Sprintf("%s-%d", base, s.round) }

func (s *suite) acquire(name, owner string, ttl time.Duration) queue.Lease {
	s.Helper()
	return s.acquireBy(s.locker(), name, owner, ttl)
}

func (s *suite) acquireBy(l queue.Locker, name, owner string, ttl time.Duration) queue.Lease {
	s.Helper()
	lease, err := l.Acquire(s.ctx, name, owner, ttl)
	if err != nil {
		s.Fatalf("Acquire(%s, %s) = %v", name, owner, err)
	}
	if lease.Fence() == 0 {
		s.Errorf("Acquire(%s, %s) = fence 0", name, owner)
	}
	return lease
}

// eventually acquires a lock that becomes free.
func (s *suite) eventually(l queue.Locker, name, owner string, ttl time.Duration) queue.Lease {
	s.Helper()
	for end := time.Now().Add(time.Minute); ; s.h.Advance(TTL / 20) {
		lease, err := l.Acquire(s.ctx, name, owner, ttl)
		if err == nil {
			return lease
		}
		if !errors.Is(err, queue.ErrLocked) || time.Now().After(end) {
			s.Fatalf("Acquire(%s, %s) = %v", name, owner, err)
		}
	}
}

func (s *suite) wantLocked(name, owner string) {
	s.Helper()
	s.wantLockedBy(s.locker(), name, owner)
}

func (s *suite) wantLockedBy(l queue.Locker, name, owner string) {
	s.Helper()
	lease, err := l.Acquire(s.ctx, name, owner, TTL)
	if !errors.Is(err, queue.ErrLocked) {
		s.Errorf("Acquire(%s, %s) = %v, %v, want ErrLocked", name, owner, lease, err)
	}
}

func (s *suite) wantErr(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s = %v, want %v", what, got, want)
	}
}

// wantExpires wants a lease that was taken for ttl after start to end at most
// that long after its taking returned.
func (s *suite) wantExpires(l queue.Lease, ttl, shift time.Duration) {
	s.Helper()
	left := l.Expires().Sub(s.h.Now().Add(shift))
	if left > ttl || left < -time.Minute {
		s.Errorf("lease ends in %v, want up to %v", left, ttl)
	}
}

// expire lets leases of TTL end.
func (s *suite) expire() { s.h.Advance(TTL + TTL/2) }

// errStalled stops a round that a stall has spoilt.
var errStalled = errors.New("stalled")

// rounds runs a case until no stall has spoilt it. Checks that may be spoilt
// call alive.
func (s *suite) rounds(run func()) {
	s.Helper()
	const most = 50
	for s.round = range most {
		if s.undisturbed(run) {
			return
		}
	}
	s.Fatalf("the machine stalled in each of %d rounds", most)
}

func (s *suite) undisturbed(run func()) (ok bool) {
	defer func() {
		if x := recover(); x != nil && x != errStalled {
			panic(x)
		}
	}()
	run()
	return true
}

// alive begins the case again when it is later than end, so that a lease may
// have run out during the check before.
func (s *suite) alive(end time.Time) {
	if !s.h.Now().Before(end) {
		panic(errStalled)
	}
}

// stillLocked wants a lock to be held whose lease has not ended.
func (s *suite) stillLocked(held queue.Lease, name, owner string) {
	s.Helper()
	lease, err := s.locker().Acquire(s.ctx, name, owner, TTL)
	s.alive(held.Expires())
	if !errors.Is(err, queue.ErrLocked) {
		s.Errorf("Acquire(%s, %s) = %v, %v, want ErrLocked", name, owner, lease, err)
	}
}

// stillRenews wants Renew of a lease that has not ended to succeed.
func (s *suite) stillRenews(held queue.Lease) {
	s.Helper()
	end := held.Expires()
	err := held.Renew(s.ctx)
	s.alive(end)
	s.wantErr("Renew", err, nil)
}
