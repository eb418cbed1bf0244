package queuetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
)

// crash crashes the driver, or skips the test.
func (s *suite) crash(name string) queue.Queue {
	s.Helper()
	if !s.h.Crash(s.T) {
		s.Skip("the harness cannot crash its driver")
	}
	return s.open(name)
}

// testCrashBetween crashes between reserve and commit: the reservation and its
// intent are there, and somebody else can end it.
func testCrashBetween(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	committed := s.reserve(q, "to commit", 100, 1)
	s.h.Advance(20 * time.Millisecond)
	aborted := s.reserve(q, "to abort", 100, 1)
	s.h.Settle(t)
	q = s.crash("q")
	rs := s.reservations(q, s.later())
	if len(rs) != 2 || string(rs[0].Intent) != "to commit" || string(rs[1].Intent) != "to abort" {
		t.Fatalf("reservations = %+v", rs)
	}
	s.wantUse(q, 0, 0, 2, 220)
	s.commit(q, committed, "x")
	if err := q.Abort(s.ctx, aborted); err != nil {
		t.Errorf("Abort = %v", err)
	}
	fresh := s.reserve(q, "fresh", 100, 1)
	if fresh == committed || fresh == aborted {
		t.Errorf("id %d used again", fresh)
	}
	s.h.Settle(t)
	q = s.crash("q")
	s.wantUse(q, 1, 11, 1, 110)
}

func testCrashAfterCommit(t *testing.T, s *suite) {
	q := s.create("q", 10<<20)
	var want []string
	for round := range 5 {
		for i := range 100 {
			data := fmt.Sprintf("%d %d %s", round, i, strings.Repeat("x", 1000*round))
			s.put(q, data)
			want = append(want, data)
		}
		entries := s.all(q)
		s.ack(q, queue.Ack{UpTo: entries[19].Marker, Done: markersOf(entries[40:50])})
		want = append(append([]string{}, want[20:40]...), want[50:]...)
		s.h.Settle(t)
		q = s.crash("q")
		if diff := cmp.Diff(want, dataOf(s.all(q))); diff != "" {
			t.Fatalf("round %d: entries (-want +got):\n%s", round, diff)
		}
	}
}

// testCrashUnderLoad crashes while producers work: what was settled is there,
// what was not is whole or not at all.
func testCrashUnderLoad(t *testing.T, s *suite) {
	s.create("q", 100<<20)
	seen := make(map[string]int) // by worker, across rounds: the last calls may come late
	for round := range 3 {
		q := s.open("q")
		ctx, cancel := context.WithCancel(s.ctx)
		var (
			wg    sync.WaitGroup
			acked [16]atomic.Int64
		)
		for w := range acked {
			wg.Go(func() { putPairs(ctx, q, fmt.Sprintf("%d/%d", round, w), &acked[w]) })
		}
		for s.stats(q).Entries < int64(s.scale(4000)) {
			pause()
		}
		settled := make(map[string]int)
		for w := range acked {
			settled[fmt.Sprintf("%d/%d", round, w)] = int(acked[w].Load())
		}
		s.h.Settle(t)
		crashed := s.h.Crash(t)
		cancel()
		wg.Wait()
		if !crashed {
			t.Skip("the harness cannot crash its driver")
		}
		q = s.open("q")
		entries := s.after(q, "", 1000)
		checkPairs(t, entries, seen, settled)
		s.ack(q, queue.Ack{UpTo: last(entries).Marker})
	}
}

// putPairs puts pairs of entries until the crash, and counts those that were
// acknowledged.
func putPairs(ctx context.Context, q queue.Queue, worker string, acked *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		pair := bytesOf([]string{fmt.Sprintf("%s/%d a", worker, i), fmt.Sprintf("%s/%d b", worker, i)})
		id, err := q.Reserve(ctx, []byte("i"), 100, 2)
		if err != nil || q.Commit(ctx, id, pair) != nil {
			return
		}
		acked.Add(1)
	}
}

func last(entries []queue.Entry) queue.Entry { return entries[len(entries)-1] }

