//go:build rados

package rados

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
	librados "herald/rados"
)

// stranger does on radosgw's objects what a radosgw does.
type stranger struct {
	t *testing.T
	r *RGW
}

func (s stranger) do(oid string, flags librados.Flags, build func(op *librados.WriteOp)) {
	s.t.Helper()
	op := librados.NewWrite()
	build(op)
	if _, err := s.r.io.Operate(s.t.Context(), oid, op, flags); err != nil {
		s.t.Fatal(err)
	}
}

// topic makes the queue of a topic.
func (s stranger) topic(object string) {
	s.t.Helper()
	s.do(object, 0, func(op *librados.WriteOp) {
		op.Create(true)
		op.Exec(classQueue, methodInit, encodeInit(RGWCapacity))
	})
	s.do(rgwRegistry, 0, func(op *librados.WriteOp) { op.OmapSet(librados.Pair{Key: object}) })
}

func (s stranger) reserve(object string) uint32 {
	s.t.Helper()
	var step *librados.Step
	s.do(object, librados.ReturnVec, func(op *librados.WriteOp) {
		step = op.ExecOut(classQueue, methodReserve, encodeReserve(4096, 1))
	})
	id, err := decodeReserve(step.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s stranger) put(object, data string) {
	s.t.Helper()
	id := s.reserve(object)
	s.do(object, 0, func(op *librados.WriteOp) { op.Exec(classQueue, methodCommit, encodeCommit(id, []byte(data))) })
}

// lock takes the lock of the queue's owner, away from whoever has it.
func (s stranger) lock(object string) {
	s.t.Helper()
	call := lockCall{name: rgwLockName(object), kind: lockExclusive, cookie: "0123456789abcdef"}
	read := librados.NewRead()
	step := read.Exec(classLock, methodLockInfo, call.encodeInfo())
	if _, err := s.r.io.Operate(s.t.Context(), object, read, 0); err != nil {
		s.t.Fatal(err)
	}
	holders, err := decodeLockInfo(step.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range holders {
		call := call
		call.cookie = h.cookie
		s.do(object, 0, func(op *librados.WriteOp) { op.Exec(classLock, methodBreakLock, call.encodeBreak(h)) })
	}
	s.do(object, 0, func(op *librados.WriteOp) {
		op.Exec(classLock, methodLock, call.encodeLock(90*time.Second, lockMayRenew))
	})
}

// list is what a radosgw finds in a queue.
func (s stranger) list(object string) (data []string) {
	s.t.Helper()
	op := librados.NewRead()
	op.AssertExists()
	step := op.Exec(classQueue, methodList, encodeList(1024, ""))
	if _, err := s.r.io.Operate(s.t.Context(), object, op, 0); err != nil {
		s.t.Fatal(err)
	}
	l, err := decodeList(step.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range l.entries {
		data = append(data, string(e.data))
	}
	return data
}

// reservations counts those in the class.
func (s stranger) reservations(object string) int {
	s.t.Helper()
	c, err := s.r.readClass(s.t.Context(), object)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(c.head.reservations)
}

// registry is the queues that radosgw knows of.
func (s stranger) registry() (names []string) {
	s.t.Helper()
	op := librados.NewRead()
	step := op.OmapGetKeys("", 1000)
	if _, err := s.r.io.Operate(s.t.Context(), rgwRegistry, op, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
		s.t.Fatal(err)
	}
	for _, p := range step.Pairs {
		names = append(names, p.Key)
	}
	return names
}

func (s stranger) exists(object string) bool {
	op := librados.NewRead()
	op.AssertExists()
	_, err := s.r.io.Operate(s.t.Context(), object, op, 0)
	return err == nil
}

func newRGW(t *testing.T) (*RGW, stranger) {
	h := newRGWHarness(t, Options{})
	return h.d, stranger{t, h.d}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
}

func dataOf(entries []queue.Entry) (data []string) {
	for _, e := range entries {
		data = append(data, string(e.Data))
	}
	return data
}

// A queue that radosgw made is used under the name that it has, is filled from
// both sides, and stays when it is not used any more.
func TestRGW_QueueOfRadosgw(t *testing.T) {
	for _, object := range []string{"t", "acme:t"} {
		t.Run(object, func(t *testing.T) {
			d, s := newRGW(t)
			ctx := t.Context()
			s.topic(object)
			s.put(object, "one")
			_, err := d.Open(ctx, "acme:t")
			wantErr(t, "Open before Create", err, queue.ErrNoSuchQueue)
			wantErr(t, "Create", d.Create(ctx, "acme:t", 1<<20), nil)
			wantErr(t, "Create again", d.Create(ctx, "acme:t", 1<<20), queue.ErrQueueExists)
			q := must[queue.Queue](t)(d.Open(ctx, "acme:t"))
			id := must[queue.ID](t)(q.Reserve(ctx, []byte("i"), 100, 3))
			s.put(object, "two")
			wantErr(t, "Commit", q.Commit(ctx, id, [][]byte{[]byte("a"), []byte("b"), []byte("c")}), nil)
			s.put(object, "three")
			want := []string{"one", "two", "a", "b", "c", "three"}
			if d := cmp.Diff(want, s.list(object)); d != "" {
				t.Errorf("radosgw finds: %s", d)
			}
			entries, more, err := q.List(ctx, "", 100)
			if d := cmp.Diff(want, dataOf(entries)); d != "" || more || err != nil {
				t.Errorf("List: %v, %v, %s", more, err, d)
			}
			if st := must[queue.Stats](t)(q.Stats(ctx)); st.Entries != 6 || st.Capacity != RGWCapacity-1 {
				t.Errorf("Stats = %+v", st)
			}
			// What is acked out of order is gone for us, and comes again for radosgw.
			wantErr(t, "Ack", q.Ack(ctx, queue.Ack{UpTo: entries[1].Marker, Done: []queue.Marker{entries[3].Marker}}), nil)
			rest, _, err := q.List(ctx, "", 100)
			if d := cmp.Diff([]string{"a", "c", "three"}, dataOf(rest)); d != "" || err != nil {
				t.Errorf("List after Ack: %v, %s", err, d)
			}
			if d := cmp.Diff(want[2:], s.list(object)); d != "" {
				t.Errorf("radosgw finds after Ack: %s", d)
			}
			if names := must[[]string](t)(d.List(ctx, "")); !slices.Equal(names, []string{"acme:t"}) {
				t.Errorf("List = %q", names)
			}
			wantErr(t, "Delete", d.Delete(ctx, "acme:t"), nil)
			wantErr(t, "Stats after Delete", second(q.Stats(ctx)), queue.ErrNoSuchQueue)
			if got := s.registry(); !s.exists(object) || !slices.Equal(got, []string{object}) || len(s.list(object)) != 4 {
				t.Errorf("radosgw's queue after Delete: there %v, known %q", s.exists(object), got)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// A queue that we made is one of radosgw's, and goes when it is deleted; one
// that is not a topic's, radosgw does not see.
func TestRGW_QueueOfOurs(t *testing.T) {
	d, s := newRGW(t)
	ctx := t.Context()
	for _, name := range []string{":t", ":t.1", ":t.dead"} {
		wantErr(t, "Create "+name, d.Create(ctx, name, 1<<20), nil)
	}
	if got := s.registry(); !slices.Equal(got, []string{"t", "t.1"}) {
		t.Errorf("radosgw knows of %q", got)
	}
	if names := must[[]string](t)(d.List(ctx, ":t.")); !slices.Equal(names, []string{":t.1", ":t.dead"}) {
		t.Errorf("List = %q", names)
	}
	s.put("t", "one")
	q := must[queue.Queue](t)(d.Open(ctx, ":t"))
	if entries, _, err := q.List(ctx, "", 10); err != nil || len(entries) != 1 {
		t.Errorf("List = %v, %v", entries, err)
	}
	for _, name := range []string{":t", ":t.dead"} {
		wantErr(t, "Delete "+name, d.Delete(ctx, name), nil)
		wantErr(t, "Delete again", d.Delete(ctx, name), queue.ErrNoSuchQueue)
	}
	if got := s.registry(); s.exists("t") || !slices.Equal(got, []string{"t.1"}) {
		t.Errorf("after Delete radosgw knows of %q", got)
	}
	d.names = RGWNamesTenant
	wantErr(t, "Create", d.Create(ctx, "acme:u", 1<<20), nil)
	if got := s.registry(); !s.exists("acme:u") || !slices.Equal(got, []string{"acme:u", "t.1"}) {
		t.Errorf("radosgw knows of %q", got)
	}
}

// A queue that radosgw removes, and makes again, under our feet.
func TestRGW_QueueMadeAnew(t *testing.T) {
	d, s := newRGW(t)
	ctx := t.Context()
	s.topic("t")
	wantErr(t, "Create", d.Create(ctx, ":t", 1<<20), nil)
	q := must[queue.Queue](t)(d.Open(ctx, ":t"))
	id := must[queue.ID](t)(q.Reserve(ctx, nil, 10, 1))
	s.do("t", 0, func(op *librados.WriteOp) { op.Remove() })
	wantErr(t, "Commit", q.Commit(ctx, id, [][]byte{[]byte("x")}), queue.ErrNoSuchQueue)
	wantErr(t, "Reserve", second(q.Reserve(ctx, nil, 10, 1)), queue.ErrNoSuchQueue)
	wantErr(t, "Open", second(d.Open(ctx, ":t")), queue.ErrNoSuchQueue)
	s.topic("t")
	s.put("t", "new")
	wantErr(t, "List by the old handle", third(q.List(ctx, "", 10)), queue.ErrNoSuchQueue)
	q = must[queue.Queue](t)(d.Open(ctx, ":t"))
	if entries, _, err := q.List(ctx, "", 10); err != nil || !slices.Equal(dataOf(entries), []string{"new"}) {
		t.Errorf("List = %q, %v", dataOf(entries), err)
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }

// Radosgw ends reservations by their age, also ours that are in use: nothing is
// lost by it.
func TestRGW_ReservationsEndedByRadosgw(t *testing.T) {
	d, s := newRGW(t)
	ctx := t.Context()
	wantErr(t, "Create", d.Create(ctx, ":t", 1<<20), nil)
	q := must[queue.Queue](t)(d.Open(ctx, ":t")).(*rgwQueue)
	expire := func() {
		t.Helper()
		s.do("t", 0, func(op *librados.WriteOp) {
			op.Exec(classQueue, methodRGWExpire, expireBefore(time.Now().Add(time.Hour).UnixNano()))
		})
		if n := s.reservations("t"); n != 0 {
			t.Fatalf("%d reservations in the class", n)
		}
	}
	long := must[queue.ID](t)(q.Reserve(ctx, []byte("long"), 20, 2))
	never := must[queue.ID](t)(q.Reserve(ctx, []byte("never"), 20, 1))
	expire()
	wantErr(t, "Renew", q.Renew(ctx, long), nil)
	if n := s.reservations("t"); n != 0 {
		t.Errorf("%d reservations in the class after an early Renew", n)
	}
	q.mu.Lock()
	h := q.held[long]
	h.taken -= rgwRefresh.Nanoseconds() + time.Second.Nanoseconds()
	q.held[long] = h
	q.mu.Unlock()
	s.do("t", 0, func(op *librados.WriteOp) { op.OmapSet(librados.Pair{Key: intentKey(long), Value: h.encode()}) })
	wantErr(t, "late Renew", q.Renew(ctx, long), nil)
	if n := s.reservations("t"); n != 1 {
		t.Errorf("%d reservations in the class after a late Renew, want 1", n)
	}
	expire()
	if list := must[[]queue.Reservation](t)(q.Reservations(ctx, time.Now().Add(time.Hour), 10)); len(list) != 2 {
		t.Errorf("Reservations = %+v", list)
	}
	wantErr(t, "Commit", q.Commit(ctx, long, [][]byte{[]byte("one"), []byte("two")}), nil)
	wantErr(t, "Abort", q.Abort(ctx, never), nil)
	wantErr(t, "Commit again", q.Commit(ctx, long, nil), queue.ErrNoSuchReservation)
	if got := s.list("t"); !slices.Equal(got, []string{"one", "two"}) || s.reservations("t") != 0 {
		t.Errorf("entries %q, %d reservations in the class", got, s.reservations("t"))
	}
}

// The owner of a queue ends what a dead radosgw has reserved, by its age.
func TestRGW_ReservationsOfRadosgw(t *testing.T) {
	d, s := newRGW(t)
	ctx := t.Context()
	s.topic("t")
	wantErr(t, "Create", d.Create(ctx, ":t", 1<<20), nil)
	s.reserve("t")
	lease := must[queue.Lease](t)(d.Locker().Acquire(ctx, queue.OwnerLock+":t", "me", time.Minute)).(*rgwHandle)
	q := must[queue.Queue](t)(d.Open(ctx, ":t"))
	if list := must[[]queue.Reservation](t)(q.Reservations(ctx, time.Now().Add(time.Hour), 10)); len(list) != 0 {
		t.Errorf("Reservations = %+v: what has no intent is not ours", list)
	}
	wantErr(t, "Renew", lease.Renew(ctx), nil)
	if n := s.reservations("t"); n != 1 {
		t.Errorf("%d reservations, want the young one to stay", n)
	}
	wantErr(t, "keep", lease.keep(ctx, -time.Minute), nil)
	if n := s.reservations("t"); n != 0 {
		t.Errorf("%d reservations, want none", n)
	}
	s.lock("t")
	wantErr(t, "keep without the lock", lease.keep(ctx, -time.Minute), syscall.EBUSY)
}

// Radosgw's lock is ours: who has it is alone to deliver.
func TestRGW_LockOfRadosgw(t *testing.T) {
	d, s := newRGW(t)
	ctx := t.Context()
	s.topic("t")
	s.put("t", "one")
	s.put("t", "two")
	wantErr(t, "Create", d.Create(ctx, ":t", 1<<20), nil)
	s.lock("t")
	acquire := func(ctx context.Context) (queue.Lease, error) {
		return d.Locker().Acquire(ctx, queue.OwnerLock+":t", "me", time.Minute)
	}
	wantErr(t, "Acquire", second(acquire(ctx)), queue.ErrLocked)
	s.do("t", 0, func(op *librados.WriteOp) {
		op.Exec(classLock, methodUnlock, lockCall{name: rgwLockName("t"), cookie: "0123456789abcdef"}.encodeUnlock())
	})
	lease := must[queue.Lease](t)(acquire(ctx))
	q := must[queue.Queue](t)(d.Open(ctx, ":t"))
	entries, _, err := q.List(ctx, "", 10)
	if err != nil || len(entries) != 2 {
		t.Fatalf("List = %v, %v", entries, err)
	}
	wantErr(t, "Ack", q.Ack(ctx, queue.Ack{UpTo: entries[0].Marker, Fence: lease.Fence()}), nil)
	s.lock("t")
	wantErr(t, "Ack when radosgw has the lock", q.Ack(ctx, queue.Ack{UpTo: entries[1].Marker, Fence: lease.Fence()}), queue.ErrFenced)
	wantErr(t, "Renew", lease.Renew(ctx), queue.ErrLeaseLost)
	wantErr(t, "Acquire", second(acquire(ctx)), queue.ErrLocked)
	if got := s.list("t"); !slices.Equal(got, []string{"two"}) {
		t.Errorf("left for radosgw: %q", got)
	}
	wantErr(t, "Release", lease.Release(ctx), nil)
}

// A reservation whose answer was lost is there once, and so is its entry.
func TestRGW_LostAnswers(t *testing.T) {
	h := newRGWHarness(t, Options{})
	d, s, ctx := h.d, stranger{t, h.d}, t.Context()
	wantErr(t, "Create", d.Create(ctx, ":t", 1<<20), nil)
	q := must[queue.Queue](t)(d.Open(ctx, ":t"))
	for lost := range 4 {
		h.LoseReplies(t, lost)
		id := must[queue.ID](t)(q.Reserve(ctx, []byte("i"), 600, 2))
		if list := must[[]queue.Reservation](t)(q.Reservations(ctx, time.Now().Add(time.Hour), 10)); len(list) != 1 || list[0].ID != id {
			t.Errorf("Reservations after %d lost answers = %+v", lost, list)
		}
		h.LoseReplies(t, lost)
		wantErr(t, "Renew", q.Renew(ctx, id), nil)
		h.LoseReplies(t, lost)
		wantErr(t, "Commit", q.Commit(ctx, id, [][]byte{[]byte("a"), []byte("b")}), nil)
		h.LoseReplies(t, 0)
		if got := s.list("t"); len(got) != 2*(lost+1) {
			t.Errorf("%d entries after %d lost answers", len(got), lost)
		}
	}
	if st := must[queue.Stats](t)(q.Stats(ctx)); st.Reservations != 0 || st.Entries != 8 {
		t.Errorf("Stats = %+v", st)
	}
}
