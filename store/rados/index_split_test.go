//go:build rados

package rados

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"herald/store"
)

// limit changes limits. Those that changes under way look at (frozen, split)
// have to be set before the first.
func (f *indexes) limit(set func(*indexLimits)) {
	for _, x := range f.x {
		set(&x.env.limits)
	}
}

func (f *indexes) shards(t testing.TB) int {
	t.Helper()
	for _, x := range f.x {
		if _, err := x.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shards, _, err := f.x[0].all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(shards)
}

func TestIndex_SplitUnderLoad(t *testing.T) {
	f := newIndexes(t, 2)
	f.keys = 500
	f.limit(func(l *indexLimits) { l.split = 200 })
	f.load(t, 24, 80, func() {
		for range 10 {
			listAll(t, f.x[0], store.ListOptions{Max: 50, Versions: true})
		}
	})
	f.check(t)
	f.settled(t)
	// A split that was under way when the load ended may have been given up.
	for deadline := time.Now().Add(2 * time.Minute); f.shards(t) < 4 && time.Now().Before(deadline); {
		f.load(t, 4, 20, func() {})
	}
	if n := f.shards(t); n < 4 {
		t.Errorf("%d shards", n)
	}
	f.settled(t)
}

// TestIndex_SplitStopped stops a split at each of its points; the others go on
// with what it left.
func TestIndex_SplitStopped(t *testing.T) {
	for _, tt := range []struct {
		point    string
		patience time.Duration
		want     int // shards
	}{
		{"index.split.copying", time.Minute, 1},
		{"index.split.copied", 10 * time.Second, 1}, // a split that is not stopped has to be made in that time
		{"index.split.gone", time.Minute, 2},
	} {
		t.Run(tt.point, func(t *testing.T) {
			f := newIndexes(t, 2)
			f.limit(func(l *indexLimits) { l.frozen = tt.patience })
			f.load(t, 4, 20, func() {})
			stop := errors.New("stop")
			f.x[0].env.fault = func(p string) error {
				if p == tt.point {
					return stop
				}
				return nil
			}
			shards, _, err := f.x[0].all(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f.load(t, 4, 20, func() {
				if err := shards[0].split(t.Context()); !errors.Is(err, stop) {
					t.Errorf("split = %v", err)
				}
			})
			f.load(t, 4, 20, func() {})
			f.settled(t)
			if n := f.shards(t); n != tt.want {
				t.Errorf("%d shards, want %d", n, tt.want)
			}
			f.limit(func(l *indexLimits) { l.copy = time.Millisecond })
			sweepUntil(t, f.x[1], func() bool {
				state, err := shards[0].readState(t.Context())
				return err == nil && (state == shardLive || gone(state))
			})
			f.x[0].env.fault = nil
			if shards, _, err = f.x[1].all(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := shards[0].split(t.Context()); err != nil {
				t.Errorf("split = %v", err)
			}
			f.load(t, 4, 20, func() {})
			f.settled(t)
			if n := f.shards(t); n != tt.want+1 {
				t.Errorf("%d shards, want %d", n, tt.want+1)
			}
		})
	}
}

func TestLayout_Find(t *testing.T) {
	l := &layout{Shards: []shardRef{{"0", "a"}, {"10", "b"}, {"110", "c"}, {"111", "d"}}}
	if !complete("", l.Shards) || complete("", l.Shards[1:]) || complete("", l.Shards[:3]) {
		t.Error("complete")
	}
	count := map[string]int{}
	for i := range 8000 {
		ref, ok := l.find(fmt.Sprint(i))
		if !ok || keyBits(fmt.Sprint(i))[:len(ref.Bits)] != ref.Bits {
			t.Fatalf("find = %v, %t", ref, ok)
		}
		count[ref.Tag]++
	}
	if count["a"] < 3500 || count["b"] < 1700 || count["c"] < 800 || count["d"] < 800 {
		t.Errorf("keys of shards: %v", count)
	}
}
