package queuetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/queue"
)

func testGetCapacity(t *testing.T, s *suite) {
	q := s.create("q", 8*1024*1024)
	for range 2 {
		if got := s.stats(q).Capacity; got != 8*1024*1024 {
			t.Errorf("Stats().Capacity = %d", got)
		}
		q = s.reopen("q")
	}
}

func testReserve(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	want := make(map[queue.ID]string)
	for i := range 10 {
		intent := fmt.Sprintf("intent\x00 %d", i)
		id := s.reserve(q, intent, int64(100+i), 1+i)
		if _, ok := want[id]; ok {
			t.Errorf("id %d given out twice", id)
		}
		want[id] = intent
		s.h.Advance(20 * time.Millisecond) // coarser than the clock of any server
	}
	for range 2 {
		rs := s.reservations(q, s.later())
		if len(rs) != 10 {
			t.Fatalf("%d reservations, want 10", len(rs))
		}
		for i, r := range rs {
			if string(r.Intent) != want[r.ID] || r.Size != int64(100+i) || r.Entries != 1+i {
				t.Errorf("reservation %d = %+v", i, r)
			}
			s.wantTime("Time of a reservation", r.Time, s.h.Now())
		}
		s.wantUse(q, 0, 0, 10, 10*100+45+55*queue.EntryOverhead)
		q = s.reopen("q")
	}
	if got := s.reservations(q, time.Time{}); len(got) != 0 {
		t.Errorf("%d reservations older than the world", len(got))
	}
	some, err := q.Reservations(s.ctx, s.later(), 3)
	if err != nil || len(some) != 3 || some[0].Size != 100 {
		t.Errorf("Reservations(max 3) = %d, %v, want the oldest 3", len(some), err)
	}
}

// As in Ceph's test: 256 KiB hold 253 reservations of 1 KiB.
func testReserveError(t *testing.T, s *suite) {
	q := s.create("q", 256*1024)
	for i := range 253 {
		if _, err := q.Reserve(s.ctx, nil, 1024, 1); err != nil {
			t.Fatalf("Reserve number %d = %v", i+1, err)
		}
	}
	_, err := q.Reserve(s.ctx, nil, 1024, 1)
	s.wantErr("Reserve number 254", err, queue.ErrFull)
	for _, c := range []struct {
		size    int64
		entries int
		want    error
	}{
		{0, 1, queue.ErrInvalid}, {1, 0, queue.ErrInvalid}, {-1, 1, queue.ErrInvalid}, {1, -1, queue.ErrInvalid},
		{1 << 62, 1, queue.ErrFull}, {1, 1 << 61, queue.ErrFull}, {1<<63 - 1, 1<<63 - 1, queue.ErrFull},
	} {
		_, err := q.Reserve(s.ctx, nil, c.size, c.entries)
		s.wantErr(fmt.Sprintf("Reserve(%d, %d)", c.size, c.entries), err, c.want)
	}
	s.wantUse(q, 0, 0, 253, 253*1034)
	// The last bytes can be had, not one more.
	left := int64(256*1024 - 253*1034)
	_, err = q.Reserve(s.ctx, nil, left-queue.EntryOverhead+1, 1)
	s.wantErr("Reserve of one byte too many", err, queue.ErrFull)
	s.reserve(q, "", left-queue.EntryOverhead, 1)
	q = s.reopen("q")
	_, err = q.Reserve(s.ctx, nil, 1, 1)
	s.wantErr("Reserve in the full queue", err, queue.ErrFull)
}

func testAbort(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	for round := range 2 {
		var ids []queue.ID
		for range 100 {
			ids = append(ids, s.reserve(q, "i", 1024, 3))
		}
		if round == 1 {
			q = s.reopen("q")
		}
		for _, id := range ids {
			if err := q.Abort(s.ctx, id); err != nil {
				t.Errorf("Abort(%d) = %v", id, err)
			}
		}
		s.wantUse(q, 0, 0, 0, 0)
	}
	q = s.reopen("q")
	s.wantUse(q, 0, 0, 0, 0)
}

