package queuetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"herald/queue"
)

// Run runs the suite. open is called for each test; it cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	cases := []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"Queues", testQueues}, {"DeletedHandle", testDeletedHandle}, {"OldHandle", testOldHandle},
		{"Recreate", testRecreate}, {"ReopenEmpty", testReopenEmpty}, {"Names", testNames},

		{"GetCapacity", testGetCapacity}, {"Reserve", testReserve}, {"ReserveError", testReserveError},
		{"Abort", testAbort}, {"AbortError", testAbortError}, {"Renew", testRenew},
		{"ManualCleanup", testManualCleanup}, {"ReserveThousands", testReserveThousands},

		{"Commit", testCommit}, {"CommitError", testCommitError}, {"CommitNothing", testCommitNothing},
		{"CommitLessThanReserved", testCommitLess}, {"CommitOrder", testCommitOrder}, {"Stats", testStats},
		{"Binary", testBinary}, {"ListPages", testListPages}, {"ListLarge", testListLarge},
		{"StableMarkers", testStableMarkers}, {"AckOutOfOrder", testAckOutOfOrder},
		{"AckAttempts", testAckAttempts}, {"AckUnknown", testAckUnknown}, {"AckFenced", testAckFenced},
		{"Oldest", testOldest},

		{"LongUpload", testLongUpload}, {"ExpiredThenCommit", testExpiredThenCommit},
		{"CommitThenExpired", testCommitThenExpired}, {"ResolverCommits", testResolverCommits},
		{"AbortCommitRace", testAbortCommitRace}, {"CommitCommitRace", testCommitCommitRace},

		{"MultiReserve", testMultiReserve}, {"MultiCommit", testMultiCommit}, {"MultiAbort", testMultiAbort},
		{"ReserveCommit", testReserveCommit}, {"ReserveAbort", testReserveAbort},
		{"MultiProducer", testMultiProducer}, {"MultiProducerConsumer", testMultiProducerConsumer},
		{"DyingConsumers", testDyingConsumers}, {"Wait", testWait}, {"WaitDeleted", testWaitDeleted},

		{"CrashBetween", testCrashBetween}, {"CrashAfterCommit", testCrashAfterCommit},
		{"CrashUnderLoad", testCrashUnderLoad},
		{"CapacityReturns", testCapacityReturns}, {"Memory", testMemory}, {"Model", testModel},

		{"CheckClean", testCheckClean}, {"CheckLoad", testCheckLoad}, {"CheckDrift", testCheckDrift},

		{"LostReserve", testLostReserve}, {"LostCommit", testLostCommit}, {"LostAbort", testLostAbort},
		{"LostRenew", testLostRenew}, {"LostAck", testLostAck}, {"LostCreate", testLostCreate},
		{"LostDelete", testLostDelete}, {"LostForGood", testLostForGood},
		{"LossUnderLoad", testLossUnderLoad}, {"CutUnderLoad", testCutUnderLoad},
		{"Impatient", testImpatient},

		{"TwoDrivers", testTwoDrivers}, {"TwoDelete", testTwoDelete}, {"TwoWait", testTwoWait},
		{"TwoLoad", testTwoLoad}, {"ClockReservations", testClockReservations}, {"ClockEntries", testClockEntries},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, &suite{T: t, h: open(t), ctx: t.Context()})
		})
	}
}

// suite is one test with its harness, and calls that fail the test.
type suite struct {
	*testing.T
	h   Harness
	ctx context.Context
}

// create makes a queue and returns a handle.
func (s *suite) create(name string, capacity int64) queue.Queue {
	s.Helper()
	if err := s.h.Driver().Create(s.ctx, name, capacity); err != nil {
		s.Fatalf("Create(%s) = %v", name, err)
	}
	return s.open(name)
}

func (s *suite) open(name string) queue.Queue {
	s.Helper()
	q, err := s.h.Driver().Open(s.ctx, name)
	if err != nil {
		s.Fatalf("Open(%s) = %v", name, err)
	}
	return q
}

func (s *suite) reopen(name string) queue.Queue {
	s.Helper()
	s.h.Reopen(s.T)
	return s.open(name)
}

func (s *suite) reserve(q queue.Queue, intent string, size int64, entries int) queue.ID {
	s.Helper()
	id, err := q.Reserve(s.ctx, []byte(intent), size, entries)
	if err != nil {
		s.Fatalf("Reserve(%d, %d) = %v", size, entries, err)
	}
	if id == 0 {
		s.Fatalf("Reserve(%d, %d) = id 0", size, entries)
	}
	return id
}

func (s *suite) commit(q queue.Queue, id queue.ID, data ...string) {
	s.Helper()
	if err := q.Commit(s.ctx, id, bytesOf(data)); err != nil {
		s.Fatalf("Commit(%d, %d entries) = %v", id, len(data), err)
	}
}

// put reserves and commits.
func (s *suite) put(q queue.Queue, data ...string) {
	s.Helper()
	size := int64(1)
	for _, d := range data {
		size += int64(len(d))
	}
	s.commit(q, s.reserve(q, "intent", size, len(data)), data...)
}

