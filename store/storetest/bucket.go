package storetest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"herald/store"
)

func bucketCases() []testCase {
	return []testCase{
		{"Create_Existing", func(f *Fixture) {
			f.wantIs("CreateBucket of an existing one", f.Driver().CreateBucket(f.Context(), f.Name), store.ErrBucketAlreadyExists)
		}},
		{"Open_Missing", func(f *Fixture) {
			_, err := f.Driver().OpenBucket(f.Context(), "no-such-bucket")
			f.wantIs("OpenBucket of none", err, store.ErrNoSuchBucket)
		}},
		{"Delete_Missing", func(f *Fixture) {
			f.wantIs("DeleteBucket of none", f.Driver().DeleteBucket(f.Context(), "no-such-bucket"), store.ErrNoSuchBucket)
		}},
		{"Delete_NotEmpty", func(f *Fixture) {
			f.Put("a/b/c", "x")
			f.wantNotEmpty()
			f.Want("a/b/c", "", "x")
			f.Remove("a/b/c", "")
			f.deleteBucket()
		}},
		{"Delete_VersionsOnly", bucketDeleteVersionsOnly},
		{"Delete_HandleGoesStale", bucketStaleHandle},
		{"Delete_AndCreateAgain", bucketRecreate},
		{"List_SortedAndPersistent", bucketList},
		{"Tenants", bucketTenants},
		{"Create_Race", bucketCreateRace},
		{"Delete_RacingPut", bucketDeleteRace},
	}
}

func (f *Fixture) deleteBucket() {
	f.Helper()
	if err := f.Driver().DeleteBucket(f.Context(), f.Name); err != nil {
		f.Fatalf("DeleteBucket(%q) = %v", f.Name, err)
	}
}

func (f *Fixture) wantNotEmpty() {
	f.Helper()
	f.wantIs("DeleteBucket", f.Driver().DeleteBucket(f.Context(), f.Name), store.ErrBucketNotEmpty)
}

func bucketDeleteVersionsOnly(f *Fixture) {
	f.Versioning = store.Enabled
	v1 := f.Put("k", "one").Info.VersionID
	v2 := f.Remove("k", "").Info.VersionID // a marker over a version
	f.wantNotEmpty()
	f.Remove("k", v1) // the marker alone
	f.wantNotEmpty()
	f.Reopen()
	f.wantNotEmpty()
	f.Remove("k", v2)
	f.deleteBucket()
}

func bucketStaleHandle(f *Fixture) {
	f.Put("k", "v")
	w, err := f.Bucket.Create(f.Context(), "late", store.CreateHint{Size: -1})
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = w.Abort() }()
	f.Remove("k", "")
	f.deleteBucket()
	_, err = w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf("")})
	f.wantIs("Commit after DeleteBucket", err, store.ErrNoSuchBucket)
	_, err = f.TryPut("k", "v")
	f.wantIs("Put after DeleteBucket", err, store.ErrNoSuchBucket)
	f.WantErr("k", "", store.ErrNoSuchBucket)
	_, err = f.TryRemove("k", "")
	f.wantIs("Remove after DeleteBucket", err, store.ErrNoSuchBucket)
	_, err = f.Bucket.List(f.Context(), store.ListOptions{Max: 10})
	f.wantIs("List after DeleteBucket", err, store.ErrNoSuchBucket)
	_, err = f.Bucket.Update(f.Context(), "k", "", func(i *store.Info) (store.Attrs, error) { return i.Attrs, nil })
	f.wantIs("Update after DeleteBucket", err, store.ErrNoSuchBucket)
	f.wantIs("DeleteBucket again", f.Driver().DeleteBucket(f.Context(), f.Name), store.ErrNoSuchBucket)
}

