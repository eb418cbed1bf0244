package embedded

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"herald/journal"
)

// TestLock_Forgets has names of locks, groups and owners come and go for ever.
func TestLock_Forgets(t *testing.T) {
	h := newHarness(t, journal.Options{SegmentBytes: 1 << 20}, Options{})
	l, ctx := h.d.locker, t.Context()
	keep, err := l.Acquire(ctx, "keep", "one", 1000*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(ctx, "keep", "one", 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const workers, n = 64, 100
	for w := range workers {
		wg.Go(func() {
			for i := range n {
				name := fmt.Sprintf("%d/%d", w, i)
				_, err := l.Acquire(ctx, name, "one", time.Minute) // and never released
				if err == nil {
					_, err = l.Join(ctx, name, "one", time.Minute) // and never left
				}
				if err == nil {
					_, err = l.Join(ctx, "all", name, time.Minute)
				}
				if err != nil {
					t.Error(err)
				}
				if i%10 == 9 {
					h.Advance(time.Minute + time.Second)
				}
			}
		})
	}
	wg.Wait()
	l.mu.Lock()
	if held, groups, waiting := len(l.held), len(l.groups), len(l.waiting); held+groups > 3*sweepMin || waiting != 0 {
		t.Errorf("%d locks, %d groups, %d waiting are kept of %d", held, groups, waiting, workers*n)
	}
	l.mu.Unlock()
	if err := keep.Renew(ctx); err != nil {
		t.Errorf("Renew of the lease that has not ended = %v", err)
	}
	if m, err := l.Join(ctx, "keep", "two", time.Hour); err != nil || len(m) != 2 {
		t.Errorf("members = %q, %v, want both", m, err)
	}
}
