package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/redistest"
)

// put reserves and commits as a change does: nothing is flushed.
func put(t *testing.T, q queue.Queue, data ...string) {
	t.Helper()
	var entries [][]byte
	size := 0
	for _, d := range data {
		entries = append(entries, []byte(d))
		size += len(d)
	}
	id, err := q.Reserve(t.Context(), []byte("intent"), int64(size), len(entries))
	if err != nil {
		t.Fatal(err)
	}
	q.(queue.Starter).StartCommit(t.Context(), id, entries, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

func open(t *testing.T, d queue.Driver, name string) queue.Queue {
	t.Helper()
	q, err := d.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// list returns the data of all entries.
func list(t *testing.T, q queue.Queue) []string {
	t.Helper()
	var data []string
	var after queue.Marker
	for {
		entries, more, err := q.List(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data = append(data, string(e.Data))
			after = e.Marker
		}
		if !more {
			return data
		}
	}
}

func numbers(from, to int) []string {
	var v []string
	for i := from; i < to; i++ {
		v = append(v, fmt.Sprintf("%06d", i))
	}
	return v
}

// frozen halts a process at a point: nothing behind it happens any more.
type frozen struct {
	mu    sync.Mutex // guards all below
	point string     // "any" is each of them; "" none
	skip  int        // how many times it is passed
	hit   chan struct{}
	end   chan struct{}
}

func (f *frozen) fault(point string) {
	f.mu.Lock()
	if f.point != point && f.point != "any" {
		f.mu.Unlock()
		return
	}
	if f.skip > 0 {
		f.skip--
		f.mu.Unlock()
		return
	}
	f.point = ""
	hit, end := f.hit, f.end
	f.mu.Unlock()
	close(hit)
	<-end
}

func (f *frozen) set(point string) { f.setAfter(point, 0) }

func (f *frozen) setAfter(point string, skip int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.point, f.skip, f.hit, f.end = point, skip, make(chan struct{}), make(chan struct{})
}

func drain(t *testing.T, d *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := d.Drain(ctx); err != nil {
		t.Fatalf("Drain = %v", err)
	}
}

// TestCrash ends the process at each point of a move: nothing is lost, nothing
// comes twice, and nothing is left behind.
func TestCrash(t *testing.T) {
	s := redistest.Start(t)
	testCrash(t, func(t *testing.T, opts Options) *harness { return newHarness(t, s.URL(), opts) })
}

func testCrash(t *testing.T, start func(*testing.T, Options) *harness) {
	for _, point := range FaultPoints() {
		for _, flushed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", point, flushed), func(t *testing.T) {
				f := &frozen{}
				h := start(t, Options{Fault: f.fault})
				if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
					t.Fatal(err)
				}
				put(t, open(t, h.d, "t:q"), numbers(0, 3)...)
				drain(t, h.d)
				f.set(point)
				put(t, open(t, h.d, "t:q"), numbers(3, 10)...)
				if flushed || point == "outbox.reserved" { // else the commit may be gone, whose reservation the resolver ends
					h.Settle(t)
				}
				<-f.hit
				if flushed {
					h.Settle(t)
				}
				h.freeze(t, f)
				put(t, open(t, h.d, "t:q"), numbers(10, 12)...)
				h.start(t)
				drain(t, h.d)
				q := open(t, h.d, "t:q")
				if got := list(t, q); !slices.Equal(got, numbers(0, 12)) {
					t.Errorf("entries = %v", got)
				}
				if st, err := q.Stats(t.Context()); err != nil || st.Entries != 12 || st.Reservations != 0 {
					t.Errorf("Stats() = %+v, %v", st, err)
				}
				if left, err := h.d.moves.Reservations(t.Context(), everything(), 10); err != nil || len(left) > 0 {
					t.Errorf("records of moves = %v, %v", left, err)
				}
			})
		}
	}
}

// freeze crashes while the forwarder is halted at a point.
func (h *harness) freeze(t *testing.T, f *frozen) {
	t.Helper()
	if err := h.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := h.j.Abandon(); err != nil {
		t.Errorf("Abandon = %v", err)
	}
	_ = h.remote.Close() // what the halted one would do does not reach the server
	close(f.end)
	_ = h.d.Close()
	_ = h.local.Close()
	h.open(t)
}

// TestElsewhere has the queues at another place after the crash: what may have
// been moved is moved again.
func TestElsewhere(t *testing.T) {
	s := redistest.Start(t)
	f := &frozen{}
	h := newHarness(t, s.URL(), Options{Fault: f.fault})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	f.set("outbox.noted")
	put(t, open(t, h.d, "t:q"), numbers(0, 5)...)
	<-f.hit
	h.opts.Place, h.namespace = "there", h.namespace+"2"
	h.freeze(t, f)
	h.start(t)
	drain(t, h.d)
	if got := list(t, open(t, h.d, "t:q")); !slices.Equal(got, numbers(0, 5)) {
		t.Errorf("entries = %v", got)
	}
}

