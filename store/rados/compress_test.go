//go:build rados

package rados

import (
	"bytes"
	"context"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// packing is a Driver of which every second object is to be compressed.
type packing struct {
	*Driver
	n *atomic.Int64
}

func (p packing) OpenBucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := p.Driver.OpenBucket(ctx, name)
	if err != nil {
		return nil, err
	}
	return packingBucket{b.(*bucket), p.n}, nil
}

type packingBucket struct {
	*bucket
	n *atomic.Int64
}

func (b packingBucket) hint(h store.CreateHint) store.CreateHint {
	if b.n.Add(1)%2 == 0 {
		h.Compression = compressionZstd
	}
	return h
}

func (b packingBucket) Create(ctx context.Context, key string, hint store.CreateHint) (store.Writer, error) {
	return b.bucket.Create(ctx, key, b.hint(hint))
}

func (b packingBucket) CreatePart(ctx context.Context, key, uploadID string, number int, hint store.CreateHint) (store.Writer, error) {
	return b.bucket.CreatePart(ctx, key, uploadID, number, b.hint(hint))
}

// halfNoise has pieces that get shorter, and others.
func halfNoise(n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	for i := 0; i < n; i += 2 * pieceSize {
		_, _ = r.Read(b[i:min(i+pieceSize, n)])
	}
	return string(b)
}

func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	return string(b)
}

