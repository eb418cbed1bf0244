package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"herald/store"
)

const (
	maxBuffered   = 128 << 10 // bytes of a body that go through the journal
	writebackStep = 8 << 20   // bytes after which writing back is begun
	copyBuffer    = 256 << 10
)

// bodyBuffers hold bodies until they are committed; by size, as most objects
// are much smaller than the largest.
type bodyBuffers struct{ small, large sync.Pool }

const smallBuffer = 16 << 10

func (p *bodyBuffers) get(size int64) []byte {
	pool, n := &p.large, maxBuffered
	if size >= 0 && size <= smallBuffer {
		pool, n = &p.small, smallBuffer
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

func (p *bodyBuffers) put(b []byte) {
	switch cap(b) {
	case smallBuffer:
		p.small.Put(&b)
	case maxBuffered:
		p.large.Put(&b)
	}
}

// writer is a store.Writer: it keeps the first bytes in memory, and stages
// what is longer in a file.
type writer struct {
	b     *bucket
	key   string
	hint  int64
	buf   []byte
	file  *temp // nil: all is in buf
	size  int64
	begun int64 // up to here writing back was begun
	ended bool
	err   error // of an earlier Write
}

var (
	_ store.Writer  = (*writer)(nil)
	_ io.ReaderFrom = (*writer)(nil)
)

// Create implements store.Bucket.
func (b *bucket) Create(_ context.Context, key string, hint store.CreateHint) (store.Writer, error) {
	if err := store.ValidKey(key); err != nil {
		return nil, err
	}
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	if err := b.d.writable(hint.Size); err != nil {
		return nil, fmt.Errorf("create %s/%s: %w", b.name, key, err)
	}
	w := &writer{b: b, key: key, hint: hint.Size}
	if hint.Size > maxBuffered {
		if err := w.stage(); err != nil {
			return nil, err
		}
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
	if w.file == nil && len(w.buf)+len(p) <= maxBuffered {
		w.grow(len(p))
		w.buf = append(w.buf, p...)
		w.size += int64(len(p))
		return len(p), nil
	}
	if w.err = w.writeFile(p); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// grow makes room for n more bytes in buf.
func (w *writer) grow(n int) {
	pool := &w.b.d.buffers
	switch need := len(w.buf) + n; {
	case w.buf == nil:
		w.buf = pool.get(max(w.hint, int64(need)))
		if need > cap(w.buf) {
			w.buf = pool.get(maxBuffered)
		}
	case need > cap(w.buf):
		old := w.buf
		w.buf = append(pool.get(maxBuffered), old...)
		pool.put(old)
	}
}

// stage makes the file that takes what is too long for the journal.
func (w *writer) stage() (err error) {
	d := w.b.d
	if w.file, err = d.newStaged(); err != nil {
		return storeError("stage "+w.b.name+"/"+w.key, err)
	}
	if w.hint > maxBuffered {
		if err := preallocate(w.file.fd, w.hint); err != nil {
			w.file.drop(d)
			return storeError("stage "+w.b.name+"/"+w.key, err)
		}
	}
	if len(w.buf) > 0 {
		err = writeAll(w.file.fd, w.buf)
	}
	w.release()
	return storeError("stage "+w.b.name+"/"+w.key, err)
}

func (w *writer) writeFile(p []byte) error {
	if w.file == nil {
		if err := w.stage(); err != nil {
			return err
		}
	}
	if err := writeAll(w.file.fd, p); err != nil {
		return storeError("stage "+w.b.name+"/"+w.key, err)
	}
	w.wrote(int64(len(p)))
	return nil
}

// wrote counts what went to the file, and has it written back while more
// comes, so that Commit need not wait for all of it.
func (w *writer) wrote(n int64) {
	w.size += n
	if w.size-w.begun >= writebackStep {
		startWriteback(w.file.fd, w.begun, w.size-w.begun)
		w.begun = w.size
	}
}

// ReadFrom implements io.ReaderFrom. From an io.SectionReader over a Reader of
// this driver the kernel copies.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	if s, ok := r.(*io.SectionReader); ok && w.err == nil && !w.ended {
		outer, off, n := s.Outer()
		if src, ok := outer.(*reader); ok && w.size+n > maxBuffered {
			if done, handled, err := w.copyFrom(src, off, n); handled {
				return done, err
			}
		}
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
}

// copyFrom copies n bytes of another object inside the kernel. handled is
// false if that cannot be done; nothing was copied then.
func (w *writer) copyFrom(src *reader, off, n int64) (done int64, handled bool, err error) {
	if w.file == nil {
		if w.err = w.stage(); w.err != nil {
			return 0, true, w.err
		}
	}
	for done < n {
		c, err := copyRange(src.f.fd, &off, w.file.fd, min(n-done, writebackStep))
		if err != nil && done == 0 {
			return 0, false, nil
		}
		if err != nil {
			w.err = storeError("copy to "+w.b.name+"/"+w.key, err)
			return done, true, w.err
		}
		if c == 0 {
			break // as an io.Reader that ends
		}
		done += int64(c)
		w.wrote(int64(c))
	}
	return done, true, nil
}

// Commit implements store.Writer. Its linearization point is the rename or
// link that names the file, once the journal has the change durably.
func (w *writer) Commit(_ context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	data := body{data: w.buf, size: w.size, fd: -1}
	defer func() {
		if data.taken {
			w.file.path = "" // it has another name now, or gets it by replay
		}
		_ = w.Abort() // gives back what is left
	}()
	if w.file != nil {
		if err := w.b.d.flushStaged(w.file.fd); err != nil {
			return store.Outcome{}, storeError("flush "+w.b.name+"/"+w.key, err)
		}
		w.b.d.fault("posix.staged.flushed")
		data.staged, data.fd = w.file.path, w.file.fd
	}
	return w.b.commit(w.key, &data, &opts, "", nil)
}

// flushStaged makes a staged file durable, with its name.
func (d *Driver) flushStaged(fd int) error {
	if d.opts.Relaxed {
		return nil
	}
	if err := flushFile(fd); err != nil || d.fsyncNames {
		return err
	}
	return d.stagingNames.flush(d.stagingFD)
}

// Abort implements store.Writer.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.release()
	w.file.drop(w.b.d)
	return nil
}

func (w *writer) release() {
	if w.buf != nil {
		w.b.d.buffers.put(w.buf)
		w.buf = nil
	}
}
