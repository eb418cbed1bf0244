package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"herald/tests/gatewaytest"
)

// startTries is how often a gateway is started, or waited for, for a minute
// each, while there is harm below it.
const startTries = 5

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
			err = w.start(g)
		case dice < 9: // now and then for longer than others wait
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
			harms := w.harms.Load()
			if err = g.Stop(); err != nil && w.harms.Load()+harms > 0 {
				w.t.Logf("stop gateway %d, with harm below it: %v", i, err)
				err = nil
			}
			if err == nil {
				err = w.start(g)
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
	err := g.WaitReady()
	for try := 1; err != nil && try < startTries; try++ {
		err = g.WaitReady()
	}
	if err != nil {
		w.violation("gateway %d is not ready: %v", i, err)
	}
}

// start starts a gateway. With harm below it, it may not be ready for long.
func (w *world) start(g *gatewaytest.Gateway) error {
	harms := w.harms.Load()
	err := g.Run()
	for try := 1; err != nil && try < startTries && w.harms.Load()+harms > 0; try++ {
		w.t.Logf("start a gateway, with harm below it: %v", err)
		harms = w.harms.Load()
		select {
		case <-g.Done():
			err = g.Run()
		default:
			err = g.WaitReady()
		}
	}
	return err
}

// harmBelow does harm below the gateways at random until ctx ends.
func (w *world) harmBelow(ctx context.Context) {
	for pause(ctx, 2*time.Second, 20*time.Second) {
		w.harms.Add(1)
		err := w.hurt()
		w.harms.Add(-1)
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
