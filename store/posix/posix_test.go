package posix

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"herald/journal"
	"herald/store"
	"herald/store/storetest"
)

// testStore is one store in a temporary directory, with its journal beside the
// tree.
type testStore struct {
	dir     string // root and journal
	opts    Options
	journal journal.Options
}

// opened is a store that is open.
type opened struct {
	*Driver
	j      *journal.Journal
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newTestStore(t testing.TB, opts Options) *testStore {
	return &testStore{
		dir: t.TempDir(), opts: opts,
		journal: journal.Options{SegmentBytes: 4 << 20, Segments: 4, NoSync: opts.Relaxed},
	}
}

func (s *testStore) root() string { return filepath.Join(s.dir, "root") }

func (s *testStore) journalDir() string {
	return filepath.Join(s.dir, "journal")
}

func (s *testStore) open(t testing.TB) *opened {
	t.Helper()
	o, err := s.tryOpen()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *testStore) tryOpen() (*opened, error) {
	j, err := journal.Open(s.journalDir(), s.journal)
	if err != nil {
		return nil, err
	}
	d, err := Open(s.root(), j, s.opts)
	if err != nil {
		return nil, err
	}
	if err := j.Recover(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := &opened{Driver: d, j: j, cancel: cancel}
	o.done.Go(func() { _ = j.Run(ctx) })
	return o, nil
}

func (o *opened) stop() {
	o.cancel()
	o.done.Wait()
}

func (o *opened) Close() error {
	o.stop()
	if err := o.j.Close(); err != nil {
		return err
	}
	return o.Driver.Close()
}

// crash leaves the store as a kill would: the journal as it is, the index
// without what was in memory only. The next open finds that.
func (s *testStore) crash(t testing.TB, o *opened) {
	t.Helper()
	o.stop()
	// The old journal stays open, and would keep its lock.
	if err := os.Remove(filepath.Join(s.journalDir(), "lock")); err != nil {
		t.Fatal(err)
	}
	if err := o.index.db.Close(); err != nil {
		t.Log(err) // it may complain of what it had not written
	}
	o.index = nil
	if err := o.Driver.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStore_OtherFilesystem runs the suite on tmpfs, and with kills that the
// index feels as well. suite_test.go has the rest.
func TestStore_OtherFilesystem(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		dir, err := os.MkdirTemp("/dev/shm", "herald-test-")
		if err != nil {
			t.Skipf("no second filesystem to test on: %v", err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		s := newTestStore(t, Options{})
		s.dir = dir
		s.journal.NoDirect = true
		return storetest.Harness{
			Open:  func(t *testing.T) store.Driver { return s.open(t) },
			Crash: func(t *testing.T, d store.Driver) { s.crash(t, d.(*opened)) },
		}
	})
}
