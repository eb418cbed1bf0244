package posix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"herald/store"
)

// TestOutOfBand: files of other programs are objects; changed ones lose their
// attributes and get another kind of ETag.
func TestOutOfBand(t *testing.T) {
	for _, opts := range []Options{{}, {NoXattr: true}} {
		s, _, b := openTestBucket(t, opts)
		path := filepath.Join(s.root(), "bucket", "k")
		if err := os.WriteFile(path, []byte("foreign"), 0o644); err != nil {
			t.Fatal(err)
		}
		weak := func() string {
			t.Helper()
			info, err := b.Stat(t.Context(), "k", "")
			if err != nil || !strings.HasSuffix(info.ETag, "-0") || len(info.ETag) != 34 || info.VersionID != store.NullVersion || len(info.Attrs) != 0 {
				t.Fatalf("Stat = %+v, %v, want a made-up ETag and no attributes", info, err)
			}
			return info.ETag
		}
		first := weak()
		if err := putObject(b, "k", "mine", store.CommitOptions{Cond: store.Conditions{IfMatch: `"` + first + `"`}, Attrs: store.Attrs{"a": "b"}}); err != nil {
			t.Fatal(err)
		}
		wantData(t, b, "k", "mine")
		if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		if weak() == first {
			t.Error("another file has the same ETag")
		}
		etag := weak()
		info, err := b.Update(t.Context(), "k", "", func(*store.Info) (store.Attrs, error) { return store.Attrs{"tag": "1"}, nil })
		if err != nil || info.ETag != etag || info.Attrs["tag"] != "1" {
			t.Fatalf("Update = %+v, %v", info, err)
		}
		if info, err = b.Stat(t.Context(), "k", ""); err != nil || info.ETag != etag || info.Attrs["tag"] != "1" {
			t.Fatalf("Stat after Update = %+v, %v", info, err)
		}
		mustRemove(t, b, "k")
		wantNoFile(t, s, "bucket/k")
	}
}

// TestOutOfBand_Covered: what another program's file covered is not to be seen
// again when that file is replaced or removed.
func TestOutOfBand_Covered(t *testing.T) {
	changes := map[string]func(tr *tree){
		"put":    func(tr *tree) { tr.put("a/b", "new", store.Enabled); tr.want("keys", store.ListOptions{}, "a/b 3") },
		"remove": func(tr *tree) { tr.remove("a/b", "", store.Unversioned); tr.want("keys", store.ListOptions{}) },
		"mark": func(tr *tree) {
			tr.remove("a/b", "", store.Suspended)
			if _, err := tr.b.Stat(t.Context(), "a/b", ""); !errors.Is(err, store.ErrDeleteMarker) {
				t.Errorf("Stat = %v, want a delete marker", err)
			}
		},
	}
	for name, change := range changes {
		for _, noXattr := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,NoXattr=%t", name, noXattr), func(t *testing.T) {
				tr := newTree(t, Options{NoXattr: noXattr})
				tr.put("a/b", "covered", store.Unversioned)
				tr.put("a/b/c", "in the way", store.Unversioned)
				tr.remove("a/b/c", "", store.Unversioned)
				tr.write("a/b", "covers")
				change(tr)
				wantNoFile(t, tr.s, ".herald/keys/bucket/a%2Fb")
				_, err := tr.o.Fsck(t.Context(), store.FsckOptions{Report: func(f store.Finding) { t.Errorf("fsck: %+v", f) }})
				tr.must(err)
			})
		}
	}
}

// TestOutOfBand_DirectoriesMove: a directory that another program renames
// takes its objects along, and none that come later.
func TestOutOfBand_DirectoriesMove(t *testing.T) {
	s, _, b := openTestBucket(t, Options{})
	mustPut(t, b, "a/b/one", "1")
	if err := os.Rename(filepath.Join(s.root(), "bucket/a"), filepath.Join(s.root(), "bucket/z")); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "a/b/two", "2")
	wantFile(t, s, "bucket/a/b/two", "2")
	wantFile(t, s, "bucket/z/b/one", "1")
	wantData(t, b, "z/b/one", "1")
}

