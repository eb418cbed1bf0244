package embedded

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/journal"
	"herald/queue"
	"herald/queue/locktest"
	"herald/queue/queuetest"
)

// shared lets the suites' cases for drivers with a server run on this one, so
// that their text is known to hold wherever it is run: a second driver is a
// view of the first with another clock, and an answer is lost between the
// driver and its caller, which asks again.
type shared struct {
	*harness

	mu         sync.Mutex // guards what follows
	left, lost int
}

func (h *shared) Driver() queue.Driver { return &view{h: h, own: true} }

// Second returns a view that does not lose answers.
func (h *shared) Second(_ *testing.T, shift time.Duration) queue.Driver {
	return &view{h: h, shift: shift}
}

func (h *shared) LoseReplies(_ *testing.T, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = n
}

func (h *shared) Lost() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

func (h *shared) lose() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == 0 {
		return false
	}
	h.left--
	h.lost++
	return true
}

// view is the driver that is open, seen by a clock that is off by shift.
type view struct {
	h     *shared
	own   bool
	shift time.Duration
}

// answer returns an answer once it is not lost.
func (v *view) answer(ctx context.Context, err error) error {
	for v.own && v.h.lose() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return err
}

func (v *view) Create(ctx context.Context, name string, capacity int64) error {
	return v.answer(ctx, v.h.d.Create(ctx, name, capacity))
}

func (v *view) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := v.h.d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &queueView{q.(*Queue), v}, nil
}

func (v *view) Delete(ctx context.Context, name string) error {
	return v.answer(ctx, v.h.d.Delete(ctx, name))
}

func (v *view) List(ctx context.Context, prefix string) ([]string, error) {
	return v.h.d.List(ctx, prefix)
}

func (v *view) Exclusive() bool      { return true } // a restart ends all leases
func (v *view) Locker() queue.Locker { return (*lockerView)(v) }
func (v *view) Close() error         { return nil }

type queueView struct {
	*Queue
	v *view
}

func (q *queueView) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	id, err := q.Queue.Reserve(ctx, intent, size, entries)
	return id, q.v.answer(ctx, err)
}

func (q *queueView) Renew(ctx context.Context, id queue.ID) error {
	return q.v.answer(ctx, q.Queue.Renew(ctx, id))
}

func (q *queueView) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	return q.v.answer(ctx, q.Queue.Commit(ctx, id, entries))
}

func (q *queueView) Abort(ctx context.Context, id queue.ID) error {
	return q.v.answer(ctx, q.Queue.Abort(ctx, id))
}

func (q *queueView) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	entries, more, err := q.Queue.List(ctx, after, max)
	for i := range entries {
		e := &entries[i]
		e.Enqueued = e.Enqueued.Add(q.v.shift)
		if !e.LastTry.IsZero() {
			e.LastTry = e.LastTry.Add(q.v.shift)
		}
	}
	return entries, more, err
}

func (q *queueView) Ack(ctx context.Context, ack queue.Ack) error {
	failed := append([]queue.Attempt(nil), ack.Failed...)
	for i := range failed {
		if !failed[i].LastTry.IsZero() {
			failed[i].LastTry = failed[i].LastTry.Add(-q.v.shift)
		}
	}
	ack.Failed = failed
	return q.v.answer(ctx, q.Queue.Ack(ctx, ack))
}

func (q *queueView) Reservations(ctx context.Context, before time.Time, max int) ([]queue.Reservation, error) {
	rs, err := q.Queue.Reservations(ctx, before.Add(-q.v.shift), max)
	for i := range rs {
		rs[i].Time = rs[i].Time.Add(q.v.shift)
	}
	return rs, err
}

func (q *queueView) Stats(ctx context.Context) (queue.Stats, error) {
	st, err := q.Queue.Stats(ctx)
	if !st.Oldest.IsZero() {
		st.Oldest = st.Oldest.Add(q.v.shift)
	}
	return st, err
}

type lockerView view

func (l *lockerView) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	lease, err := l.h.d.Locker().Acquire(ctx, name, owner, ttl)
	if err = (*view)(l).answer(ctx, err); err != nil {
		return nil, err
	}
	return &leaseView{lease, (*view)(l)}, nil
}

func (l *lockerView) Join(ctx context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	members, err := l.h.d.Locker().Join(ctx, group, owner, ttl)
	return members, (*view)(l).answer(ctx, err)
}

func (l *lockerView) Leave(ctx context.Context, group, owner string) error {
	return (*view)(l).answer(ctx, l.h.d.Locker().Leave(ctx, group, owner))
}

type leaseView struct {
	queue.Lease
	v *view
}

func (l *leaseView) Renew(ctx context.Context) error { return l.v.answer(ctx, l.Lease.Renew(ctx)) }

func (l *leaseView) Release(ctx context.Context) error { return l.v.answer(ctx, l.Lease.Release(ctx)) }

func (l *leaseView) Expires() time.Time { return l.Lease.Expires().Add(l.v.shift) }

// only skips the cases whose names do not begin with one of these: they run
// elsewhere.
func only(t *testing.T, prefixes ...string) {
	name := t.Name()[strings.LastIndex(t.Name(), "/")+1:]
	if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
		t.Skip("the same as in TestQueue")
	}
}

func TestQueue_Shared(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		only(t, "Lo", "Two", "Clock", "Impatient", "Expired", "CommitThen", "Resolver", "AbortCommit", "CommitCommit", "Dying")
		return newShared(t, 16<<20, false)
	})
}

// TestQueue_SharedRealTime and TestLock_SharedRealTime have a clock that cannot
// be moved, and may stand still for seconds.
func TestQueue_SharedRealTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("sleeps")
	}
	queuetest.Run(t, func(t *testing.T) queuetest.Harness {
		only(t, "Reserve", "Renew", "Manual", "Oldest", "CrashBetween", "Lo", "Two", "Clock", "Expired", "CommitThen", "Resolver", "Dying")
		return &slow{newShared(t, 16<<20, true)}
	})
}

func TestLock_SharedRealTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("sleeps")
	}
	locktest.Run(t, func(t *testing.T) queuetest.Harness { return &slow{newShared(t, 1<<20, true)} })
}

// slow has the big counts divided.
type slow struct{ *shared }

func (slow) Scale() int { return 20 }

func newShared(t *testing.T, segment int64, real bool) *shared {
	h := newHarness(t, journal.Options{SegmentBytes: segment}, Options{})
	h.real = real
	return &shared{harness: h}
}

func TestLock_Shared(t *testing.T) {
	locktest.Run(t, func(t *testing.T) queuetest.Harness {
		return newShared(t, 1<<20, false)
	})
}
