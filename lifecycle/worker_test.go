package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"herald/store"
	"herald/store/storetest"
)

// putKeys makes objects with those keys.
func (w *Worker) putKeys(t *testing.T, keys ...string) {
	t.Helper()
	b := w.bucket(t)
	for _, key := range keys {
		out, err := b.Create(t.Context(), key, store.CreateHint{Size: 0})
		if err == nil {
			_, err = out.Commit(t.Context(), store.CommitOptions{Versioning: b.Info.Versioning, ETag: "e", Attrs: store.Attrs{}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// keys are those that the bucket has.
func (w *Worker) keys(t *testing.T) []string {
	t.Helper()
	var keys []string
	for _, v := range w.versions(t) {
		keys = append(keys, v.Key)
	}
	return keys
}

// record is the bucket's.
func (w *Worker) record(t *testing.T) progress {
	t.Helper()
	p, _, err := w.load(t.Context(), w.bucket(t).Info)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// another is a worker of another gateway on the same store.
func (w *Worker) another(t *testing.T) *Worker {
	t.Helper()
	other, err := New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// lookOnce is a look that waits for the work.
func (w *Worker) lookOnce(ctx context.Context) error {
	return w.together(ctx, func(c *crew) { w.look(ctx, c) })
}

// TestWorker_Interrupted: who stops in the middle of a bucket leaves it to
// another gateway, which goes on behind the last key that was dealt with.
func TestWorker_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1}, func(c storetest.Call) error {
		if c.Op == "Remove" && c.Key == "c" {
			cancel()
		}
		return nil
	})
	w.putKeys(t, "a", "b", "c", "d", "e")
	if err := w.lookOnce(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("look = %v", err)
	}
	if got := w.keys(t); !slices.Equal(got, []string{"d", "e"}) {
		t.Fatalf("left: %v", got)
	}
	if p := w.record(t); p.Status != StatusProcessing || string(p.After) != "b" {
		t.Errorf("record %+v", p)
	}
	w.putKeys(t, "a", "c") // before and behind where it stopped
	other := w.another(t)
	if err := other.lookOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.keys(t); !slices.Equal(got, []string{"a"}) {
		t.Errorf("left: %v", got)
	}
	if p := w.record(t); p.Status != StatusComplete || len(p.After) > 0 {
		t.Errorf("record %+v", p)
	}
	if err := other.Process(t.Context(), "", "bkt"); err != nil {
		t.Fatal(err)
	}
	if got := w.keys(t); len(got) > 0 {
		t.Errorf("left by a whole round: %v", got)
	}
}

// TestWorker_Turns: a bucket that takes longer than a turn comes to its end all
// the same, and nothing is done twice.
func TestWorker_Turns(t *testing.T) {
	w := openWorker(t, store.Enabled, Rule{ID: "r", NoncurrentDays: 1})
	w.turn = 1
	for range 3 {
		w.putKeys(t, "a", "b", "c")
	}
	for turn := 1; ; turn++ {
		if err := w.lookOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := len(w.versions(t)); turn <= 3 && left != 9-2*turn {
			t.Errorf("after turn %d: %d versions", turn, left)
		}
		if w.record(t).Status == StatusComplete {
			break
		}
		if turn > 4 {
			t.Fatalf("no end: %+v", w.record(t))
		}
	}
}

// TestWorker_Two: of two gateways that look at the same time one works on a
// bucket; no object is removed twice. A store that fails makes a round fail,
// which goes on there later.
func TestWorker_Two(t *testing.T) {
	var mu sync.Mutex
	removed := map[string]int{}
	w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1}, func(c storetest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == "Remove" {
			removed[c.Key]++
		}
		return nil
	})
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
	}
	w.putKeys(t, keys...)
	other := w.another(t)
	var wg sync.WaitGroup
	for _, do := range []func() error{
		func() error { return w.lookOnce(t.Context()) },
		func() error { return other.lookOnce(t.Context()) },
		func() error { return w.Process(t.Context(), "", "") },
	} {
		wg.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys {
		if removed[key] != 1 {
			t.Errorf("%s was removed %d times", key, removed[key])
		}
	}
	if p := w.record(t); p.Status != StatusComplete {
		t.Errorf("record %+v", p)
	}
	if !w.enter("bkt") {
		t.Fatal("the bucket is still worked on")
	}
	if err := w.Process(t.Context(), "", "bkt"); !errors.Is(err, ErrBusy) {
		t.Errorf("Process of a bucket that is worked on = %v", err)
	}
	w.leave("bkt")
}

// TestWorker_Failed: what a store refuses is counted and stays; a listing that
// fails ends the round, and an hour later it goes on.
func TestWorker_Failed(t *testing.T) {
	broken := errors.New("the disk is broken")
	var failing string // the operation
	w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1}, func(c storetest.Call) error {
		if c.Op == failing {
			return broken
		}
		return nil
	})
	w.putKeys(t, "a", "b")
	failing = "List"
	if err := w.lookOnce(t.Context()); !errors.Is(err, broken) {
		t.Errorf("look = %v", err)
	}
	failing = ""
	b := w.bucket(t).Info
	p := w.record(t)
	if p.Status != StatusFailed || w.due(b, &p) {
		t.Errorf("record %+v, due at once: %t", p, w.due(b, &p))
	}
	if p.Started = p.Started.Add(-2 * time.Hour); !w.due(b, &p) {
		t.Error("not due after two hours")
	}
	failing = "Remove"
	if err := w.Process(t.Context(), "", "bkt"); err != nil {
		t.Error(err)
	}
	failing = ""
	if got := w.keys(t); len(got) != 2 {
		t.Errorf("left: %v", got)
	}
	if err := w.Process(t.Context(), "", ""); err != nil {
		t.Error(err)
	}
	if got := w.keys(t); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// TestWorker_Sweep: the record of a bucket that has no rules any more goes a day
// later.
func TestWorker_Sweep(t *testing.T) {
	w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1})
	if err := w.lookOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	records := func() int {
		names, err := w.cfg.Store.Records().List(t.Context(), recordPrefix, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	sweep := func() {
		t.Helper()
		buckets, err := w.buckets(t.Context())
		if err == nil {
			err = w.sweep(t.Context(), buckets)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	now := w.cfg.Clock.now()
	w.cfg.Clock.Now = func() time.Time { return now.Add(48 * time.Hour) }
	if sweep(); records() != 1 {
		t.Error("the record of a bucket with rules went")
	}
	err := w.cfg.Store.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error {
		delete(b.Attrs, Attr)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Clock.Now = func() time.Time { return now }
	if sweep(); records() != 1 {
		t.Error("a record went at once")
	}
	w.cfg.Clock.Now = func() time.Time { return now.Add(48 * time.Hour) }
	if sweep(); records() != 0 {
		t.Error("the record is still there")
	}
}

// TestRound_Restored: a noncurrent version, or delete marker, that became the
// current one again after it was listed stays.
func TestRound_Restored(t *testing.T) {
	for name, wanted := range map[string]func(*Worker){
		"version": func(w *Worker) { w.put(t, "wanted") },
		"marker":  func(w *Worker) { w.put(t, "hidden"); w.removeKey(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorker(t, store.Enabled, Rule{ID: "r", NoncurrentDays: 1})
			wanted(w)
			w.put(t, "mistake")
			r, listed := w.round(t), w.versions(t)
			if _, err := r.bucket.Remove(t.Context(), "k", listed[0].VersionID, store.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := r.apply(t.Context(), &listed[1], place{since: listed[0].ModTime}); err != nil {
				t.Error(err)
			}
			if left := w.versions(t); len(left) != len(listed)-1 || left[0].VersionID != listed[1].VersionID {
				t.Errorf("versions = %+v", left)
			}
		})
	}
}
