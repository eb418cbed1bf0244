package queuetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
)

// lose makes a call whose answer is lost n times, and fails when none was.
func (s *suite) lose(l Lossy, n int, what string, want error, call func(ctx context.Context) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	before := l.Lost()
	l.LoseReplies(s.T, n)
	err := call(ctx)
	l.LoseReplies(s.T, 0)
	s.wantErr(fmt.Sprintf("%s with %d answers lost", what, n), err, want)
	if want == nil && l.Lost() == before {
		s.Errorf("%s: no answer was lost", what)
	}
}

// losses runs a case with an answer lost once, and several times.
func losses(s *suite, run func(l Lossy, name string, n int)) {
	l := NeedLossy(s.T, s.h)
	for _, n := range []int{1, 3} {
		run(l, fmt.Sprint("q", n), n)
	}
}

func testLostReserve(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 1000)
		var id queue.ID
		reserve := func(ctx context.Context) (err error) {
			id, err = q.Reserve(ctx, []byte("intent"), 600, 1)
			return err
		}
		s.lose(l, n, "Reserve", nil, reserve)
		s.wantUse(q, 0, 0, 1, 610)
		first := id
		s.lose(l, n, "Reserve without room", queue.ErrFull, reserve)
		rs := s.reservations(q, s.later())
		if len(rs) != 1 || rs[0].ID != first || string(rs[0].Intent) != "intent" {
			t.Errorf("reservations = %+v, want %d", rs, first)
		}
		s.commit(q, first, "x")
		s.wantUse(q, 1, 11, 0, 0)
	})
}

func testLostCommit(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 1000)
		id := s.reserve(q, "i", 100, 3)
		commit := func(data ...string) func(context.Context) error {
			return func(ctx context.Context) error { return q.Commit(ctx, id, bytesOf(data)) }
		}
		s.lose(l, n, "Commit of too many", queue.ErrTooLarge, commit("1", "2", "3", "4"))
		s.wantUse(q, 0, 0, 1, 130)
		s.lose(l, n, "Commit", nil, commit("a", "b"))
		s.wantUse(q, 2, 22, 0, 0)
		s.lose(l, n, "Commit again", queue.ErrNoSuchReservation, commit("c"))
		id = s.reserve(q, "i", 100, 3)
		s.lose(l, n, "Commit of nothing", nil, commit())
		s.wantUse(q, 2, 22, 0, 0)
		if got := dataOf(s.all(q)); len(got) != 2 || got[0] != "a" || got[1] != "b" {
			t.Errorf("entries = %q", got)
		}
	})
}

func testLostAbort(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 1000)
		id, other := s.reserve(q, "i", 100, 1), s.reserve(q, "i", 200, 1)
		s.lose(l, n, "Abort", nil, func(ctx context.Context) error { return q.Abort(ctx, id) })
		s.wantErr("Commit of the aborted", q.Commit(s.ctx, id, bytesOf([]string{"x"})), queue.ErrNoSuchReservation)
		s.wantUse(q, 0, 0, 1, 210)
		s.commit(q, other, "x")
	})
}

func testLostRenew(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 1000)
		id := s.reserve(q, "i", 100, 1)
		renew := func(ctx context.Context) error { return q.Renew(ctx, id) }
		line := s.line()
		s.lose(l, n, "Renew", nil, renew)
		if rs := s.olderThan(q, line); len(rs) != 0 {
			t.Errorf("stale reservations = %+v after Renew", rs)
		}
		s.commit(q, id, "x")
		s.lose(l, n, "Renew of the committed", queue.ErrNoSuchReservation, renew)
		s.wantUse(q, 1, 11, 0, 0)
	})
}

func testLostAck(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 10_000)
		s.put(q, numbered("e", 10)...)
		entries := s.all(q)
		ack := func(a queue.Ack) func(context.Context) error {
			return func(ctx context.Context) error { return q.Ack(ctx, a) }
		}
		s.lose(l, n, "Ack", nil, ack(queue.Ack{
			UpTo: entries[2].Marker, Done: markersOf(entries[5:7]), Fence: 7,
			Failed: []queue.Attempt{{Marker: entries[4].Marker, Attempts: 2, LastTry: s.h.Now()}},
		}))
		s.lose(l, n, "Ack with an old fence", queue.ErrFenced, ack(queue.Ack{UpTo: entries[9].Marker, Fence: 6}))
		got := s.all(q)
		if len(got) != 5 || got[1].Marker != entries[4].Marker || got[1].Attempts != 2 || got[0].Attempts != 0 {
			t.Errorf("entries = %+v, want 3, 4 (two attempts), 7, 8, 9", got)
		}
		s.wantUse(q, 5, 5*18, 0, 0)
	})
}

