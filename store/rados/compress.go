//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	librados "herald/rados"
	"herald/store"
)

// Compression. Each piece of a tail, and what a head holds, is compressed by
// itself, so that a range can be read without what is around it. A piece that
// gets hardly shorter is stored as it is; a tail of which that is so for all
// pieces is no different from one of a bucket that is not compressed. Else the
// attribute xattrPieces of the tail tells where its pieces are (pieceTable), and
// the segment how many bytes all of its tails have (segment.stored).

// compressionZstd is the only one that there is.
const compressionZstd = "zstd"

var _ store.Compressor = (*Driver)(nil)

// Compressions implements store.Compressor.
func (d *Driver) Compressions() []string { return []string{compressionZstd} }

// xattrPieces is the attribute of a tail some of whose pieces are compressed.
const xattrPieces = "pieces"

// pieceSize is how many bytes are compressed together. A read never asks for
// bytes of two pieces by one operation.
const pieceSize = 1 << 20

// compressor compresses and expands pieces. It may be used concurrently.
type compressor struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	scratch sync.Pool // of *[]byte
}

// newCompressor starts nothing: its coders work in the goroutines that call them.
func newCompressor() *compressor {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(pieceSize))
	if err != nil {
		panic(err) // these options are valid
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(2*pieceSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return &compressor{enc: enc, dec: dec}
}

// shorten appends a compressed piece to dst, or the piece as it is if it does
// not get shorter by a sixteenth at least.
func (c *compressor) shorten(dst, piece []byte) (out []byte, packed bool) {
	buf, _ := c.scratch.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer c.scratch.Put(buf)
	*buf = c.enc.EncodeAll(piece, (*buf)[:0])
	if len(*buf) <= len(piece)-max(len(piece)/16, 1) {
		return append(dst, *buf...), true
	}
	return append(dst, piece...), false
}

// expand is the inverse of shorten for a piece that was packed: size bytes.
func (c *compressor) expand(b []byte, size int) ([]byte, error) {
	out, err := c.dec.DecodeAll(b, make([]byte, 0, size))
	if err == nil && len(out) != size {
		err = fmt.Errorf("%d bytes where %d should be", len(out), size)
	}
	if err != nil {
		return nil, fmt.Errorf("expand: %w", err)
	}
	return out, nil
}

// tail compresses the bytes of a tail into dst. A nil table says that none gets
// shorter.
func (c *compressor) tail(dst, data []byte) (out []byte, t *pieceTable) {
	t = &pieceTable{size: len(data)}
	any := false
	for len(data) > 0 {
		n := min(pieceSize, len(data))
		before := len(dst)
		var packed bool
		dst, packed = c.shorten(dst, data[:n])
		t.pieces = append(t.pieces, storedPiece{before, len(dst) - before, packed})
		any = any || packed
		data = data[n:]
	}
	if !any {
		return dst, nil
	}
	return dst, t
}

// pieceTable is the value of xattrPieces.
type pieceTable struct {
	size   int // bytes that the tail stands for
	pieces []storedPiece
}

// storedPiece is where a piece of a tail is.
type storedPiece struct {
	off, n int
	packed bool
}

// length is how many bytes the i-th piece stands for.
func (t *pieceTable) length(i int) int { return min(pieceSize, t.size-i*pieceSize) }

func (t *pieceTable) encode() []byte {
	e := encoder{make([]byte, 0, 24)}
	e.byte(codecVersion)
	e.uint(uint64(t.size))
	for _, p := range t.pieces {
		n := uint64(p.n) << 1
		if p.packed {
			n |= 1
		}
		e.uint(n)
	}
	return e.b
}

func decodePieces(b []byte) (*pieceTable, error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return nil, errCorrupt
	}
	size := d.size()
	if size > tailSize {
		return nil, errCorrupt
	}
	t := &pieceTable{size: int(size)}
	off := 0
	for i := 0; i*pieceSize < t.size; i++ {
		v := d.uint()
		p := storedPiece{off, int(v >> 1), v&1 != 0}
		if v>>1 > pieceSize || p.n > t.length(i) || !p.packed && p.n != t.length(i) {
			return nil, errCorrupt
		}
		off += p.n
		t.pieces = append(t.pieces, p)
	}
	return t, d.end()
}

// packedTail is what a reader knows of a tail in a segment that is compressed.
type packedTail struct {
	mu    sync.Mutex // guards what follows, and is held while it is read
	known bool
	table *pieceTable // nil: the tail is stored as it is
}

// packedTails are those that a reader met last.
type packedTails struct {
	mu sync.Mutex // guards m
	m  map[string]*packedTail
}

// maxPackedTails is how many tails' tables a reader keeps: more than it reads at
// once.
const maxPackedTails = 16

func (p *packedTails) get(oid string) *packedTail {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.m[oid]
	if t == nil {
		if len(p.m) >= maxPackedTails || p.m == nil {
			p.m = make(map[string]*packedTail)
		}
		t = &packedTail{}
		p.m[oid] = t
	}
	return t
}

// read reads the table, unless it is known.
func (t *packedTail) read(ctx context.Context, d *Driver, oid string) (*pieceTable, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known {
		return t.table, nil
	}
	op := librados.NewRead()
	attr := op.GetXattr(xattrPieces)
	if _, err := d.data.Operate(ctx, oid, op, 0); err != nil {
		return nil, err
	}
	if len(attr.Data) > 0 {
		table, err := decodePieces(attr.Data)
		if err != nil {
			return nil, fmt.Errorf("pieces of %s: %w", oid, err)
		}
		t.table = table
	}
	t.known = true
	return t.table, nil
}

// readPacked reads bytes of one piece of a tail in a segment that is compressed.
func (r *reader) readPacked(ctx context.Context, p *piece) ([]byte, error) {
	oid := tailOID(p.tails.bid, p.tails.tag, p.off/tailSize)
	table, err := r.packed.get(oid).read(ctx, r.d, oid)
	if err != nil {
		return nil, err
	}
	if table == nil {
		return r.d.readTail(ctx, p)
	}
	i, off := int(p.off%tailSize/pieceSize), int(p.off%pieceSize)
	if i >= len(table.pieces) || off+p.n > table.length(i) {
		return nil, fmt.Errorf("%s has no bytes %d to %d of its piece %d", oid, off, off+p.n, i)
	}
	s := table.pieces[i]
	op := librados.NewRead()
	first, n := s.off+off, p.n
	if s.packed {
		first, n = s.off, s.n
	}
	step := op.Read(uint64(first), uint64(n))
	if _, err := r.d.data.Operate(ctx, oid, op, 0); err != nil {
		return nil, err
	}
	if len(step.Data) != n {
		return nil, fmt.Errorf("%s has %d bytes at %d where %d were asked for", oid, len(step.Data), first, n)
	}
	if !s.packed {
		return step.Data, nil
	}
	data, err := r.d.compressor().expand(step.Data, table.length(i))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", oid, err)
	}
	return data[off:][:p.n], nil
}

// inlineData returns the bytes of a version that is in its head.
func (d *Driver) inlineData(v *version, data []byte) ([]byte, error) {
	if v.stored == 0 {
		if int64(len(data)) != v.size {
			return nil, fmt.Errorf("%d bytes where %d should be", len(data), v.size)
		}
		return data, nil
	}
	if int64(len(data)) != v.stored || v.size > maxInline {
		return nil, errors.New("it is not what is described")
	}
	return d.compressor().expand(data, int(v.size))
}
