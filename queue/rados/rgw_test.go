//go:build rados

package rados

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
	librados "herald/rados"
	"herald/tests/cephtest"
)

// rgwHarness has an RGW driver over a namespace of its own. The suite's queues
// are called as those of topics are.
type rgwHarness struct {
	harness
	d      *RGW
	drifts int
}

// notForRGW are cases of the suite that shared queues do not pass, and why.
var notForRGW = map[string]string{
	"TestRGWQueue/LostReserve": "the room of a reservation whose answer was lost is taken twice until the class ends it by its age; the queue of the case is too small (TestRGW_LostAnswers)",
}

func newRGWHarness(t testing.TB, opts Options) *rgwHarness {
	if why := notForRGW[t.Name()]; why != "" {
		t.Skip(why)
	}
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

func topicName(name string) string {
	return ":" + strings.NewReplacer(".", "%2E", "\x00", "%00").Replace(name)
}

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

func (d asTopics) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	found, err := d.RGW.Check(ctx, topicName(name), repair)
	for i := range found {
		found[i].Queue = name
	}
	return found, err
}

func (d asTopics) Locker() queue.Locker { return asTopicLocks{d.RGW.Locker()} }

type asTopicLocks struct{ queue.Locker }

func (l asTopicLocks) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	if q, ok := strings.CutPrefix(name, queue.OwnerLock); ok {
		name = queue.OwnerLock + topicName(q)
	}
	return l.Locker.Acquire(ctx, name, owner, ttl)
}

// asQueueLocks is a driver whose locks are all those of topics' queues.
type asQueueLocks struct{ asTopics }

func (d asQueueLocks) Locker() queue.Locker { return ofQueues{d.RGW, d.RGW.Locker()} }

type ofQueues struct {
	d *RGW
	queue.Locker
}

func (l ofQueues) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	q := topicName(strings.TrimLeft(strings.TrimPrefix(name, queue.OwnerLock), ":"))
	if _, err := l.d.Open(ctx, q); errors.Is(err, queue.ErrNoSuchQueue) {
		if err := l.d.Create(ctx, q, 1<<20); err != nil && !errors.Is(err, queue.ErrQueueExists) {
			return nil, err
		}
	}
	return l.Locker.Acquire(ctx, queue.OwnerLock+q, owner, ttl)
}

// rgwLockHarness has only locks of queues.
type rgwLockHarness struct{ *rgwHarness }

func (h rgwLockHarness) Driver() queue.Driver { return asQueueLocks{asTopics{h.d}} }

func (h rgwLockHarness) Second(t *testing.T, shift time.Duration) queue.Driver {
	return asQueueLocks{h.rgwHarness.Second(t, shift).(asTopics)}
}

func TestRGWQueue(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Harness { return newRGWHarness(t, Options{}) })
}

func TestRGWLock(t *testing.T) {
	t.Parallel()
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return rgwLockHarness{newRGWHarness(t, Options{})} })
}

// Drift falsifies in turn what the class counts, what radosgw knows of, and
// what is noted of entries.
func (h *rgwHarness) Drift(t *testing.T, name string) string {
	t.Helper()
	q, err := h.d.open(t.Context(), topicName(name))
	if err != nil {
		t.Fatal(err)
	}
	op := librados.NewWrite()
	h.drifts++
	switch h.drifts {
	case 1, 2:
		c, err := h.d.readClass(t.Context(), q.object)
		if err == nil {
			err = h.d.setReserved(t.Context(), q.object, c, map[int]uint64{1: c.sum / 2, 2: c.sum + 1<<18}[h.drifts])
		}
		if err != nil {
			t.Fatal(err)
		}
		return "class"
	case 3:
		op.OmapRm(q.object)
		if _, err := h.d.operate(t.Context(), rgwRegistry, op, 0); err != nil {
			t.Fatal(err)
		}
		return "registry"
	case 4:
		op.OmapSet(librados.Pair{Key: markKey(3), Value: mark{attempts: 1}.encode()})
		if _, err := h.d.operate(t.Context(), q.object, op, 0); err != nil {
			t.Fatal(err)
		}
		return "marks"
	}
	return ""
}

var _ queuetest.Drifter = (*rgwHarness)(nil)
