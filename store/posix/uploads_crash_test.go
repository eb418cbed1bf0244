package posix

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/store"
)

// uploadModel is what the crash test expects of a bucket: uploads with their
// parts, and objects.
type uploadModel struct {
	Uploads map[string]map[int]string // key -> parts; one upload for each key
	Objects map[string]string
	IDs     map[string]string // key -> upload id
}

func newUploadModel() *uploadModel {
	return &uploadModel{map[string]map[int]string{}, map[string]string{}, map[string]string{}}
}

func (m *uploadModel) clone() *uploadModel {
	c := &uploadModel{map[string]map[int]string{}, maps.Clone(m.Objects), maps.Clone(m.IDs)}
	for k, parts := range m.Uploads {
		c.Uploads[k] = maps.Clone(parts)
	}
	return c
}

// uploadChange is one step, and what it does to the model.
type uploadChange struct {
	what  string
	do    func(b *bucket) error
	model func(m *uploadModel)
}

func partData(r *rand.Rand) string {
	size := []int{0, 10, maxInlinePart, maxInlinePart + 1, 100_000, 100_000, 100_000, 100_000, 80_000, 150_000}[r.IntN(10)]
	return strings.Repeat(fmt.Sprintf("%08x", r.Uint32()), size/8+1)[:size]
}

// randomUploadChange depends on nothing but its arguments. The keys begin with
// prefix.
func randomUploadChange(r *rand.Rand, m *uploadModel, prefix string) uploadChange {
	key := prefix + []string{"a", "a/b", "x/y", "..", "k"}[r.IntN(5)]
	parts, begun := m.Uploads[key]
	id := m.IDs[key]
	switch c := r.IntN(12); {
	case !begun:
		id := fmt.Sprintf("%016x", r.Uint64())
		return uploadChange{"create " + key, func(b *bucket) error {
			return b.CreateUpload(context.Background(), store.Upload{Key: key, ID: id, Initiated: time.Now()})
		}, func(m *uploadModel) { m.Uploads[key], m.IDs[key] = map[int]string{}, id }}
	case c == 0:
		return uploadChange{"abort " + key, func(b *bucket) error {
			return b.AbortUpload(context.Background(), key, id)
		}, func(m *uploadModel) { delete(m.Uploads, key); delete(m.IDs, key) }}
	case c <= 3 && len(parts) > 0:
		return completeChange(r, key, id, parts)
	}
	n, data, hint := 1+r.IntN(4), partData(r), int64(-1)
	if r.IntN(8) > 0 {
		hint = int64(len(data))
	}
	return uploadChange{fmt.Sprintf("part %d of %s, %d bytes", n, key, len(data)), func(b *bucket) error {
		return putPart(b, key, id, n, data, hint)
	}, func(m *uploadModel) { m.Uploads[key][n] = data }}
}

func putPart(b *bucket, key, id string, n int, data string, hint int64) error {
	w, err := b.CreatePart(context.Background(), key, id, n, store.CreateHint{Size: hint})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.WriteString(w, data); err != nil {
		return err
	}
	_, err = w.Commit(context.Background(), store.CommitOptions{ETag: etagOf(data)})
	return err
}

// completeChange completes an upload, sometimes with some of its parts only.
func completeChange(r *rand.Rand, key, id string, parts map[int]string) uploadChange {
	numbers := slices.Sorted(maps.Keys(parts))
	if len(numbers) > 1 && r.IntN(4) == 0 {
		i := r.IntN(len(numbers))
		numbers = slices.Delete(numbers, i, i+1)
	}
	var named []store.CompletedPart
	data := ""
	for _, n := range numbers {
		named = append(named, store.CompletedPart{Number: n, ETag: etagOf(parts[n])})
		data += parts[n]
	}
	return uploadChange{fmt.Sprintf("complete %s, %d parts, %d bytes", key, len(named), len(data)), func(b *bucket) error {
		_, err := b.Complete(context.Background(), key, id, named, store.CommitOptions{ETag: etagOf(data)})
		return err
	}, func(m *uploadModel) {
		delete(m.Uploads, key)
		delete(m.IDs, key)
		m.Objects[key] = data
	}}
}

// diff shows where m differs from want.
func (m *uploadModel) diff(want *uploadModel) string {
	if gocmp.Equal(want, m) {
		return ""
	}
	return gocmp.Diff(want, m, gocmp.Transformer("short", func(s string) string { return short(s) + " " + etagOf(s) }))
}

