package lifecycle

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"herald/journal"
	"herald/notify"
	"herald/queue/embedded"
	"herald/store"
	"herald/store/posix"
	"herald/store/storetest"
)

// openWorker returns a worker over a store in a fresh directory, with a bucket
// "bkt" that has one rule. The hooks are those of storetest.Faulty.
func openWorker(t *testing.T, versioning store.Versioning, rule Rule, hooks ...func(storetest.Call) error) *Worker {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{NoSync: true, SegmentBytes: 1 << 20, Segments: 8})
	must(err)
	objects, err := posix.Open(filepath.Join(dir, "data"), j, posix.Options{Relaxed: true})
	must(err)
	queues, err := embedded.Open(filepath.Join(dir, "queue"), j, embedded.Options{})
	must(err)
	must(j.Recover())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = j.Run(ctx) })
	n, err := notify.New(notify.Config{Records: objects.Records(), Outcomes: objects.Outcomes(), Queues: queues})
	must(err)
	s := store.NewService(&storetest.Faulty{Driver: objects, Hook: func(c storetest.Call) (bool, error) {
		for _, hook := range hooks {
			if err := hook(c); err != nil {
				return false, err
			}
		}
		return true, nil
	}})
	t.Cleanup(func() {
		must(queues.Close())
		cancel()
		running.Wait()
		must(j.Close())
		must(s.Close())
	})
	rule.Enabled = true
	attr, err := Format([]Rule{rule})
	must(err)
	must(s.CreateBucket(t.Context(), store.BucketInfo{Name: "bkt", Owner: "o"}))
	must(s.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error {
		b.Versioning = versioning
		b.Attrs[Attr] = attr
		return nil
	}))
	later := func() time.Time { return time.Now().Add(100 * 24 * time.Hour) }
	w, err := New(Config{Store: s, Notify: n, Locker: queues.Locker(), Clock: Clock{Now: later}})
	must(err)
	return w
}

// bucket is the worker's bucket as it is now.
func (w *Worker) bucket(t *testing.T) *store.OpenBucket {
	t.Helper()
	b, err := w.cfg.Store.OpenBucket(t.Context(), "", "bkt")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put makes an object "k".
func (w *Worker) put(t *testing.T, data string) {
	t.Helper()
	b := w.bucket(t)
	out, err := b.Create(t.Context(), "k", store.CreateHint{Size: -1})
	if err == nil {
		_, err = out.Write([]byte(data))
	}
	if err == nil {
		_, err = out.Commit(t.Context(), store.CommitOptions{Versioning: b.Info.Versioning, ETag: "of-" + data, Attrs: store.Attrs{}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// versions are those of "k", newest first.
func (w *Worker) versions(t *testing.T) []store.Info {
	t.Helper()
	page, err := w.bucket(t).List(t.Context(), store.ListOptions{Versions: true, Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	return page.Entries
}

func (w *Worker) removeKey(t *testing.T) {
	t.Helper()
	b := w.bucket(t)
	if _, err := b.Remove(t.Context(), "k", "", store.RemoveOptions{Versioning: b.Info.Versioning}); err != nil {
		t.Fatal(err)
	}
}

// round is one over the worker's bucket.
func (w *Worker) round(t *testing.T) *round {
	t.Helper()
	b := w.bucket(t)
	rules, err := Parse(b.Info.Attrs[Attr])
	if err != nil {
		t.Fatal(err)
	}
	return &round{Worker: w, info: b.Info, renewed: time.Now(), rules: rules, bucket: b, counts: map[string]int{}}
}

// TestRound_NullReplaced: in a bucket whose versioning is suspended the null
// version is another one each time. What was listed is ended, not what has taken
// its place since.
func TestRound_NullReplaced(t *testing.T) {
	t.Run("marker", func(t *testing.T) {
		w := openWorker(t, store.Suspended, Rule{ID: "r", DeleteMarker: true})
		w.put(t, "old")
		w.removeKey(t)
		r, listed := w.round(t), w.versions(t)
		if len(listed) != 1 || !listed[0].DeleteMarker {
			t.Fatalf("versions = %+v", listed)
		}
		w.put(t, "precious")
		r.apply(t.Context(), &listed[0], place{latest: true, only: true})
		if left := w.versions(t); len(left) != 1 || left[0].ETag != "of-precious" {
			t.Errorf("versions = %+v", left)
		}
	})
	t.Run("noncurrent", func(t *testing.T) {
		w := openWorker(t, store.Suspended, Rule{ID: "r", NoncurrentDays: 1})
		w.put(t, "old") // null
		w.setVersioning(t, store.Enabled)
		w.put(t, "newer")
		w.setVersioning(t, store.Suspended)
		r, listed := w.round(t), w.versions(t)
		if len(listed) != 2 || listed[1].VersionID != store.NullVersion {
			t.Fatalf("versions = %+v", listed)
		}
		w.put(t, "precious") // null
		r.apply(t.Context(), &listed[1], place{since: listed[0].ModTime})
		if left := w.versions(t); len(left) != 2 || left[0].ETag != "of-precious" {
			t.Errorf("versions = %+v", left)
		}
	})
}

func (w *Worker) setVersioning(t *testing.T, v store.Versioning) {
	t.Helper()
	err := w.cfg.Store.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error {
		b.Versioning = v
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWorker_Changed: a pass over many buckets takes long. Rules that were taken
// back before a bucket's turn end nothing, and versioning that was enabled
// keeps what they end.
func TestWorker_Changed(t *testing.T) {
	t.Run("rules", func(t *testing.T) {
		w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1})
		w.put(t, "old")
		listed := w.bucket(t).Info
		err := w.cfg.Store.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error {
			delete(b.Attrs, Attr)
			return nil
		})
		if err == nil {
			err = w.process(t.Context(), listed, always, 0)
		}
		if left := w.versions(t); err != nil || len(left) != 1 {
			t.Errorf("%d objects left, %v", len(left), err)
		}
	})
	t.Run("rules in a round", func(t *testing.T) {
		w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1})
		w.put(t, "old")
		r := w.round(t)
		err := w.cfg.Store.UpdateBucket(t.Context(), "", "bkt", func(b *store.BucketInfo) error {
			b.Attrs[Attr] = "[]"
			return nil
		})
		if err == nil {
			err = r.run(t.Context())
		}
		if left := w.versions(t); !errors.Is(err, errChanged) || len(left) != 1 {
			t.Errorf("%d objects left, %v", len(left), err)
		}
	})
	t.Run("versioning in a round", func(t *testing.T) {
		w := openWorker(t, store.Unversioned, Rule{ID: "r", Days: 1})
		w.put(t, "old")
		r := w.round(t)
		w.setVersioning(t, store.Enabled)
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := w.versions(t); len(left) != 2 || !left[0].DeleteMarker {
			t.Errorf("versions = %+v", left)
		}
	})
}