func bucketRecreate(f *Fixture) {
	f.Versioning = store.Enabled
	f.Put("dir/k", "v1")
	f.Put("dir/k", "v2")
	for _, e := range f.List(store.ListOptions{Versions: true, Max: 10}).Entries {
		f.Remove(e.Key, versionID(&e))
	}
	f.deleteBucket()
	f.Crash0()
	if err := f.Driver().CreateBucket(f.Context(), f.Name); err != nil {
		f.Fatalf("CreateBucket again = %v", err)
	}
	f.openBucket()
	if p := f.List(store.ListOptions{Versions: true, Max: 10}); len(p.Entries) != 0 {
		f.Fatalf("a bucket made again holds %+v", p.Entries)
	}
	f.Absent("dir/k")
	f.Put("dir/k", "v3")
	f.Crash()
	f.Want("dir/k", "", "v3")
}

// Crash0 is Crash for a case whose bucket does not exist at the moment.
func (f *Fixture) Crash0() {
	f.Helper()
	if f.suite.h.Crash != nil {
		f.suite.h.Crash(f.T, f.suite.d)
	} else if err := f.suite.d.Close(); err != nil {
		f.Fatalf("Close() = %v", err)
	}
	f.suite.d = f.suite.h.Open(f.T)
	if _, err := f.Driver().OpenBucket(f.Context(), f.Name); err == nil {
		f.Fatalf("bucket %q is back after it was deleted", f.Name)
	}
}

func (f *Fixture) bucketNames() []string {
	f.Helper()
	entries, err := f.Driver().ListBuckets(f.Context())
	if err != nil {
		f.Fatalf("ListBuckets() = %v", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
		if e.Created.IsZero() || time.Since(e.Created) < -time.Minute {
			f.Errorf("bucket %q was created at %v", e.Name, e.Created)
		}
	}
	return names
}

func bucketList(f *Fixture) {
	for _, n := range []string{"list-b", "list-a", "list-a.b", "list-a-b", "list-0"} {
		if err := f.Driver().CreateBucket(f.Context(), n); err != nil {
			f.Fatalf("CreateBucket(%q) = %v", n, err)
		}
	}
	names := f.bucketNames()
	if !slices.IsSorted(names) || !slices.Contains(names, "list-a.b") || !slices.Contains(names, f.Name) {
		f.Fatalf("ListBuckets() = %q", names)
	}
	f.Crash()
	if again := f.bucketNames(); !slices.Equal(names, again) {
		f.Fatalf("ListBuckets() = %q, after reopening %q", names, again)
	}
}

func bucketTenants(f *Fixture) {
	name := "tenant:" + f.Name
	f.Put("k", "of none")
	if err := f.Driver().CreateBucket(f.Context(), name); err != nil {
		f.Fatalf("CreateBucket(%q) = %v", name, err)
	}
	f.Name = name
	f.openBucket()
	f.Absent("k")
	f.Put("k", "of a tenant")
	f.Crash()
	f.Want("k", "", "of a tenant")
	if !slices.Contains(f.bucketNames(), name) {
		f.Fatalf("ListBuckets() lacks %q", name)
	}
}

func bucketCreateRace(f *Fixture) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch err := f.Driver().CreateBucket(f.Context(), "race-bucket"); {
			case err == nil:
				won.Add(1)
			case !isOneOf(err, []error{store.ErrBucketAlreadyExists}):
				f.Errorf("CreateBucket = %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		f.Fatalf("%d of 16 made the same bucket", won.Load())
	}
}

// bucketDeleteRace: either the bucket is deleted and the object was refused,
// or the object is there and the bucket not deleted.
func bucketDeleteRace(f *Fixture) {
	for range 20 {
		f.NewBucket()
		var putErr, delErr error
		var wg sync.WaitGroup
		wg.Go(func() { _, putErr = f.TryPut("d/k", "v") })
		wg.Go(func() { delErr = f.Driver().DeleteBucket(f.Context(), f.Name) })
		wg.Wait()
		switch {
		case putErr == nil && isOneOf(delErr, []error{store.ErrBucketNotEmpty}):
			f.Want("d/k", "", "v")
		case delErr == nil && isOneOf(putErr, []error{store.ErrNoSuchBucket}):
		default:
			f.Fatalf("Put = %v, DeleteBucket = %v", putErr, delErr)
		}
	}
}
