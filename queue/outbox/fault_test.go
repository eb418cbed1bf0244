package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/redis"
	"herald/tests/redistest"
)

// TestRecordInDoubt has a disk that does not tell whether the record of a move
// is durable, and it is: the move does not go on, and is taken up after the next
// start.
func TestRecordInDoubt(t *testing.T) {
	s := redistest.Start(t)
	f := &frozen{}
	h := newHarness(t, s.URL(), Options{Fault: f.fault})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, h.d, "t:q"), numbers(0, 3)...)
	drain(t, h.d)
	h.fails.Store(true)
	f.set("outbox.reserved")
	put(t, open(t, h.d, "t:q"), numbers(3, 10)...)
	<-f.hit
	end := f.end
	f.set("outbox.reserved") // of another try, if there is one
	close(end)
	select {
	case <-f.hit:
		t.Error("the batch is reserved again while there may be a record of the first try")
	case <-time.After(time.Second):
	}
	h.Settle(t)
	h.freeze(t, f)
	h.fails.Store(false)
	h.start(t)
	drain(t, h.d)
	q := open(t, h.d, "t:q")
	if got := list(t, q); !slices.Equal(got, numbers(0, 10)) {
		t.Errorf("entries = %v", got)
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Reservations != 0 {
		t.Errorf("Stats() = %+v, %v", st, err)
	}
}

// TestRecordLater has a record that becomes durable at a later try.
func TestRecordLater(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	h.fails.Store(true)
	q := open(t, h.d, "t:q")
	put(t, q, numbers(0, 10)...)
	time.Sleep(100 * time.Millisecond)
	if got := list(t, q); len(got) > 0 {
		t.Errorf("entries = %v before their record is durable", got)
	}
	h.fails.Store(false)
	drain(t, h.d)
	if got := list(t, q); !slices.Equal(got, numbers(0, 10)) {
		t.Errorf("entries = %v", got)
	}
	if left, err := h.d.moves.Reservations(t.Context(), everything(), 10); err != nil || len(left) > 0 {
		t.Errorf("records of moves = %v, %v", left, err)
	}
}

// TestPause: a forwarder that has more to move does not pause, so that there is
// no rate at which an outbox fills up because of pauses.
func TestPause(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{BatchEntries: 10, Gather: time.Hour})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	s.KillNine()
	for i := range 25 {
		put(t, q, strconv.Itoa(i))
	}
	s.Restart()
	drain(t, h.d)
	b, err := h.d.box(t.Context(), "t:q")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		n    int
		more bool
		want time.Duration
	}{{10, true, 0}, {5, false, 5 * gatherEach}, {1, false, gatherEach}} {
		if b.more = tt.more; b.pause(tt.n) != tt.want {
			t.Errorf("pause(%d) with more %v = %v, want %v", tt.n, tt.more, b.pause(tt.n), tt.want)
		}
	}
	if b.more = true; len(list(t, q)) != 25 {
		t.Error("not all were moved")
	}
	entries := 0
	for range 15 {
		put(t, q, "x")
	}
	drain(t, h.d)
	if entries = len(list(t, q)); entries != 40 || b.more {
		t.Errorf("%d entries, more %v, want 40 and none", entries, b.more)
	}
}

// TestCrashAtRandom ends the process at points of moves, some of several queues
// at once, again and again, with the server killed now and then: what was durable
// before the crash comes, in order, and nothing comes twice.
func TestCrashAtRandom(t *testing.T) {
	s := redistest.Start(t)
	testCrashAtRandom(t, 150, func(opts Options) *harness { return newHarness(t, s.URL(), opts) }, func() { s.KillNine(); s.Restart() })
}

