//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/store"
	"herald/store/storetest"
)

// copyObject copies the current version of a key.
func copyObject(ctx context.Context, from store.Bucket, src string, to store.Bucket, dst string, opts store.CommitOptions) error {
	r, err := from.Open(ctx, src, "")
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	w, err := to.Create(ctx, dst, store.CreateHint{Size: r.Info().Size})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, r.Info().Size)); err != nil {
		return errors.Join(err, w.Abort())
	}
	opts.ETag = r.Info().ETag
	_, err = w.Commit(ctx, opts)
	return err
}

// copyPart copies a range of the current version of a key into a part.
func copyPart(ctx context.Context, from store.Bucket, src string, off, length int64, to store.Uploads, key, id string, number int) (string, error) {
	r, err := from.Open(ctx, src, "")
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	w, err := to.CreatePart(ctx, key, id, number, store.CreateHint{Size: length})
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(w, io.NewSectionReader(r, off, length)); err != nil {
		return "", errors.Join(err, w.Abort())
	}
	etag := fmt.Sprint(r.Info().ETag, off)
	_, err = w.Commit(ctx, store.CommitOptions{ETag: etag})
	return etag, err
}

// randomCopy copies a key of a few to another, or to itself, or makes an upload
// of copies.
func randomCopy(ctx context.Context, r *rand.Rand, b store.Bucket, key string, versioning store.Versioning) error {
	src := fmt.Sprint("k", r.IntN(5))
	err := copyObject(ctx, b, src, b, key, store.CommitOptions{Versioning: versioning})
	if r.IntN(3) == 0 && err == nil {
		err = randomPartCopies(ctx, r, b, src, key, versioning)
	}
	if errors.Is(err, store.ErrNoSuchKey) || errors.Is(err, store.ErrDeleteMarker) {
		return nil
	}
	return err
}

func randomPartCopies(ctx context.Context, r *rand.Rand, b store.Bucket, src, key string, versioning store.Versioning) error {
	u, id := b.(store.Uploads), store.NewOpID().String()
	if err := u.CreateUpload(ctx, store.Upload{Key: key, ID: id, Initiated: time.Now()}); err != nil {
		return err
	}
	var list []store.CompletedPart
	for n := 1; n <= 3; n++ {
		info, err := b.Stat(ctx, src, "")
		if err != nil {
			return errors.Join(err, u.AbortUpload(ctx, key, id))
		}
		etag, err := copyPart(ctx, b, src, 0, info.Size, u, key, id, n)
		if err != nil {
			return errors.Join(err, u.AbortUpload(ctx, key, id)) // another was overwritten by a shorter one
		}
		if n == 1 || r.IntN(2) == 0 {
			list = append(list, store.CompletedPart{Number: n, ETag: etag})
		}
	}
	if r.IntN(5) == 0 {
		return u.AbortUpload(ctx, key, id)
	}
	_, err := u.Complete(ctx, key, id, list, store.CommitOptions{Versioning: versioning})
	return err
}

// countTails returns how many tails there are, and lists of references.
func (d *Driver) countTails(t *testing.T) (tails, lists int) {
	t.Helper()
	_, all := d.objects(t, "")
	for oid := range all {
		if strings.HasPrefix(oid, prefixRefs) {
			lists++
		} else {
			tails++
		}
	}
	return tails, lists
}

