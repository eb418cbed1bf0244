package posix

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"herald/journal"
	"herald/store"
	"herald/store/storetest"
)

// testStore is one store in a temporary directory, with its journal beside the
// tree.
type testStore struct {
	dir     string // root and journal.<n>
	opts    Options
	journal journal.Options
	n       int // of the journal in use
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
	return filepath.Join(s.dir, "journal."+strconv.Itoa(s.n))
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
	from := s.journalDir()
	s.n++
	// The old journal keeps its lock while this process lives.
	if out, err := exec.Command("cp", "-a", from, s.journalDir()).CombinedOutput(); err != nil {
		t.Fatalf("copy journal: %v: %s", err, out)
	}
	if err := o.index.db.Close(); err != nil {
		t.Log(err) // it complains of what it had not written
	}
	o.index = nil
	if err := o.Driver.Close(); err != nil {
		t.Fatal(err)
	}
}

func harness(t *testing.T, opts Options) storetest.Harness {
	s := newTestStore(t, opts)
	return storetest.Harness{
		Open:  func(t *testing.T) store.Driver { return s.open(t) },
		Crash: func(t *testing.T, d store.Driver) { s.crash(t, d.(*opened)) },
	}
}

func TestStore(t *testing.T) { storetest.Run(t, harness(t, Options{})) }

func TestStore_NoXattr(t *testing.T) { storetest.Run(t, harness(t, Options{NoXattr: true})) }

func TestStore_Relaxed(t *testing.T) { storetest.Run(t, harness(t, Options{Relaxed: true})) }

// TestStore_NoFileSystemXattr runs on a filesystem that really has no user
// attributes, where there is one.
func TestStore_OtherFilesystem(t *testing.T) {
	const shm = "/dev/shm"
	dir, err := os.MkdirTemp(shm, "herald-test-")
	if err != nil {
		t.Skipf("no second filesystem to test on: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := newTestStore(t, Options{})
	s.dir = dir
	s.journal.NoDirect = true
	storetest.Run(t, storetest.Harness{
		Open:  func(t *testing.T) store.Driver { return s.open(t) },
		Crash: func(t *testing.T, d store.Driver) { s.crash(t, d.(*opened)) },
	})
}
