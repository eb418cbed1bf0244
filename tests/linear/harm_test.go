package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// harmGateway kills, halts or stops a gateway at random until ctx ends, and
// leaves it ready.
func (w *world) harmGateway(ctx context.Context, i int) {
	g := w.gateways[i]
	for pause(ctx, 200*time.Millisecond, 7*time.Second) {
		var err error
		what := "kill"
		switch dice := rand.IntN(10); {
		case dice < 5:
			g.Kill()
			if rand.IntN(3) > 0 {
				pause(ctx, 0, 3*time.Second)
			}
			err = g.Run()
		case dice < 9: // often longer than what others wait for
			what = "halt"
			if err = g.Pause(); err == nil {
				most := 2 * time.Second
				if rand.IntN(4) == 0 {
					most = 12 * time.Second
				}
				pause(ctx, 100*time.Millisecond, most)
				err = g.Resume()
			}
		default:
			what = "stop"
			if err = g.Stop(); err == nil {
				err = g.Run()
			}
		}
		w.mu.Lock()
		w.harm[what]++
		w.mu.Unlock()
		if err != nil {
			w.violation("%s gateway %d: %v", what, i, err)
			return
		}
	}
	if err := g.WaitReady(); err != nil {
		w.violation("gateway %d is not ready: %v", i, err)
	}
}

// harmBelow does harm below the gateways at random until ctx ends.
func (w *world) harmBelow(ctx context.Context) {
	for pause(ctx, 2*time.Second, 20*time.Second) {
		err := w.hurt()
		w.mu.Lock()
		w.harm["server"]++
		w.mu.Unlock()
		if err != nil {
			w.violation("%s", fmt.Sprint(err))
			return
		}
	}
}

// pause waits for a random time. It answers false when ctx ended.
func pause(ctx context.Context, from, to time.Duration) bool {
	select {
	case <-time.After(from + time.Duration(rand.Int64N(int64(to-from)))):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
