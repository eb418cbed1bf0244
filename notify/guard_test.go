package notify

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestKeyGuard: one at a time has a name, also where some give up waiting, and
// nothing is left of names that nobody has.
func TestKeyGuard(t *testing.T) {
	g := newKeyGuard()
	names := [...]string{"a", "b"}
	var has [len(names)]int // each guarded by its name
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 500 {
				at := (i + n) % len(names)
				l, ok := g.tryLock(names[at])
				if !ok {
					ctx, cancel := context.WithCancel(t.Context())
					if n%3 == 0 {
						cancel() // perhaps too late
					}
					err := l.wait(ctx)
					cancel()
					if err != nil {
						continue
					}
				}
				if has[at]++; has[at] != 1 {
					t.Errorf("%d have %s", has[at], names[at])
				}
				if n%10 == 0 {
					time.Sleep(time.Microsecond)
				}
				has[at]--
				l.unlock()
			}
		})
	}
	wg.Wait()
	for i := range g.stripe {
		if s := &g.stripe[i]; len(s.held) != 0 || s.spare != nil && (s.spare.users != 0 || len(s.spare.free) != 0) {
			t.Errorf("left: %v, spare %v", s.held, s.spare)
		}
	}
}
