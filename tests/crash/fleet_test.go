package crash

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"herald/tests/gatewaytest"
)

// fleet is several gateways, each with clients of its own, which have the same
// topics, share the queues of these on one server, and deliver to one endpoint.
type fleet struct {
	t      *testing.T
	worlds []*world
	// one: they have one store, and all clients change the same hot keys.
	// Else each has a store of its own.
	one  bool
	sink *sink
	// hurt makes the queues' server die and come back; it returns when it is
	// there again.
	hurt func() error

	killed, paused, stopped, hurts atomic.Int64
}

const (
	fleetLease   = 2 * time.Second // --queue-lease
	fleetClients = 6               // of each gateway
)

func newFleet(t *testing.T, gateways int, hurt func() error, args ...string) *fleet {
	t.Helper()
	s, endpoint := newSink(t)
	f := &fleet{t: t, sink: s, hurt: hurt}
	args = append(args, "--topic-shards", "5")
	for i := range gateways {
		f.worlds = append(f.worlds, joinWorld(t, string(rune('a'+i)), fleetClients, gatewaytest.Options{Args: args}, s, endpoint))
	}
	return f
}

// all is one world with the clients of all gateways on one store.
func (f *fleet) all() *world {
	first := f.worlds[0]
	w := &world{t: f.t, g: first.g, buckets: first.buckets, alone: true, sink: f.sink, hot: first.hot}
	for _, one := range f.worlds {
		w.workers = append(w.workers, one.workers...)
	}
	return w
}

// live hurts the gateways that many times in all, and checks everything after
// each perPhase of them.
func (f *fleet) live(times, perPhase int) {
	f.t.Helper()
	began := time.Now()
	for done := 0; done < times; {
		n := min(perPhase, times-done)
		f.phase(n)
		done += n
		f.drain(strconv.Itoa(done) + " times")
		f.t.Logf("%d times in %s", done, time.Since(began).Round(time.Second))
	}
	if f.one {
		f.all().report()
	} else {
		for _, w := range f.worlds {
			w.report()
		}
	}
	f.t.Logf("gateways killed %d times, paused %d, stopped %d; the server killed %d times",
		f.killed.Load(), f.paused.Load(), f.stopped.Load(), f.hurts.Load())
}

// phase hurts the gateways, all at the same time and each by itself, that many
// times in all, and the queues' server now and then.
func (f *fleet) phase(times int) {
	f.t.Helper()
	var left atomic.Int64
	left.Store(int64(times))
	var group errgroup.Group
	for i, w := range f.worlds {
		group.Go(func() error {
			for left.Add(-1) >= 0 {
				if err := f.hurtGateway(w); err != nil {
					return fmt.Errorf("gateway %c: %w", 'a'+i, err)
				}
			}
			return nil
		})
	}
	stop := make(chan struct{})
	var server sync.WaitGroup
	var errHurt error
	server.Go(func() {
		for errHurt == nil {
			select {
			case <-time.After(time.Duration(2000+rand.IntN(6000)) * time.Millisecond):
				errHurt = f.hurt()
				f.hurts.Add(1)
			case <-stop:
				return
			}
		}
	})
	err := group.Wait()
	close(stop)
	server.Wait()
	if err != nil || errHurt != nil {
		f.t.Fatal(err, errHurt)
	}
}

// hurtGateway loads a gateway and, under the load, kills it, halts it for
// longer than its lease, or stops it in order; then all that it has is checked.
func (f *fleet) hurtGateway(w *world) error {
	load := time.Duration(200+rand.IntN(1300)) * time.Millisecond
	var failed error
	switch dice := rand.IntN(10); {
	case dice < 6:
		f.killed.Add(1)
		if err := w.tryLoadAnd(load, w.g.Kill); err != nil {
			return err
		}
		if dice == 0 { // long enough for others to take over
			time.Sleep(fleetLease * 3 / 2)
		}
		return w.tryRestart("kill")
	case dice < 9:
		f.paused.Add(1)
		err := w.tryLoadAnd(load, func() {
			if failed = w.g.Pause(); failed == nil {
				time.Sleep(fleetLease + time.Duration(rand.IntN(2000))*time.Millisecond)
				failed = w.g.Resume()
			}
		})
		if err == nil {
			err = failed
		}
		if err == nil {
			err = w.settle("pause")
		}
		return err
	}
	f.stopped.Add(1)
	if err := w.tryLoadAnd(load, func() { failed = w.g.Stop() }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("stop: %w", failed)
	}
	return w.tryRestart("stop")
}

// drain waits until every queue is empty, then checks P2 and P3.
func (f *fleet) drain(after string) {
	f.t.Helper()
	f.sink.kind.Store(true)
	defer f.sink.kind.Store(false)
	f.worlds[0].awaitEmpty(topic)
	f.worlds[0].awaitEmpty(deadTopic)
	if f.one {
		f.all().check(after)
		return
	}
	for _, w := range f.worlds {
		w.check(after)
	}
	for _, id := range f.sink.got.ids() {
		known := false
		for _, w := range f.worlds {
			known = known || w.buckets.has(id)
		}
		if !known {
			f.t.Errorf("P2: invented: an event of %s", strings.TrimSpace(id))
		}
	}
}
