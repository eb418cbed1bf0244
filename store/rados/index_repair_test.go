//go:build rados

package rados

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"herald/store"
)

// abandon makes changes as a gateway does that dies before the change, or
// after it.
func (f *indexes) abandon(t testing.TB, x *index, n int) (tags []store.OpID) {
	t.Helper()
	r := rand.New(rand.NewPCG(9, 9))
	for i := range n {
		key, tag := fmt.Sprintf("key\x00%02d", r.IntN(f.keys)), store.NewOpID()
		if _, err := x.begin(t.Context(), key, tag); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			f.heads.change(key, "pPD"[r.IntN(3)], tag)
		} else {
			tags = append(tags, tag)
		}
	}
	return tags
}

// sweepUntil sweeps by one gateway until done says that it is enough.
func sweepUntil(t testing.TB, x *index, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(busyTime); !done(); time.Sleep(10 * time.Millisecond) {
		if _, err := x.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v of sweeping were not enough", busyTime)
		}
	}
}

func TestIndex_RepairsWhatTheDeadLeft(t *testing.T) {
	f := newIndexes(t, 2)
	f.load(t, 4, 20, func() {})
	tags := f.abandon(t, f.x[0], 40)
	f.check(t)
	f.load(t, 4, 20, func() {}) // over the marks that are left
	f.check(t)
	barred := len(f.heads.barred)
	for range 3 { // they are young
		if _, err := f.x[1].sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.heads.barred) - barred; n > 0 {
		t.Errorf("%d changes were given up at once", n)
	}
	f.limit(func(l *indexLimits) { l.mark = 50 * time.Millisecond })
	sweepUntil(t, f.x[1], func() bool { return len(f.omap(t, spaceMarks)) == 0 })
	f.settled(t)
	for _, tag := range tags {
		if !f.heads.barred[tag] {
			t.Errorf("change %s may still happen", tag)
		}
	}
}

