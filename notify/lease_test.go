package notify

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What is pushed while the lease is over by the clock alone: nothing.
func TestMany_StoppedProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h, work, err := takeLease(ctx, newLink(f.queues).Locker(), "l", "me", 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // is not the end of the work
		time.Sleep(5*time.Minute + time.Second)
		if err := h.check(); err != nil || work.Err() != nil {
			t.Fatalf("a lease that is renewed: %v, %v", err, work.Err())
		}
		// No timer has run yet when the process goes on.
		h.mu.Lock()
		h.renewal.Stop()
		h.expiry.Stop()
		h.mu.Unlock()
		time.Sleep(time.Hour)
		if work.Err() == nil {
			t.Error("after an hour the work has not ended")
		}
		if err := h.check(); !errors.Is(err, errLeaseOver) || !errors.Is(context.Cause(work), errLeaseOver) {
			t.Errorf("after an hour: %v, %v", err, context.Cause(work))
		}
		h.release()
		if _, _, err := takeLease(t.Context(), f.queues.Locker(), "l", "other", time.Second); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}

// A gateway that is told to stop while its call for a lease is under way has no
// use for it, and gives it back: others would have to wait until it ends.
func TestMany_StopInAcquire(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		l := newLink(f.queues)
		l.slow(300 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		h, _, err := takeLease(ctx, l.Locker(), "l", "me", 30*time.Second)
		if err == nil {
			h.release()
			t.Error("a lease that nobody wants any more")
		}
		time.Sleep(releaseTimeout)
		if _, _, err := takeLease(t.Context(), f.queues.Locker(), "l", "other", time.Second); err != nil {
			t.Errorf("a moment later: %v", err)
		}
	})
}
