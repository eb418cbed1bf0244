package embedded

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"herald/journal"
	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	"herald/tests/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// harness has a driver and its journal in one directory.
type harness struct {
	dir  string
	jopt journal.Options
	opts Options

	real bool       // the clock is the machine's
	mu   sync.Mutex // guards now
	now  time.Time

	j    *journal.Journal
	d    *Driver
	stop func() error

	drifts int // see Drift
}

func newHarness(t testing.TB, jopt journal.Options, opts Options) *harness {
	h := &harness{dir: t.TempDir(), jopt: jopt, opts: opts, now: time.Now()}
	h.opts.Now = h.Now
	h.open(t)
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *harness) open(t testing.TB) {
	t.Helper()
	var err error
	if h.j, err = journal.Open(filepath.Join(h.dir, "journal"), h.jopt); err != nil {
		t.Fatal(err)
	}
	if h.d, err = Open(filepath.Join(h.dir, "queue"), h.j, h.opts); err != nil {
		t.Fatal(err)
	}
	if err := h.j.Recover(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.j.Run(ctx) }()
	h.stop = func() error { cancel(); return <-done }
}

func (h *harness) close(t testing.TB) {
	t.Helper()
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := h.j.Close(); err != nil {
		t.Errorf("close journal: %v", err)
	}
	if err := h.d.Close(); err != nil {
		t.Errorf("close driver: %v", err)
	}
}

func (h *harness) Driver() queue.Driver { return h.d }

func (h *harness) Reopen(t *testing.T) {
	t.Helper()
	h.close(t)
	h.open(t)
}

func (h *harness) Crash(t *testing.T) bool {
	t.Helper()
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := h.j.Abandon(); err != nil {
		t.Errorf("Abandon = %v", err)
	}
	_ = h.d.Close() // answers that the journal is closed
	h.open(t)
	return true
}

func (h *harness) Settle(t *testing.T) {
	if err := h.j.Wait(h.j.End()); err != nil {
		t.Errorf("Wait = %v", err)
	}
}

func (h *harness) Advance(d time.Duration) {
	if h.real {
		time.Sleep(d)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// Now stands but for Advance and a nanosecond per call, so that orders by time
// are determined.
func (h *harness) Now() time.Time {
	if h.real {
		return time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(time.Nanosecond)
	return h.now
}

// quick checkpoints all the time, and spills and rotates early.
func quick() (journal.Options, Options) {
	return journal.Options{SegmentBytes: 8 << 20, CheckpointInterval: 5 * time.Millisecond, FlushDelay: time.Millisecond},
		Options{TailBytes: 300, SegmentBytes: 2000}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		return newHarness(t, journal.Options{SegmentBytes: 16 << 20}, Options{})
	})
}

func TestQueue_SmallSegments(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		jopt, opts := quick()
		if t.Name() == "TestQueue_SmallSegments/Memory" {
			t.Skip("a file for each 2,000 bytes")
		}
		if t.Name() == "TestQueue_SmallSegments/CheckDrift" {
			jopt = manual() // a checkpoint sets some figures right by itself
		}
		return newHarness(t, jopt, opts)
	})
}

func TestQueue_Sync(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the same as TestQueue, with a flush for each call")
	}
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		switch t.Name() {
		case "TestQueue_Sync/CapacityReturns", "TestQueue_Sync/Memory":
			t.Skip("hundreds of thousands of flushes; nothing in them depends on Sync")
		}
		return newHarness(t, journal.Options{SegmentBytes: 16 << 20}, Options{Sync: true})
	})
}

func TestLock(t *testing.T) {
	locktest.Run(t, func(t *testing.T) queuetest.Harness {
		return newHarness(t, journal.Options{SegmentBytes: 1 << 20}, Options{})
	})
}
