package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"herald/store"
)

func openTestBucket(t testing.TB, opts Options) (*testStore, *opened, store.Bucket) {
	t.Helper()
	s := newTestStore(t, opts)
	o := s.open(t)
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := o.CreateBucket(context.Background(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := o.OpenBucket(context.Background(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	return s, o, b
}

func mustPut(t testing.TB, b store.Bucket, key, data string) {
	t.Helper()
	if err := putObject(b, key, data, store.CommitOptions{}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func mustRemove(t testing.TB, b store.Bucket, key string) {
	t.Helper()
	if out, err := b.Remove(context.Background(), key, "", store.RemoveOptions{}); err != nil || !out.Changed {
		t.Fatalf("remove %q: %+v, %v", key, out, err)
	}
}

func wantData(t testing.TB, b store.Bucket, key, want string) {
	t.Helper()
	if got, _ := readObject(t, b, key, ""); got != short(want) {
		t.Errorf("object %q is %q, want %q", key, got, short(want))
	}
}

func wantFile(t testing.TB, s *testStore, path, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.root(), path))
	if err != nil || string(got) != want {
		t.Errorf("file %s is %q, %v, want %q", path, got, err, want)
	}
}

func wantNoFile(t testing.TB, s *testStore, path string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(s.root(), path)); !os.IsNotExist(err) {
		t.Errorf("%s is there (%v)", path, err)
	}
}

// TestPut_KeyBesideDirectory: "a" and "a/b" live together, in both orders, and
// "a/b" keeps its natural place.
func TestPut_KeyBesideDirectory(t *testing.T) {
	s, _, b := openTestBucket(t, Options{})
	mustPut(t, b, "a", "file first")
	wantFile(t, s, "bucket/a", "file first")
	mustPut(t, b, "a/b/c", "below")
	wantFile(t, s, "bucket/a/b/c", "below")
	wantFile(t, s, ".herald/keys/bucket/a", "file first")
	mustPut(t, b, "a/b", "between")
	wantData(t, b, "a", "file first")
	wantData(t, b, "a/b", "between")
	wantData(t, b, "a/b/c", "below")
	mustRemove(t, b, "a/b/c")
	wantNoFile(t, s, "bucket/a") // empty directories go
	wantData(t, b, "a", "file first")
	mustPut(t, b, "a", "home again")
	wantFile(t, s, "bucket/a", "home again")
	wantNoFile(t, s, ".herald/keys/bucket/a")
	wantData(t, b, "a/b", "between")
}

// TestPut_NoWayOut: neither keys nor symbolic links lead out of the bucket.
func TestPut_NoWayOut(t *testing.T) {
	s, _, b := openTestBucket(t, Options{})
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "file": filepath.Join(outside, "secret"), "loop": "loop", "up": "../.herald"} {
		if err := os.Symlink(target, filepath.Join(s.root(), "bucket", name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"dir/secret", "file", "loop", "loop/x", "up/lock", "../bucket/dir", "dir/../secret"} {
		if _, err := b.Stat(t.Context(), key, ""); !errors.Is(err, store.ErrNoSuchKey) {
			t.Errorf("Stat(%q) = %v, want ErrNoSuchKey", key, err)
		}
	}
	for _, key := range []string{"dir/new", "up/new", "loop/new"} {
		mustPut(t, b, key, "data of "+key)
		wantData(t, b, key, "data of "+key)
		mustRemove(t, b, key)
	}
	mustPut(t, b, "file", "replaces the link")
	wantFile(t, s, "bucket/file", "replaces the link")
	if got, err := os.ReadFile(filepath.Join(outside, "secret")); string(got) != "secret" {
		t.Errorf("the file outside is %q, %v", got, err)
	}
	if list, _ := os.ReadDir(outside); len(list) != 1 {
		t.Errorf("outside there is now %v", list)
	}
}

// TestOpen_Twice: the second gateway is told who the first is.
func TestOpen_Twice(t *testing.T) {
	s, _, _ := openTestBucket(t, Options{Holder: "127.0.0.1:7480"})
	_, err := s.tryOpen()
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) || !strings.Contains(err.Error(), "127.0.0.1:7480") {
		t.Errorf("second Open = %v, want ErrLocked with the holder's name", err)
	}
}

// TestOpen_ReadOnly: a tree that cannot be written is refused at once.
func TestOpen_ReadOnly(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	s := newTestStore(t, Options{})
	if err := os.Mkdir(s.root(), 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := s.tryOpen(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Open = %v, want a permission error", err)
	}
}

// TestCommit_NoSpace: what does not fit is refused, leaves nothing behind, and
// room makes all well again.
func TestCommit_NoSpace(t *testing.T) {
	s, o, b := openTestBucket(t, Options{})
	mustPut(t, b, "k", "before")
	o.opts.Reserve = 1 << 60 // as if the disk were full
	o.space.at = time.Time{}
	if _, err := b.Create(t.Context(), "big", store.CreateHint{Size: 1 << 20}); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Create = %v, want ErrNoSpace", err)
	}
	if _, _, err := o.Records().Get(t.Context(), "r"); !errors.Is(err, store.ErrNoSuchRecord) {
		t.Error(err)
	}
	if _, err := o.Records().Put(t.Context(), "r", []byte("v"), 0); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Records.Put = %v, want ErrNoSpace", err)
	}
	wantData(t, b, "k", "before")
	mustRemove(t, b, "k") // makes room
	if list, _ := os.ReadDir(filepath.Join(s.root(), home, "staging")); len(list) != 0 {
		t.Errorf("left in staging: %v", list)
	}
	o.opts.Reserve = 0
	o.space.at = time.Time{}
	mustPut(t, b, "k", "after")
}

// TestWriter_Abort leaves nothing.
func TestWriter_Abort(t *testing.T) {
	s, _, b := openTestBucket(t, Options{})
	for _, size := range []int{10, maxBuffered, maxBuffered + 1, 1 << 20} {
		w, err := b.Create(t.Context(), "k", store.CreateHint{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	}
	if list, _ := os.ReadDir(filepath.Join(s.root(), home, "staging")); len(list) != 0 {
		t.Errorf("left in staging: %v", list)
	}
	if _, err := b.Stat(t.Context(), "k", ""); !errors.Is(err, store.ErrNoSuchKey) {
		t.Errorf("Stat = %v", err)
	}
}

// TestAttrs_SideFile: attributes that do not fit the inode come and go with
// their version.
func TestAttrs_SideFile(t *testing.T) {
	s, _, b := openTestBucket(t, Options{})
	sides := func() int {
		n := 0
		_ = filepath.WalkDir(filepath.Join(s.root(), home, "meta"), func(_ string, e os.DirEntry, _ error) error {
			if !e.IsDir() {
				n++
			}
			return nil
		})
		return n
	}
	big := store.Attrs{"a": strings.Repeat("x", 20_000)}
	check := func(what string, want store.Attrs, files int) {
		t.Helper()
		info, err := b.Stat(t.Context(), "k", "")
		if err != nil || info.Attrs["a"] != want["a"] {
			t.Errorf("%s: Stat = %v, %v", what, len(info.Attrs["a"]), err)
		}
		if n := sides(); n != files {
			t.Errorf("%s: %d side files, want %d", what, n, files)
		}
	}
	if err := putObject(b, "k", "1", store.CommitOptions{Attrs: big}); err != nil {
		t.Fatal(err)
	}
	check("put", big, 1)
	small := store.Attrs{"a": "y"}
	set := func(a store.Attrs) {
		t.Helper()
		if _, err := b.Update(t.Context(), "k", "", func(*store.Info) (store.Attrs, error) { return a, nil }); err != nil {
			t.Fatal(err)
		}
	}
	set(small)
	check("update to small", small, 1)
	if err := putObject(b, "k", "2", store.CommitOptions{Attrs: small}); err != nil {
		t.Fatal(err)
	}
	check("overwrite", small, 0)
	set(big)
	check("update to big", big, 1)
	mustRemove(t, b, "k")
	if n := sides(); n != 0 {
		t.Errorf("%d side files after removal", n)
	}
}

// TestReader_Deleted: an open Reader goes on reading what is removed or
// replaced.
func TestReader_Deleted(t *testing.T) {
	_, _, b := openTestBucket(t, Options{})
	data := strings.Repeat("0123456789", 50_000)
	mustPut(t, b, "k", data)
	r, err := b.Open(t.Context(), "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustPut(t, b, "k", "other")
	mustRemove(t, b, "k")
	var out strings.Builder
	if n, err := r.WriteRangeTo(&out, 5, int64(len(data))-5); err != nil || out.String() != data[5:] {
		t.Errorf("WriteRangeTo = %d, %v", n, err)
	}
}

// TestWriter_CopiesInKernel: a SectionReader over a Reader of the store.
func TestWriter_CopiesInKernel(t *testing.T) {
	_, _, b := openTestBucket(t, Options{})
	data := strings.Repeat("0123456789", 50_000)
	mustPut(t, b, "from", data)
	for _, size := range []int64{5, 100_000, 400_000} {
		r, err := b.Open(t.Context(), "from", "")
		if err != nil {
			t.Fatal(err)
		}
		w, err := b.Create(t.Context(), "to", store.CreateHint{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		want := data[7 : 7+size]
		if n, err := w.(io.ReaderFrom).ReadFrom(io.NewSectionReader(r, 7, size)); n != size || err != nil {
			t.Fatalf("ReadFrom = %d, %v", n, err)
		}
		if _, err := w.Commit(t.Context(), store.CommitOptions{ETag: etagOf(want)}); err != nil {
			t.Fatal(err)
		}
		wantData(t, b, "to", want)
		_ = r.Close()
	}
}

// TestFaultPoints: the list names what there is.
func TestFaultPoints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.fault\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			used[string(m[1])] = true
		}
	}
	for _, point := range FaultPoints() {
		if !used[point] {
			t.Errorf("there is no point %s", point)
		}
		delete(used, point)
	}
	if len(used) > 0 {
		t.Errorf("not in the list: %v", used)
	}
}