// TestOutOfBand_BucketRemoved: a bucket that vanishes under requests does no
// harm to the store.
func TestOutOfBand_BucketRemoved(t *testing.T) {
	s, o, b := openTestBucket(t, Options{})
	mustPut(t, b, "a/k", "1")
	w, err := b.Create(t.Context(), "a/l", store.CreateHint{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.root(), "bucket")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), store.CommitOptions{ETag: "x"}); !errors.Is(err, store.ErrNoSuchBucket) {
		t.Errorf("Commit = %v, want ErrNoSuchBucket", err)
	}
	if _, err := o.OpenBucket(t.Context(), "bucket"); !errors.Is(err, store.ErrNoSuchBucket) {
		t.Errorf("OpenBucket = %v, want ErrNoSuchBucket", err)
	}
	if err := o.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if b, err = o.OpenBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), "a/k", ""); !errors.Is(err, store.ErrNoSuchKey) {
		t.Errorf("Stat in the new bucket = %v, want ErrNoSuchKey", err)
	}
	mustPut(t, b, "a/k", "2")
}

// TestRemove_SharedDirectory: objects come and go in one directory from many
// sides, and so does the directory.
func TestRemove_SharedDirectory(t *testing.T) {
	s, _, b := openTestBucket(t, Options{Relaxed: true})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			key := fmt.Sprintf("d/e/%d", i%10)
			if i >= 10 {
				key = []string{"d", "d/e"}[i-10]
			}
			for n := range 200 {
				data := fmt.Sprint(i, n)
				if err := putObject(b, key, data, store.CommitOptions{}); err != nil {
					t.Errorf("put %s: %v", key, err)
					return
				}
				wantData(t, b, key, data)
				if out, err := b.Remove(context.Background(), key, "", store.RemoveOptions{}); err != nil || !out.Changed {
					t.Errorf("remove %s: %+v, %v", key, out, err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantNoFile(t, s, "bucket/d")
	if list, _ := os.ReadDir(filepath.Join(s.root(), home, "staging")); len(list) != 0 {
		t.Errorf("left in staging: %v", list)
	}
	if list, _ := os.ReadDir(filepath.Join(s.root(), home, "keys", "bucket")); len(list) != 0 {
		t.Errorf("left among the escaped keys: %v", list)
	}
}

// TestRead_WhileVersionsMove: a reader never misses a version while others are
// archived, promoted and removed around it.
func TestRead_WhileVersionsMove(t *testing.T) {
	_, _, b := openTestBucket(t, Options{Relaxed: true})
	enabled := store.CommitOptions{Versioning: store.Enabled, ETag: "e"}
	if err := putObject(b, "k", "first", enabled); err != nil {
		t.Fatal(err)
	}
	first, err := b.Stat(t.Context(), "k", "")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		for range 300 {
			if err := putObject(b, "k", "second", enabled); err != nil {
				t.Error(err)
				return
			}
			out, err := b.Remove(context.Background(), "k", "", store.RemoveOptions{Versioning: store.Enabled})
			if err != nil {
				t.Error(err)
				return
			}
			for _, id := range []string{out.Info.VersionID, out.Prior.VersionID} {
				if _, err := b.Remove(context.Background(), "k", id, store.RemoveOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.Stat(context.Background(), "k", first.VersionID); err != nil {
					t.Errorf("Stat of the first version = %v", err)
					return
				}
				if _, err := b.Stat(context.Background(), "k", ""); err != nil && !errors.Is(err, store.ErrDeleteMarker) {
					t.Errorf("Stat = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestDeleteBucket_WhileUsed: buckets come and go while others open them and
// put objects.
func TestDeleteBucket_WhileUsed(t *testing.T) {
	_, o, _ := openTestBucket(t, Options{Relaxed: true})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				b, err := o.OpenBucket(context.Background(), "other")
				if err == nil {
					err = putObject(b, fmt.Sprint("d/", i), "x", store.CommitOptions{})
				}
				if err == nil {
					_, err = b.Remove(context.Background(), fmt.Sprint("d/", i), "", store.RemoveOptions{})
				}
				if err != nil && !errors.Is(err, store.ErrNoSuchBucket) {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	for deleted := 0; deleted < 100; {
		if err := o.CreateBucket(t.Context(), "other"); err != nil && !errors.Is(err, store.ErrBucketAlreadyExists) {
			t.Fatal(err)
		}
		switch err := o.DeleteBucket(t.Context(), "other"); {
		case err == nil:
			deleted++
		case !errors.Is(err, store.ErrBucketNotEmpty):
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}