// twoBuckets opens two buckets by each of two gateways.
func twoBuckets(t *testing.T, p *testPlace, opts Options) (b [2][2]*bucket) {
	t.Helper()
	for i := range b {
		d := p.open(t, opts)
		t.Cleanup(func() { _ = d.Close() })
		for j, name := range []string{testBucket, "other"} {
			if i == 0 {
				if err := d.CreateBucket(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			sb, err := d.OpenBucket(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			b[i][j] = sb.(*bucket)
		}
	}
	return b
}

func wantObject(t *testing.T, b store.Bucket, key, want string) {
	t.Helper()
	got, _, err := storetest.ReadObject(t.Context(), b, key, "")
	if err != nil || got != want {
		t.Errorf("%s has %d bytes (%v), want %d, or others", key, len(got), err, len(want))
	}
}

func body20(n int) string { return strings.Repeat("twenty bytes of data", n/20) }

// TestCopy_SharesTails copies from bucket to bucket and back, by two gateways,
// and removes all of it, sources first: no byte is written twice, and none is
// left at the end.
func TestCopy_SharesTails(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})
	d := b[0][0].d
	data := body20(3*tailSize + 20)
	ctx, opts := t.Context(), store.CommitOptions{}
	if _, err := storetest.PutObject(ctx, b[0][0], "src", data, opts); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from *bucket
		src  string
		to   *bucket
		dst  string
	}{
		{b[1][0], "src", b[1][1], "copy"},
		{b[0][1], "copy", b[0][0], "copy of the copy"},
		{b[1][0], "src", b[1][0], "src"}, // over itself
		{b[0][0], "copy of the copy", b[0][1], "third"},
		{b[0][1], "third", b[0][1], "copy"}, // over another of the same bytes
	} {
		if err := copyObject(ctx, c.from, c.src, c.to, c.dst, opts); err != nil {
			t.Fatalf("copy %s: %v", c.src, err)
		}
	}
	for _, g := range b {
		g[0].d.quiet(t)
	}
	if tails, lists := d.countTails(t); tails != 4 || lists != 4 {
		t.Errorf("%d tails, %d lists of references, want 4 of each", tails, lists)
	}
	p.check(t, testBucket, "other")
	remove := func(b *bucket, key string) {
		t.Helper()
		if _, err := b.Remove(ctx, key, "", store.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		b.d.quiet(t)
	}
	remove(b[1][0], "src")
	remove(b[0][0], "copy of the copy")
	if err := b[0][0].d.DeleteBucket(ctx, testBucket); err != nil {
		t.Fatal(err)
	}
	wantObject(t, b[0][1], "copy", data)
	remove(b[0][1], "copy")
	wantObject(t, b[1][1], "third", data)
	remove(b[1][1], "third")
	if tails, lists := d.countTails(t); tails+lists != 0 {
		t.Errorf("%d tails and %d lists are left", tails, lists)
	}
}

// TestCopy_Parts makes objects of ranges of others: those that are whole parts
// of the source are not copied.
func TestCopy_Parts(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})
	src, from, dst := b[0][0], b[1][0], b[1][1]
	ctx := t.Context()
	one, two, three := body20(tailSize+20), body20(2*tailSize), body20(100_000)
	id, all := beginUpload(t, src, "src", "", one, two, three)
	if _, err := src.Complete(ctx, "src", id, all, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	src.d.quiet(t)
	size := func(s string) int64 { return int64(len(s)) }
	up := store.NewOpID().String()
	if err := dst.CreateUpload(ctx, store.Upload{Key: "k", ID: up, Initiated: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var list []store.CompletedPart
	want := ""
	whole := one + two + three
	for n, c := range []struct {
		off, length int64
		tails       int // that come with it
	}{
		{0, size(one), 0},
		{size(one), size(two), 0},
		{size(one), size(two + three), 0},
		{0, size(whole), 0},
		{20, size(one) - 20, 1},
		{0, size(one) + 20, 2},
		{0, 1000, 1},
	} {
		before, _ := src.d.countTails(t)
		etag, err := copyPart(ctx, from, "src", c.off, c.length, dst, "k", up, n+1)
		if err != nil {
			t.Fatal(err)
		}
		if after, _ := src.d.countTails(t); after-before != c.tails {
			t.Errorf("part %d of %d bytes at %d wrote %d tails, want %d", n+1, c.length, c.off, after-before, c.tails)
		}
		list = append(list, store.CompletedPart{Number: n + 1, ETag: etag})
		want += whole[c.off:][:c.length]
	}
	// The second is replaced by another copy, and the third by other bytes.
	if _, err := copyPart(ctx, from, "src", 0, size(one), dst, "k", up, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := copyPart(ctx, from, "src", size(one), size(two), dst, "k", up, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Remove(ctx, "src", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	src.d.quiet(t)
	dst.d.quiet(t)
	p.check(t, testBucket, "other")
	if _, err := dst.Complete(ctx, "k", up, list, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	dst.d.quiet(t)
	wantObject(t, dst, "k", want)
	p.check(t, testBucket, "other")
	if _, err := dst.Remove(ctx, "k", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	dst.d.quiet(t)
	if tails, lists := dst.d.countTails(t); tails+lists != 0 {
		t.Errorf("%d tails and %d lists are left", tails, lists)
	}
}

// TestCopy_ThenMore: what is written after a copy follows it.
func TestCopy_ThenMore(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})[0]
	data := body20(tailSize + 20)
	ctx := t.Context()
	if _, err := storetest.PutObject(ctx, b[0], "src", data, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := b[0].Open(ctx, "src", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, abort := range []bool{true, false} {
		for _, more := range []string{"", "few", body20(tailSize)} {
			w, err := b[1].Create(ctx, "dst", store.CreateHint{Size: -1})
			if err != nil {
				t.Fatal(err)
			}
			if done, err := w.(store.Sharer).Share(r, 0, int64(len(data))); !done || err != nil {
				t.Fatalf("Share = %v, %v", done, err)
			}
			if done, err := w.(store.Sharer).Share(r, 0, int64(len(data))); done || err != nil {
				t.Fatalf("Share again = %v, %v", done, err)
			}
			if _, err := io.WriteString(w, more); err != nil {
				t.Fatal(err)
			}
			if abort {
				err = w.Abort()
			} else if _, err = w.Commit(ctx, store.CommitOptions{}); err == nil {
				wantObject(t, b[1], "dst", data+more)
				_, err = b[1].Remove(ctx, "dst", "", store.RemoveOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			b[1].d.quiet(t)
			if tails, lists := b[0].d.countTails(t); tails != 2 || lists != 0 {
				t.Errorf("%d tails and %d lists, want those of the source", tails, lists)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestCopy_SourceGoes removes the source between its opening and the copy, as
// another gateway does that does not know of the reader.
func TestCopy_SourceGoes(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})
	ctx := t.Context()
	if _, err := storetest.PutObject(ctx, b[0][0], "src", body20(3*tailSize+20), store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := b[0][0].Open(ctx, "src", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := b[1][0].Remove(ctx, "src", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	b[1][0].d.quiet(t)
	w, err := b[0][1].Create(ctx, "dst", store.CreateHint{Size: r.Info().Size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, io.NewSectionReader(r, 0, r.Info().Size)); !errors.Is(err, errTailsGone) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("copy of what is gone = %v, want one that tells to come again", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	b[0][0].d.quiet(t)
	if tails, lists := b[0][0].d.countTails(t); tails+lists != 0 {
		t.Errorf("%d tails and %d lists are left", tails, lists)
	}
}

// TestCopy_Storm copies one object from many goroutines of two gateways, while
// it is overwritten, and removes the copies.
func TestCopy_Storm(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: 50 * time.Millisecond})
	ctx := t.Context()
	versions := []string{body20(tailSize + 20), strings.Repeat("other", tailSize/5+1)}
	write := func(i int) {
		if _, err := storetest.PutObject(ctx, b[i%2][0], "src", versions[i%2], store.CommitOptions{}); err != nil {
			t.Error(err)
		}
	}
	write(0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 6 {
				key := fmt.Sprint("copy", i, n%2)
				from, to := b[i%2][0], b[i%2][1]
				err := copyObject(ctx, from, "src", to, key, store.CommitOptions{})
				if errors.Is(err, errTailsGone) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 != 0 {
					continue
				}
				if _, err := to.Remove(ctx, key, "", store.RemoveOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 6 {
		write(i)
	}
	wg.Wait()
	for _, g := range b {
		g[0].d.quiet(t)
	}
	page, err := b[0][1].List(ctx, store.ListOptions{Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		got, _, err := storetest.ReadObject(ctx, b[0][1], e.Key, "")
		if err != nil || !slices.Contains(versions, got) {
			t.Errorf("%s has %d bytes, or others (%v)", e.Key, len(got), err)
		}
		if _, err := b[1][1].Remove(ctx, e.Key, "", store.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := b[1][0].Remove(ctx, "src", "", store.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	for _, g := range b {
		g[0].d.quiet(t)
	}
	if tails, lists := b[0][0].d.countTails(t); tails+lists != 0 {
		t.Errorf("%d tails and %d lists are left", tails, lists)
	}
}

// TestCopy_TooShared: who comes late copies the bytes.
func TestCopy_TooShared(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})[0]
	ctx := t.Context()
	data := body20(100_000)
	out, err := storetest.PutObject(ctx, b[0], "src", data, store.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := b[0].d.readHead(ctx, b[0].head("src"), headRead{})
	if err != nil || out.Info == nil {
		t.Fatal(err)
	}
	tails := tailsName{b[0].bid, h.current.segments[0].tag}
	var holders []tailsName
	for range maxHolders {
		holders = append(holders, tailsName{b[0].bid, newTag()})
	}
	for _, h := range holders {
		if err := b[0].d.take(ctx, tails, h); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyObject(ctx, b[0], "src", b[1], "dst", store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	b[0].d.quiet(t)
	if tails, lists := b[0].d.countTails(t); tails != 2 || lists != 0 {
		t.Errorf("%d tails and %d lists, want a copy of the bytes", tails, lists)
	}
	if _, err := b[0].Remove(ctx, "src", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	b[0].d.quiet(t)
	for _, h := range holders {
		if n, _ := b[0].d.countTails(t); n != 2 {
			t.Fatalf("%d tails, of which some are still held", n)
		}
		if err := b[0].d.release(ctx, &segment{bid: tails.bid, tag: tails.tag, size: int64(len(data))}, h); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := b[0].d.countTails(t); n != 1 {
		t.Errorf("%d tails when the last has let go, want that of the copy", n)
	}
	wantObject(t, b[1], "dst", data)
}

func FuzzRefs(f *testing.F) {
	f.Add([]byte(nil))
	h := []tailsName{{"00000000000000ff", store.OpID{1}}, {"0123456789abcdef", store.OpID{2}}}
	f.Add((&refSet{ownerGone: true}).encode())
	f.Add((&refSet{holders: h}).encode())
	f.Add((&refList{mixed: true, tails: []segment{{bid: h[0].bid, tag: h[0].tag, size: 5}, {bid: h[1].bid, size: 1 << 40}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRefSet(b); err == nil {
			again, err := decodeRefSet(r.encode())
			if d := cmp.Diff(r, again, cmp.AllowUnexported(refSet{}, tailsName{})); d != "" || err != nil {
				t.Error(d, err)
			}
		}
		if l, err := decodeRefList(b); err == nil {
			again, err := decodeRefList(l.encode())
			if d := cmp.Diff(l, again, cmp.AllowUnexported(refList{}, segment{})); d != "" || err != nil {
				t.Error(d, err)
			}
		}
	})
}
