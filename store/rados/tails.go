//go:build rados

package rados

import (
	"context"
	"errors"
	"sync"

	librados "herald/rados"
	"herald/store"
)

const (
	tailSize     = 4 << 20 // bytes of a tail; the last may be shorter
	tailsAtOnce  = 4       // of one body, that are written beside each other
	tailsAtAll   = 24      // of all bodies: about what the connection has under way
	removeAtOnce = 16      // tails of one body, that are removed beside each other
)

// tailCount is how many tails hold so many bytes.
func tailCount(size int64) int64 { return (size + tailSize - 1) / tailSize }

// tailWriter writes a body into tails, some of them beside each other. It is
// used by one goroutine.
type tailWriter struct {
	d     *Driver
	bid   string
	tag   store.OpID
	buf   []byte // of the tail that is filled now
	next  int64  // its number
	size  int64  // bytes taken
	whole int64  // how many are said to come; 0 and less: nobody knows
	pack  bool   // compress
	// before is called once, before the first tail is written; nil: not.
	before func(ctx context.Context) error

	room chan struct{} // has an element for each tail under way
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	err    error      // the first
	stored int64      // bytes in tails
	packed bool       // some are compressed
}

func newTailWriter(d *Driver, bid string, tag store.OpID, pack bool) *tailWriter {
	return &tailWriter{d: d, bid: bid, tag: tag, pack: pack, room: make(chan struct{}, tailsAtOnce)}
}

// segment is all that was written, when it is durable.
func (t *tailWriter) segment() segment {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := segment{tag: t.tag, size: t.size}
	if t.packed {
		s.stored = t.stored
	}
	return s
}

// write takes bytes. An error of an earlier tail may come with a later call.
func (t *tailWriter) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := min(tailSize-len(t.buf), len(p))
		if t.buf == nil {
			t.buf = t.d.buffers.get(t.expects())[:0]
		}
		t.buf = append(t.buf, p[:n]...)
		p = p[n:]
		t.size += int64(n)
		if len(t.buf) == tailSize {
			if err := t.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// expects is how long the buffer of the next tail should be.
func (t *tailWriter) expects() int {
	if t.whole > 0 && t.whole <= smallBuffer {
		return smallBuffer
	}
	return tailSize
}

// send begins to write the tail that was filled.
func (t *tailWriter) send(ctx context.Context) error {
	if before := t.before; before != nil {
		if err := before(ctx); err != nil {
			return err
		}
		t.before = nil
	}
	select {
	case t.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case t.d.tailRoom <- struct{}{}:
	case <-ctx.Done():
		<-t.room
		return context.Cause(ctx)
	}
	leave := func() { <-t.d.tailRoom; <-t.room }
	if err := t.failed(); err != nil {
		leave()
		return err
	}
	data, oid := t.buf, tailOID(t.bid, t.tag, t.next)
	t.buf, t.next = nil, t.next+1
	t.wg.Go(func() {
		t.put(ctx, oid, data)
		t.d.buffers.put(data) // librados has a copy
		leave()
	})
	return nil
}

// put writes a tail, compressed if that is wanted and makes it shorter.
func (t *tailWriter) put(ctx context.Context, oid string, data []byte) {
	op := librados.NewWrite()
	packed := false
	if t.pack {
		buf := t.d.buffers.get(tailSize)[:0]
		defer t.d.buffers.put(buf)
		if out, table := t.d.compressor().tail(buf, data); table != nil {
			data, packed = out, true
			op.SetXattr(xattrPieces, table.encode())
		}
	}
	op.WriteFull(data)
	_, err := t.d.data.Operate(ctx, oid, op, 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.err = errors.Join(t.err, storeError("write a tail", err))
	}
	t.stored += int64(len(data))
	t.packed = t.packed || packed
}

func (t *tailWriter) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// finish writes what is left and waits until all of it is durable.
func (t *tailWriter) finish(ctx context.Context) error {
	var err error
	if len(t.buf) > 0 {
		err = t.send(ctx)
	}
	t.wg.Wait()
	return errors.Join(err, t.failed())
}

// abort waits for what is under way, and removes in the background what was
// written. Then it calls done.
func (t *tailWriter) abort(done func()) {
	t.discard()
	started := t.d.bg.start(func(ctx context.Context) {
		t.wg.Wait()
		if err := t.d.removeTails(ctx, t.bid, segment{tag: t.tag, size: t.next * tailSize}); err != nil {
			t.d.log.Warn("remove the tails of what was given up", "tag", t.tag, "err", err)
			return
		}
		done()
	})
	if !started {
		t.wg.Wait()
	}
}

// discard gives back what was not written.
func (t *tailWriter) discard() {
	t.d.buffers.put(t.buf)
	t.buf = nil
}

// removeTails removes the tails of a run of bytes, by their owner, unless
// others hold references to them. Those that are not there are no error.
func (d *Driver) removeTails(ctx context.Context, bid string, s segment) error {
	name := tailsName{bid, s.tag}
	gone, err := d.disown(ctx, name)
	if err != nil || !gone {
		return err
	}
	return d.removeRest(ctx, name, s.size)
}

// removeRest removes what follows the first tail, which is gone.
func (d *Driver) removeRest(ctx context.Context, tails tailsName, size int64) error {
	return d.removeDown(ctx, tails, tailCount(size)-1)
}

// removeDown removes the tails up to a number, but not the first: the last of
// them first, and none before those after it are gone. So whoever goes on where
// it was broken off finds what is left (lastTail).
func (d *Driver) removeDown(ctx context.Context, tails tailsName, last int64) error {
	for end := last + 1; end > 1; end -= removeAtOnce {
		err := each(numbers(max(1, end-removeAtOnce), end), func(n int64) error {
			return d.removeTail(ctx, tails.bid, tails.tag, n)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTail removes a tail that is not the first.
func (d *Driver) removeTail(ctx context.Context, bid string, tag store.OpID, n int64) error {
	op := librados.NewWrite()
	op.Remove()
	_, err := d.data.Operate(ctx, tailOID(bid, tag, n), op, librados.FullForce)
	return ignoreAbsent(err)
}
