package posix

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// partWriter is the store.Writer of one part: it keeps the first bytes in
// memory, and writes what is longer to one of the upload's files.
type partWriter struct {
	b      *bucket
	m      *multipart // with a reference
	number int
	hint   int64
	buf    []byte

	fd    int    // -1: all is in buf
	file  string // its name
	place claim  // in a d file; size 0: the file is the part's own
	size  int64
	begun int64 // up to here writing back was begun
	ended bool
	kept  bool  // the file belongs to a record in the journal
	err   error // of an earlier Write
}

var (
	_ store.Writer  = (*partWriter)(nil)
	_ io.ReaderFrom = (*partWriter)(nil)
)

// CreatePart implements store.Uploads.
func (b *bucket) CreatePart(_ context.Context, key, uploadID string, number int, hint store.CreateHint) (store.Writer, error) {
	if number < 1 || number > maxPartNumber {
		return nil, fmt.Errorf("part %d: %w", number, store.ErrInvalidPart)
	}
	m, err := b.upload(key, uploadID)
	if err != nil {
		return nil, err
	}
	if err := b.d.writable(hint.Size); err != nil {
		b.d.uploads.release(m)
		return nil, fmt.Errorf("create part of %s/%s: %w", b.name, key, err)
	}
	return &partWriter{b: b, m: m, number: number, hint: hint.Size, fd: -1}, nil
}

// Write implements io.Writer.
func (w *partWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errors.New("write after commit or abort")
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.fd < 0 && len(w.buf)+len(p) <= maxInlinePart {
		w.buf = append(w.buf, p...)
		w.size += int64(len(p))
		return len(p), nil
	}
	if w.err = w.room(int64(len(p))); w.err == nil {
		w.err = w.failed(writeAll(w.fd, p))
	}
	if w.err != nil {
		return 0, w.err
	}
	w.wrote(int64(len(p)))
	return len(p), nil
}

// failed says what an error was about.
func (w *partWriter) failed(err error) error {
	if err == nil || errors.Is(err, store.ErrNoSuchUpload) {
		return err
	}
	return storeError(fmt.Sprintf("write part %d of %s/%s", w.number, w.b.name, w.m.up.Key), err)
}

// wrote counts what went to the file, and has it written back while more
// comes, so that Commit need not wait for all of it.
func (w *partWriter) wrote(n int64) {
	w.size += n
	if w.size-w.begun >= writebackStep {
		startWriteback(w.fd, w.base()+w.begun, w.size-w.begun)
		w.begun = w.size
	}
}

// base is where the part begins in its file.
func (w *partWriter) base() int64 { return int64(w.place.number-1) * w.place.size }

// room makes sure that there is a file which takes n more bytes.
func (w *partWriter) room(n int64) error {
	if w.fd < 0 {
		if err := w.open(max(w.hint, w.size+n)); err != nil {
			return w.failed(err)
		}
		if len(w.buf) > 0 {
			if err := writeAll(w.fd, w.buf); err != nil {
				return w.failed(err)
			}
			w.buf = nil
		}
	}
	if w.place.size > 0 && w.size+n > w.place.size {
		return w.failed(w.moveOut()) // longer than was said: it would run into the next part
	}
	return nil
}

// open opens the file for a part of some size: a place in a d file if its
// size was told and the place is free, else a file of its own.
func (w *partWriter) open(size int64) error {
	m := w.m
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.ended.Load() {
		return store.ErrNoSuchUpload
	}
	if size == w.hint && m.claim(w) {
		return w.openData()
	}
	return w.openOwn()
}

func (w *partWriter) openData() (err error) {
	w.file = dataFile(w.place.size)
	if w.fd, err = w.m.openFile(w.file, unix.O_RDWR|unix.O_CREAT); err == nil {
		_, err = unix.Seek(w.fd, w.base(), unix.SEEK_SET)
	}
	return err
}

func (w *partWriter) openOwn() (err error) {
	w.file = "p" + strconv.Itoa(w.number) + "." + newName()
	w.fd, err = w.m.openFile(w.file, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	return err
}

// claim takes a place in a d file for a part of w.hint bytes. A part that is
// shorter than others, and behind them all, is taken for the last one.
func (m *multipart) claim(w *partWriter) bool {
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	highest := make(map[int64]int)
	for c := range m.claims {
		highest[c.size] = max(highest[c.size], c.number)
	}
	place := claim{w.hint, w.number}
	for size, n := range highest {
		if size > w.hint && n < w.number && (place.size == w.hint || size < place.size) {
			place.size = size
		}
	}
	if m.claims[place] {
		return false
	}
	m.claims[place] = true
	m.writers[place.size]++
	w.place = place
	return true
}

// unclaim ends the use of a d file. The place stays taken if a part is in it.
func (m *multipart) unclaim(c claim, taken bool) {
	if c.size == 0 {
		return
	}
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	if m.writers[c.size]--; m.writers[c.size] == 0 {
		delete(m.writers, c.size)
	}
	if !taken {
		delete(m.claims, c)
	}
}

// moveOut moves what was written to a file of the part's own.
func (w *partWriter) moveOut() error {
	from, off, place := w.fd, w.base(), w.place
	defer closeFD(from)
	defer w.m.unclaim(place, false)
	w.place, w.begun = claim{}, 0
	if err := w.openOwn(); err != nil {
		w.fd = -1
		return err
	}
	return copyAll(w.fd, from, off, w.size)
}

// copyAll copies n bytes at off of one file to where another stands, inside
// the kernel if possible.
func copyAll(dst, src int, off, n int64) error {
	for n > 0 {
		c, err := copyRange(src, &off, dst, n)
		if err != nil {
			return copySlowly(dst, src, off, n)
		}
		if c == 0 {
			return io.ErrUnexpectedEOF
		}
		n -= int64(c)
	}
	return nil
}

func copySlowly(dst, src int, off, n int64) error {
	buf := make([]byte, min(n, copyBuffer))
	for n > 0 {
		c, err := readAt(src, buf[:min(n, int64(len(buf)))], off)
		if err == nil && c == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = writeAll(dst, buf[:c])
		}
		if err != nil {
			return err
		}
		off, n = off+int64(c), n-int64(c)
	}
	return nil
}

