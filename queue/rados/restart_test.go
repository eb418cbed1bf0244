//go:build rados

package rados

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/cephtest"
)

// TestOSDRestart kills the OSD under load. Each entry whose commit returned
// comes exactly once.
func TestOSDRestart(t *testing.T) {
	t.Parallel()
	kills := 5
	if os.Getenv("HERALD_LONG") == "1" {
		kills = 50
	}
	c := cephtest.StartOwn(t, cephtest.Options{})
	opts := Options{ConfFile: c.Conf, Pool: c.Pool(t), Namespace: "q", Logger: testLogger(t)}
	d, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	q := create(t, d, "q", 10<<20)
	load := newLoad(t, d, "q", 16)
	for i := range kills {
		if err := c.RestartOSD(0); err != nil {
			t.Fatal(err)
		}
		load.progress(t, 50)
		if t.Failed() {
			t.Fatalf("after %d kills", i+1)
		}
	}
	load.end(t)
	if st, err := q.Stats(t.Context()); err != nil || st.Entries != 0 || st.Reservations != 0 {
		t.Errorf("Stats = %+v, %v", st, err)
	}
	wantClean(t, d, "q")
	t.Logf("%d entries, %d kills", load.acked.Load(), kills)
}

// TestOSDLost has one OSD of three after the other die under load and stay away
// for a while. Each object has two copies, so that the queues go on without it;
// each entry whose commit returned comes exactly once.
func TestOSDLost(t *testing.T) {
	if testing.Short() {
		t.Skip("three OSDs: long")
	}
	rounds := 1
	if os.Getenv("HERALD_LONG") == "1" {
		rounds = 5
	}
	c := cephtest.StartOwn(t, cephtest.Options{OSDs: 3})
	opts := Options{ConfFile: c.Conf, Pool: c.Pool(t), Namespace: "q", Logger: testLogger(t)}
	d, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	var loads []*load
	for i := range 6 { // in several placement groups
		name := fmt.Sprintf("q%d", i)
		create(t, d, name, 10<<20)
		loads = append(loads, newLoad(t, d, name, 4))
	}
	progress := func(when string, id int) {
		t.Helper()
		for _, l := range loads {
			l.progress(t, 50)
		}
		if t.Failed() {
			t.Fatalf("%s osd.%d", when, id)
		}
	}
	for id := range 3 * rounds {
		c.WaitHealthy(t) // both copies are there
		c.KillOSD(t, id%3)
		progress("without", id%3)
		c.StartOSD(t, id%3)
		progress("again with", id%3)
	}
	entries := int64(0)
	for i, l := range loads {
		l.end(t)
		name := fmt.Sprintf("q%d", i)
		if st, err := open(t, d, name).Stats(t.Context()); err != nil || st.Entries != 0 || st.Reservations != 0 {
			t.Errorf("Stats = %+v, %v", st, err)
		}
		wantClean(t, d, name)
		entries += l.acked.Load()
	}
	t.Logf("%d entries, %d deaths", entries, 3*rounds)
}

// load is producers and a consumer, which wants each entry once.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	acked atomic.Int64
}

func newLoad(t *testing.T, d *Driver, name string, producers int) *load {
	l := &load{stop: make(chan struct{})}
	q := open(t, d, name)
	var left atomic.Int64
	left.Store(int64(producers))
	committed := make([]atomic.Int64, producers)
	for w := range producers {
		l.wg.Go(func() {
			defer left.Add(-1)
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := put(t.Context(), q, fmt.Sprintf("%d %d", w, i)); err != nil {
					t.Errorf("put = %v", err)
					return
				}
				committed[w].Add(1)
			}
		})
	}
	l.wg.Go(func() {
		next := make([]int64, producers)
		for {
			idle := left.Load() == 0
			list, _, err := q.List(t.Context(), "", 100)
			if err == nil && len(list) > 0 {
				err = q.Ack(t.Context(), queue.Ack{UpTo: list[len(list)-1].Marker})
			}
			if err != nil {
				t.Errorf("List, Ack = %v", err)
				return
			}
			for _, e := range list {
				var w, i int64
				if _, err := fmt.Sscanf(string(e.Data), "%d %d", &w, &i); err != nil || i != next[w] {
					t.Errorf("entry %q, want number %d: %v", e.Data, next[w], err)
					return
				}
				next[w]++
				l.acked.Add(1)
			}
			if len(list) == 0 && idle {
				break
			}
		}
		for w := range committed {
			if n := committed[w].Load(); n != next[w] {
				t.Errorf("producer %d committed %d, %d came", w, n, next[w])
			}
		}
	})
	return l
}

// progress waits until n more entries have come.
func (l *load) progress(t *testing.T, n int64) {
	t.Helper()
	want := l.acked.Load() + n
	for deadline := time.Now().Add(5 * time.Minute); l.acked.Load() < want && !t.Failed(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d entries in five minutes, want %d", l.acked.Load()-want+n, n)
		}
	}
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
}
