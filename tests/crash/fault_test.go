package crash

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// TestFaultPoints ends the gateway once at every named fault point of its store,
// its queues and its events.
func TestFaultPoints(t *testing.T) {
	t.Parallel()
	prefixes := []string{"notify."}
	if gatewaytest.Store() == "posix" {
		prefixes = append(prefixes, "posix.", "journal.")
	} else {
		prefixes = append(prefixes, "rados.")
	}
	if gatewaytest.Queue() == "embedded" {
		prefixes = append(prefixes, "journal.flush.", "journal.recover.")
	}
	faultPoints(t, gatewaytest.Options{}, prefixes...)
}

// commitPoints are the prefixes of the points around a change of the store.
func commitPoints() []string {
	if gatewaytest.Store() == "posix" {
		return []string{"journal.flush.", "posix.commit."}
	}
	return []string{"rados.head."}
}

// queuePoints are the prefixes of the points around queues on a server.
func queuePoints() []string {
	if gatewaytest.Store() == "posix" {
		return []string{"notify.", "outbox."}
	}
	return []string{"notify."}
}

// tooFar tells whether a point takes more than a load of some seconds: shards
// of 100,000 entries that are split, changes that are announced for a minute and
// not made, copies that were replaced a minute ago. The store's own tests stop
// there.
func tooFar(point string) bool {
	return strings.HasPrefix(point, "rados.index.split.") || point == "rados.index.repair" || point == "rados.refs.released"
}

// faultPoints ends the gateway once at every fault point whose name begins with
// one of the prefixes.
func faultPoints(t *testing.T, opts gatewaytest.Options, prefixes ...string) {
	out, err := exec.Command(gatewaytest.Binary(t), "fault-points").Output()
	if err != nil {
		t.Fatal(err)
	}
	points := slices.DeleteFunc(strings.Fields(string(out)), func(point string) bool {
		begins := func(prefix string) bool { return strings.HasPrefix(point, prefix) }
		return tooFar(point) || !slices.ContainsFunc(prefixes, begins)
	})
	if len(points) == 0 {
		t.Fatal("no fault points")
	}
	w := newWorld(t, opts)
	w.loadAndKill(200 * time.Millisecond)
	for _, point := range points {
		began := time.Now()
		w.dieAt(point)
		t.Logf("%s: %s", point, time.Since(began).Round(time.Millisecond))
	}
	w.report()
	if err := w.g.Run(); err != nil {
		t.Fatal(err)
	}
	w.fsck()
}

// atStart tells whether a point is reached at the start, after a kill.
func atStart(point string) bool {
	return point == "journal.recover.replayed" || point == "posix.replay.placed" || point == "notify.resolved"
}

// rare tells whether a point is reached about once a second only.
func rare(point string) bool {
	return strings.Contains(point, ".checkpoint.") || strings.HasPrefix(point, "posix.doc.") || point == "notify.dead"
}

// dieAt starts the gateway, which is not running, so that it ends at the fault
// point, starts it again, and checks everything.
func (w *world) dieAt(point string) {
	w.t.Helper()
	for try := 0; ; try++ {
		if try == 6 {
			w.t.Errorf("fault point %s was not reached", point)
			break
		}
		if atStart(point) {
			w.g.SetEnv()
			if err := w.g.Run(); err != nil {
				w.t.Fatalf("start before %s: %v", point, err)
			}
			w.loadAndKill(200 * time.Millisecond)
		}
		nth := 1
		if !atStart(point) && !rare(point) {
			nth += rand.IntN(3)
		}
		if w.run(point, nth, 4*time.Second<<try) {
			break
		}
	}
	w.g.SetEnv()
	w.restart(point)
	w.drain(point)
	w.g.Kill()
}

// run starts the gateway with a fault, loads it for a while, and tells whether
// it ended by it. It does not run any more then.
func (w *world) run(point string, nth int, d time.Duration) bool {
	w.t.Helper()
	defer w.g.Kill()
	w.g.SetEnv("HERALD_FAULT=" + point + ":" + strconv.Itoa(nth))
	if err := w.g.Run(); err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if !atStart(point) {
		w.load(ctx)
	}
	select {
	case <-w.g.Done():
		return true
	case <-ctx.Done(): // what is done at the start may go on after it is ready
		return false
	}
}
