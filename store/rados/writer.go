//go:build rados

package rados

import (
	"context"
	"errors"
	"io"

	"herald/store"
)

// writer is a store.Writer: it keeps the first bytes in memory, and writes what
// is longer into tails. It keeps the context of Create, that of the request.
type writer struct {
	ctx   context.Context
	b     *bucket
	key   string
	tag   store.OpID
	hint  store.CreateHint
	buf   []byte      // while there are no tails
	tails *tailWriter // nil: all is in buf
	// shared are segments of another object, to whose tails there may be
	// references; all else comes after them.
	shared []segment
	early  *announcement // until announce
	mark   *mark         // with tails or references
	line   store.OpID    // the op that was announced with the mark; zero: none
	stop   func()        // with a mark: ends its renewal
	ended  bool
	err    error // of an earlier Write
}

var (
	_ store.Writer  = (*writer)(nil)
	_ io.ReaderFrom = (*writer)(nil)
)

// Create implements store.Bucket.
func (b *bucket) Create(ctx context.Context, key string, hint store.CreateHint) (store.Writer, error) {
	if err := store.ValidKey(key); err != nil {
		return nil, err
	}
	w := &writer{ctx: ctx, b: b, key: key, tag: newTag(), hint: hint}
	op := hint.Op
	if hint.Size > maxInline {
		op = store.OpID{} // whose line is written beside the last tails
	}
	w.early = b.announce(ctx, key, w.tag, op)
	return w, nil
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errors.New("write after commit or abort")
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.tails == nil && len(w.buf)+len(p) <= maxInline {
		if w.buf == nil && w.hint.Size > 0 {
			w.buf = make([]byte, 0, max(min(w.hint.Size, maxInline), int64(len(p))))
		}
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	if w.err = w.writeTails(w.ctx, p); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// writeTails writes into tails, which are announced before.
func (w *writer) writeTails(ctx context.Context, p []byte) error {
	if w.tails == nil {
		if len(w.shared) > 0 {
			if err := w.announce(ctx); err != nil {
				return err
			}
			if err := w.b.d.mix(ctx, tailsName{w.b.bid, w.tag}); err != nil {
				return w.b.failed("write", w.key, err)
			}
		}
		w.tails = newTailWriter(w.b.d, w.b.bid, w.tag, w.hint.Compression == compressionZstd)
		w.tails.before, w.tails.whole = w.announce, w.hint.Size
		buf := w.buf
		w.buf = nil
		if err := w.tails.write(ctx, buf); err != nil {
			return w.b.failed("write", w.key, err)
		}
	}
	return w.b.failed("write", w.key, w.tails.write(ctx, p))
}

// announce sees to it that there is the mark of the change.
func (w *writer) announce(ctx context.Context) error {
	a := w.early
	if w.mark != nil {
		return nil
	}
	if a == nil {
		if a = w.b.announce(ctx, w.key, w.tag, store.OpID{}); a == nil {
			return errClosed
		}
	}
	w.early = nil
	<-a.done // it has its own time
	w.mark, w.line, w.stop = a.mark, a.op, a.stop
	return w.b.failed("write", w.key, a.err)
}

// ReadFrom implements io.ReaderFrom. Of an io.SectionReader over a Reader of
// this driver, the tails are shared where that goes; else pieces are read ahead.
func (w *writer) ReadFrom(r io.Reader) (int64, error) { return readFrom(w, r) }

// Commit implements store.Writer. Its linearization point is writeHead.
func (w *writer) Commit(ctx context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	if (opts.Versioning == store.Enabled || len(w.shared) > 0) && len(w.buf) > 0 {
		if err := w.writeTails(ctx, nil); err != nil {
			return store.Outcome{}, errors.Join(err, w.Abort())
		}
	}
	body := body{tag: w.tag, data: w.buf, segments: w.shared, size: int64(len(w.buf))}
	for _, s := range body.segments {
		body.size += s.size
	}
	if len(w.buf) > 0 && w.hint.Compression == compressionZstd {
		if out, packed := w.b.d.compressor().shorten(nil, w.buf); packed {
			body.data, body.stored = out, int64(len(out))
		}
	}
	w.ended = true
	from := &begun{mark: w.mark, line: w.line, early: w.early, tail: w.mark != nil || w.tails != nil}
	if w.tails != nil {
		w.tails.before = nil // the mark is waited for before
		from.ready = func(ctx context.Context) error {
			if err := w.tails.finish(ctx); err != nil {
				return w.b.failed("write", w.key, err)
			}
			last := w.tails.segment()
			body.segments = append(body.segments, last)
			body.size += last.size
			return nil
		}
	}
	if w.mark != nil {
		w.stop()
	}
	out, err := w.b.put(ctx, w.key, &body, &opts, from)
	if err != nil && from.tail && from.mark != nil && !errors.Is(err, store.ErrUnknownOutcome) {
		w.mark = from.mark
		w.giveUp()
	}
	return out, err
}

// Abort implements store.Writer. What was written is removed behind it, and
// then the mark.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended, w.buf = true, nil
	switch {
	case w.mark != nil:
		w.stop()
		w.b.d.ops.drop(w.line)
		w.giveUp()
	case w.early != nil:
		if w.tails != nil {
			w.tails.discard() // nothing of it was written
		}
		w.early.drop()
	}
	return nil
}

// giveUp removes in the background what was written and taken.
func (w *writer) giveUp() {
	d, release := w.b.d, w.mark.cancel
	if len(w.shared) > 0 {
		release = func() {
			d.bg.start(func(ctx context.Context) {
				h := tailsName{w.b.bid, w.tag}
				if err := d.releaseAll(ctx, h, listOf(h, w.shared)); err != nil {
					d.log.Warn("release the references of what was given up", "tag", w.tag, "err", err)
					return
				}
				w.mark.cancel()
			})
		}
	}
	if w.tails != nil {
		w.tails.abort(release)
		return
	}
	release()
}
