package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// kills is how often TestKillAtRandom kills: HERALD_CRASH_KILLS, else a few.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("HERALD_CRASH_KILLS"))
	if err != nil {
		return 12
	}
	t.Logf("%d kills", n)
	return n
}

// TestKillAtRandom kills the gateway at random moments, also while it starts,
// and checks after each restart that nothing acknowledged is lost, and every
// now and then that the events are exactly those of the changes, in order.
func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	killAtRandom(t, gatewaytest.Options{})
}

func killAtRandom(t *testing.T, opts gatewaytest.Options) {
	w := newWorld(t, opts)
	n := kills(t)
	began := time.Now()
	for i := range n {
		after := "kill " + strconv.Itoa(i+1)
		w.loadAndKill(time.Duration(50+rand.IntN(350)) * time.Millisecond)
		if i%7 == 3 { // once more, while it replays
			w.killAtStart()
		}
		w.restart(after)
		if i%20 == 19 || i == n-1 {
			w.drain(after)
		}
		if (i+1)%100 == 0 {
			t.Logf("%d kills in %s", i+1, time.Since(began).Round(time.Second))
		}
	}
	w.report()
	w.fsck()
}

// fsck stops the gateway and lets it look whether what it keeps fits together.
func (w *world) fsck() {
	w.t.Helper()
	if err := w.g.Stop(); err != nil {
		w.t.Errorf("stop: %v", err)
	}
	if out, err := w.g.Command(context.Background(), "fsck").CombinedOutput(); err != nil {
		w.t.Errorf("fsck: %v\n%s", err, out)
	}
}

// killAtStart starts the gateway and kills it at once, or a moment later.
func (w *world) killAtStart() {
	killed := make(chan struct{})
	go func() {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		w.g.Kill()
		close(killed)
	}()
	_ = w.g.Run() // fails when it is killed before it is ready
	<-killed
	w.g.Kill() // it may have been started after the first
}
