package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/powerloss"
)

// TestPowerLoss cuts the power of the gateway's disk under load: what it has
// not flushed is gone. What it delivered but could not acknowledge in time
// comes again.
func TestPowerLoss(t *testing.T) {
	gatewaytest.NeedTree(t, "it cuts the power of the disk that has the objects")
	rounds := 3
	if os.Getenv("HERALD_LONG") != "" {
		rounds = 100
	}
	fs := powerloss.Mount(t, 2048)
	w := newWorld(t, gatewaytest.Options{Data: filepath.Join(fs.Dir, "data")})
	for i := range rounds {
		w.loadAndCut(fs, time.Duration(200+rand.IntN(1500))*time.Millisecond)
		fs.Restore(t)
		after := "power loss " + strconv.Itoa(i+1)
		w.restart(after)
		w.drain(after)
	}
	w.report()
	w.fsck()
}

// loadAndCut runs all clients for a while, cuts the power under them, and
// ends the gateway.
func (w *world) loadAndCut(fs *powerloss.FS, d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d+100*time.Millisecond)
	defer cancel()
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		w.dark.Store(true)
		fs.Cut(w.t)
		<-ctx.Done() // what is acknowledged without power is lost
		w.g.Kill()
	}()
	w.load(ctx)
	<-dead
	w.dark.Store(false)
}
