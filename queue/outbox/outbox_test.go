package outbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"herald/journal"
	"herald/queue"
	"herald/queue/embedded"
	"herald/queue/queuetest"
	"herald/queue/redis"
	"herald/tests/redistest"
)

// silence is a logger for the client library.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// harness has an outbox in a directory, and queues on a server that it fills.
type harness struct {
	dir       string
	connect   func(namespace string) (queue.Driver, error)
	namespace string
	opts      Options // but for Sync
	scale     int

	j      *journal.Journal
	local  *embedded.Driver
	remote queue.Driver
	d      *Driver
	stop   func() error
	fails  atomic.Bool // nothing becomes durable, as far as is told
}

var namespaces atomic.Int32 // numbers those of tests

func newHarness(t testing.TB, url string, opts Options) *harness {
	return newHarnessOn(t, fmt.Sprintf("test{%d}:", namespaces.Add(1)), opts, func(namespace string) (queue.Driver, error) {
		return redis.Open(context.Background(), url, redis.Options{Namespace: namespace, RequireAOF: true})
	})
}

func newHarnessOn(t testing.TB, namespace string, opts Options, connect func(string) (queue.Driver, error)) *harness {
	opts.ID, opts.Place = "outbox", "here"
	h := &harness{dir: t.TempDir(), connect: connect, opts: opts, namespace: namespace, scale: 20}
	h.open(t)
	h.start(t)
	t.Cleanup(func() { h.close(t) })
	return h
}

// open opens everything, and forwards nothing.
func (h *harness) open(t testing.TB) {
	t.Helper()
	var err error
	if h.j, err = journal.Open(filepath.Join(h.dir, "journal"), journal.Options{SegmentBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if h.local, err = embedded.Open(filepath.Join(h.dir, "queue"), h.j, embedded.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := h.j.Recover(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.j.Run(ctx) }()
	h.stop = func() error { cancel(); return <-done }
	if h.remote, err = h.connect(h.namespace); err != nil {
		t.Fatal(err)
	}
	j := h.j
	h.opts.Sync = func() error {
		if h.fails.Load() {
			return errors.New("input/output error")
		}
		return j.Wait(j.End())
	}
	if h.d, err = New(context.Background(), h.local, h.remote, h.opts); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) start(t testing.TB) {
	t.Helper()
	if err := h.d.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) close(t testing.TB) {
	t.Helper()
	for what, f := range map[string]func() error{"outbox": h.d.Close, "Run": h.stop} {
		if err := f(); err != nil {
			t.Errorf("close %s: %v", what, err)
		}
	}
	for _, f := range []func() error{h.remote.Close, h.j.Close, h.local.Close} {
		if err := f(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func (h *harness) Driver() queue.Driver { return settled{h.d} }

func (h *harness) Reopen(t *testing.T) {
	t.Helper()
	h.close(t)
	h.open(t)
	h.start(t)
	drain(t, h.d)
}

func (h *harness) Crash(t *testing.T) bool {
	t.Helper()
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := h.j.Abandon(); err != nil {
		t.Errorf("Abandon = %v", err)
	}
	_ = h.d.Close()
	_ = h.local.Close() // answers that the journal is closed
	_ = h.remote.Close()
	h.open(t)
	h.start(t)
	drain(t, h.d)
	return true
}

func (h *harness) Settle(t *testing.T) {
	if err := h.j.Wait(h.j.End()); err != nil {
		t.Errorf("Wait = %v", err)
	}
}

func (h *harness) Advance(d time.Duration) { time.Sleep(d) }
func (h *harness) Now() time.Time          { return time.Now() }
func (h *harness) Scale() int              { return h.scale }

// settled is a driver that is like others: what was committed is at the server,
// and the capacity is that of one place.
type settled struct{ *Driver }

func (d settled) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return settledQueue{q.(*handle)}, nil
}

type settledQueue struct{ *handle }

// Reserve refuses what the queue on the server has no room for: what is there
// takes none in the outbox. What is invalid is for the outbox to refuse.
func (q settledQueue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	st, err := q.Stats(ctx)
	if err != nil {
		return 0, err
	}
	room := st.Capacity - st.Bytes - st.Reserved
	if size > 0 && entries > 0 && (size > room || int64(entries) > (room-size)/queue.EntryOverhead) {
		return 0, queue.ErrFull
	}
	return q.handle.Reserve(ctx, intent, size, entries)
}

func (q settledQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if err := q.handle.Commit(ctx, id, entries); err != nil {
		return err
	}
	return q.d.Drain(ctx)
}

func (q settledQueue) Stats(ctx context.Context) (queue.Stats, error) {
	st, err := q.handle.Stats(ctx)
	st.Capacity /= 2
	return st, err
}

func TestQueue(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		return newHarness(t, s.URL(), Options{Gather: time.Nanosecond})
	})
}
