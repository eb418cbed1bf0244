//go:build rados

package rados

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
	"herald/tests/cephtest"
)

// gateways are drivers over one bucket, some of which die.
type gateways struct {
	place *testPlace
	keys  int

	mu      sync.Mutex // guards what follows
	drivers []*Driver
	limits  indexLimits
	fault   func(point string) error
}

const testBucket = "bucket"

func newGateways(t testing.TB, p *testPlace, n int, limits indexLimits) *gateways {
	t.Helper()
	limits.setDefaults()
	g := &gateways{place: p, keys: 12, drivers: make([]*Driver, n), limits: limits}
	for i := range n {
		g.start(t, i)
		if i == 0 {
			if err := g.drivers[0].CreateBucket(t.Context(), testBucket); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for _, d := range g.drivers {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return g
}

// start opens a driver in place of the i-th.
func (g *gateways) start(t testing.TB, i int) {
	t.Helper()
	d := g.place.open(t, Options{Logger: slog.New(slog.DiscardHandler), Fault: g.at})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drivers[i] = d
}

func (g *gateways) at(point string) error {
	g.mu.Lock()
	f := g.fault
	g.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(point)
}

func (g *gateways) setFault(f func(point string) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

// bucket opens the bucket by the i-th driver.
func (g *gateways) bucket(ctx context.Context, i int) (*bucket, error) {
	g.mu.Lock()
	d, limits := g.drivers[i], g.limits
	g.mu.Unlock()
	b, err := d.OpenBucket(ctx, testBucket)
	if err != nil {
		return nil, err
	}
	x := b.(*bucket).x
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.layout == nil && len(x.shards) == 0 { // nobody uses it yet
		x.env.limits = limits
	}
	return b.(*bucket), nil
}

func (g *gateways) key(r *rand.Rand) string { return fmt.Sprintf("a/%d\x00\xff", r.IntN(g.keys)) }

// step makes one random change.
func (g *gateways) step(ctx context.Context, i int, r *rand.Rand) error {
	b, err := g.bucket(ctx, i)
	if err != nil {
		return err
	}
	key, v, op := g.key(r), store.Versioning(r.IntN(3)), store.NewOpID()
	switch r.IntN(12) {
	case 11:
		err = randomPartCopies(ctx, r, b, g.key(r), key, v)
	case 9, 10:
		err = copyObject(ctx, b, g.key(r), b, key, store.CommitOptions{Op: op, Versioning: v})
	case 8:
		err = randomUpload(ctx, r, b, key, store.CommitOptions{Op: op, Versioning: v})
	case 0:
		_, err = b.Update(ctx, key, "", func(info *store.Info) (store.Attrs, error) {
			return store.Attrs{store.AttrOwner: fmt.Sprint(r.Int())}, nil
		})
	case 1, 2:
		_, err = b.Remove(ctx, key, "", store.RemoveOptions{Op: op, Versioning: v})
	case 3:
		var state *keyState
		if state, err = b.d.keyState(ctx, b.bid, key, true); err == nil && state.current != nil {
			all := state.versions()
			_, err = b.Remove(ctx, key, all[r.IntN(len(all))].VersionID, store.RemoveOptions{Op: op, Versioning: v})
		}
	default:
		err = put(ctx, b, key, strings.Repeat("x", []int{10, 1000, 100_000}[r.IntN(3)]), store.CommitOptions{Op: op, Versioning: v, ETag: op.String()})
	}
	if errors.Is(err, store.ErrNoSuchKey) || errors.Is(err, store.ErrDeleteMarker) || errors.Is(err, store.ErrNoSuchVersion) {
		return nil
	}
	return err
}

func put(ctx context.Context, b *bucket, key, data string, opts store.CommitOptions) error {
	w, err := b.Create(ctx, key, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader([]byte(data))); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit(ctx, opts)
	return err
}

// load makes changes by all drivers at once, which may fail if that is said.
func (g *gateways) load(t *testing.T, clients, n int, mayFail bool) {
	t.Helper()
	if testing.Short() {
		n /= 4
	}
	limit := busyTime
	if mayFail { // for what hangs
		limit = time.Minute
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for range n {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				err := g.step(ctx, i%len(g.drivers), r)
				cancel()
				if err != nil && !mayFail {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// check compares listings by all drivers with the heads.
func (g *gateways) check(t testing.TB) (want []store.Info) {
	t.Helper()
	var keys []store.Info
	for i := range g.keys {
		d, err := g.bucket(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		state, err := d.d.keyState(t.Context(), d.bid, fmt.Sprintf("a/%d\x00\xff", i), true)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, state.versions()...)
		if state.current != nil && !state.current.DeleteMarker {
			keys = append(keys, state.versions()[0])
		}
	}
	byKey := func(a, b store.Info) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(b.Seq, a.Seq)) }
	slices.SortFunc(want, byKey)
	slices.SortFunc(keys, byKey)
	for i := range g.drivers {
		b, err := g.bucket(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(want, listAll(t, b.x, store.ListOptions{Versions: true, Max: 7}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("versions by driver %d (-heads +listed):\n%s", i, d)
		}
		if d := gocmp.Diff(keys, listAll(t, b.x, store.ListOptions{Max: 3}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("keys by driver %d (-heads +listed):\n%s", i, d)
		}
	}
	return want
}

// settled waits until no change is under way, sweeping, and compares entries
// and sums with the heads.
func (g *gateways) settled(t testing.TB) {
	t.Helper()
	b, err := g.bucket(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	f := &indexes{x: []*index{b.x}}
	sweepUntil(t, b.x, func() bool { return len(f.omap(t, spaceMarks)) == 0 })
	want := sums{}
	for _, info := range g.check(t) {
		want.add(sumsOf(&info, 1))
	}
	if got, err := b.x.stats(t.Context()); got != want || err != nil {
		t.Fatalf("stats = %+v, %v, want %+v", got, err, want)
	}
}

func TestDrivers_ChangeTheSameKeys(t *testing.T) {
	g := newGateways(t, newPlace(t), 2, indexLimits{split: 60})
	g.load(t, 16, 40, false)
	g.check(t)
	g.settled(t)
}

// TestDrivers_Die lets drivers die at random moments, again and again.
func TestDrivers_Die(t *testing.T) {
	newGateways(t, newPlace(t), 2, mortal).die(t, func() {})
}

// mortal are limits with which it shows soon what the dead left.
var mortal = indexLimits{split: 60, frozen: 200 * time.Millisecond, mark: 2 * time.Second}

// TestDrivers_DieWithTheOSD lets the OSD die as well.
func TestDrivers_DieWithTheOSD(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of its own: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool := c.Pool(t)
	p := newPlace(t)
	p.conf, p.pool, p.data = c.Conf, pool, pool
	newGateways(t, p, 2, mortal).die(t, func() {
		for range 3 {
			if err := c.RestartOSD(0); err != nil {
				t.Error(err)
			}
		}
	})
}

// die makes changes by drivers that die, while other things happen.
func (g *gateways) die(t *testing.T, meanwhile func()) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i = 1 - i {
			time.Sleep(300 * time.Millisecond) // what happens meanwhile is random anyway
			g.mu.Lock()
			d := g.drivers[i]
			g.mu.Unlock()
			g.start(t, i)
			d.crash(t)
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		meanwhile()
	}()
	g.load(t, 16, 60, true)
	<-done
	g.load(t, 16, 20, true)
	stop.Store(true)
	wg.Wait()
	g.check(t)
	g.settled(t)
}

// TestDrivers_StopAtPoints stops changes at the points where a driver may die.
func TestDrivers_StopAtPoints(t *testing.T) {
	g := newGateways(t, newPlace(t), 2, indexLimits{mark: 500 * time.Millisecond, frozen: 200 * time.Millisecond})
	var n atomic.Int64
	met := sync.Map{}
	g.setFault(func(point string) error {
		met.Store(point, true)
		switch {
		case n.Add(1)%7 != 0:
			return nil
		case point == "head.written": // the answer was lost
			return store.ErrUnknownOutcome
		}
		return errors.New("stopped at " + point)
	})
	g.load(t, 8, 60, true)
	g.setFault(nil)
	g.check(t)
	g.settled(t)
	for _, point := range []string{"head.write", "head.written", "index.settle"} {
		if _, ok := met.Load(point); !ok {
			t.Errorf("point %s was not met", point)
		}
	}
}