func (s *suite) ack(q queue.Queue, a queue.Ack) {
	s.Helper()
	if err := q.Ack(s.ctx, a); err != nil {
		s.Fatalf("Ack(%+v) = %v", a, err)
	}
}

// all lists a queue page by page.
func (s *suite) all(q queue.Queue) []queue.Entry {
	s.Helper()
	return s.after(q, "", 100)
}

func (s *suite) after(q queue.Queue, m queue.Marker, page int) []queue.Entry {
	s.Helper()
	var all []queue.Entry
	for {
		entries, more, err := q.List(s.ctx, m, page)
		if err != nil {
			s.Fatalf("List(%q, %d) = %v", m, page, err)
		}
		if len(entries) > page {
			s.Fatalf("List(%q, %d) = %d entries", m, page, len(entries))
		}
		all = append(all, entries...)
		if !more {
			return all
		}
		if len(entries) == 0 {
			s.Fatalf("List(%q, %d) = nothing, but more", m, page)
		}
		m = entries[len(entries)-1].Marker
	}
}

func (s *suite) stats(q queue.Queue) queue.Stats {
	s.Helper()
	st, err := q.Stats(s.ctx)
	if err != nil {
		s.Fatalf("Stats() = %v", err)
	}
	return st
}

// wantUse compares a queue's figures.
func (s *suite) wantUse(q queue.Queue, entries, bytes, reservations, reserved int64) {
	s.Helper()
	got := s.stats(q)
	if got.Entries != entries || got.Bytes != bytes || got.Reservations != reservations || got.Reserved != reserved {
		s.Errorf("Stats() = %d entries, %d bytes, %d reservations, %d reserved, want %d, %d, %d, %d",
			got.Entries, got.Bytes, got.Reservations, got.Reserved, entries, bytes, reservations, reserved)
	}
}

func (s *suite) reservations(q queue.Queue, before time.Time) []queue.Reservation {
	s.Helper()
	r, err := q.Reservations(s.ctx, before, 1<<20)
	if err != nil {
		s.Fatalf("Reservations() = %v", err)
	}
	return r
}

// later is after the time stamp of everything so far.
func (s *suite) later() time.Time { return s.h.Now().Add(time.Hour) }

// tick lies between two moments that a case tells apart. A driver that
// translates times by age is off by as long as the call takes.
const tick = 200 * time.Millisecond

// line lets a tick pass, then another, and returns the time in between.
func (s *suite) line() time.Time {
	s.h.Advance(tick)
	line := s.h.Now()
	s.h.Advance(tick)
	return line
}

// olderThan returns the reservations from before the line. A call that took
// too long to be true is repeated.
func (s *suite) olderThan(q queue.Queue, line time.Time) []queue.Reservation {
	s.Helper()
	for range 100 {
		start := time.Now()
		if rs := s.reservations(q, line); time.Since(start) < tick/2 {
			return rs
		}
	}
	s.Fatalf("no call of Reservations() took less than %v", tick/2)
	return nil
}

// timeSlack is how far a time may be off that went through a driver's medium:
// more than a call takes on a stalled machine, less than what clocks of
// gateways differ by in the suite.
const timeSlack = 5 * time.Minute

// wantTime compares a time that a driver returned.
func (s *suite) wantTime(what string, got, want time.Time) {
	s.Helper()
	if got.Sub(want).Abs() > timeSlack {
		s.Errorf("%s = %v, want about %v", what, got, want)
	}
}

// patience is how long a case waits for what must come.
const patience = 3 * time.Minute

// eventually repeats f until it answers "", or fails with its last answer.
func (s *suite) eventually(f func() string) {
	s.Helper()
	for end := time.Now().Add(patience); ; {
		why := f()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			s.Errorf("after %v: %s", patience, why)
			return
		}
		pause()
	}
}

// pause comes between two looks at what others change.
func pause() { time.Sleep(2 * time.Millisecond) }

// await returns what a call answers, or fails when it does not return.
func (s *suite) await(what string, c <-chan error) error {
	s.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		s.Fatalf("%s has not returned after %v", what, patience)
		return nil
	}
}

func (s *suite) wantErr(what string, got, want error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("%s = %v, want %v", what, got, want)
	}
}

func bytesOf(data []string) [][]byte {
	b := make([][]byte, len(data))
	for i, d := range data {
		b[i] = []byte(d)
	}
	return b
}

func dataOf(entries []queue.Entry) []string {
	var data []string
	for _, e := range entries {
		data = append(data, string(e.Data))
	}
	return data
}

func markersOf(entries []queue.Entry) []queue.Marker {
	var m []queue.Marker
	for _, e := range entries {
		m = append(m, e.Marker)
	}
	return m
}

func numbered(prefix string, n int) []string {
	v := make([]string, n)
	for i := range v {
		v[i] = fmt.Sprintf("%s-%06d", prefix, i)
	}
	return v
}

// scale divides a big count where it would take too long.
func (s *suite) scale(n int) int { return Scaled(s.h, n) }
