package queuetest

import (
	"slices"
	"testing"
	"time"

	"herald/queue"
)

// checker returns the driver as one that checks itself, or skips the test.
func (s *suite) checker() queue.Checker {
	s.Helper()
	c, ok := s.h.Driver().(queue.Checker)
	if !ok {
		s.Skip("the driver has no queue.Checker")
	}
	return c
}

// wantClean checks a queue in which all adds up.
func (s *suite) wantClean(what, name string) {
	s.Helper()
	for _, repair := range []bool{false, true} {
		found, err := s.checker().Check(s.ctx, name, repair)
		if err != nil || len(found) != 0 {
			s.Errorf("Check of %s, repair %v = %+v, %v, want nothing", what, repair, found, err)
		}
	}
}

func testCheckClean(t *testing.T, s *suite) {
	_, err := s.checker().Check(s.ctx, "none", true)
	s.wantErr("Check(none)", err, queue.ErrNoSuchQueue)
	q := s.create("q", 1<<20)
	s.wantClean("an empty queue", "q")
	for i := range 20 {
		s.put(q, numbered("e", 20)...)
		if id := s.reserve(q, "i", 100, 3); i%3 == 0 {
			s.wantErr("Abort", q.Abort(s.ctx, id), nil)
		}
	}
	s.wantClean("a filled queue", "q")
	entries := s.all(q)
	var failed []queue.Attempt
	for _, e := range entries[150:] {
		failed = append(failed, queue.Attempt{Marker: e.Marker, Attempts: 1, LastTry: s.h.Now()})
	}
	s.ack(q, queue.Ack{UpTo: entries[100].Marker, Done: markersOf(entries[110:200]), Failed: failed})
	s.wantClean("a queue with gaps", "q")
	s.h.Reopen(t)
	s.wantClean("a reopened queue", "q")
	s.h.Settle(t)
	if s.h.Crash(t) {
		s.wantClean("a queue after a crash", "q")
	}
	s.wantUse(s.open("q"), 209, 209*18, 13, 13*130)
}

// testCheckLoad checks, and would repair, a queue in use: it finds nothing, and
// nothing is lost by it.
func testCheckLoad(t *testing.T, s *suite) {
	c, rounds := s.checker(), 0
	s.disturbed(time.Millisecond, func() {
		rounds++
		found, err := c.Check(s.ctx, "q", rounds%2 == 1)
		if err != nil || len(found) != 0 {
			t.Errorf("Check in use, repair %v = %+v, %v, want nothing", rounds%2 == 1, found, err)
		}
	})
	t.Logf("checked %d times", rounds)
	s.wantClean("the drained queue", "q")
}

// testCheckDrift is Ceph's RecalcDriftedReservedSize: figures that are wrong
// are found and set right, with many reservations as with few.
func testCheckDrift(t *testing.T, s *suite) {
	d, ok := s.h.(Drifter)
	if !ok {
		t.Skip("the harness cannot make figures drift (no queuetest.Drifter)")
	}
	s.checker()
	q := s.create("q", 1<<20)
	for range 20 {
		s.put(q, numbered("e", 5)...)
		s.reserve(q, "i", 100, 1)
	}
	for {
		kind := d.Drift(t, "q")
		if kind == "" {
			break
		}
		s.wantFinding(kind, false)
		s.wantFinding(kind, true)
		s.wantClean("the repaired queue", "q")
		q = s.open("q")
		s.wantUse(q, 100, 1800, 20, 2200)
	}
	for _, r := range s.reservations(q, s.later()) {
		s.commit(q, r.ID, "x")
	}
	s.ack(q, queue.Ack{UpTo: last(s.all(q)).Marker})
	s.wantUse(q, 0, 0, 0, 0)
	s.wantClean("the emptied queue", "q")
}

func (s *suite) wantFinding(kind string, repair bool) {
	s.Helper()
	found, err := s.checker().Check(s.ctx, "q", repair)
	if err != nil {
		s.Fatalf("Check = %v", err)
	}
	i := slices.IndexFunc(found, func(f queue.Finding) bool { return f.Kind == kind })
	if i < 0 {
		s.Fatalf("Check after a drift of %q = %+v", kind, found)
	}
	for _, f := range found {
		if f.Queue != "q" || f.Detail == "" || f.Repaired != repair {
			s.Errorf("Check, repair %v = %+v", repair, f)
		}
	}
}
