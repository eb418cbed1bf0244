package queuetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"herald/queue"
)

// Reservations that somebody ends in place of the gateway that made them:
// each ends once, whoever comes first.

// others returns two handles of the queue: of two drivers, where the harness
// has them, else of one.
func (s *suite) others(name string) (queue.Queue, queue.Queue) {
	s.Helper()
	one := s.open(name)
	sh, ok := s.h.(Sharer)
	if !ok {
		return one, s.open(name)
	}
	two, err := sh.Second(s.T, 0).Open(s.ctx, name)
	if err != nil {
		s.Fatalf("Open(%s) by the second driver = %v", name, err)
	}
	return one, two
}

// stale makes a reservation and lets it grow old.
func (s *suite) stale(q, resolver queue.Queue) queue.ID {
	s.Helper()
	id := s.reserve(q, "slow", 100, 2)
	rs := s.olderThan(resolver, s.line())
	if len(rs) != 1 || rs[0].ID != id || string(rs[0].Intent) != "slow" {
		s.Fatalf("stale reservations = %+v, want %d", rs, id)
	}
	return id
}

// testExpiredThenCommit has the resolver abort first.
func testExpiredThenCommit(t *testing.T, s *suite) {
	s.create("q", 1<<20)
	q, resolver := s.others("q")
	id := s.stale(q, resolver)
	s.wantErr("Abort by the resolver", resolver.Abort(s.ctx, id), nil)
	for range 2 {
		s.wantErr("late Renew", q.Renew(s.ctx, id), queue.ErrNoSuchReservation)
		s.wantErr("late Commit", q.Commit(s.ctx, id, bytesOf([]string{"a", "b"})), queue.ErrNoSuchReservation)
		s.wantErr("late Abort", q.Abort(s.ctx, id), nil)
		s.wantUse(q, 0, 0, 0, 0)
		if got := dataOf(s.all(q)); len(got) != 0 {
			t.Errorf("entries = %q, want none", got)
		}
		q = s.reopen("q")
	}
}

// testCommitThenExpired has the resolver come too late, to abort or to commit
// what it had listed before.
func testCommitThenExpired(t *testing.T, s *suite) {
	s.create("q", 1<<20)
	q, resolver := s.others("q")
	for i := range 2 {
		id := s.stale(q, resolver)
		s.commit(q, id, "true", "true")
		if i == 0 {
			s.wantErr("Abort by the resolver", resolver.Abort(s.ctx, id), nil)
		} else {
			s.wantErr("Commit by the resolver", resolver.Commit(s.ctx, id, bytesOf([]string{"again"})), queue.ErrNoSuchReservation)
		}
		s.wantUse(resolver, int64(2+2*i), int64(28+28*i), 0, 0)
	}
	s.wantUse(s.reopen("q"), 4, 56, 0, 0)
}

// testResolverCommits has the resolver commit in place of the gateway.
func testResolverCommits(t *testing.T, s *suite) {
	s.create("q", 1<<20)
	q, resolver := s.others("q")
	id := s.stale(q, resolver)
	s.commit(resolver, id, "resolved")
	s.wantErr("late Commit", q.Commit(s.ctx, id, bytesOf([]string{"late"})), queue.ErrNoSuchReservation)
	s.wantErr("late Renew", q.Renew(s.ctx, id), queue.ErrNoSuchReservation)
	s.wantErr("late Abort", q.Abort(s.ctx, id), nil)
	s.wantUse(q, 1, 18, 0, 0)
	if got := dataOf(s.all(q)); len(got) != 1 || got[0] != "resolved" {
		t.Errorf("entries = %q", got)
	}
}

// testLongUpload renews a reservation beyond the time when it would be stale.
func testLongUpload(t *testing.T, s *suite) {
	s.create("q", 1<<20)
	q, resolver := s.others("q")
	id := s.reserve(q, "long", 100, 1)
	for range 5 {
		s.h.Advance(tick)
		line := s.h.Now()
		s.h.Advance(tick)
		s.wantErr("Renew", q.Renew(s.ctx, id), nil)
		if rs := s.olderThan(resolver, line); len(rs) != 0 {
			t.Fatalf("stale reservations = %+v after Renew", rs)
		}
	}
	s.commit(q, id, "x")
	s.wantUse(resolver, 1, 11, 0, 0)
}

