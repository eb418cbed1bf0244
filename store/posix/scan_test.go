package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"herald/store"
)

// tree is a bucket of an open store, with what other programs do to it.
type tree struct {
	t interface {
		Helper()
		Fatal(...any)
		Fatalf(string, ...any)
		Errorf(string, ...any)
		Context() context.Context
	}
	s *testStore
	o *opened
	b *bucket

	name string // of the bucket
}

func newTree(t testing.TB, opts Options) *tree {
	tr := &tree{t: t, s: newTestStore(t, opts), name: testBucket}
	tr.o = tr.s.open(t)
	if err := tr.o.CreateBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	tr.find()
	t.Cleanup(func() { _ = tr.o.Close() })
	return tr
}

// find opens the bucket anew. Directories are then always due to be compared.
func (tr *tree) find() {
	tr.t.Helper()
	var err error
	if tr.b, err = tr.o.Driver.bucket(tr.name); err != nil {
		tr.t.Fatal(err)
	}
	tr.o.index.dirs.interval = 0
}

// fresh makes a bucket, to work with from here on.
func (tr *tree) fresh(t *rapid.T, name string) {
	tr.t = t
	tr.must(tr.o.CreateBucket(context.Background(), name))
	tr.name = name
	tr.find()
}

func (tr *tree) reopen(t *testing.T, between func()) {
	tr.t.Helper()
	if err := tr.o.Close(); err != nil {
		tr.t.Fatal(err)
	}
	between()
	tr.o = tr.s.open(t)
	tr.find()
}

func (tr *tree) path(parts ...string) string {
	return filepath.Join(append([]string{tr.s.root(), tr.name}, parts...)...)
}

func (tr *tree) home(parts ...string) string {
	return filepath.Join(append([]string{tr.s.root(), home}, parts...)...)
}

// must ends the test at an error of what another program does.
func (tr *tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) write(key, data string) {
	tr.t.Helper()
	tr.must(os.MkdirAll(filepath.Dir(tr.path(key)), 0o755))
	tr.must(os.WriteFile(tr.path(key), []byte(data), 0o644))
}

func storeObject(b store.Bucket, key, data string, v store.Versioning, attrs store.Attrs) (store.Outcome, error) {
	w, err := b.Create(context.Background(), key, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return store.Outcome{}, err
	}
	if _, err := w.Write([]byte(data)); err != nil {
		return store.Outcome{}, errors.Join(err, w.Abort())
	}
	return w.Commit(context.Background(), store.CommitOptions{ETag: md5Hex(data), Versioning: v, Attrs: attrs})
}

func (tr *tree) put(key, data string, v store.Versioning) store.Outcome {
	tr.t.Helper()
	out, err := storeObject(tr.b, key, data, v, nil)
	if err != nil {
		tr.t.Fatalf("Put(%q) = %v", key, err)
	}
	return out
}

func (tr *tree) remove(key, id string, v store.Versioning) {
	tr.t.Helper()
	if _, err := tr.b.Remove(context.Background(), key, id, store.RemoveOptions{Versioning: v}); err != nil {
		tr.t.Fatalf("Remove(%q) = %v", key, err)
	}
}

// lines lists the bucket, one line for each entry and common prefix.
func (tr *tree) lines(o store.ListOptions) []string {
	tr.t.Helper()
	if o.Max == 0 {
		o.Max = 100
	}
	var lines []string
	for {
		p, err := tr.b.List(context.Background(), o)
		if err != nil {
			tr.t.Fatalf("List(%+v) = %v", o, err)
		}
		for _, cp := range p.CommonPrefixes {
			lines = append(lines, cp+" prefix")
		}
		for _, e := range p.Entries {
			line := fmt.Sprintf("%s %d", e.Key, e.Size)
			if o.Versions {
				line += fmt.Sprintf(" %s latest=%t marker=%t", e.VersionID, e.IsLatest, e.DeleteMarker)
			}
			lines = append(lines, line)
		}
		if !p.Truncated {
			slices.Sort(lines)
			return lines
		}
		o.Marker, o.VersionMarker = p.NextMarker, p.NextVersionMarker
	}
}

func (tr *tree) want(step string, o store.ListOptions, want ...string) {
	tr.t.Helper()
	if diff := gocmp.Diff(want, tr.lines(o)); diff != "" {
		tr.t.Errorf("%s: list -want +got\n%s", step, diff)
	}
}

