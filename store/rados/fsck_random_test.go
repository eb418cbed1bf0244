//go:build rados

package rados

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/store"
)

// besides runs fsck again and again, by a driver of its own, until stop is
// called: it has to find nothing, whatever goes on.
func (p *testPlace) besides(t *testing.T, opts store.FsckOptions) (stop func()) {
	t.Helper()
	d := p.open(t, Options{})
	var stopped atomic.Bool
	var wg sync.WaitGroup
	runs, busy := 0, int64(0)
	wg.Go(func() {
		for ; runs == 0 || !stopped.Load(); runs++ {
			opts.Report = func(f store.Finding) { t.Errorf("fsck beside writers: %+v", f) }
			stats, err := d.fsck(t.Context(), opts, fsckLimits{pause: 300 * time.Millisecond, old: time.Hour, young: time.Hour})
			if err != nil {
				t.Errorf("fsck beside writers = %v", err)
				return
			}
			busy += stats.Busy
		}
	})
	return func() {
		stopped.Store(true)
		wg.Wait()
		t.Logf("%d runs of fsck, %d looks at what was busy", runs, busy)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFsck_BesideWriters: two gateways change the same keys, and copy, while
// answers are lost. Also with repairs fsck finds nothing, and harms nothing.
func TestFsck_BesideWriters(t *testing.T) {
	p := newPlace(t)
	var stop []func()
	p.randomChanges(t, func() {
		stop = append(stop, p.besides(t, store.FsckOptions{Deep: true}), p.besides(t, store.FsckOptions{Repair: true}))
	})
	for _, f := range stop {
		f()
	}
}

// TestFsck_BesideTheDying: gateways die in the middle of changes, uploads,
// copies and splits: what they leave is accounted for.
func TestFsck_BesideTheDying(t *testing.T) {
	p := newPlace(t)
	g := newGateways(t, p, 2, mortal)
	stop := p.besides(t, store.FsckOptions{Repair: true})
	g.die(t, func() {})
	stop()
	p.check(t, testBucket)
	d := p.open(t, Options{})
	defer func() { _ = d.Close() }()
	d.wantWell(t, store.FsckOptions{})
}

// TestFsck_DeletedLately has a bucket whose deleter died a moment ago: the sweep
// goes on with it.
func TestFsck_DeletedLately(t *testing.T) {
	t.Parallel()
	s := newSick(t)
	r, err := s.d.lookup(t.Context(), "empty")
	s.must(err)
	s.must(openIndex(s.d.indexEnv(), r.bid).drop(t.Context()))
	s.d.wantWell(t, store.FsckOptions{Deep: true})
}