func testCrashAtRandom(t *testing.T, rounds int, start func(Options) *harness, hurt func()) {
	if testing.Short() {
		rounds /= 5
	}
	f := &frozen{}
	h := start(Options{Fault: f.fault, BatchEntries: 5, Gather: 2 * time.Millisecond})
	names := []string{"t:q", "t:q.1"}
	for _, name := range names {
		if err := h.d.Create(t.Context(), name, 16<<20); err != nil {
			t.Fatal(err)
		}
	}
	next := make([]int, len(names))      // number of the next entry of each queue
	durable := make([][]int, len(names)) // those that must come
	for round := range rounds {
		f.setAfter("any", rand.IntN(12))
		var stop atomic.Bool
		var wg sync.WaitGroup
		for i, name := range names {
			q := open(t, h.d, name)
			wg.Go(func() {
				// So many at most, as a server that is long in starting would have them
				// be moved for minutes, by five.
				for calls := 0; calls < 100 && !stop.Load(); calls++ {
					n := 1 + rand.IntN(4)
					var data []string
					for k := range n {
						data = append(data, fmt.Sprintf("%06d", next[i]+k))
					}
					put(t, q, data...)
					if rand.IntN(3) == 0 {
						h.Settle(t)
						for k := range n {
							durable[i] = append(durable[i], next[i]+k)
						}
					}
					next[i] += n
					time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				}
			})
		}
		if round%7 == 3 {
			hurt()
		}
		<-f.hit
		stop.Store(true)
		wg.Wait()
		h.freeze(t, f)
		h.start(t)
		drain(t, h.d)
		for i, name := range names {
			checkRun(t, name, list(t, open(t, h.d, name)), durable[i])
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// TestDeleteRace makes and deletes a queue while others reserve, commit and look:
// what is deleted is gone in both places, and what is made then is empty.
func TestDeleteRace(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{BatchEntries: 3, Gather: time.Nanosecond})
	ctx := t.Context()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				q, err := h.d.Open(ctx, "t:q")
				var id queue.ID
				if err == nil {
					id, err = q.Reserve(ctx, []byte("intent"), 10, 1)
				}
				if err == nil {
					q.(queue.Starter).StartCommit(ctx, id, [][]byte{[]byte("x")}, func(e error) { err = e })
				}
				if err == nil {
					_, err = q.Stats(ctx)
				}
				if err != nil && !errors.Is(err, queue.ErrNoSuchQueue) && !errors.Is(err, queue.ErrNoSuchReservation) {
					t.Error(err)
					return
				}
			}
		})
	}
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		if err := h.d.Create(ctx, "t:q", 1<<20); err != nil && !errors.Is(err, queue.ErrQueueExists) {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		if err := h.d.Delete(ctx, "t:q"); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	drain(t, h.d)
	if err := h.d.Delete(ctx, "t:q"); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Fatal(err)
	}
	if names, err := h.d.List(ctx, ""); err != nil || len(names) > 0 {
		t.Errorf("List = %v, %v", names, err)
	}
	if left, err := h.d.moves.Reservations(ctx, everything(), 10); err != nil || len(left) > 0 {
		t.Errorf("records of moves = %v, %v", left, err)
	}
	if err := h.d.Create(ctx, "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	put(t, q, "new")
	drain(t, h.d)
	if got := list(t, q); !slices.Equal(got, []string{"new"}) {
		t.Errorf("entries = %v", got)
	}
}

// slowStats is a driver whose queues' figures are old when they are told: then
// was called since.
type slowStats struct {
	queue.Driver
	then func()
}

func (d slowStats) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	return slowQueue{q, d.then}, err
}

type slowQueue struct {
	queue.Queue
	then func()
}

func (q slowQueue) Stats(ctx context.Context) (queue.Stats, error) {
	st, err := q.Queue.Stats(ctx)
	q.then()
	return st, err
}

// TestStats_Moved moves entries while their queue's figures are asked for: they
// are not missing.
func TestStats_Moved(t *testing.T) {
	s := redistest.Start(t)
	f := &frozen{}
	var h *harness
	move := func() {}
	h = newHarnessOn(t, "stats:", Options{Fault: f.fault}, func(namespace string) (queue.Driver, error) {
		d, err := redis.Open(context.Background(), s.URL(), redis.Options{Namespace: namespace, RequireAOF: true})
		return slowStats{d, func() { move() }}, err
	})
	if err := h.d.Create(t.Context(), "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	f.set("outbox.reserved")
	q := open(t, h.d, "t:q")
	put(t, q, numbers(0, 10)...)
	<-f.hit
	move = func() {
		close(f.end)
		drain(t, h.d)
		move = func() {}
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Entries < 10 {
		t.Errorf("Stats() = %+v, %v, want 10 entries at least", st, err)
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Entries != 10 {
		t.Errorf("Stats() = %+v, %v, want 10 entries", st, err)
	}
}

// checkRun fails unless the entries are numbers that grow, with those that are
// durable among them.
func checkRun(t *testing.T, name string, got []string, durable []int) {
	t.Helper()
	last, there := -1, make(map[int]bool)
	for _, s := range got {
		n, err := strconv.Atoi(s)
		if err != nil || n <= last {
			t.Errorf("%s: entry %q after %d", name, s, last)
		}
		last = n
		there[n] = true
	}
	for _, n := range durable {
		if !there[n] {
			t.Errorf("%s: entry %d is lost", name, n)
		}
	}
}