// readUploads is the bucket's content as a model. The data of parts are read
// where they are.
func readUploads(t *testing.T, b *bucket) *uploadModel {
	t.Helper()
	m := newUploadModel()
	page, err := b.ListUploads(t.Context(), store.UploadListOptions{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range page.Uploads {
		m.IDs[u.Key], m.Uploads[u.Key] = u.ID, map[int]string{}
		up, err := b.upload(u.Key, u.ID)
		if err != nil {
			t.Fatal(err)
		}
		src := &source{m: up}
		for n, p := range up.parts {
			data := make([]byte, p.Size)
			if err := src.read(data, p); err != nil {
				t.Fatalf("part %d of %q: %v", n, u.Key, err)
			}
			if etagOf(string(data)) != p.ETag {
				t.Errorf("part %d of %q has other data than its ETag says", n, u.Key)
			}
			m.Uploads[u.Key][n] = string(data)
		}
		src.close()
		b.d.uploads.release(up)
	}
	list, err := b.List(t.Context(), store.ListOptions{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Entries {
		m.Objects[e.Key] = readWhole(t, b, e.Key)
	}
	return m
}

func readWhole(t *testing.T, b *bucket, key string) string {
	t.Helper()
	r, err := b.Open(context.Background(), key, "")
	if err != nil {
		t.Fatalf("Open(%q) = %v", key, err)
	}
	defer r.Close()
	var sb strings.Builder
	if _, err := r.WriteRangeTo(&sb, 0, r.Info().Size); err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return sb.String()
}

// TestCrash_Uploads kills the store at fault points while it takes uploads,
// and compares what is there with a model.
func TestCrash_Uploads(t *testing.T) {
	t.Parallel()
	seed := crashSeed()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	v := newVictim(t, Options{})
	if err := v.start(0); err != nil {
		t.Fatal(err)
	}
	if err := v.d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	m := newUploadModel()
	rounds := 2 * crashRounds()
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		v.left = 1 + r.IntN(60)
		var pending *uploadChange
		var log []string
		for pending == nil {
			if ended, err := v.guarded(func() error { return v.maybeCheckpoint(r) }); err != nil {
				t.Fatalf("checkpoint: %v", err)
			} else if !ended {
				break
			}
			b, err := v.d.bucket("bucket")
			if err != nil {
				t.Fatal(err)
			}
			c := randomUploadChange(r, m, "")
			log = append(log, c.what)
			ended, err := v.guarded(func() error { return c.do(b) })
			if err != nil {
				t.Fatalf("%s: %v, after\n%s", c.what, err, strings.Join(log, "\n"))
			}
			if ended {
				c.model(m)
			} else {
				pending = &c
			}
		}
		point := v.recover(t, r)
		m = v.verifyUploads(t, m, pending, point)
		if t.Failed() {
			t.Fatalf("after\n%s", strings.Join(log, "\n"))
		}
	}
	t.Logf("visited %v", v.visited)
}

// recover starts the frozen store anew, killing that as well now and then. It
// returns where it was killed.
func (v *victim) recover(t *testing.T, r *rand.Rand) string {
	t.Helper()
	point := v.point
	for left := r.IntN(40); ; left = 0 {
		v.bury(t)
		ended, err := v.reopen(left)
		if err != nil {
			t.Fatalf("open after a kill at %s: %v", point, err)
		}
		if ended {
			return point
		}
		point += ", " + v.point
	}
}

func (v *victim) verifyUploads(t *testing.T, m *uploadModel, pending *uploadChange, point string) *uploadModel {
	t.Helper()
	b, err := v.d.bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.d.Fsck(t.Context(), store.FsckOptions{Report: func(f store.Finding) { t.Errorf("after a kill at %s: fsck: %+v", point, f) }}); err != nil {
		t.Error(err)
	}
	got := readUploads(t, b)
	before := got.diff(m)
	if before == "" {
		return m
	}
	if pending == nil {
		t.Errorf("after a kill at %s (-want +got):\n%s", point, before)
		return m
	}
	next := m.clone()
	pending.model(next)
	if after := got.diff(next); after != "" {
		t.Errorf("after a kill at %s within %s: neither before (-want +got):\n%s\nnor after:\n%s", point, pending.what, before, after)
	}
	return next
}

// TestUpload_NothingCopied: completing an upload of equal parts renames the
// file that they were written to.
func TestUpload_NothingCopied(t *testing.T) {
	s := newTestStore(t, Options{})
	d := s.open(t)
	defer d.Close()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("0123456789abcdef", 10_000)
	tests := []struct {
		name  string
		order []int // of parts; the last one, 4, is shorter
	}{{"in order", []int{1, 2, 3, 4}}, {"backwards", []int{4, 3, 2, 1}}, {"mixed", []int{3, 1, 4, 2}}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := store.NewOpID().String()
			if err := b.CreateUpload(t.Context(), store.Upload{Key: tt.name, ID: id}); err != nil {
				t.Fatal(err)
			}
			named := make([]store.CompletedPart, 4)
			want := data + data + data + data[:maxInlinePart+1]
			for _, n := range tt.order {
				part := data
				if n == 4 {
					part = data[:maxInlinePart+1]
				}
				named[n-1] = store.CompletedPart{Number: n, ETag: etagOf(part)}
				if err := putPart(b, tt.name, id, n, part, int64(len(part))); err != nil {
					t.Fatal(err)
				}
			}
			before, err := statAt(d.homeFD, uploadDir("bucket", id)+"/"+dataFile(int64(len(data))), 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Complete(t.Context(), tt.name, id, named, store.CommitOptions{ETag: "x"}); err != nil {
				t.Fatal(err)
			}
			after, err := statAt(b.fd, tt.name, 0)
			if err != nil || after.ino != before.ino {
				t.Errorf("the object's file is inode %d (%v), the parts were in %d", after.ino, err, before.ino)
			}
			if got := readWhole(t, b, tt.name); got != want {
				t.Errorf("the object has %d bytes, want %d, or they differ", len(got), len(want))
			}
		})
	}
}
