//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	librados "herald/rados"
	"herald/store"
	"herald/tests/cephtest"
)

// memoryHeads are heads in memory, which tell the index what to say. The real
// ones have tests of their own, over this index.
type memoryHeads struct {
	mu     sync.Mutex
	keys   map[string]*keyState
	barred map[store.OpID]bool
	swept  map[string]bool
	clock  uint64
}

func newMemoryHeads() *memoryHeads {
	return &memoryHeads{keys: map[string]*keyState{}, barred: map[store.OpID]bool{}, swept: map[string]bool{}}
}

func (h *memoryHeads) keyState(_ context.Context, _, key string, _ bool) (*keyState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.keys[key]; k != nil {
		c := *k
		c.noncurrent = slices.Clone(k.noncurrent)
		return &c, nil
	}
	return &keyState{}, nil
}

func (h *memoryHeads) repairHead(_ context.Context, _, _ string, tag store.OpID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.barred[tag] = true
	return nil
}

func (h *memoryHeads) sweepHead(_ context.Context, _, key string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.swept[key] = true
	return true, nil
}

// change changes a key's head: kind 'p' puts, 'P' puts a version, 'd' removes
// the key with all its versions, 'D' adds a delete marker, 'n' removes the
// oldest version. It answers nil for a change that changes nothing, or is
// barred.
func (h *memoryHeads) change(key string, kind byte, tag store.OpID) *indexChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.barred[tag] {
		return nil
	}
	k := h.keys[key]
	if k == nil {
		k = &keyState{}
		h.keys[key] = k
	}
	c := &indexChange{was: k.entry()}
	h.clock++
	info := &store.Info{Key: key, VersionID: newVersionID(h.clock, tag), Seq: h.clock, Size: int64(h.clock % 1000), ETag: fmt.Sprint(h.clock), ModTime: time.Unix(int64(h.clock), 5)}
	if h.clock%2 == 0 {
		info.Attrs = store.Attrs{store.AttrOwner: "owner", store.AttrStorageClass: "COLD"}
	}
	info.DeleteMarker = kind == 'D'
	switch {
	case kind == 'p':
		k.current = info
	case kind == 'P' || kind == 'D':
		if k.current != nil {
			c.add = []store.Info{*k.current}
			k.noncurrent = slices.Concat(c.add, k.noncurrent)
		}
		k.current = info
	case k.current == nil:
		return nil
	case kind == 'n' && len(k.noncurrent) > 0:
		last := len(k.noncurrent) - 1
		c.remove = []store.Info{k.noncurrent[last]}
		k.noncurrent = k.noncurrent[:last:last]
	default:
		c.remove = k.noncurrent
		k.current, k.noncurrent = nil, nil
	}
	k.gen = h.clock
	c.now = k.entry()
	return c
}

// want returns the listing of all versions.
func (h *memoryHeads) want() (infos []store.Info, s sums) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.keys {
		infos = append(infos, k.versions()...)
	}
	slices.SortFunc(infos, func(a, b store.Info) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(b.Seq, a.Seq)) })
	for i := range infos {
		s.add(sumsOf(&infos[i], 1))
	}
	return infos, s
}

// indexes are the indexes of one bucket, one for each gateway.
type indexes struct {
	heads *memoryHeads
	x     []*index
	keys  int // that randomChange uses
}

func newIndexes(t testing.TB, gateways int) *indexes {
	t.Helper()
	pool, ns := cephtest.Start(t).Namespace(t)
	f := &indexes{heads: newMemoryHeads(), keys: 20}
	bid := fmt.Sprintf("%016x", rand.Uint64())
	for i := range gateways {
		env := newTestEnv(t, pool, ns, f.heads)
		if i == 0 {
			if err := createIndex(t.Context(), env, bid); err != nil {
				t.Fatal(err)
			}
		}
		f.x = append(f.x, openIndex(env, bid))
	}
	return f
}