func testLostCreate(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		create := func(ctx context.Context) error { return s.h.Driver().Create(ctx, name, 1000) }
		s.lose(l, n, "Create", nil, create)
		q := s.open(name)
		s.put(q, "x")
		s.lose(l, n, "Create again", queue.ErrQueueExists, create)
		s.wantUse(q, 1, 11, 0, 0)
		if names, err := s.h.Driver().List(s.ctx, name); err != nil || len(names) != 1 {
			t.Errorf("List(%s) = %q, %v", name, names, err)
		}
	})
}

func testLostDelete(t *testing.T, s *suite) {
	losses(s, func(l Lossy, name string, n int) {
		q := s.create(name, 1000)
		s.put(q, "x")
		remove := func(ctx context.Context) error { return s.h.Driver().Delete(ctx, name) }
		s.lose(l, n, "Delete", nil, remove)
		_, err := q.Stats(s.ctx)
		s.wantErr("Stats of the deleted", err, queue.ErrNoSuchQueue)
		s.lose(l, n, "Delete again", queue.ErrNoSuchQueue, remove)
		s.wantUse(s.create(name, 1000), 0, 0, 0, 0)
	})
}

// testLostForGood has no answer come before the context ends: the call says
// so, and what it did is done once when somebody asks again.
func testLostForGood(t *testing.T, s *suite) {
	l := NeedLossy(t, s.h)
	q := s.create("q", 1000)
	id := s.reserve(q, "i", 100, 1)
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	l.LoseReplies(t, 1<<30)
	done := make(chan error, 1)
	go func() { done <- q.Commit(ctx, id, bytesOf([]string{"x"})) }()
	s.wantErr("Commit", s.await("Commit", done), context.DeadlineExceeded)
	l.LoseReplies(t, 0)
	if err := q.Commit(s.ctx, id, bytesOf([]string{"x"})); !nilOr(err, queue.ErrNoSuchReservation) {
		t.Errorf("Commit again = %v", err)
	}
	s.wantUse(q, 1, 11, 0, 0)
}

// testImpatient has callers that do not wait: a call that was given up has
// taken effect or not, wholly, and no answer is taken for another's.
func testImpatient(t *testing.T, s *suite) {
	q := s.create("q", 10<<20)
	var (
		mu        sync.Mutex // guards what follows
		committed = make(map[string]bool)
		tried     = make(map[string]bool)
	)
	each(8, func(w int) {
		for i := range max(s.scale(4000)/8, 20) {
			data := fmt.Sprintf("%d %d", w, i)
			id, err := impatient(s, func(ctx context.Context) (queue.ID, error) { return q.Reserve(ctx, []byte(data), 100, 1) })
			if err != nil {
				continue
			}
			_, err = impatient(s, func(ctx context.Context) (queue.ID, error) {
				return 0, q.Commit(ctx, id, bytesOf([]string{data}))
			})
			if errors.Is(err, queue.ErrNoSuchReservation) {
				t.Errorf("Commit(%d) = %v, which was just reserved", id, err)
			}
			mu.Lock()
			committed[data], tried[data] = err == nil, true
			mu.Unlock()
		}
	})
	// What was given up may still be under way: until that is over, the figures
	// may be newer than the list.
	s.eventually(func() string {
		there := make(map[string]bool)
		for _, data := range dataOf(s.all(q)) {
			if there[data] || !tried[data] {
				t.Errorf("entry %q came before %v, was committed %v", data, there[data], tried[data])
			}
			there[data] = true
		}
		for _, r := range s.reservations(q, s.later()) {
			if there[string(r.Intent)] || committed[string(r.Intent)] {
				t.Errorf("reservation %d of %q is there, and its entry, too", r.ID, r.Intent)
			}
			s.wantErr("Abort", q.Abort(s.ctx, r.ID), nil)
		}
		for data, ok := range committed {
			if ok && !there[data] {
				t.Errorf("entry %q is missing", data)
			}
		}
		if st := s.stats(q); st.Entries != int64(len(there)) || st.Reservations+st.Reserved != 0 {
			return fmt.Sprintf("Stats() = %+v, want %d entries and no reservation", st, len(there))
		}
		return ""
	})
}