// ReadFrom implements io.ReaderFrom. From an io.SectionReader over a Reader of
// this driver the kernel copies.
func (w *partWriter) ReadFrom(r io.Reader) (int64, error) {
	if s, ok := r.(*io.SectionReader); ok && w.err == nil && !w.ended && w.size == 0 {
		outer, off, n := s.Outer()
		n = min(n, s.Size())
		if src, ok := outer.(*reader); ok && n > maxInlinePart {
			if n = min(n, src.Info().Size-off); n > maxInlinePart {
				return w.copyFrom(src, off, n)
			}
		}
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
}

func (w *partWriter) copyFrom(src *reader, off, n int64) (int64, error) {
	if w.err = w.room(n); w.err != nil {
		return 0, w.err
	}
	if w.err = w.failed(copyAll(w.fd, src.f.fd, off, n)); w.err != nil {
		return 0, w.err
	}
	w.wrote(n)
	return n, nil
}

// Commit implements store.Writer. Its linearization point is the journal
// record.
func (w *partWriter) Commit(_ context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	defer func() { _ = w.Abort() }() // gives back what is left
	p := part{Part: store.Part{
		Number: w.number, Size: w.size, ETag: opts.ETag, Attrs: opts.Attrs, ModTime: opts.ModTime.UTC(),
	}}
	if opts.ModTime.IsZero() {
		p.ModTime = time.Now().UTC()
	}
	if w.fd >= 0 {
		if err := w.m.flush(w.fd); err != nil {
			return store.Outcome{}, w.failed(err)
		}
		w.b.d.fault("posix.part.flushed")
		p.file, p.off = w.file, w.base()
	} else {
		p.crc = crc32.Checksum(w.buf, castagnoli)
	}
	return w.commit(&p)
}

// flush makes one of the upload's files durable, with its name.
func (m *multipart) flush(fd int) error {
	if m.d.opts.Relaxed {
		return nil
	}
	if err := flushFile(fd); err != nil || m.d.fsyncNames {
		return err
	}
	for dir := strings.TrimSuffix(m.path(""), "/"); dir != "."; dir, _ = splitPath(dir) {
		fd, err := openBeneath(m.d.homeFD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			if absent(err) {
				return store.ErrNoSuchUpload
			}
			return err
		}
		err = flushFile(fd)
		closeFD(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// commit journals the part and applies it, unless the upload has ended.
func (w *partWriter) commit(p *part) (store.Outcome, error) {
	m := w.m
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := w.b.enter(); err != nil {
		return store.Outcome{}, store.ErrNoSuchUpload
	}
	defer w.b.leave()
	if m.ended.Load() {
		return store.Outcome{}, store.ErrNoSuchUpload
	}
	if err := w.b.d.writable(int64(len(w.buf))); err != nil {
		return store.Outcome{}, w.failed(err)
	}
	g := m.numberLocks.lock("", strconv.Itoa(p.Number))
	defer g.unlock()
	e := &partEntry{bucket: w.b.name, dir: w.b.d.bucketIdentity(w.b.name), id: m.up.ID, part: *p}
	what := fmt.Sprintf("commit part %d of %s/%s", p.Number, w.b.name, m.up.Key)
	w.kept = true
	var old *part
	err := w.b.d.journaled(what, func() (err error) {
		old, err = m.add(p, w.buf)
		return err
	}, e.encode(nil), w.buf)
	if err != nil {
		w.kept = errors.Is(err, store.ErrUnknownOutcome)
		return store.Outcome{}, err
	}
	if old != nil && strings.HasPrefix(old.file, "p") && old.file != p.file {
		_ = unix.Unlinkat(w.b.d.homeFD, m.path(old.file), 0) // else it goes with the upload
	}
	return store.Outcome{Changed: true}, nil
}

// Abort implements store.Writer.
func (w *partWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	if w.fd >= 0 {
		closeFD(w.fd)
		if w.place.size == 0 && !w.kept {
			_ = unix.Unlinkat(w.b.d.homeFD, w.m.path(w.file), 0) // swept later otherwise
		}
	}
	w.m.unclaim(w.place, w.kept)
	w.buf = nil
	w.b.d.uploads.release(w.m)
	return nil
}