// TestList_OtherPrograms: what other programs do to the tree is seen by the
// next listing (here: at once, as directories are always due).
func TestList_OtherPrograms(t *testing.T) {
	tr := newTree(t, Options{})
	all, dirs := store.ListOptions{}, store.ListOptions{Delimiter: "/"}
	tr.put("a/1", "one", store.Unversioned)
	tr.put("z", "zz", store.Unversioned)
	tr.want("own", all, "a/1 3", "z 2")

	tr.write("b", "four")
	tr.want("new file", all, "a/1 3", "b 4", "z 2")
	tr.write("a/2", "x")
	tr.want("new file in a directory", all, "a/1 3", "a/2 1", "b 4", "z 2")
	tr.write("c/d/e/f", "x")
	tr.want("new directories", all, "a/1 3", "a/2 1", "b 4", "c/d/e/f 1", "z 2")
	tr.want("new directories", dirs, "a/ prefix", "b 4", "c/ prefix", "z 2")
	tr.write("b", "changed")
	tr.want("written over", all, "a/1 3", "a/2 1", "b 7", "c/d/e/f 1", "z 2")
	tr.write("a/3", "fresh")
	tr.must(os.Rename(tr.path("a/3"), tr.path("a/1")))
	tr.want("renamed over an object", all, "a/1 5", "a/2 1", "b 7", "c/d/e/f 1", "z 2")
	tr.must(os.Rename(tr.path("c/d"), tr.path("y")))
	tr.want("renamed directory", all, "a/1 5", "a/2 1", "b 7", "y/e/f 1", "z 2")
	tr.want("emptied directory", dirs, "a/ prefix", "b 7", "y/ prefix", "z 2")
	tr.must(os.Remove(tr.path("a/2")))
	tr.must(os.Remove(tr.path("a/1")))
	tr.want("files removed, directory left", dirs, "b 7", "y/ prefix", "z 2")
	tr.write("a/x/y/z", "1")
	tr.want("in what was empty", store.ListOptions{Prefix: "a/x/"}, "a/x/y/z 1")
	tr.must(os.RemoveAll(tr.path("a")))
	tr.want("removed tree", all, "b 7", "y/e/f 1", "z 2")
	tr.must(os.Remove(tr.path("b")))
	tr.write("b/in", "in")
	tr.want("directory instead of a file", all, "b/in 2", "y/e/f 1", "z 2")
	tr.must(os.RemoveAll(tr.path("b")))
	tr.write("b", "b")
	tr.want("file instead of a directory", all, "b 1", "y/e/f 1", "z 2")
}

func TestList_NoObjects(t *testing.T) {
	tr := newTree(t, Options{})
	tr.put("k", "v", store.Unversioned)
	outside := filepath.Join(t.TempDir(), "secret")
	tr.must(os.WriteFile(outside, []byte("secret"), 0o600))
	tr.must(os.Symlink(outside, tr.path("out")))
	tr.must(os.Symlink(filepath.Dir(outside), tr.path("outdir")))
	tr.must(os.Symlink(".", tr.path("self")))
	tr.must(os.Symlink("k", tr.path("in")))
	tr.must(os.Symlink("nowhere", tr.path("dangling")))
	tr.must(unix.Mkfifo(tr.path("fifo"), 0o600))
	deep := strings.Repeat(strings.Repeat("d", 250)+"/", 4)
	tr.write(deep+"short", "x")
	t.Chdir(tr.path(deep))
	tr.must(os.WriteFile(strings.Repeat("l", 100), []byte("x"), 0o600)) // no key is so long
	tr.must(os.Mkdir(strings.Repeat("m", 100), 0o755))
	tr.want("links, pipes and long paths", store.ListOptions{}, deep+"short 1", "in 1", "k 1")
}

