//go:build rados

package rados

import (
	"context"
	"fmt"
	"io"

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
	a := ahead{r: r, ctx: ctx, pieces: pieces, answers: make([]chan pieceRead, len(pieces)), first: r.first(off, pieces)}
	defer a.leave()
	var done int64
	for i := range pieces {
		a.begin(i, readAhead)
		p := <-a.answers[i]
		if p.err != nil {
			return done, storeError("read "+r.info.Key, p.err)
		}
		a.begin(i, readAhead+1)
		n, err := w.Write(p.data)
		done += int64(n)
		if err != nil {
			return done, err
		}
		r.d.buffers.put(p.data)
	}
	return done, nil
}

// ahead reads pieces before they are wanted.
type ahead struct {
	r       *reader
	ctx     context.Context
	pieces  []piece
	answers []chan pieceRead
	next    int    // the first that was not begun
	first   []byte // of the first piece; nil: it is not there
	room    int    // of Driver.aheadRoom
}

// begin begins to read a piece, and up to n with those after it: as many as there
// is room for among those of all readers.
func (a *ahead) begin(i, n int) {
	for ; a.next < min(i+n, len(a.pieces)); a.next++ {
		if a.next > i && !a.enter(a.next-i) {
			return
		}
		at, answer := a.next, make(chan pieceRead, 1)
		a.answers[at] = answer
		if at == 0 && a.first != nil {
			answer <- pieceRead{data: a.first}
			continue
		}
		go func() {
			data, err := a.r.read(a.ctx, &a.pieces[at])
			answer <- pieceRead{data, err}
		}()
	}
}

// enter takes room for so many pieces ahead, if it does not have it.
func (a *ahead) enter(n int) bool {
	if n <= a.room {
		return true
	}
	select {
	case a.r.d.aheadRoom <- struct{}{}:
		a.room++
		return true
	default:
		return false
	}
}

func (a *ahead) leave() {
	for range a.room {
		<-a.r.d.aheadRoom
	}
}

// first returns the first of the pieces of a range if it was guessed right, and
// remembers it for the next reader if the range begins as the object does.
func (r *reader) first(off int64, pieces []piece) []byte {
	guess := r.guess.Swap(nil)
	if len(pieces) == 0 {
		guess.drop()
		return nil
	}
	data := guess.take(&pieces[0])
	if off == 0 && r.current && !pieces[0].packed {
		r.d.hints.set(headKey{r.bid, r.info.Key}, pieces[0])
	}
	return data
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
		size := int64(tailSize)
		if s.stored > 0 {
			size = pieceSize
		}
		for off < s.size && length > 0 {
			n := min(length, s.size-off, size-off%size)
			if len(list) == 0 { // not to let the client wait for much
				n = min(n, firstPiece)
			}
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
	buf := d.buffers.get(p.n)
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
