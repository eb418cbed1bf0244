package locktest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/queuetest"
)

// lose makes a call whose answer is lost n times, and fails when none was.
func (s *suite) lose(l queuetest.Lossy, n int, what string, want error, call func(ctx context.Context) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	before := l.Lost()
	l.LoseReplies(s.T, n)
	err := call(ctx)
	l.LoseReplies(s.T, 0)
	s.wantErr(fmt.Sprintf("%s with %d answers lost", what, n), err, want)
	if want == nil && l.Lost() == before {
		s.Errorf("%s: no answer was lost", what)
	}
}

// losses runs a case with an answer lost once, and several times.
func losses(s *suite, run func(l queuetest.Lossy, name string, n int)) {
	l := queuetest.NeedLossy(s.T, s.h)
	for _, n := range []int{1, 3} {
		run(l, fmt.Sprint("a", n), n)
	}
}

func testLostAcquire(t *testing.T, s *suite) {
	losses(s, func(l queuetest.Lossy, name string, n int) {
		former := s.acquire(name, "former", hour)
		s.wantErr("Release", former.Release(s.ctx), nil)
		var one queue.Lease
		take := func(owner string) func(context.Context) error {
			return func(ctx context.Context) (err error) {
				var got queue.Lease
				if got, err = s.locker().Acquire(ctx, name, owner, hour); err == nil {
					one = got
				}
				return err
			}
		}
		s.lose(l, n, "Acquire", nil, take("one"))
		s.lose(l, n, "Acquire by another", queue.ErrLocked, take("two"))
		fence := one.Fence()
		s.lose(l, n, "Acquire again", nil, take("one"))
		if fence <= former.Fence() || one.Fence() != fence {
			t.Errorf("fence %d after %d, then %d for the same holder", fence, former.Fence(), one.Fence())
		}
		s.wantExpires(one, hour, 0)
		s.wantErr("Renew", one.Renew(s.ctx), nil)
	})
}

func testLostRenew(t *testing.T, s *suite) {
	losses(s, func(l queuetest.Lossy, name string, n int) {
		one := s.acquire(name, "one", hour)
		renew := func(ctx context.Context) error { return one.Renew(ctx) }
		s.lose(l, n, "Renew", nil, renew)
		s.wantExpires(one, hour, 0)
		s.wantLocked(name, "two")
		s.wantErr("Release", one.Release(s.ctx), nil)
		two := s.acquire(name, "two", hour)
		s.lose(l, n, "Renew by the former holder", queue.ErrLeaseLost, renew)
		s.wantErr("Renew", two.Renew(s.ctx), nil)
		s.wantLocked(name, "one")
	})
}

func testLostRelease(t *testing.T, s *suite) {
	losses(s, func(l queuetest.Lossy, name string, n int) {
		one := s.acquire(name, "one", hour)
		s.lose(l, n, "Release", nil, func(ctx context.Context) error { return one.Release(ctx) })
		two := s.acquire(name, "two", hour)
		if two.Fence() <= one.Fence() {
			t.Errorf("fence %d after %d", two.Fence(), one.Fence())
		}
		s.wantErr("Release by the former holder", one.Release(s.ctx), nil)
		s.wantLocked(name, "three")
	})
}

func testLostJoin(t *testing.T, s *suite) {
	losses(s, func(l queuetest.Lossy, name string, n int) {
		s.join(name, "a", hour)
		var members []string
		s.lose(l, n, "Join", nil, func(ctx context.Context) (err error) {
			members, err = s.locker().Join(ctx, name, "b", hour)
			return err
		})
		s.wantMembers("after a lost answer", members, "a", "b")
		s.lose(l, n, "Leave", nil, func(ctx context.Context) error { return s.locker().Leave(ctx, name, "a") })
		s.wantMembers("after one left", s.join(name, "b", hour), "b")
	})
}

// testLossRace loses answers while many take the lock from one another: a
// Release that is repeated does not take it from the next holder.
func testLossRace(t *testing.T, s *suite) {
	l := queuetest.NeedLossy(t, s.h)
	before := l.Lost()
	l.LoseReplies(t, 1)
	done := make(chan struct{})
	var got atomic.Int32
	go func() {
		defer close(done)
		s.race("a", max(queuetest.Scaled(s.h, 400), 20), &got, s.locker())
	}()
	next := int32(4)
	for running := true; running; {
		if n := got.Load(); n >= next { // not what is only tried again and again
			next = n + 4
			l.LoseReplies(t, 1)
		}
		select {
		case <-done:
			running = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	l.LoseReplies(t, 0)
	if l.Lost() == before {
		t.Error("no answer was lost")
	}
}
