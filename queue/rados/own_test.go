//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/cephtest"
)

// create makes a queue and returns its handle.
func create(t *testing.T, d *Driver, name string, capacity int64) *Queue {
	t.Helper()
	if err := d.Create(t.Context(), name, capacity); err != nil {
		t.Fatal(err)
	}
	return open(t, d, name)
}

func open(t *testing.T, d *Driver, name string) *Queue {
	t.Helper()
	q, err := d.open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func put(ctx context.Context, q queue.Queue, data ...string) error {
	var entries [][]byte
	size := int64(1)
	for _, s := range data {
		entries = append(entries, []byte(s))
		size += int64(len(s))
	}
	id, err := q.Reserve(ctx, []byte("intent"), size, len(entries))
	if err != nil {
		return err
	}
	return q.Commit(ctx, id, entries)
}

func mustPut(t *testing.T, q queue.Queue, data ...string) {
	t.Helper()
	if err := put(t.Context(), q, data...); err != nil {
		t.Fatal(err)
	}
}

func mustAck(t *testing.T, q queue.Queue, a queue.Ack) {
	t.Helper()
	if err := q.Ack(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// all lists a queue.
func all(t *testing.T, q queue.Queue) (list []queue.Entry) {
	t.Helper()
	for after, more := queue.Marker(""), true; more; {
		var page []queue.Entry
		var err error
		if page, more, err = q.List(t.Context(), after, 100); err != nil {
			t.Fatal(err)
		}
		list = append(list, page...)
		if len(list) > 0 {
			after = list[len(list)-1].Marker
		}
	}
	return list
}

func wantClean(t *testing.T, d *Driver, name string) {
	t.Helper()
	found, err := d.Check(t.Context(), name, false)
	if err != nil || len(found) > 0 {
		t.Errorf("Check(%s) = %+v, %v", name, found, err)
	}
}

// Entries that stay must not keep the room of those behind them: a few of
// them stay while the ring is written many times over.
func TestPark(t *testing.T) {
	h := newHarness(t, Options{})
	q := create(t, h.d, "q", 100_000)
	laps := uint64(3)
	if os.Getenv("HERALD_LONG") == "1" {
		laps = 30
	}
	stay := make(map[queue.Marker]string)
	for i := 0; ; i++ {
		rec, _ := q.current()
		if rec.tail > laps*uint64(rec.ring) {
			break
		}
		name := fmt.Sprintf("%d %s", i, strings.Repeat("x", 9000))
		mustPut(t, q, name+"a", name+"b", name+"c")
		list := all(t, q)
		fresh := list[len(list)-3:]
		var done []queue.Marker
		for _, e := range fresh {
			if len(stay) < 5 && strings.HasSuffix(string(e.Data), "b") {
				stay[e.Marker] = string(e.Data)
				mustAck(t, q, queue.Ack{Failed: []queue.Attempt{{Marker: e.Marker, Attempts: i + 1}}})
			} else {
				done = append(done, e.Marker)
			}
		}
		mustAck(t, q, queue.Ack{Done: done})
		if len(list) != len(stay)+len(done) {
			t.Fatalf("round %d: %d entries, want %d", i, len(list), len(stay)+len(done))
		}
	}
	if rec, _ := q.current(); rec.parked == 0 {
		t.Error("nothing was parked")
	}
	wantClean(t, h.d, "q")
	h.Reopen(t)
	q = open(t, h.d, "q")
	list := all(t, q)
	for i, e := range list {
		if stay[e.Marker] != string(e.Data) || e.Attempts != i+1 {
			t.Errorf("entry %s with %d attempts, want %d, or others' data", e.Marker, e.Attempts, i+1)
		}
	}
	if st, err := q.Stats(t.Context()); len(list) != 5 || err != nil || st.Entries != 5 || !st.Oldest.Equal(list[0].Enqueued) {
		t.Fatalf("%d entries, Stats = %+v, %v", len(list), st, err)
	}
	if page, more, err := q.List(t.Context(), list[1].Marker, 2); err != nil || !more || len(page) != 2 || page[0].Marker != list[2].Marker {
		t.Errorf("List after the second = %d, %v, %v", len(page), more, err)
	}
	mustAck(t, q, queue.Ack{Done: []queue.Marker{list[3].Marker}})
	mustAck(t, q, queue.Ack{UpTo: list[1].Marker})
	wantClean(t, h.d, "q")
	mustPut(t, q, "last")
	if list := all(t, q); len(list) != 3 || string(list[2].Data) != "last" {
		t.Errorf("%d entries, want 3", len(list))
	}
	mustAck(t, q, queue.Ack{UpTo: list[4].Marker})
	if list := all(t, q); len(list) != 1 {
		t.Errorf("%d entries, want 1", len(list))
	}
	wantClean(t, h.d, "q")
}

// killed runs calls whose driver dies at a named point, and starts it anew.
func (h *harness) killed(t *testing.T, point string, f func(ctx context.Context, d *Driver)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	died := make(chan struct{})
	h.d.opts.fault = func(at string) {
		if at == point {
			once.Do(func() { close(died) })
			runtime.Goexit()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx, h.d)
	}()
	select {
	case <-died:
	case <-done:
	}
	cancel()
	<-done
	select {
	case <-died:
	default:
		t.Errorf("%s was not reached", point)
	}
	h.Crash(t)
}

// A driver that dies before an operation leaves what the next one can go on
// with.
func TestKillBetween(t *testing.T) {
	h := newHarness(t, Options{})
	ctx := t.Context()
	id, err := create(t, h.d, "q", 10_000).Reserve(ctx, []byte("intent"), 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	h.killed(t, "change", func(ctx context.Context, d *Driver) {
		q, err := d.Open(ctx, "q")
		if err == nil {
			err = q.Commit(ctx, id, [][]byte{[]byte("event")})
		}
		if err == nil {
			t.Error("the commit was done")
		}
	})
	q := open(t, h.d, "q")
	rs, err := q.Reservations(ctx, time.Now().Add(time.Hour), 10)
	if err != nil || len(rs) != 1 || rs[0].ID != id || string(rs[0].Intent) != "intent" {
		t.Errorf("reservations %+v, %v", rs, err)
	}
	if list := all(t, q); len(list) != 0 {
		t.Errorf("%d entries", len(list))
	}
	wantClean(t, h.d, "q")
	if err := q.Commit(ctx, id, [][]byte{[]byte("event")}); err != nil {
		t.Errorf("Commit by the next = %v", err)
	}
	if list := all(t, q); len(list) != 1 {
		t.Errorf("%d entries, want 1", len(list))
	}
}

func TestKillBetween_Directory(t *testing.T) {
	h := newHarness(t, Options{})
	ctx := t.Context()
	names := func() []string {
		t.Helper()
		names, err := h.d.List(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	h.killed(t, "created", func(ctx context.Context, d *Driver) { _ = d.Create(ctx, "q", 1000) })
	if err := h.d.Create(ctx, "q", 1000); !errors.Is(err, queue.ErrQueueExists) {
		t.Errorf("Create again = %v", err)
	}
	if got := names(); !slices.Equal(got, []string{"q"}) {
		t.Errorf("List = %q", got)
	}
	h.killed(t, "removed", func(ctx context.Context, d *Driver) { _ = d.Delete(ctx, "q") })
	if err := h.d.Delete(ctx, "q"); !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Errorf("Delete again = %v", err)
	}
	if got := names(); len(got) != 0 {
		t.Errorf("List = %q", got)
	}
}

// What a driver remembers of the ring may be laps behind.
func TestStalePlaces(t *testing.T) {
	h := newHarness(t, Options{})
	mine := create(t, h.d, "q", 200_000)
	theirs := open(t, h.Second(t, 0).(*Driver), "q")
	mustPut(t, mine, "a", "b", "c")
	mustPut(t, mine, "d")
	old := all(t, mine)
	big := strings.Repeat("y", 30_000)
	for rec, _ := theirs.current(); rec.tail < 2*uint64(rec.ring)+1000; rec, _ = theirs.current() {
		mustPut(t, theirs, big, big)
		list := all(t, theirs)
		mustAck(t, theirs, queue.Ack{UpTo: list[len(list)-1].Marker})
	}
	mustPut(t, theirs, "new")
	for _, after := range []queue.Marker{"", old[0].Marker, old[2].Marker, old[3].Marker} {
		list, more, err := mine.List(t.Context(), after, 10)
		if err != nil || more || len(list) != 1 || string(list[0].Data) != "new" {
			t.Errorf("List(%q) = %d, %v, %v", after, len(list), more, err)
		}
	}
	mustAck(t, mine, queue.Ack{UpTo: old[3].Marker, Done: []queue.Marker{old[1].Marker}})
	mustAck(t, theirs, queue.Ack{UpTo: all(t, mine)[0].Marker})
	if st, err := mine.Stats(t.Context()); err != nil || st.Entries != 0 || st.Bytes != 0 {
		t.Errorf("Stats = %+v, %v", st, err)
	}
	wantClean(t, h.d, "q")
}

// Several drivers on one queue each get their turn.
func TestFair(t *testing.T) {
	h := newHarness(t, Options{})
	create(t, h.d, "q", 10<<20)
	var drivers []*Driver
	for range 3 {
		drivers = append(drivers, h.Second(t, 0).(*Driver))
	}
	var (
		wg    sync.WaitGroup
		stop  = make(chan struct{})
		count = make([]atomic.Int64, len(drivers))
		worst atomic.Int64
	)
	for i, d := range drivers {
		q := open(t, d, "q")
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					begin := time.Now()
					if err := put(t.Context(), q, "x"); err != nil {
						t.Errorf("put = %v", err)
						return
					}
					count[i].Add(1)
					if took := time.Since(begin).Milliseconds(); took > worst.Load() {
						worst.Store(took)
					}
				}
			})
		}
	}
	eventually(t, func() bool { return count[0].Load()+count[1].Load()+count[2].Load() >= 5000 || t.Failed() }) // some seconds
	close(stop)
	wg.Wait()
	t.Logf("%d, %d and %d entries; the slowest put took %d ms", count[0].Load(), count[1].Load(), count[2].Load(), worst.Load())
	for i := range count {
		if count[i].Load() == 0 {
			t.Errorf("driver %d committed nothing", i)
		}
	}
	wantClean(t, h.d, "q")
}

// TestPoolFull has the pool reach its quota: reservations are refused, and what
// was reserved stays until there is room.
func TestPoolFull(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the monitor some seconds to notice that a pool is full")
	}
	c := cephtest.Start(t)
	h := newHarness(t, Options{})
	h.close(t, h.d)
	h.opts.Pool = c.Pool(t)
	h.opts.Logger = nil // errors are to be expected
	h.d = h.open(t, h.opts)
	q := create(t, h.d, "q", 10<<20)
	mustPut(t, q, "before")
	id, err := q.Reserve(t.Context(), []byte("intent"), 100_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.Ceph(t, "osd", "pool", "set-quota", h.opts.Pool, "max_bytes", "1")
	event := [][]byte{make([]byte, 1000)}
	full := func(err error) bool { return errors.Is(err, queue.ErrFull) }
	eventually(t, func() bool { // the pool is full: even a small commit is refused
		id, err := q.Reserve(t.Context(), []byte("intent"), 1000, 1)
		if errors.Is(err, queue.ErrFull) {
			return true
		}
		if err == nil {
			err = q.Commit(t.Context(), id, event)
		}
		return full(err)
	})
	if err := q.Commit(t.Context(), id, event); !full(err) {
		t.Errorf("Commit to the full pool = %v", err)
	}
	list := all(t, q)
	mustAck(t, q, queue.Ack{UpTo: list[0].Marker}) // makes room
	if err := q.Abort(t.Context(), 1); err != nil {
		t.Errorf("Abort in the full pool = %v", err)
	}
	c.Ceph(t, "osd", "pool", "set-quota", h.opts.Pool, "max_bytes", "0")
	eventually(t, func() bool { return q.Commit(t.Context(), id, event) == nil })
	wantClean(t, h.d, "q")
}

// eventually waits for something.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about in five minutes")
		}
	}
}