func testAbortError(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	id := s.reserve(q, "i", 1024, 1)
	for _, unknown := range []queue.ID{0, id + 999, 1 << 63} {
		if err := q.Abort(s.ctx, unknown); err != nil {
			t.Errorf("Abort(%d) = %v, want nil", unknown, err)
		}
	}
	s.wantUse(q, 0, 0, 1, 1034)
	for range 2 {
		if err := q.Abort(s.ctx, id); err != nil {
			t.Errorf("Abort = %v", err)
		}
	}
	s.wantErr("Commit of the aborted", q.Commit(s.ctx, id, bytesOf([]string{"x"})), queue.ErrNoSuchReservation)
	s.wantUse(q, 0, 0, 0, 0)
}

func testRenew(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	old, renewed := s.reserve(q, "old", 1, 1), s.reserve(q, "renewed", 1, 1)
	line := s.line()
	if err := q.Renew(s.ctx, renewed); err != nil {
		t.Errorf("Renew = %v", err)
	}
	rs := s.olderThan(q, line)
	if len(rs) != 1 || rs[0].ID != old {
		t.Errorf("stale reservations %+v, want %d alone", rs, old)
	}
	s.wantErr("Renew(unknown)", q.Renew(s.ctx, renewed+100), queue.ErrNoSuchReservation)
	if err := q.Abort(s.ctx, renewed); err != nil {
		t.Errorf("Abort = %v", err)
	}
	s.wantErr("Renew(aborted)", q.Renew(s.ctx, renewed), queue.ErrNoSuchReservation)
}

func testManualCleanup(t *testing.T, s *suite) {
	q := s.create("q", 1<<20)
	stale := make(map[queue.ID]bool)
	for range 10 {
		stale[s.reserve(q, "stale", 1024, 1)] = true
	}
	line := s.line()
	for range 5 {
		s.reserve(q, "fresh", 1024, 1)
	}
	rs := s.olderThan(q, line)
	if len(rs) != 10 {
		t.Errorf("%d stale reservations, want 10", len(rs))
	}
	for i, r := range rs {
		if !stale[r.ID] || string(r.Intent) != "stale" || i > 0 && r.Time.Before(rs[i-1].Time) {
			t.Errorf("stale reservation %d = %+v", i, r)
		}
		if err := q.Abort(s.ctx, r.ID); err != nil {
			t.Errorf("Abort = %v", err)
		}
	}
	s.wantUse(q, 0, 0, 5, 5*1034)
}

// testReserveThousands is Ceph's spill-over tests: more reservations than fit
// its head, which holds 904.
func testReserveThousands(t *testing.T, s *suite) {
	n := 4096
	if testing.Short() {
		n = 1280
	}
	q := s.create("q", 1<<30)
	ids := make([]queue.ID, n)
	each(16, func(w int) {
		for i := w; i < n; i += 16 {
			var err error
			if ids[i], err = q.Reserve(s.ctx, fmt.Appendf(nil, "intent %d %0200d", i, i), 4096, 1); err != nil {
				t.Errorf("Reserve number %d = %v", i, err)
				return
			}
		}
	})
	q = s.reopen("q")
	if got := len(s.reservations(q, s.later())); got != n {
		t.Errorf("%d reservations listed, want %d", got, n)
	}
	each(16, func(w int) {
		for i := w; i < n; i += 16 {
			end := func() error { return q.Abort(s.ctx, ids[i]) }
			if w%2 == 0 {
				end = func() error { return q.Commit(s.ctx, ids[i], bytesOf([]string{fmt.Sprintf("%04d", i)})) }
			}
			if err := end(); err != nil {
				t.Errorf("end of reservation %d = %v", ids[i], err)
				return
			}
		}
	})
	q = s.reopen("q")
	entries := s.all(q)
	if len(entries) != n/2 {
		t.Fatalf("%d entries, want %d", len(entries), n/2)
	}
	for i, data := range slices.Sorted(slices.Values(dataOf(entries))) {
		if want := fmt.Sprintf("%04d", 2*i); data != want {
			t.Fatalf("entry %d = %q, want %q", i, data, want)
		}
	}
	if st := s.stats(q); st.Reservations != 0 || st.Reserved != 0 {
		t.Errorf("Stats() = %+v, want no reservations", st)
	}
}
