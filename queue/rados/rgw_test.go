//go:build rados

package rados

import (
	"context"
	"strings"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	"herald/tests/cephtest"
)

// rgwHarness has an RGW driver over a namespace of its own. The suite's queues
// are called as those of topics are.
type rgwHarness struct {
	harness
	d *RGW
}

func newRGWHarness(t testing.TB, opts Options) *rgwHarness {
	c := cephtest.Start(t)
	opts.ConfFile = c.Conf
	opts.Pool, opts.Namespace = c.Namespace(t)
	opts.Logger = testLogger(t)
	h := &rgwHarness{}
	opts.lose = h.lose
	h.opts = opts
	h.d = h.open(t, opts)
	t.Cleanup(func() { h.close(t, h.d) })
	return h
}

func (h *rgwHarness) open(t testing.TB, opts Options) *RGW {
	t.Helper()
	d, err := OpenRGW(t.Context(), opts, RGWNamesAuto)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (h *rgwHarness) close(t testing.TB, d *RGW) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close driver: %v", err)
	}
}

func (h *rgwHarness) Driver() queue.Driver { return asTopics{h.d} }

func (h *rgwHarness) Reopen(t *testing.T) {
	t.Helper()
	h.close(t, h.d)
	h.d = h.open(t, h.opts)
}

func (h *rgwHarness) Crash(t *testing.T) bool {
	t.Helper()
	h.d.own.crash()
	h.d = h.open(t, h.opts)
	return true
}

func (h *rgwHarness) Second(t *testing.T, shift time.Duration) queue.Driver {
	t.Helper()
	opts := h.opts
	opts.lose = nil
	opts.Now = func() time.Time { return time.Now().Add(shift) }
	d := h.open(t, opts)
	t.Cleanup(func() { h.close(t, d) })
	return asTopics{d}
}

// asTopics calls each queue as that of a topic.
type asTopics struct{ *RGW }

func topicName(name string) string { return ":" + strings.ReplaceAll(name, ".", "%2E") }

func (d asTopics) Create(ctx context.Context, name string, capacity int64) error {
	return d.RGW.Create(ctx, topicName(name), capacity)
}

func (d asTopics) Open(ctx context.Context, name string) (queue.Queue, error) {
	return d.RGW.Open(ctx, topicName(name))
}

func (d asTopics) Delete(ctx context.Context, name string) error {
	return d.RGW.Delete(ctx, topicName(name))
}

func (d asTopics) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := d.RGW.List(ctx, topicName(prefix))
	for i := range names {
		names[i] = strings.ReplaceAll(strings.TrimPrefix(names[i], ":"), "%2E", ".")
	}
	return names, err
}

func (d asTopics) Locker() queue.Locker { return asTopicLocks{d.RGW.Locker()} }

type asTopicLocks struct{ queue.Locker }

func (l asTopicLocks) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	if q, ok := strings.CutPrefix(name, queueLock); ok {
		name = queueLock + topicName(q)
	}
	return l.Locker.Acquire(ctx, name, owner, ttl)
}

func TestRGWQueue(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Harness { return newRGWHarness(t, Options{}) })
}

func TestRGWLock(t *testing.T) {
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return newRGWHarness(t, Options{}) })
}