// impatient makes a call with little time.
func impatient(s *suite, call func(ctx context.Context) (queue.ID, error)) (queue.ID, error) {
	d := []time.Duration{0, 100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, patience, patience}
	ctx, cancel := context.WithTimeout(s.ctx, d[rand.IntN(len(d))])
	defer cancel()
	return call(ctx)
}

// testLossUnderLoad loses answers while many work.
func testLossUnderLoad(t *testing.T, s *suite) {
	l := NeedLossy(t, s.h)
	before := l.Lost()
	s.disturbed(20*time.Millisecond, func() { l.LoseReplies(t, 1) })
	l.LoseReplies(t, 0)
	t.Logf("%d answers lost", l.Lost()-before)
	if l.Lost() == before {
		t.Error("no answer was lost")
	}
}

// testCutUnderLoad cuts the connections while many work.
func testCutUnderLoad(t *testing.T, s *suite) {
	c, ok := s.h.(Cutter)
	if !ok {
		t.Skip("the driver has no connections to cut (no queuetest.Cutter)")
	}
	s.disturbed(200*time.Millisecond, func() { c.Cut(t) })
}

// disturbed has producers and a consumer work while disturb is called time and
// again, the first time before they begin: each committed entry comes exactly
// once, for nobody died.
func (s *suite) disturbed(every time.Duration, disturb func()) {
	s.create("q", 10<<20)
	q, other := s.others("q")
	var (
		left     atomic.Int64 // producers
		done     atomic.Int64 // entries that they have put
		load, wg sync.WaitGroup
		stop     = make(chan struct{})
	)
	n := max(s.scale(8000)/16, 20)
	left.Store(16)
	disturb()
	for w := range 16 {
		load.Go(func() {
			defer left.Add(-1)
			produceMixed(s, q, w, n, &done)
		})
	}
	wg.Go(func() { consumeOnce(s, other, 16*n, &left) })
	wg.Go(func() {
		for next := int64(16); ; {
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
			// Not what is only tried again and again.
			if n := done.Load(); n >= next {
				next = n + 16
				disturb()
			}
		}
	})
	load.Wait()
	close(stop)
	wg.Wait()
	s.wantUse(q, 0, 0, 0, 0)
}

// produceMixed commits n entries, and makes reservations that come to nothing.
func produceMixed(s *suite, q queue.Queue, w, n int, done *atomic.Int64) {
	for i := range n {
		id, err := q.Reserve(s.ctx, []byte("i"), 100, 2)
		if err == nil && i%4 == 0 {
			err = q.Renew(s.ctx, id)
		}
		if err == nil {
			err = q.Commit(s.ctx, id, bytesOf([]string{fmt.Sprintf("%02d %04d", w, i)}))
		}
		if err == nil && i%4 == 1 {
			if id, err = q.Reserve(s.ctx, []byte("i"), 100, 2); err == nil {
				err = q.Abort(s.ctx, id)
			}
		}
		if err != nil {
			s.Errorf("producer %d, entry %d: %v", w, i, err)
			return
		}
		done.Add(1)
	}
}

// consumeOnce lists from the start and acks, so that an entry that it gets
// twice was added twice, or its Ack was not done.
func consumeOnce(s *suite, q queue.Queue, n int, producers *atomic.Int64) {
	next := make(map[string]int)
	for seen := 0; seen < n; {
		idle := producers.Load() == 0
		entries, _, err := q.List(s.ctx, "", 100)
		if err != nil {
			s.Errorf("List = %v", err)
			return
		}
		if len(entries) == 0 && idle {
			s.Errorf("%d entries came, want %d", seen, n)
			return
		}
		for _, e := range entries {
			w := string(e.Data[:2])
			if want := fmt.Sprintf("%s %04d", w, next[w]); string(e.Data) != want {
				s.Errorf("entry %q, want %q", e.Data, want)
				return
			}
			next[w]++
		}
		if seen += len(entries); len(entries) == 0 {
			pause()
			continue
		}
		if err := q.Ack(s.ctx, queue.Ack{Done: markersOf(entries)}); err != nil {
			s.Errorf("Ack = %v", err)
			return
		}
	}
}