func TestIndex_LateChangeFindsThatItWasGivenUp(t *testing.T) {
	f := newIndexes(t, 2)
	f.limit(func(l *indexLimits) { l.mark = 10 * time.Millisecond })
	tag := store.NewOpID()
	m, err := f.x[0].begin(t.Context(), "k", tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.renew(t.Context()); err != nil {
		t.Errorf("renew = %v", err)
	}
	sweepUntil(t, f.x[1], func() bool { return len(f.omap(t, spaceMarks)) == 0 })
	if c := f.heads.change("k", 'p', tag); c != nil {
		t.Error("the change happened after it was given up")
	}
	if err := m.renew(t.Context()); !errors.Is(err, errMarkGone) {
		t.Errorf("renew = %v, want errMarkGone", err)
	}
	m.cancel()
	f.settled(t)
}

func TestIndex_SweepsHeadsOfRemovedKeys(t *testing.T) {
	f := newIndexes(t, 1)
	for i := range 50 {
		for _, kind := range []byte("pd") {
			tag := store.NewOpID()
			m, err := f.x[0].begin(t.Context(), fmt.Sprint(i), tag)
			if err != nil {
				t.Fatal(err)
			}
			m.end(*f.heads.change(fmt.Sprint(i), kind, tag))
		}
	}
	f.settled(t)
	if _, err := f.x[0].sweep(t.Context()); err != nil || len(f.heads.swept) > 0 {
		t.Errorf("sweep = %v, swept %d heads of an hour's age", err, len(f.heads.swept))
	}
	f.limit(func(l *indexLimits) { l.head = time.Millisecond })
	sweepUntil(t, f.x[0], func() bool { return len(f.omap(t, spaceDead)) == 0 })
	if len(f.heads.swept) != 50 {
		t.Errorf("%d heads were swept, want 50", len(f.heads.swept))
	}
}

func TestIndex_FoldsSums(t *testing.T) {
	f := newIndexes(t, 2)
	f.load(t, 4, 30, func() {})
	f.drain(t)
	shards, _, err := f.x[0].all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxSums {
		for sign, name := range map[int64]string{1: "", -1: "-"} {
			w := newShardWrite()
			w.sums = sums{sign, sign, sign * int64(i)}
			if err := shards[0].write(t.Context(), w, &tally{name: fmt.Sprint(spaceSums, i, name)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.limit(func(l *indexLimits) { l.mark = 10 * time.Millisecond })
	sweepUntil(t, f.x[0], func() bool { return len(f.omap(t, spaceSums)[shards[0].oid]) < maxSums/2 })
	f.load(t, 4, 30, func() {})
	f.settled(t)
	if names := f.omap(t, spaceSums)[shards[0].oid]; len(names) > 6 {
		t.Errorf("sums are left: %q", names)
	}
}

func TestIndex_Drop(t *testing.T) {
	f := newIndexes(t, 2)
	// A drop gives up after ten times its limit.
	f.limit(func(l *indexLimits) { l.drop, l.split, l.frozen = time.Second, 40, 5*time.Second })
	f.keys = 200
	f.load(t, 4, 60, func() {})
	f.settled(t)
	if n := f.shards(t); n < 2 {
		t.Errorf("%d shards", n)
	}
	if err := f.x[0].drop(t.Context()); !errors.Is(err, store.ErrBucketNotEmpty) {
		t.Errorf("drop = %v, want ErrBucketNotEmpty", err)
	}
	for key := range f.heads.keys {
		tag := store.NewOpID()
		m, err := f.x[1].begin(t.Context(), key, tag)
		if err != nil {
			t.Fatal(err)
		}
		if c := f.heads.change(key, 'd', tag); c != nil {
			m.end(*c)
		} else {
			m.cancel()
		}
	}
	f.abandonNothing(t)
	if err := f.x[0].drop(t.Context()); err != nil {
		t.Fatalf("drop = %v", err)
	}
	for _, x := range f.x {
		if _, err := x.begin(t.Context(), "k", store.NewOpID()); !errors.Is(err, store.ErrNoSuchBucket) {
			t.Errorf("begin = %v, want ErrNoSuchBucket", err)
		}
		if _, err := x.list(t.Context(), store.ListOptions{Max: 1}); !errors.Is(err, store.ErrNoSuchBucket) {
			t.Errorf("list = %v, want ErrNoSuchBucket", err)
		}
		if err := x.drop(t.Context()); !errors.Is(err, store.ErrNoSuchBucket) {
			t.Errorf("drop = %v, want ErrNoSuchBucket", err)
		}
	}
	if gone, err := f.x[1].sweep(t.Context()); gone || err != nil {
		t.Errorf("sweep = %t, %v while heads are left", gone, err)
	}
	f.limit(func(l *indexLimits) { l.head = time.Millisecond })
	gone := false
	for !gone {
		var err error
		if gone, err = f.x[1].sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndex_DropAfterADeadOne: shards that who died left frozen are empty all
// the same once they are live again.
func TestIndex_DropAfterADeadOne(t *testing.T) {
	f := newIndexes(t, 2)
	f.limit(func(l *indexLimits) { l.drop, l.frozen = 10*time.Millisecond, 500*time.Millisecond })
	f.x[0].env.fault = func(point string) error { return errors.New(point) }
	if err := f.x[0].drop(t.Context()); !errors.Is(err, errStopped) {
		t.Fatalf("drop = %v, want it stopped", err)
	}
	if err := f.x[1].drop(t.Context()); err != nil {
		t.Errorf("drop = %v", err)
	}
}

// abandonNothing begins changes that never happen.
func (f *indexes) abandonNothing(t testing.TB) {
	t.Helper()
	for i := range 10 {
		if _, err := f.x[1].begin(t.Context(), fmt.Sprint("never", i), store.NewOpID()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndex_DropStopped: who deletes a bucket dies before the linearization
// point; the bucket can be used again.
func TestIndex_DropStopped(t *testing.T) {
	f := newIndexes(t, 2)
	f.limit(func(l *indexLimits) { l.frozen = 100 * time.Millisecond })
	f.x[0].env.fault = func(string) error { return errors.New("stop") }
	if err := f.x[0].drop(t.Context()); !errors.Is(err, errStopped) {
		t.Fatalf("drop = %v", err)
	}
	f.x[0].env.fault = nil
	f.load(t, 4, 20, func() {})
	f.settled(t)
}

// TestIndex_DropWhileOthersBegin: a bucket is deleted only when no change
// happens any more.
func TestIndex_DropWhileOthersBegin(t *testing.T) {
	for range 10 {
		f := newIndexes(t, 2)
		result := make(chan error, 1)
		go func() {
			tag := store.NewOpID()
			m, err := f.x[0].begin(t.Context(), "k", tag)
			if err == nil {
				if c := f.heads.change("k", 'p', tag); c != nil {
					m.end(*c)
				} else {
					m.cancel()
					err = store.ErrOpBarred
				}
			}
			result <- err
		}()
		dropped := f.x[1].drop(t.Context())
		err := <-result
		if (dropped == nil) == (err == nil) {
			t.Errorf("drop = %v while a change = %v", dropped, err)
		}
	}
}

// TestIndex_EndsInAnotherOrder: a key is put and removed again, and the removal
// ends first. The put must not take the key for a new one.
func TestIndex_EndsInAnotherOrder(t *testing.T) {
	f := newIndexes(t, 2)
	var marks []*mark
	var changes []*indexChange
	for i, kind := range []byte("pd") {
		tag := store.NewOpID()
		m, err := f.x[i].begin(t.Context(), "k", tag)
		if err != nil {
			t.Fatal(err)
		}
		marks, changes = append(marks, m), append(changes, f.heads.change("k", kind, tag))
	}
	marks[1].end(*changes[1])
	for len(slices.Concat(slices.Collect(maps.Values(f.omap(t, spaceMarks)))...)) > 1 {
		time.Sleep(time.Millisecond)
	}
	f.check(t)
	marks[0].end(*changes[0])
	f.settled(t)
}