// race runs all calls at once and returns their answers.
func race(calls ...func() error) []error {
	errs := make([]error, len(calls))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { <-start; errs[i] = call() })
	}
	close(start)
	wg.Wait()
	return errs
}

// testAbortCommitRace has a late Commit and the resolver's Abort at once:
// exactly one takes effect, with a Renew in between that must not bring the
// reservation back.
func testAbortCommitRace(t *testing.T, s *suite) {
	s.create("q", 10<<20)
	q, resolver := s.others("q")
	var (
		mu   sync.Mutex
		want = make(map[string]bool)
	)
	each(8, func(w int) {
		for i := range max(s.scale(2000)/8, 5) {
			data := fmt.Sprintf("%d %d", w, i)
			id, err := q.Reserve(s.ctx, []byte("i"), 100, 1)
			if err != nil {
				t.Errorf("Reserve = %v", err)
				return
			}
			errs := race(
				func() error { return q.Commit(s.ctx, id, bytesOf([]string{data})) },
				func() error { return resolver.Abort(s.ctx, id) },
				func() error { return q.Renew(s.ctx, id) })
			mu.Lock()
			want[data] = errs[0] == nil
			mu.Unlock()
			if !nilOr(errs[0], queue.ErrNoSuchReservation) || errs[1] != nil || !nilOr(errs[2], queue.ErrNoSuchReservation) {
				t.Errorf("Commit, Abort, Renew = %v", errs)
				return
			}
		}
	})
	s.wantCommitted(resolver, want)
}

func nilOr(err, sentinel error) bool { return err == nil || errors.Is(err, sentinel) }

// wantCommitted wants the entries that are true, once each, and nothing else.
func (s *suite) wantCommitted(q queue.Queue, want map[string]bool) {
	s.Helper()
	for _, data := range dataOf(s.all(q)) {
		if !want[data] {
			s.Errorf("entry %q, which was not committed or came before", data)
		}
		delete(want, data)
	}
	for data, committed := range want {
		if committed {
			s.Errorf("entry %q is missing", data)
		}
	}
	if st := s.stats(q); st.Reservations != 0 || st.Reserved != 0 {
		s.Errorf("Stats() = %d reservations, %d bytes reserved, want none", st.Reservations, st.Reserved)
	}
}

// testCommitCommitRace has the gateway and the resolver commit at once: one
// of them adds its entry, the other is told so.
func testCommitCommitRace(t *testing.T, s *suite) {
	s.create("q", 10<<20)
	q, resolver := s.others("q")
	var (
		mu   sync.Mutex
		want = make(map[string]bool)
	)
	each(8, func(w int) {
		for i := range max(s.scale(2000)/8, 5) {
			id, err := q.Reserve(s.ctx, []byte("i"), 100, 1)
			if err != nil {
				t.Errorf("Reserve = %v", err)
				return
			}
			a, b := fmt.Sprintf("%d %d a", w, i), fmt.Sprintf("%d %d b", w, i)
			errs := race(
				func() error { return q.Commit(s.ctx, id, bytesOf([]string{a})) },
				func() error { return resolver.Commit(s.ctx, id, bytesOf([]string{b})) })
			if errs[0] != nil == (errs[1] != nil) || !nilOr(errs[0], queue.ErrNoSuchReservation) ||
				!nilOr(errs[1], queue.ErrNoSuchReservation) {
				t.Errorf("two Commits of one reservation = %v, want one that succeeds", errs)
				return
			}
			mu.Lock()
			want[a], want[b] = errs[0] == nil, errs[1] == nil
			mu.Unlock()
		}
	})
	s.wantCommitted(q, want)
}