// TestAway has a server that is away: commits go on until the outbox is full,
// and all of them arrive when it is back, in order, once.
func TestAway(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	if err := h.d.Create(t.Context(), "t:q", 100*16); err != nil {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	put(t, q, "000000")
	drain(t, h.d)
	s.KillNine()
	for i := 1; i <= 100; i++ {
		put(t, q, fmt.Sprintf("%06d", i))
	}
	if _, err := q.Reserve(t.Context(), nil, 6, 1); !errors.Is(err, queue.ErrFull) {
		t.Errorf("Reserve = %v, want that the outbox is full", err)
	}
	if w, err := h.d.Waiting(t.Context()); err != nil || w.Entries != 100 {
		t.Errorf("Waiting() = %+v, %v, want 100 entries", w, err)
	}
	if list, err := q.(queue.Sender).Unsent(t.Context(), 7); err != nil || len(list) != 7 || string(list[0].Data) != "000001" {
		t.Errorf("Unsent = %d entries, %v", len(list), err)
	}
	s.Restart()
	// The server has room for one less than what waits.
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if w, err := h.d.Waiting(t.Context()); err == nil && w.Entries == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the events did not come to the server")
		}
	}
	got := list(t, q)
	if !slices.Equal(got, numbers(0, 100)) {
		t.Errorf("entries = %v", got)
	}
	entries, _, err := q.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ack(t.Context(), queue.Ack{UpTo: entries[len(entries)-1].Marker}); err != nil {
		t.Fatal(err)
	}
	drain(t, h.d)
	if got := list(t, q); !slices.Equal(got, numbers(100, 101)) {
		t.Errorf("entries = %v", got)
	}
}

// TestServerCrashes kills the server now and then while events are moved.
func TestServerCrashes(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{BatchEntries: 7, Gather: time.Millisecond})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	const rounds, each = 5, 100
	for r := range rounds {
		for i := range each {
			put(t, q, fmt.Sprintf("%06d", r*each+i))
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		s.KillNine()
		s.Restart()
	}
	drain(t, h.d)
	if got := list(t, q); !slices.Equal(got, numbers(0, rounds*each)) {
		t.Errorf("%d entries, want %d in order: %v", len(got), rounds*each, got)
	}
}

// TestDeletedElsewhere has a gateway with another store delete the queue: it is
// made again.
func TestDeletedElsewhere(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	put(t, q, "before")
	drain(t, h.d)
	if err := h.remote.Delete(t.Context(), "t:q"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Reserve(t.Context(), []byte("open"), 10, 1); err != nil {
		t.Fatal(err)
	}
	if left, err := q.Reservations(t.Context(), everything(), 10); err != nil || len(left) != 1 {
		t.Errorf("Reservations = %v, %v, want that of the outbox", left, err)
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Reservations != 1 || st.Entries != 0 {
		t.Errorf("Stats = %+v, %v", st, err)
	}
	put(t, q, "after")
	drain(t, h.d)
	if got := list(t, open(t, h.d, "t:q")); !slices.Equal(got, []string{"after"}) {
		t.Errorf("entries = %v", got)
	}
}

// TestEarlier has queues and reservations from before there was an outbox.
func TestEarlier(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	if err := h.remote.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, h.remote, "t:q").Reserve(t.Context(), []byte("earlier"), 10, 1); err != nil {
		t.Fatal(err)
	}
	if names, err := h.d.List(t.Context(), ""); err != nil || !slices.Equal(names, []string{"t:q"}) {
		t.Errorf("List = %v, %v", names, err)
	}
	q := open(t, h.d, "t:q")
	list1, err := q.Reservations(t.Context(), everything(), 10)
	if err != nil || len(list1) != 1 || string(list1[0].Intent) != "earlier" {
		t.Fatalf("Reservations = %v, %v", list1, err)
	}
	if err := q.Commit(t.Context(), list1[0].ID, [][]byte{[]byte("earlier")}); err != nil {
		t.Fatal(err)
	}
	put(t, q, "now")
	drain(t, h.d)
	if got := list(t, q); !slices.Equal(got, []string{"earlier", "now"}) {
		t.Errorf("entries = %v", got)
	}
	if left, err := q.Reservations(t.Context(), everything(), 10); err != nil || len(left) > 0 {
		t.Errorf("Reservations = %v, %v", left, err)
	}
	if a := &h.d.aliases; len(a.of)+len(a.place) > 0 {
		t.Errorf("names of reservations that ended: %v, %v", a.of, a.place)
	}
	if err := h.d.Delete(t.Context(), "t:q"); err != nil {
		t.Errorf("Delete = %v", err)
	}
	if _, err := h.d.Open(t.Context(), "t:q"); !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Errorf("Open = %v, want that it is gone", err)
	}
}
