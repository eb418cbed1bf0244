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
	hint  int64
	buf   []byte      // while there are no tails
	tails *tailWriter // nil: all is in buf
	mark  *mark       // with tails
	stop  func()      // with tails: ends the mark's renewal
	ended bool
	err   error // of an earlier Write
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
	return &writer{ctx: ctx, b: b, key: key, tag: newTag(), hint: hint.Size}, nil
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
		if w.buf == nil && w.hint > 0 {
			w.buf = make([]byte, 0, max(min(w.hint, maxInline), int64(len(p))))
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
		begin, cancel := w.b.d.begins(ctx)
		m, err := w.b.x.begin(begin, w.key, w.tag)
		cancel()
		if err != nil {
			return w.b.failed("write", w.key, err)
		}
		w.mark, w.tails = m, newTailWriter(w.b.d, w.b.bid, w.tag)
		w.stop = w.b.d.keep(m)
		buf := w.buf
		w.buf = nil
		if err := w.tails.write(ctx, buf); err != nil {
			return w.b.failed("write", w.key, err)
		}
	}
	return w.b.failed("write", w.key, w.tails.write(ctx, p))
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
// this driver, pieces are read ahead.
func (w *writer) ReadFrom(r io.Reader) (int64, error) { return readFrom(w, r) }

func readFrom(w io.Writer, r io.Reader) (int64, error) {
	if s, ok := r.(*io.SectionReader); ok {
		outer, off, n := s.Outer()
		if src, ok := outer.(*reader); ok && off >= 0 && n >= 0 && off+n <= src.info.Size {
			return src.WriteRangeTo(struct{ io.Writer }{w}, off, n)
		}
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, maxInline))
}

// Commit implements store.Writer. Its linearization point is writeHead.
func (w *writer) Commit(ctx context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	if opts.Versioning == store.Enabled && len(w.buf) > 0 {
		if err := w.writeTails(ctx, nil); err != nil {
			return store.Outcome{}, errors.Join(err, w.Abort())
		}
	}
	body := body{tag: w.tag, data: w.buf, size: int64(len(w.buf))}
	if w.tails != nil {
		if err := w.tails.finish(ctx); err != nil {
			return store.Outcome{}, errors.Join(w.b.failed("write", w.key, err), w.Abort())
		}
		body.size = w.tails.size
		body.segments = []segment{{w.tag, w.tails.size}}
		w.stop()
	}
	w.ended = true
	out, err := w.b.put(ctx, w.key, &body, &opts, w.mark)
	if err != nil && w.tails != nil && !errors.Is(err, store.ErrUnknownOutcome) {
		w.tails.abort(w.mark.cancel)
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
	if w.tails != nil {
		w.stop()
		w.tails.abort(w.mark.cancel)
	}
	return nil
}
