package queuetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"herald/queue"
)

// each runs n workers and waits for them.
func each(n int, f func(worker int)) {
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

func testMultiReserve(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	var mu sync.Mutex
	ids := make(map[queue.ID]bool)
	each(10, func(int) {
		for range 11 {
			id, err := q.Reserve(s.ctx, []byte("i"), 1024, 1)
			if err != nil {
				t.Errorf("Reserve = %v", err)
			}
			mu.Lock()
			ids[id] = true
			mu.Unlock()
		}
	})
	if len(ids) != 110 {
		t.Errorf("%d distinct ids, want 110", len(ids))
	}
	s.wantUse(q, 0, 0, 110, 110*1034)
}

func testMultiCommit(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	each(10, func(w int) {
		for i := range 50 {
			id, err := q.Reserve(s.ctx, []byte("i"), 100, 2)
			if err == nil {
				err = q.Commit(s.ctx, id, bytesOf([]string{fmt.Sprintf("%02d %02d a", w, i), fmt.Sprintf("%02d %02d b", w, i)}))
			}
			if err != nil {
				t.Errorf("Reserve, Commit = %v", err)
			}
		}
	})
	s.wantUse(q, 1000, 1000*17, 0, 0)
	// Each worker's are in its order, and those of one commit together.
	next := make(map[string]int)
	entries := s.all(q)
	for i := 0; i+1 < len(entries); i += 2 {
		a, b := string(entries[i].Data), string(entries[i+1].Data)
		w := a[:2]
		if want := fmt.Sprintf("%s %02d ", w, next[w]); a != want+"a" || b != want+"b" {
			t.Fatalf("entries %q and %q, want %s", a, b, want)
		}
		next[w]++
	}
}

func testMultiAbort(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	each(10, func(int) {
		for range 50 {
			id, err := q.Reserve(s.ctx, []byte("i"), 100, 2)
			if err == nil {
				err = q.Abort(s.ctx, id)
			}
			if err != nil {
				t.Errorf("Reserve, Abort = %v", err)
			}
		}
	})
	s.wantUse(q, 0, 0, 0, 0)
}

// handOver has some goroutines reserve and others end the reservations.
func handOver(t *testing.T, s *suite, q queue.Queue, end func(queue.ID) error) {
	ids := make(chan queue.ID, 16)
	go func() {
		defer close(ids)
		each(10, func(int) {
			for range 50 {
				id, err := q.Reserve(s.ctx, []byte("i"), 100, 1)
				if err != nil {
					t.Errorf("Reserve = %v", err)
					return
				}
				ids <- id
			}
		})
	}()
	each(10, func(int) {
		for id := range ids {
			if err := end(id); err != nil {
				t.Errorf("end of reservation %d = %v", id, err)
			}
		}
	})
}

func testReserveCommit(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	handOver(t, s, q, func(id queue.ID) error { return q.Commit(s.ctx, id, bytesOf([]string{"0123456789"})) })
	s.wantUse(q, 500, 500*20, 0, 0)
}

func testReserveAbort(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	handOver(t, s, q, func(id queue.ID) error { return q.Abort(s.ctx, id) })
	s.wantUse(q, 0, 0, 0, 0)
}

// consume lists and acks until n entries have come, and checks that each came
// once and in its producer's order.
func consume(t *testing.T, s *suite, q queue.Queue, n int, byPrefix bool) {
	next := make(map[string]int)
	var after queue.Marker
	for seen := 0; seen < n; {
		if w, ok := q.(queue.Waiter); ok {
			if err := w.Wait(s.ctx, after); err != nil {
				t.Errorf("Wait = %v", err)
				return
			}
		}
		entries, _, err := q.List(s.ctx, after, 100)
		if err != nil {
			t.Errorf("List = %v", err)
			return
		}
		if len(entries) == 0 {
			pause()
			continue
		}
		for _, e := range entries {
			w := string(e.Data[:2])
			if want := fmt.Sprintf("%s %04d", w, next[w]); string(e.Data) != want {
				t.Errorf("entry %q, want %q", e.Data, want)
				return
			}
			next[w]++
		}
		seen += len(entries)
		ack := queue.Ack{Done: markersOf(entries)}
		if byPrefix {
			ack = queue.Ack{UpTo: entries[len(entries)-1].Marker}
		}
		if err := q.Ack(s.ctx, ack); err != nil {
			t.Errorf("Ack = %v", err)
			return
		}
		after = entries[len(entries)-1].Marker
	}
}

func testMultiProducer(t *testing.T, s *suite) {
	produceAndConsume(t, s, 10<<20, s.scale(4000)/10)
}

// testMultiProducerConsumer has producers that must wait for room.
func testMultiProducerConsumer(t *testing.T, s *suite) {
	produceAndConsume(t, s, 2000, s.scale(4000)/10)
}

func produceAndConsume(t *testing.T, s *suite, capacity int64, perWorker int) {
	for i, byPrefix := range []bool{false, true} {
		q := s.create(fmt.Sprint("q", i), capacity)
		var wg sync.WaitGroup
		wg.Go(func() { consume(t, s, q, 10*perWorker, byPrefix) })
		each(10, func(w int) {
			for i := range perWorker {
				if err := putWhenRoom(s.ctx, q, fmt.Sprintf("%02d %04d", w, i)); err != nil {
					t.Errorf("put = %v", err)
					return
				}
			}
		})
		wg.Wait()
		s.wantUse(q, 0, 0, 0, 0)
	}
}

func putWhenRoom(ctx context.Context, q queue.Queue, data string) error {
	for {
		id, err := q.Reserve(ctx, []byte("i"), 100, 1)
		if err == nil {
			return q.Commit(ctx, id, bytesOf([]string{data}))
		}
		if !errors.Is(err, queue.ErrFull) {
			return err
		}
		pause()
	}
}

func testWait(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	w, ok := q.(queue.Waiter)
	if !ok {
		t.Skip("the driver has no queue.Waiter")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancelled := make(chan error, 1)
	go func() { cancelled <- w.Wait(ctx, "") }()
	cancel()
	s.wantErr("Wait(cancelled)", s.await("Wait(cancelled)", cancelled), context.Canceled)

	woken := make(chan error, 3)
	for range cap(woken) {
		go func() { woken <- w.Wait(s.ctx, "") }()
	}
	s.put(q, "a")
	for range cap(woken) {
		s.wantErr("Wait", s.await("Wait", woken), nil)
	}
	first := s.all(q)[0].Marker
	go func() { woken <- w.Wait(s.ctx, first) }()
	s.put(q, "b")
	s.wantErr("Wait after the first", s.await("Wait", woken), nil)
	s.ack(q, queue.Ack{Done: []queue.Marker{first}})
	s.wantErr("Wait with an entry there", w.Wait(s.ctx, first), nil)
}

func testWaitDeleted(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	w, ok := q.(queue.Waiter)
	if !ok {
		t.Skip("the queues have no queue.Waiter")
	}
	woken := make(chan error, 1)
	go func() { woken <- w.Wait(s.ctx, "") }()
	if err := s.h.Driver().Delete(s.ctx, "q"); err != nil {
		t.Fatal(err)
	}
	s.wantErr("Wait", s.await("Wait", woken), queue.ErrNoSuchQueue)
}