// TestList_OwnChangesReadNothing: what we change ourselves does not make a
// listing read directories.
func TestList_OwnChangesReadNothing(t *testing.T) {
	tr := newTree(t, Options{})
	tr.want("empty", store.ListOptions{})
	tr.o.index.scanner.reads.Store(0)
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 30 {
				key := fmt.Sprintf("d%d/e%d/%d-%d", i%3, i%2, i%5, c)
				if _, err := storeObject(tr.b, key, "x", store.Unversioned, nil); err != nil {
					t.Error(err)
				}
				if i%4 == 0 {
					_, _ = tr.b.Remove(context.Background(), key, "", store.RemoveOptions{})
				}
				if _, err := tr.b.List(context.Background(), store.ListOptions{Max: 1000}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := tr.o.index.scanner.reads.Load(); n != 0 {
		t.Errorf("listings read %d directories after our own changes, want none", n)
	}
	tr.reopen(t, func() {})
	tr.lines(store.ListOptions{})
	if n := tr.o.index.scanner.reads.Load(); n != 0 {
		t.Errorf("listings read %d directories after a restart, want none", n)
	}
}

// TestList_WithinASecond: the same with directories compared at most every
// checkInterval.
func TestList_WithinASecond(t *testing.T) {
	tr := newTree(t, Options{})
	tr.o.index.dirs.interval = checkInterval
	tr.want("nothing", store.ListOptions{})
	tr.write("late", "x")
	start := time.Now()
	for {
		began := time.Now() // however long it takes on a busy machine
		if len(tr.lines(store.ListOptions{})) > 0 {
			return
		}
		if began.Sub(start) > 3*checkInterval {
			t.Fatal("a file is not listed in time")
		}
		time.Sleep(10 * time.Millisecond) // it is the time that is tested
	}
}

// TestStat_CorrectsIndex: a read that finds another program's change puts it
// into the index.
func TestStat_CorrectsIndex(t *testing.T) {
	tr := newTree(t, Options{})
	tr.want("nothing", store.ListOptions{})
	tr.o.index.dirs.interval = time.Hour
	tr.want("nothing", store.ListOptions{}) // from now on not due
	tr.write("new", "x")
	tr.want("not due", store.ListOptions{})
	if info, err := tr.b.Stat(t.Context(), "new", ""); err != nil || info.Size != 1 {
		t.Fatalf("Stat of a new file = %+v, %v", info, err)
	}
	tr.want("after Stat", store.ListOptions{}, "new 1")
	tr.must(os.Remove(tr.path("new")))
	if _, err := tr.b.Stat(t.Context(), "new", ""); !errors.Is(err, store.ErrNoSuchKey) {
		t.Fatalf("Stat of a removed file = %v", err)
	}
	ib, err := tr.o.index.bucket(testBucket)
	tr.must(err)
	if e, err := tr.o.index.current(ib, "new"); e != nil || err != nil {
		t.Errorf("index after Stat = %+v, %v, want nothing", e, err)
	}
}

// TestListBuckets_OtherPrograms: a directory with a bucket's name is a bucket.
func TestListBuckets_OtherPrograms(t *testing.T) {
	tr := newTree(t, Options{})
	tr.must(os.MkdirAll(filepath.Join(tr.s.root(), "made-by-hand", "d"), 0o755))
	tr.must(os.WriteFile(filepath.Join(tr.s.root(), "made-by-hand", "d", "f"), []byte("1"), 0o644))
	tr.must(os.WriteFile(filepath.Join(tr.s.root(), "a-file"), []byte("1"), 0o644))
	tr.must(os.Mkdir(filepath.Join(tr.s.root(), "Not A Bucket"), 0o755))
	list, err := tr.o.ListBuckets(t.Context())
	if err != nil || len(list) != 2 || list[1].Name != "made-by-hand" {
		t.Fatalf("ListBuckets() = %+v, %v", list, err)
	}
	b, err := tr.o.OpenBucket(t.Context(), "made-by-hand")
	tr.must(err)
	p, err := b.List(t.Context(), store.ListOptions{Max: 10})
	if err != nil || len(p.Entries) != 1 || p.Entries[0].Key != "d/f" {
		t.Errorf("List() = %+v, %v", p, err)
	}
}

// TestList_WhileWriting lists while others write: pages are in order, have no
// key twice, and all keys that stay.
func TestList_WhileWriting(t *testing.T) {
	tr := newTree(t, Options{})
	var stay []string
	for i := range 60 {
		key := fmt.Sprintf("d%d/stay%02d", i%4, i)
		tr.put(key, "x", store.Unversioned)
		stay = append(stay, key)
	}
	slices.Sort(stay)
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 40 {
				key := fmt.Sprintf("d%d/go%d-%d", i%5, c, i%7)
				if i%3 == 2 {
					_, _ = tr.b.Remove(context.Background(), key, "", store.RemoveOptions{})
				} else if _, err := storeObject(tr.b, key, "y", store.Unversioned, nil); err != nil {
					t.Errorf("Put(%q) = %v", key, err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	for n := 0; ; n++ {
		tr.listStaying(stay)
		select {
		case <-written:
			tr.listStaying(stay)
			tr.compareTree(store.ListOptions{})
			return
		default:
		}
	}
}

func (tr *tree) listStaying(stay []string) {
	tr.t.Helper()
	var all []string
	o := store.ListOptions{Max: 7}
	for {
		p, err := tr.b.List(context.Background(), o)
		tr.must(err)
		for _, e := range p.Entries {
			all = append(all, e.Key)
		}
		if !p.Truncated {
			break
		}
		o.Marker = p.NextMarker
	}
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		tr.t.Fatalf("listing out of order, or with a key twice: %q", all)
	}
	got := slices.DeleteFunc(all, func(k string) bool { return strings.Contains(k, "go") })
	if diff := gocmp.Diff(stay, got); diff != "" {
		tr.t.Fatalf("keys that stay: -want +got\n%s", diff)
	}
}

// files describes what is in the bucket's directories.
func (tr *tree) files() listModel {
	tr.t.Helper()
	var m listModel
	walk := func(root string, key func(string) (string, bool)) {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			rel, _ := filepath.Rel(root, path)
			st, err := e.Info()
			if k, ok := key(rel); ok && err == nil {
				m.add(store.Info{Key: k, Size: st.Size()})
			}
			return nil
		})
		tr.must(err)
	}
	walk(tr.path(), func(rel string) (string, bool) { return rel, true })
	walk(tr.home("keys", tr.name), func(rel string) (string, bool) {
		k, ok := unescape(rel)
		return k, ok && !(natural(k) && isFile(tr.path(k)))
	})
	return m
}

// compareTree compares a listing with what is in the directories.
func (tr *tree) compareTree(o store.ListOptions) {
	tr.t.Helper()
	o.Max = 100_000
	want := []string(nil)
	p := tr.files().list(o)
	for _, cp := range p.CommonPrefixes {
		want = append(want, cp+" prefix")
	}
	for _, e := range p.Entries {
		want = append(want, fmt.Sprintf("%s %d", e.Key, e.Size))
	}
	slices.Sort(want)
	o.Max = 3
	if diff := gocmp.Diff(want, tr.lines(o)); diff != "" {
		tr.t.Fatalf("List(%+v): -files +got\n%s", o, diff)
	}
}

func isFile(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().IsRegular()
}

// TestList_RandomPrograms mixes our changes with those of other programs.
func TestList_RandomPrograms(t *testing.T) {
	tr := newTree(t, Options{Relaxed: true})
	part := rapid.SampledFrom([]string{"a", "b", "c"})
	keys := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), "/")
	})
	buckets := 0
	rapid.Check(t, func(rt *rapid.T) {
		buckets++
		tr.fresh(rt, fmt.Sprintf("bucket-%d", buckets))
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			key, other := keys.Draw(rt, "key"), keys.Draw(rt, "other")
			switch rapid.IntRange(0, 7).Draw(rt, "step") {
			case 0, 1:
				tr.put(key, strings.Repeat("p", i), store.Unversioned)
			case 2:
				tr.remove(key, "", store.Unversioned)
			case 3, 4: // these may fail, as other programs do
				_ = os.MkdirAll(filepath.Dir(tr.path(key)), 0o755)
				_ = os.WriteFile(tr.path(key), []byte(strings.Repeat("f", i)), 0o644)
			case 5:
				_ = os.Rename(tr.path(key), tr.path(other))
			case 6:
				_ = os.RemoveAll(tr.path(key))
			case 7:
				tr.compareTree(store.ListOptions{
					Prefix:    rapid.SampledFrom([]string{"", "", "a", "a/", "b/a", "c/b/"}).Draw(rt, "prefix"),
					Delimiter: rapid.SampledFrom([]string{"/", "/", "", "b"}).Draw(rt, "delimiter"),
				})
			}
		}
		tr.compareTree(store.ListOptions{})
	})
}
