package redis

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	"herald/tests/redistest"
)

// The thread that starts servers stays.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("herald/tests/redistest.start.func1.1"))
}

// harness has a driver on servers that are there.
type harness struct {
	url   string
	opts  Options
	crash func() // what else ends in a crash
	d     *Driver
}

var namespaces atomic.Int32 // numbers those of tests

func newHarness(t testing.TB, url string, opts Options) *harness {
	if opts.Namespace == "" {
		opts.Namespace = fmt.Sprintf("test{%d}:", namespaces.Add(1))
	}
	h := &harness{url: url, opts: opts}
	h.open(t)
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *harness) open(t testing.TB) {
	t.Helper()
	var err error
	if h.d, err = Open(context.Background(), h.url, h.opts); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) close(t testing.TB) {
	t.Helper()
	if err := h.d.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func (h *harness) Driver() queue.Driver { return h.d }

func (h *harness) Reopen(t *testing.T) {
	t.Helper()
	h.close(t)
	h.open(t)
}

// Crash takes the connections from the driver, and kills the server too in the
// tests of crashes.
func (h *harness) Crash(t *testing.T) bool {
	t.Helper()
	_ = h.d.client.Close()
	if h.crash != nil && strings.Contains(t.Name(), "Crash") {
		h.crash()
	}
	_ = h.d.Close() // it has no connections any more
	h.open(t)
	return true
}

func (h *harness) Settle(*testing.T)       {}
func (h *harness) Advance(d time.Duration) { time.Sleep(d) }
func (h *harness) Now() time.Time          { return time.Now() }

func TestQueue(t *testing.T) {
	s := redistest.Start(t)
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		s.Do("FLUSHALL", "ASYNC")
		h := newHarness(t, s.URL(), Options{RequireAOF: true})
		h.crash = func() { s.KillNine(); s.Restart() }
		return h
	})
}

func TestLock(t *testing.T) {
	s := redistest.Start(t)
	locktest.Run(t, func(t *testing.T) queuetest.Harness {
		h := newHarness(t, s.URL(), Options{})
		h.crash = func() { s.KillNine(); s.Restart() }
		return h
	})
}
