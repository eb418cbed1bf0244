package redis

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	"herald/tests/leaktest"
	"herald/tests/redistest"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silence{})
	os.Exit(leaktest.Main(m, redistest.Redials()))
}

// silence is a logger for the client library.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// harness has a driver on servers that are there.
type harness struct {
	url    string // for the first driver
	direct string // for others
	opts   Options
	crash  func() // what else ends in a crash
	d      *Driver
	drifts []func(q *Queue) (kind string)
	scale  int // divides the suite's counts; HERALD_LONG=1 has them whole
}

var (
	_ queuetest.Sharer  = (*harness)(nil)
	_ queuetest.Drifter = (*harness)(nil)
	_ queuetest.Scaler  = (*harness)(nil)
)

var namespaces atomic.Int32 // numbers those of tests

func newHarness(t testing.TB, url string, opts Options) *harness {
	opts.Namespace = fmt.Sprintf("test{%d}:", namespaces.Add(1))
	h := &harness{url: url, direct: url, opts: opts, scale: 20}
	h.open(t)
	t.Cleanup(func() { h.close(t) })
	h.drifts = []func(q *Queue) string{
		h.count("entries", 1), h.count("bytes", -7), h.count("reservations", 3), h.count("reserved", 1000),
		h.reorder, h.untime,
	}
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

func (h *harness) Scale() int { return h.scale }

func (h *harness) Settle(*testing.T)       {}
func (h *harness) Advance(d time.Duration) { time.Sleep(d) }
func (h *harness) Now() time.Time          { return time.Now() }

func (h *harness) Second(t *testing.T, shift time.Duration) queue.Driver {
	t.Helper()
	opts := h.opts
	opts.Now = func() time.Time { return time.Now().Add(shift) }
	d, err := Open(context.Background(), h.direct, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return d
}

func (h *harness) Drift(t *testing.T, name string) string {
	t.Helper()
	if len(h.drifts) == 0 {
		return ""
	}
	f := h.drifts[0]
	h.drifts = h.drifts[1:]
	q, err := h.d.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return f(q.(*Queue))
}

func (h *harness) count(field string, by int) func(*Queue) string {
	return func(q *Queue) string {
		h.d.client.HIncrBy(context.Background(), q.keys[0], field, int64(by))
		return field
	}
}

// reorder takes entries out of the order.
func (h *harness) reorder(q *Queue) string {
	h.d.client.ZRemRangeByRank(context.Background(), q.keys[5], 2, 3)
	return "orphan"
}

// untime takes time stamps from reservations.
func (h *harness) untime(q *Queue) string {
	h.d.client.ZRemRangeByRank(context.Background(), q.keys[3], 1, 1)
	return "index"
}

// lossy is a harness whose driver reaches its one server by a proxy.
type lossy struct {
	*harness
	p *redistest.CuttingProxy
}

var (
	_ queuetest.Lossy  = lossy{}
	_ queuetest.Cutter = lossy{}
)

// newLossy gives the server the scripts, so that none is asked for twice.
func newLossy(t testing.TB, s *redistest.Server, p *redistest.CuttingProxy, opts Options) lossy {
	load := func() {
		for _, sc := range writeScripts() {
			s.Do("SCRIPT", "LOAD", sc.text)
		}
	}
	load()
	p.CutNext(0)
	p.Match(func(name string, raw []byte) bool {
		if !strings.HasPrefix(strings.ToUpper(name), "EVAL") {
			return false
		}
		for _, sc := range writeScripts() {
			if bytes.Contains(raw, []byte(sc.sha)) || bytes.Contains(raw, []byte(sc.text)) {
				return true
			}
		}
		return false
	})
	h := newHarness(t, "redis://"+p.Addr, opts)
	h.direct, h.scale = s.URL(), 5
	h.crash = func() { s.KillNine(); s.Restart(); load() }
	return lossy{h, p}
}

func writeScripts() []*script {
	return []*script{changeScript, ackScript, createScript, deleteScript, namesScript, acquireScript, renewScript, groupScript}
}

func (l lossy) LoseReplies(_ *testing.T, n int) { l.p.CutNext(n) }
func (l lossy) Lost() int                       { return l.p.Cuts() }
func (l lossy) Cut(*testing.T)                  { l.p.CutAll() }

func TestQueue(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.StartCuttingProxy(t, s.Addr)
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		s.Do("FLUSHALL", "ASYNC")
		return newLossy(t, s, p, Options{RequireAOF: true})
	})
}

func TestLock(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.StartCuttingProxy(t, s.Addr)
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return newLossy(t, s, p, Options{}) })
}

func TestQueue_Cluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		c.FlushAll()
		return newHarness(t, c.URL(), Options{RequireAOF: true})
	})
}

func TestLock_Cluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return newHarness(t, c.URL(), Options{}) })
}

func TestQueue_Sentinel(t *testing.T) {
	p := redistest.StartSentinel(t)
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		return newHarness(t, p.URL(), Options{RequireAOF: true, WaitReplicas: 1})
	})
}

func TestLock_Sentinel(t *testing.T) {
	p := redistest.StartSentinel(t)
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return newHarness(t, p.URL(), Options{WaitReplicas: 1}) })
}
