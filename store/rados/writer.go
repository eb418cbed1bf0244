//go:build rados

package rados

import (
	"context"
	"errors"
	"io"
	"time"

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
	early  *earlyMark // until announce
	mark   *mark      // with tails or references
	stop   func()     // with a mark: ends its renewal
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
	if hint.Size > maxInline {
		w.announceEarly()
	}
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
		if err := w.announce(ctx); err != nil {
			return err
		}
		if len(w.shared) > 0 {
			if err := w.b.d.mix(ctx, tailsName{w.b.bid, w.tag}); err != nil {
				return w.b.failed("write", w.key, err)
			}
		}
		w.tails = newTailWriter(w.b.d, w.b.bid, w.tag, w.hint.Compression == compressionZstd)
		buf := w.buf
		w.buf = nil
		if err := w.tails.write(ctx, buf); err != nil {
			return w.b.failed("write", w.key, err)
		}
	}
	return w.b.failed("write", w.key, w.tails.write(ctx, p))
}

// earlyMark is a mark that is made while the first bytes come.
type earlyMark struct {
	done chan struct{} // closed when what follows is set
	mark *mark
	stop func()
	err  error
}

// announceEarly begins to make the mark of a change that will need one.
func (w *writer) announceEarly() {
	e := &earlyMark{done: make(chan struct{})}
	started := w.b.d.bg.start(func(context.Context) {
		defer close(e.done)
		e.mark, e.stop, e.err = w.makeMark(w.ctx)
	})
	if started {
		w.early = e
	}
}

// makeMark makes the mark, and sees to it that it is renewed until stop.
func (w *writer) makeMark(ctx context.Context) (m *mark, stop func(), err error) {
	begin, cancel := w.b.d.begins(ctx)
	defer cancel()
	if m, err = w.b.x.begin(begin, w.key, w.tag); err != nil {
		return nil, nil, err
	}
	return m, w.b.d.keep(m), nil
}

// drop takes the mark back.
func (e *earlyMark) drop(bg *background) {
	drop := func(context.Context) {
		if <-e.done; e.err == nil {
			e.stop()
			e.mark.cancel()
		}
	}
	if !bg.start(drop) {
		drop(context.Background())
	}
}

// announce sees to it that there is the mark of the change.
func (w *writer) announce(ctx context.Context) (err error) {
	e := w.early
	w.early = nil
	switch {
	case w.mark != nil:
		return nil
	case e != nil:
		<-e.done // it has its own time
		w.mark, w.stop, err = e.mark, e.stop, e.err
	default:
		w.mark, w.stop, err = w.makeMark(ctx)
	}
	return w.b.failed("write", w.key, err)
}

// keep renews a mark until stop is called.
func (d *Driver) keep(m *mark) (stop func()) {
	done := make(chan struct{})
	d.bg.start(func(ctx context.Context) {
		ticker := time.NewTicker(markStale / 2)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-d.bg.closing:
				return
			case <-ticker.C:
			}
			if m.stale() {
				if err := m.renew(ctx); err != nil {
					d.log.Warn("renew the mark of an upload", "key", m.key, "err", err)
				}
			}
		}
	})
	return func() { close(done) }
}

// ReadFrom implements io.ReaderFrom. Of an io.SectionReader over a Reader of
// this driver, the tails are shared where that goes; else pieces are read ahead.
func (w *writer) ReadFrom(r io.Reader) (int64, error) { return readFrom(w, r) }

// Commit implements store.Writer. Its linearization point is writeHead.
func (w *writer) Commit(ctx context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	if w.early != nil { // there came less than was said
		if err := w.announce(ctx); err != nil {
			return store.Outcome{}, errors.Join(err, w.Abort())
		}
	}
	if (opts.Versioning == store.Enabled || len(w.shared) > 0) && len(w.buf) > 0 {
		if err := w.writeTails(ctx, nil); err != nil {
			return store.Outcome{}, errors.Join(err, w.Abort())
		}
	}
	body := body{tag: w.tag, data: w.buf, segments: w.shared}
	if w.tails != nil {
		if err := w.tails.finish(ctx); err != nil {
			return store.Outcome{}, errors.Join(w.b.failed("write", w.key, err), w.Abort())
		}
		body.segments = append(body.segments, w.tails.segment())
	}
	body.size = int64(len(w.buf))
	if len(w.buf) > 0 && w.hint.Compression == compressionZstd {
		if out, packed := w.b.d.compressor().shorten(nil, w.buf); packed {
			body.data, body.stored = out, int64(len(out))
		}
	}
	for _, s := range body.segments {
		body.size += s.size
	}
	w.ended = true
	if w.mark != nil {
		w.stop()
	}
	out, err := w.b.put(ctx, w.key, &body, &opts, w.mark)
	if err != nil && w.mark != nil && !errors.Is(err, store.ErrUnknownOutcome) {
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
		w.giveUp()
	case w.early != nil:
		w.early.drop(w.b.d.bg)
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
