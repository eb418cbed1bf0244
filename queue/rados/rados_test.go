//go:build rados

package rados

import (
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	librados "herald/rados"
	"herald/tests/cephtest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// harness has a driver over a namespace of its own.
type harness struct {
	opts Options
	d    *Driver
	cut  atomic.Int64 // answers still to be lost
	lost atomic.Int64

	drifts int // see Drift
}

func newHarness(t testing.TB, opts Options) *harness {
	c := cephtest.Start(t)
	opts.ConfFile = c.Conf
	opts.Pool, opts.Namespace = c.Namespace(t)
	h := &harness{opts: opts}
	h.opts.Logger = testLogger(t)
	h.opts.lose = h.lose
	h.d = h.open(t, h.opts)
	t.Cleanup(func() { h.close(t, h.d) })
	return h
}

func (h *harness) lose() bool {
	for {
		n := h.cut.Load()
		if n <= 0 {
			return false
		}
		if h.cut.CompareAndSwap(n, n-1) {
			h.lost.Add(1)
			return true
		}
	}
}

func (h *harness) open(t testing.TB, opts Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (h *harness) close(t testing.TB, d *Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close driver: %v", err)
	}
}

func (h *harness) Driver() queue.Driver { return h.d }

func (h *harness) Reopen(t *testing.T) {
	t.Helper()
	h.close(t, h.d)
	h.d = h.open(t, h.opts)
}

// Crash ends the driver with what it has under way, and gives nothing back.
func (h *harness) Crash(t *testing.T) bool {
	t.Helper()
	h.d.crash()
	h.d = h.open(t, h.opts)
	return true
}

// crash ends the driver as the end of its process would: operations under way
// may be done or not.
func (d *Driver) crash() {
	d.mu.Lock()
	d.ended = true
	close(d.closed)
	d.queues = nil
	d.mu.Unlock()
	d.wg.Wait()
	_ = d.conn.Close()
}

func (h *harness) Settle(*testing.T)       {}
func (h *harness) Advance(d time.Duration) { time.Sleep(d) }
func (h *harness) Now() time.Time          { return time.Now() }
func (h *harness) Scale() int              { return 20 }

func (h *harness) Second(t *testing.T, shift time.Duration) queue.Driver {
	t.Helper()
	opts := h.opts
	opts.lose = nil
	opts.Now = func() time.Time { return time.Now().Add(shift) }
	d := h.open(t, opts)
	t.Cleanup(func() { h.close(t, d) })
	return d
}

func (h *harness) LoseReplies(_ *testing.T, n int) { h.cut.Store(int64(n)) }
func (h *harness) Lost() int                       { return int(h.lost.Load()) }

// Drift falsifies one figure after the other.
func (h *harness) Drift(t *testing.T, name string) string {
	t.Helper()
	drifts := []struct {
		kind  string
		drift func(*record, *librados.WriteOp)
	}{
		{"reserved", func(r *record, _ *librados.WriteOp) { r.reserved += 5000 }},
		{"reserved", func(r *record, _ *librados.WriteOp) { r.reservations-- }},
		{"entries", func(r *record, _ *librados.WriteOp) { r.gone += 3 }},
		{"bytes", func(r *record, _ *librados.WriteOp) { r.goneBytes = 77 }},
		{"bytes", func(r *record, _ *librados.WriteOp) { r.fromTotal += 1 << 40 }},
		{"entries", func(r *record, _ *librados.WriteOp) { r.parked++ }},
		{"ids", func(r *record, _ *librados.WriteOp) { r.nextGroup -= 10 }},
		{"marks", func(_ *record, op *librados.WriteOp) {
			op.OmapSet(librados.Pair{Key: key(keyMark, 5000), Value: mark{gone: true, cost: 11}.encode()})
		}},
		{"class", func(*record, *librados.WriteOp) { reserveInClass(t, h.d, prefixQueue+name, 70) }},
		{"directory", func(*record, *librados.WriteOp) { h.unlist(t, name) }},
	}
	if h.drifts == len(drifts) {
		return ""
	}
	d := drifts[h.drifts]
	h.drifts++
	rec, err := h.d.readRecord(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	op := librados.NewWrite()
	d.drift(rec, op)
	rec.sign(randomID(), 1)
	op.SetXattr(xattrRecord, rec.encode())
	if _, err := h.d.operate(t.Context(), prefixQueue+name, op, 0); err != nil {
		t.Fatal(err)
	}
	return d.kind
}

func (h *harness) unlist(t *testing.T, name string) {
	t.Helper()
	op := librados.NewWrite()
	op.OmapRm(name)
	if _, err := h.d.operate(t.Context(), oidQueues, op, 0); err != nil {
		t.Fatal(err)
	}
}

var (
	_ queuetest.Scaler  = (*harness)(nil)
	_ queuetest.Drifter = (*harness)(nil)
	_ queuetest.Sharer  = (*harness)(nil)
	_ queuetest.Lossy   = (*harness)(nil)
)

func TestQueue(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		if t.Name() == "TestQueue/Memory" {
			t.Setenv("HERALD_LONG", "") // a queue has at most MaxCapacity bytes
		}
		return newHarness(t, Options{})
	})
}

func TestLock(t *testing.T) {
	t.Parallel()
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return newHarness(t, Options{}) })
}
