//go:build rados

package rados

import (
	"context"
	"errors"
	"sync"
	"testing"

	"herald/queue"
)

// startAndWait is Commit by StartCommit.
func startAndWait(ctx context.Context, q queue.Queue, id queue.ID, entries ...[]byte) error {
	done := make(chan error, 2)
	q.(queue.Starter).StartCommit(ctx, id, entries, func(err error) { done <- err })
	err := <-done
	if len(done) > 0 {
		return errors.New("done was called twice")
	}
	return err
}

// TestStartCommit has all that a commit can come to.
func TestStartCommit(t *testing.T) {
	h := newHarness(t, Options{})
	q := create(t, h.d, "q", 1<<20)
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
	if err := startAndWait(t.Context(), q, id, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed driver: StartCommit = %v", err)
	}
}

// TestStartCommit_AnswerLost loses answers: each commit is repeated, and takes
// effect once. The callers use their entries again as soon as they may.
func TestStartCommit_AnswerLost(t *testing.T) {
	h := newHarness(t, Options{})
	q := create(t, h.d, "q", 1<<20)
	const workers = 8
	each := 100
	if testing.Short() {
		each = 20
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			entry := []byte("-")
			for n := range each {
				id, err := q.Reserve(t.Context(), []byte("i"), 1, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					h.LoseReplies(t, 1)
				}
				entry[0] = 'x'
				if err := startAndWait(t.Context(), q, id, entry); err != nil {
					t.Error(err)
				}
				entry[0] = '-'
			}
		})
	}
	wg.Wait()
	list := all(t, q)
	for _, e := range list {
		if string(e.Data) != "x" {
			t.Errorf("entry %q", e.Data)
		}
	}
	if st, err := q.Stats(t.Context()); err != nil || len(list) != workers*each || st.Entries != int64(len(list)) || st.Reservations != 0 {
		t.Errorf("%d entries, Stats = %+v, %v, want %d entries", len(list), st, err, workers*each)
	}
	t.Logf("%d answers lost", h.Lost())
}

// TestStartCommit_ContextEnds has the time of a commit end while its operation
// is under way: done is called at once, and the commit may take effect.
func TestStartCommit_ContextEnds(t *testing.T) {
	h := newHarness(t, Options{})
	q := create(t, h.d, "q", 1<<20)
	var ids []queue.ID
	for range 2 {
		id, err := q.Reserve(t.Context(), []byte("i"), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	under, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.d.opts.fault = func(at string) {
		if at == "change" {
			once.Do(func() { close(under); <-goOn })
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("late")
	done := make(chan error, 4)
	entry := []byte("x")
	q.StartCommit(ctx, ids[0], [][]byte{entry}, func(err error) { done <- err })
	<-under
	q.StartCommit(ctx, ids[1], [][]byte{entry}, func(err error) { done <- err }) // waits for its turn
	cancel(late)
	for range ids {
		if err := <-done; !errors.Is(err, late) {
			t.Errorf("StartCommit = %v, want %v", err, late)
		}
	}
	entry[0] = '-'
	close(goOn)
	if err := startAndWait(t.Context(), q, ids[0], []byte("y")); !errors.Is(err, queue.ErrNoSuchReservation) {
		t.Errorf("StartCommit of what took effect = %v", err)
	}
	if err := startAndWait(ctx, q, ids[1], []byte("y")); !errors.Is(err, late) && err != nil {
		t.Errorf("StartCommit after its time = %v", err)
	}
	if err := q.Abort(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	list := all(t, q)
	if len(list) == 0 || len(list) > 2 || string(list[0].Data) != "x" {
		t.Errorf("List = %v", list)
	}
	if len(done) > 0 {
		t.Error("done was called again")
	}
	wantClean(t, h.d, "q")
}
