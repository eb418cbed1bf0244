//go:build rados

package rados

import (
	"context"
	"fmt"
	"io"
	"sync"

	librados "herald/rados"
)

// WriteRangeTo implements store.Reader. Some pieces are read ahead of what w
// takes.
func (r *reader) WriteRangeTo(w io.Writer, off, length int64) (int64, error) {
	if off < 0 || length < 0 || off+length > r.info.Size {
		return 0, fmt.Errorf("read %s: bytes %d to %d of %d", r.info.Key, off, off+length, r.info.Size)
	}
	if len(r.segs) == 0 {
		n, err := w.Write(r.data[off : off+length])
		return int64(n), err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	pieces := r.pieces(off, length)
	answers := make([]chan pieceRead, len(pieces))
	begin := func(i int) {
		answers[i] = make(chan pieceRead, 1)
		go func() {
			data, err := r.read(ctx, &pieces[i])
			answers[i] <- pieceRead{data, err}
		}()
	}
	for i := range min(readAhead, len(pieces)) {
		begin(i)
	}
	var done int64
	for i := range pieces {
		a := <-answers[i]
		if a.err != nil {
			return done, storeError("read "+r.info.Key, a.err)
		}
		if next := i + readAhead; next < len(pieces) {
			begin(next)
		}
		n, err := w.Write(a.data)
		done += int64(n)
		if err != nil {
			return done, err
		}
		r.d.pieces.put(a.data)
	}
	return done, nil
}

// PieceByPiece tells that WriteRangeTo writes pieces of a few MiB, so that it
// need not be called for each of them: it reads ahead.
func (r *reader) PieceByPiece() {}

// piece is what one operation reads.
type piece struct {
	tails tailsName
	off   int64 // among the bytes of tails
	n     int
	// packed: some of the tails are compressed
	packed bool
}

func (r *reader) read(ctx context.Context, p *piece) ([]byte, error) {
	if p.packed {
		return r.readPacked(ctx, p)
	}
	return r.d.readTail(ctx, p)
}

type pieceRead struct {
	data []byte
	err  error
}

// pieces parts a range into what operations read.
func (r *reader) pieces(off, length int64) []piece {
	var list []piece
	for _, s := range r.segs {
		if off >= s.size {
			off -= s.size
			continue
		}
		size := int64(readPiece)
		if s.stored > 0 {
			size = pieceSize
		}
		for off < s.size && length > 0 {
			n := min(length, s.size-off, size-off%size)
			list = append(list, piece{tailsName{s.in(r.bid), s.tag}, off, int(n), s.stored > 0})
			off, length = off+n, length-n
		}
		if length == 0 {
			break
		}
		off = 0
	}
	return list
}

// readTail reads bytes of one tail; fewer than asked for are an error.
func (d *Driver) readTail(ctx context.Context, p *piece) ([]byte, error) {
	op := librados.NewRead()
	buf := d.pieces.get(p.n)
	step := op.ReadInto(uint64(p.off%tailSize), buf)
	oid := tailOID(p.tails.bid, p.tails.tag, p.off/tailSize)
	if _, err := d.data.Operate(ctx, oid, op, 0); err != nil {
		return nil, err // librados may still write to buf
	}
	if len(step.Data) != p.n {
		return nil, fmt.Errorf("%s has %d bytes where %d were asked for", oid, len(step.Data), p.n)
	}
	return step.Data, nil
}

// pieceBuffers are buffers for what is read, of some sizes.
type pieceBuffers struct{ large, small, inline sync.Pool }

const smallPiece = 1 << 20

// get returns a buffer of n bytes.
func (b *pieceBuffers) get(n int) []byte {
	switch {
	case n == maxInline:
		if p, ok := b.inline.Get().(*[maxInline]byte); ok {
			return p[:]
		}
		return new([maxInline]byte)[:]
	case n > smallPiece && n <= readPiece:
		if p, ok := b.large.Get().(*[readPiece]byte); ok {
			return p[:n]
		}
		return new([readPiece]byte)[:n]
	case n > smallPiece/4 && n <= smallPiece:
		if p, ok := b.small.Get().(*[smallPiece]byte); ok {
			return p[:n]
		}
		return new([smallPiece]byte)[:n]
	}
	return make([]byte, n)
}

// put takes a buffer back that nobody uses any more.
func (b *pieceBuffers) put(buf []byte) {
	switch cap(buf) {
	case readPiece:
		b.large.Put((*[readPiece]byte)(buf[:readPiece]))
	case smallPiece:
		b.small.Put((*[smallPiece]byte)(buf[:smallPiece]))
	case maxInline:
		b.inline.Put((*[maxInline]byte)(buf[:maxInline]))
	}
}
