package posix_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"herald/journal"
	"herald/store"
	"herald/store/posix"
	"herald/store/storetest"
)

// TestSuite runs the conformance suite on the filesystem of the temporary
// directory.
func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness { return newTree(t, posix.Options{}).harness() })
}

// TestSuite_NoXattr keeps all attributes in side files.
func TestSuite_NoXattr(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness { return newTree(t, posix.Options{NoXattr: true}).harness() })
}

// TestSuite_Faulty runs the suite through storetest.Faulty that never fails.
func TestSuite_Faulty(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite runs without the wrapper in short mode")
	}
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		h := newTree(t, posix.Options{Relaxed: true}).harness()
		open, crash := h.Open, h.Crash
		h.Open = func(t *testing.T) store.Driver { return &storetest.Faulty{Driver: open(t)} }
		h.Crash = func(t *testing.T, d store.Driver) { crash(t, d.(*storetest.Faulty).Driver) }
		return h
	})
}

// tree is a store on disk, with a journal of its own.
type tree struct {
	root, journal string
	opts          posix.Options
}

func newTree(t *testing.T, opts posix.Options) *tree {
	dir := t.TempDir()
	return &tree{filepath.Join(dir, "tree"), filepath.Join(dir, "journal"), opts}
}

func (tr *tree) harness() storetest.Harness {
	return storetest.Harness{
		Open:  func(t *testing.T) store.Driver { return tr.open(t) },
		Crash: func(t *testing.T, d store.Driver) { d.(*opened).crash(t) },
	}
}

// opened is a driver with the journal that it needs.
type opened struct {
	*posix.Driver
	tree    *tree
	journal *journal.Journal
	stop    context.CancelFunc
	ran     chan error
}

func (tr *tree) open(t testing.TB) *opened {
	t.Helper()
	j, err := journal.Open(tr.journal, journal.Options{SegmentBytes: 4 << 20, MaxRecord: 2 << 20, NoSync: tr.opts.Relaxed})
	if err != nil {
		t.Fatal(err)
	}
	d, err := posix.Open(tr.root, j, tr.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Recover(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &opened{d, tr, j, stop, make(chan error, 1)}
	go func() { o.ran <- j.Run(ctx) }()
	return o
}

// Close closes the journal with a last checkpoint, and the driver.
func (o *opened) Close() error {
	o.stop()
	return errors.Join(<-o.ran, o.journal.Close(), o.Driver.Close())
}

// crash leaves everything as it is on disk, without a checkpoint. The journal
// is left open; only its lock is taken away from it.
func (o *opened) crash(t testing.TB) {
	t.Helper()
	o.stop()
	if err := errors.Join(<-o.ran, o.Driver.Close(), os.Remove(filepath.Join(o.tree.journal, "lock"))); err != nil {
		t.Fatal(err)
	}
}