// checkPairs wants entries in pairs, each worker's without gaps from what was
// seen before, and at least as many as were settled.
func checkPairs(t *testing.T, entries []queue.Entry, seen, settled map[string]int) {
	t.Helper()
	if len(entries)%2 != 0 {
		t.Fatalf("%d entries after the crash, want pairs", len(entries))
	}
	for i := 0; i < len(entries); i += 2 {
		a, b := string(entries[i].Data), string(entries[i+1].Data)
		worker := a[:strings.LastIndex(a, "/")]
		want := fmt.Sprintf("%s/%d ", worker, seen[worker])
		if a != want+"a" || b != want+"b" {
			t.Fatalf("entries %q and %q, want %s", a, b, want)
		}
		seen[worker]++
	}
	for worker, n := range settled {
		if seen[worker] < n {
			t.Errorf("worker %s: %d pairs are there, %d were settled", worker, seen[worker], n)
		}
	}
}

// testCapacityReturns is the leak guard: RGW once counted the overhead of
// entries twice, and a queue answered "full" for ever after 12 million events.
func testCapacityReturns(t *testing.T, s *suite) {
	const capacity, workers = 64 << 10, 64
	n := max(s.scale(200_000)/workers, 1)
	q := s.create("q", capacity)
	each(workers, func(int) {
		for i := range n {
			if err := putAndAck(s.ctx, q, i%16 == 15); err != nil {
				t.Errorf("put number %d = %v", i, err)
				return
			}
		}
		for i := range n {
			id, err := q.Reserve(s.ctx, []byte("intent"), 100, 2)
			if err == nil {
				err = q.Abort(s.ctx, id)
			}
			if err != nil {
				t.Errorf("Reserve, Abort number %d = %v", i, err)
				return
			}
		}
	})
	for _, e := range s.all(q) {
		s.ack(q, queue.Ack{Done: []queue.Marker{e.Marker}})
	}
	s.wantUse(q, 0, 0, 0, 0)
	q = s.reopen("q")
	s.wantUse(q, 0, 0, 0, 0)
	s.commit(q, s.reserve(q, "all of it", capacity-queue.EntryOverhead, 1), strings.Repeat("x", capacity-queue.EntryOverhead))
}

// putAndAck reserves and commits, when there is room, and acks all that is
// there now and then.
func putAndAck(ctx context.Context, q queue.Queue, ack bool) error {
	for {
		id, err := q.Reserve(ctx, []byte("intent"), 100, 2)
		if err == nil {
			err = q.Commit(ctx, id, bytesOf([]string{"a", "b"}))
		}
		full := errors.Is(err, queue.ErrFull)
		if err != nil && !full {
			return err
		}
		if ack || full {
			entries, _, err := q.List(ctx, "", 1000)
			if err == nil && len(entries) > 0 {
				err = q.Ack(ctx, queue.Ack{UpTo: last(entries).Marker})
			}
			if err != nil {
				return err
			}
		}
		if !full {
			return nil
		}
	}
}

// testMemory has a backlog that must not be in memory.
func testMemory(t *testing.T, s *suite) {
	const batch, size = 100, 300
	n := max(s.scale(1_000_000)/batch, 1) * batch
	q := s.create("q", int64(n)*(size+queue.EntryOverhead))
	data := make([][]byte, batch)
	for i := range data {
		data[i] = make([]byte, size)
	}
	before := heap()
	for range n / batch {
		id, err := q.Reserve(s.ctx, nil, batch*size, batch)
		if err == nil {
			err = q.Commit(s.ctx, id, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.h.Settle(t)
	s.heapWithin("with a backlog", before, int64(24<<20+8*n))
	t.Logf("%d waiting entries of %d bytes: heap grew by %d KiB", n, size, (heap()-before)>>10)
	count := 0
	for m := queue.Marker(""); ; {
		entries, more, err := q.List(s.ctx, m, 1000)
		if err != nil {
			t.Fatal(err)
		}
		count += len(entries)
		if len(entries) > 0 {
			m = last(entries).Marker
			s.ack(q, queue.Ack{UpTo: m})
		}
		if !more {
			break
		}
	}
	if count != n {
		t.Errorf("listed %d entries, want %d", count, n)
	}
	s.wantUse(q, 0, 0, 0, 0)
	s.heapWithin("after all was acked", before, 32<<20)
}

// heapWithin wants a heap that has grown by limit at most. Other tests that run
// at the same time use it for a while.
func (s *suite) heapWithin(when string, before, limit int64) {
	s.Helper()
	s.eventually(func() string {
		if grown := heap() - before; grown > limit {
			return fmt.Sprintf("the heap has grown by %d bytes %s, want at most %d", grown, when, limit)
		}
		return ""
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