// TestCompress writes objects of all kinds compressed, and reads them, whole and
// in ranges; what they take in the cluster is less where it can be.
func TestCompress(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{KeepReplaced: time.Millisecond})[0]
	ctx, d := t.Context(), b[0].d
	packed := &store.OpenBucket{Bucket: b[0], Info: &store.BucketInfo{Attrs: map[string]string{store.AttrCompression: compressionZstd}}}
	for _, tt := range []struct {
		name, data string
		most       int64 // bytes that it takes
	}{
		{"empty", "", 0},
		{"one byte", "x", 1},
		{"inline", body20(maxInline), 1000},
		{"inline noise", noise(maxInline), maxInline},
		{"one tail", body20(2 * pieceSize), 10_000},
		{"tails", body20(2*tailSize + 20), 20_000},
		{"noise", noise(tailSize + 100), tailSize + 100},
		{"half", halfNoise(2*tailSize + pieceSize + 77), tailSize + pieceSize + 10_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := storetest.PutObject(ctx, packed, "k", tt.data, store.CommitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(len(tt.data)); out.Info.Size != want {
				t.Errorf("size %d, want %d", out.Info.Size, want)
			}
			if n := d.storedBytes(t, b[0], "k"); n > tt.most {
				t.Errorf("it takes %d bytes, want at most %d", n, tt.most)
			}
			wantObject(t, packed, "k", tt.data)
			wantRanges(t, packed, tt.data)
			if err := copyObject(ctx, b[0], "k", b[1], "copy", store.CommitOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := packed.Remove(ctx, "k", "", store.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			d.quiet(t)
			wantObject(t, b[1], "copy", tt.data)
		})
	}
	p.check(t, testBucket, "other")
}

// wantRanges reads pieces of an object in all ways.
func wantRanges(t *testing.T, b store.Bucket, data string) {
	t.Helper()
	r, err := b.Open(t.Context(), "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		off := rnd.IntN(len(data) + 1)
		n := rnd.IntN(len(data) - off + 1)
		if rnd.IntN(2) == 0 {
			n = min(n, 1000)
		}
		var buf bytes.Buffer
		if _, err := r.WriteRangeTo(&buf, int64(off), int64(n)); err != nil || buf.String() != data[off:off+n] {
			t.Errorf("WriteRangeTo(%d, %d) = %d bytes, %v", off, n, buf.Len(), err)
		}
		got := make([]byte, n)
		if _, err := r.ReadAt(got, int64(off)); err != nil && err != io.EOF || string(got) != data[off:off+n] {
			t.Errorf("ReadAt(%d, %d): %v", off, n, err)
		}
	}
}

// storedBytes is what the cluster keeps of the bytes of a key; it must be what
// the head says.
func (d *Driver) storedBytes(t *testing.T, b *bucket, key string) (n int64) {
	t.Helper()
	h, err := d.readHead(t.Context(), b.head(key), headRead{data: true})
	if err != nil {
		t.Fatal(err)
	}
	if h.current.inline() {
		return int64(len(h.data))
	}
	for _, s := range h.current.segments {
		var sum int64
		for i := range tailCount(s.size) {
			op := librados.NewRead()
			stat := op.Stat()
			if _, err := d.data.Operate(t.Context(), tailOID(s.in(b.bid), s.tag, i), op, 0); err != nil {
				t.Fatal(err)
			}
			sum += int64(stat.Size)
		}
		if s.stored != sum && (s.stored != 0 || s.size != sum) {
			t.Errorf("tails have %d bytes, the head says %d of %d", sum, s.stored, s.size)
		}
		n += sum
	}
	return n
}

// TestCompress_RangeReadsItsPieces: of a large object only the piece that is
// wanted is read.
func TestCompress_RangeReadsItsPieces(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{})[0][0]
	data := halfNoise(tailSize)
	packed := &store.OpenBucket{Bucket: b, Info: &store.BucketInfo{Attrs: map[string]string{store.AttrCompression: compressionZstd}}}
	if _, err := storetest.PutObject(t.Context(), packed, "k", data, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	b.d.quiet(t)
	least := []uint64{math.MaxUint64, math.MaxUint64} // of some: what is done behind answers may come between
	for range 5 {
		r, err := b.Open(t.Context(), "k", "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range least {
			before := b.d.Stats().Done
			var buf bytes.Buffer
			if _, err := r.WriteRangeTo(&buf, pieceSize+5, 10); err != nil || buf.String() != data[pieceSize+5:][:10] {
				t.Errorf("WriteRangeTo = %q, %v", buf.String(), err)
			}
			least[i] = min(least[i], b.d.Stats().Done-before)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if least[0] > 2 || least[1] > 1 { // the table is known the second time
		t.Errorf("%d operations, want at most 2 and 1", least)
	}
}

// TestCompress_Parts: some parts are compressed, and some are not.
func TestCompress_Parts(t *testing.T) {
	p := newPlace(t)
	b := twoBuckets(t, p, Options{})[0][0]
	pb := packingBucket{b, new(atomic.Int64)}
	id := store.NewOpID().String()
	if err := b.CreateUpload(t.Context(), store.Upload{Key: "k", ID: id, Initiated: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var list []store.CompletedPart
	want := ""
	for n, data := range []string{body20(tailSize + 20), body20(tailSize * 2), halfNoise(tailSize + 1), halfNoise(tailSize + 1), "short"} {
		if err := putPart(t.Context(), pb, "k", id, n+1, data); err != nil {
			t.Fatal(err)
		}
		list = append(list, store.CompletedPart{Number: n + 1, ETag: storetest.ETagOf(data)})
		want += data
	}
	if _, err := b.Complete(t.Context(), "k", id, list, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	wantObject(t, b, "k", want)
	wantRanges(t, b, want)
	if n := b.d.storedBytes(t, b, "k"); n > int64(len(want))*2/3 {
		t.Errorf("it takes %d bytes of %d", n, len(want))
	}
	b.d.quiet(t)
	p.check(t, testBucket, "other")
}

// FuzzPieces: tables that decode are those of a tail, and what is damaged is
// found.
func FuzzPieces(f *testing.F) {
	c := newCompressor()
	for _, data := range []string{body20(3000), body20(2*pieceSize + 20), strings.Repeat("x", tailSize)} {
		_, table := c.tail(nil, []byte(data))
		f.Add(table.encode())
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := decodePieces(b)
		if err == nil {
			again, err := decodePieces(table.encode())
			if d := cmp.Diff(table, again, cmp.AllowUnexported(pieceTable{}, storedPiece{})); d != "" || err != nil {
				t.Error(d, err)
			}
			end := 0
			for i, p := range table.pieces {
				if p.off != end || p.n > table.length(i) || table.length(i) <= 0 {
					t.Errorf("piece %d of %d bytes is %+v", i, table.size, p)
				}
				end += p.n
			}
		}
		if out, err := c.expand(b, 1000); err == nil && len(out) != 1000 {
			t.Errorf("%d bytes", len(out))
		}
		short, packed := c.shorten(nil, b)
		if packed {
			if out, err := c.expand(short, len(b)); err != nil || !bytes.Equal(out, b) {
				t.Errorf("expand: %v", err)
			}
		} else if !bytes.Equal(short, b) {
			t.Error("a piece was changed")
		}
	})
}
