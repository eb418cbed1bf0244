package redis

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/redistest"
)

// backup copies the files of a server of which a driver was opened. What it
// returns has the server begin again with them, as after a restore.
func backup(t *testing.T, s *redistest.Server) (restore func()) {
	t.Helper()
	live, kept := filepath.Join(s.Dir, "appendonlydir"), filepath.Join(t.TempDir(), "kept")
	if _, err := os.Stat(live); err != nil {
		t.Skipf("%v: this redis has its append-only files elsewhere", err)
	}
	replace := func(dir, by string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(by))); err != nil {
			t.Fatal(err)
		}
	}
	s.Rewritten() // what Open asked for has ended: no file comes or goes amid the copy
	replace(kept, live)
	return func() {
		t.Helper()
		s.KillNine()
		replace(live, kept)
		s.Restart()
	}
}

// wroteMillions has the queue's numbers be those after as many writes.
func wroteMillions(t *testing.T, d *Driver, q queue.Queue) {
	t.Helper()
	if err := d.client.HIncrBy(t.Context(), q.(*Queue).keys[0], "number", 5_000_000).Err(); err != nil {
		t.Fatal(err)
	}
}

func mustList(t *testing.T, q queue.Queue, after queue.Marker) []queue.Marker {
	t.Helper()
	list, _, err := q.List(t.Context(), after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	markers := make([]queue.Marker, len(list))
	for i, e := range list {
		markers[i] = e.Marker
	}
	return markers
}

// wait does not wait for ever.
func wait(t *testing.T, q queue.Queue, after queue.Marker) error {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	return q.(queue.Waiter).Wait(ctx, after)
}

// newRestored is a driver on a server of which a backup is made when it has two
// entries.
func newRestored(t *testing.T) (h *harness, q queue.Queue, restore func()) {
	t.Helper()
	s := redistest.Start(t)
	h = newHarness(t, s.URL(), Options{})
	q = mustCreate(t, h.d, "q")
	put(t, q, 2)
	return h, q, backup(t, s)
}

// TestRestore_KnownTerm has a worker go on with a marker of after the backup,
// of a server that the restored one knows.
func TestRestore_KnownTerm(t *testing.T) {
	h, q, restore := newRestored(t)
	wroteMillions(t, h.d, q)
	put(t, q, 3)
	seen := mustList(t, q, "")
	last := seen[len(seen)-1]
	restore()
	if got := mustList(t, q, last); len(got) != 0 {
		t.Errorf("List after the marker, before a write = %v", got)
	}
	put(t, q, 4) // with numbers before those that were lost
	fresh := mustList(t, q, "")[2:]
	if len(fresh) != 4 || fresh[0] > last {
		t.Fatalf("entries after the restore: %v, marker %s: the test does not test", fresh, last)
	}
	if got := mustList(t, q, last); !slices.Equal(got, fresh) {
		t.Errorf("List after the marker = %v, want %v", got, fresh)
	}
	if err := wait(t, q, last); err != nil {
		t.Errorf("Wait = %v", err)
	}
	if err := q.Ack(t.Context(), queue.Ack{UpTo: last}); err != nil {
		t.Fatal(err)
	}
	if got := mustList(t, q, ""); !slices.Equal(got, fresh) {
		t.Errorf("left by Ack: %v, want %v", got, fresh)
	}
}

// TestRestore_UnknownTerm does the same with a marker of a server of which the
// restored one does not know: the worker is told to begin anew.
func TestRestore_UnknownTerm(t *testing.T) {
	h, q, restore := newRestored(t)
	restore() // as a restart: a new term
	put(t, q, 1)
	wroteMillions(t, h.d, q)
	put(t, q, 3)
	seen := mustList(t, q, "")
	last := seen[len(seen)-1]
	restore()
	put(t, q, 4)
	all := mustList(t, q, "")
	if len(all) != 6 || all[5] > last {
		t.Fatalf("entries after the restore: %v, marker %s: the test does not test", all, last)
	}
	if _, _, err := q.List(t.Context(), last, 10); !errors.Is(err, queue.ErrNoSuchMarker) {
		t.Errorf("List after the marker = %v, want %v", err, queue.ErrNoSuchMarker)
	}
	if err := wait(t, q, last); !errors.Is(err, queue.ErrNoSuchMarker) {
		t.Errorf("Wait = %v, want %v", err, queue.ErrNoSuchMarker)
	}
	if err := q.Ack(t.Context(), queue.Ack{UpTo: last, Done: all[:1]}); !errors.Is(err, queue.ErrNoSuchMarker) {
		t.Errorf("Ack = %v, want %v", err, queue.ErrNoSuchMarker)
	}
	if got := mustList(t, q, ""); !slices.Equal(got, all) {
		t.Errorf("left by Ack: %v, want %v", got, all)
	}
	// Entries of former terms are known, whoever wrote them.
	if err := q.Ack(t.Context(), queue.Ack{UpTo: all[1]}); err != nil {
		t.Error(err)
	}
	if got := mustList(t, q, all[1]); !slices.Equal(got, all[2:]) {
		t.Errorf("List after an old entry = %v, want %v", got, all[2:])
	}
	if err := q.Ack(t.Context(), queue.Ack{UpTo: all[5]}); err != nil {
		t.Error(err)
	}
	if got := mustList(t, q, ""); len(got) != 0 {
		t.Errorf("left by Ack of all: %v", got)
	}
}

// TestRestore_ManyTerms has entries of more terms than the history holds: all
// are listed, page by page, and removed.
func TestRestore_ManyTerms(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	const terms = 150
	for range terms {
		put(t, q, 2)
		s.Do("REPLICAOF", "127.0.0.1", "1")
		s.Promote()
	}
	var all []queue.Marker
	for after := queue.Marker(""); ; {
		list, more, err := q.List(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			after = e.Marker
			all = append(all, after)
		}
		if !more {
			break
		}
	}
	if len(all) != 2*terms || !slices.IsSorted(all) {
		t.Fatalf("%d entries listed, want %d, in order", len(all), 2*terms)
	}
	for _, n := range []int{1, terms, 2*terms - 1} {
		for range 2 { // when it is there, and gone
			if err := q.Ack(t.Context(), queue.Ack{UpTo: all[n]}); err != nil {
				t.Fatal(err)
			}
			if got := mustList(t, q, ""); !slices.Equal(got, all[n+1:]) {
				t.Errorf("left after number %d: %d entries, want %d", n, len(got), len(all)-n-1)
			}
			if got := mustList(t, q, all[n]); !slices.Equal(got, all[n+1:]) {
				t.Errorf("listed after number %d: %d entries, want %d", n, len(got), len(all)-n-1)
			}
		}
	}
	if n, latest := h.d.Losses(); n > 0 {
		t.Errorf("losses = %v", latest)
	}
}

// TestRestore_Orphan puts an entry back in its place, before the marker up to
// which a worker has listed: it must not remove the entry unseen.
func TestRestore_Orphan(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	put(t, q, 3)
	all := mustList(t, q, "")
	lock := func() queue.Lease {
		t.Helper()
		l, err := h.d.Locker().Acquire(t.Context(), "queue/q", "worker", time.Hour)
		if err == nil {
			err = q.Ack(t.Context(), queue.Ack{Fence: l.Fence()})
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := lock()
	s.Do("ZREM", q.(*Queue).keys[5], string(all[1]))
	seen := mustList(t, q, "")
	if found, err := h.d.Check(t.Context(), "q", true); err != nil || len(found) == 0 {
		t.Fatalf("Check = %v, %v", found, err)
	}
	ack := queue.Ack{UpTo: seen[len(seen)-1], Fence: l.Fence()}
	if err := q.Ack(t.Context(), ack); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("Ack of who has not seen the entry = %v, want %v", err, queue.ErrFenced)
	}
	if got := mustList(t, q, ""); !slices.Equal(got, all) {
		t.Errorf("left: %v, want %v", got, all)
	}
	// Who begins anew sees it.
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = lock()
	if err := q.Ack(t.Context(), queue.Ack{UpTo: all[2], Fence: l.Fence()}); err != nil {
		t.Error(err)
	}
	// A check that puts nothing back ends no session.
	put(t, q, 1)
	if found, err := h.d.Check(t.Context(), "q", true); err != nil || len(found) > 0 {
		t.Fatalf("Check = %v, %v", found, err)
	}
	if err := q.Ack(t.Context(), queue.Ack{Fence: l.Fence()}); err != nil {
		t.Errorf("Ack after a check without findings = %v", err)
	}
}