func newTestEnv(t testing.TB, pool, ns string, heads headReader) *indexEnv {
	t.Helper()
	conn, err := librados.Connect(t.Context(), librados.Config{ConfFile: cephtest.Start(t).Conf})
	if err != nil {
		t.Fatal(err)
	}
	io, err := conn.IO(pool, ns)
	if err != nil {
		t.Fatal(err)
	}
	env := &indexEnv{io: io, heads: heads, bg: newBackground(), gateway: store.NewOpID().String(), now: time.Now, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() {
		env.bg.close(time.Minute)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return env
}

// drain waits until all that was begun has ended.
func (f *indexes) drain(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(busyTime); ; time.Sleep(5 * time.Millisecond) {
		n := 0
		for _, p := range f.omap(t, spaceMarks) {
			n += len(p)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("marks are left: %q", f.omap(t, spaceMarks))
		}
	}
}

// omap returns the names in a space of each shard.
func (f *indexes) omap(t testing.TB, space string) map[string][]string {
	t.Helper()
	for {
		if err := f.x[0].load(t.Context(), f.x[0].version()); err != nil {
			t.Fatal(err)
		}
		names, err := f.tryOmap(t.Context(), space)
		if err == nil {
			return names
		}
		if !errors.Is(err, syscall.ENOENT) { // a shard was split meanwhile
			t.Fatal(err)
		}
	}
}

func (f *indexes) tryOmap(ctx context.Context, space string) (map[string][]string, error) {
	shards, _, err := f.x[0].all(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for _, s := range shards {
		for after, more := "", true; more; {
			op := librados.NewRead()
			step := op.OmapGetVals(after, space, 1000)
			if _, err := f.x[0].env.io.Operate(ctx, s.oid, op, 0); err != nil {
				return nil, err
			}
			for _, p := range step.Pairs {
				names[s.oid] = append(names[s.oid], p.Key)
				after = p.Key
			}
			more = step.More
		}
	}
	return names, nil
}

// all lists all versions by pages.
func listAll(t testing.TB, x *index, opts store.ListOptions) (infos []store.Info) {
	t.Helper()
	for {
		p, err := x.list(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if infos = append(infos, p.Entries...); !p.Truncated {
			return infos
		}
		opts.Marker, opts.VersionMarker = p.NextMarker, p.NextVersionMarker
	}
}

// check compares listings by all gateways with the heads.
func (f *indexes) check(t testing.TB) {
	t.Helper()
	want, _ := f.heads.want()
	for i, x := range f.x {
		got := listAll(t, x, store.ListOptions{Versions: true, Max: 1 + i*100})
		if d := gocmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("listing by gateway %d (-want +got):\n%s", i, d)
		}
		keys := slices.DeleteFunc(slices.Clone(want), func(i store.Info) bool { return !i.IsLatest || i.DeleteMarker })
		got = listAll(t, x, store.ListOptions{Max: 7})
		if d := gocmp.Diff(keys, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("listing of keys by gateway %d (-want +got):\n%s", i, d)
		}
	}
}

func TestIndex_ManyGatewaysChangeTheSameKeys(t *testing.T) {
	f := newIndexes(t, 2)
	f.load(t, 24, 60, func() {})
	f.check(t) // with marks
	f.settled(t)
}

// settled waits until nothing is under way, and compares entries and sums with
// the heads.
func (f *indexes) settled(t testing.TB) {
	t.Helper()
	f.drain(t)
	f.check(t)
	_, want := f.heads.want()
	for _, x := range f.x {
		if got, err := x.stats(t.Context()); got != want || err != nil {
			t.Fatalf("stats = %+v, %v, want %+v", got, err, want)
		}
	}
}

// load changes random keys by all gateways at once, n times by each of some
// clients, while something else is done.
func (f *indexes) load(t *testing.T, clients, n int, meanwhile func()) {
	t.Helper()
	if testing.Short() {
		clients /= 2
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range n {
				if err := f.randomChange(t.Context(), f.x[i%len(f.x)], r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	meanwhile()
	wg.Wait()
}

// randomChange makes a random change of one of a few keys.
func (f *indexes) randomChange(ctx context.Context, x *index, r *rand.Rand) error {
	key, tag := fmt.Sprintf("key\x00%02d", r.IntN(f.keys)), store.NewOpID()
	m, err := x.begin(ctx, key, tag)
	if err != nil {
		return err
	}
	if r.IntN(5) == 0 {
		if err := m.renew(ctx); err != nil {
			return err
		}
	}
	switch c := f.heads.change(key, "pPPDdn"[r.IntN(6)], tag); {
	case c == nil:
		m.cancel()
	case r.IntN(10) == 0:
		m.settle()
	default:
		m.end(*c)
	}
	return nil
}
