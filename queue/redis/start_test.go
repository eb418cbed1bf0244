package redis

import (
	"context"
	"errors"
	"sync"
	"testing"

	"herald/queue"
	"herald/tests/redistest"
)

// startAndWait is Commit by StartCommit.
func startAndWait(ctx context.Context, q queue.Queue, id queue.ID, entries ...[]byte) error {
	done := make(chan error, 1)
	q.(queue.Starter).StartCommit(ctx, id, entries, func(err error) { done <- err })
	return <-done
}

// TestStartCommit has all that a commit can come to.
func TestStartCommit(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	id, err := q.Reserve(t.Context(), []byte("i"), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		entries [][]byte
		want    error
	}{
		{"too large", [][]byte{[]byte("xxx")}, queue.ErrTooLarge},
		{"too many", [][]byte{nil, nil}, queue.ErrTooLarge},
		{"done", [][]byte{[]byte("xx")}, nil},
		{"again", [][]byte{[]byte("xx")}, queue.ErrNoSuchReservation},
	} {
		if err := startAndWait(t.Context(), q, id, tt.entries...); !errors.Is(err, tt.want) {
			t.Errorf("%s: StartCommit = %v, want %v", tt.name, err, tt.want)
		}
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Entries != 1 || st.Reservations != 0 {
		t.Errorf("Stats = %+v, %v, want 1 entry", st, err)
	}
	if err := h.d.Delete(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	if err := startAndWait(t.Context(), q, id, []byte("x")); !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Errorf("of a queue that is gone: StartCommit = %v", err)
	}
	if err := h.d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := startAndWait(t.Context(), q, id, []byte("x")); err == nil {
		t.Error("of a closed driver: no error")
	}
}

// TestStartCommit_AnswerLost loses answers: each commit is repeated, and takes
// effect once.
func TestStartCommit_AnswerLost(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.StartCuttingProxy(t, s.Addr)
	h := newHarness(t, "redis://"+p.Addr, Options{})
	q := mustCreate(t, h.d, "q")
	const workers = 8
	each := rounds(20, 200)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for n := range each {
				id, err := q.Reserve(t.Context(), []byte("i"), 1, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					p.CutNext(1)
				}
				if err := startAndWait(t.Context(), q, id, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := q.Stats(t.Context()); err != nil || st.Entries != int64(workers*each) || st.Reservations != 0 {
		t.Errorf("Stats = %+v, %v, want %d entries", st, err, workers*each)
	}
	t.Logf("%d answers lost", p.Cuts())
}
