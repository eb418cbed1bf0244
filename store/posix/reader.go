package posix

import (
	"context"
	"fmt"
	"io"
	"os"

	"herald/store"
)

const maxCopied = 64 << 10 // bytes that are cheaper to read and write than to sendfile

// reader is a store.Reader.
type reader struct {
	d    *Driver
	f    *found
	info *store.Info
	file *os.File // f.fd, once sendfile wants one; it owns it
}

var _ store.Reader = (*reader)(nil)

// Open implements store.Bucket.
func (b *bucket) Open(_ context.Context, key, versionID string) (store.Reader, error) {
	f, info, err := b.read(key, versionID)
	if err != nil {
		return nil, err
	}
	return &reader{d: b.d, f: f, info: info}, nil
}

// Stat implements store.Bucket.
func (b *bucket) Stat(_ context.Context, key, versionID string) (*store.Info, error) {
	f, info, err := b.read(key, versionID)
	f.close()
	return info, err
}

// read opens a version, and tells the index what it would not know.
func (b *bucket) read(key, versionID string) (*found, *store.Info, error) {
	if err := b.enter(); err != nil {
		return nil, nil, err
	}
	defer b.leave()
	f, info, err := b.find(key, versionID)
	switch {
	case versionID != "":
	case err == nil && !f.native:
		b.d.index.noteFound(b, key, info)
	case err == store.ErrNoSuchKey:
		b.d.index.noteGone(b, key)
	}
	return f, info, err
}

// Info implements store.Reader.
func (r *reader) Info() *store.Info { return r.info }

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := readAt(r.f.fd, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteRangeTo implements store.Reader.
func (r *reader) WriteRangeTo(w io.Writer, off, length int64) (int64, error) {
	if length <= maxCopied {
		return r.copyTo(w, off, length)
	}
	if r.file == nil {
		r.file = os.NewFile(uintptr(r.f.fd), r.info.Key)
	}
	if _, err := r.file.Seek(off, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.info.Key, err)
	}
	buf := r.d.buffers.get(maxBuffered) // used where w has no sendfile
	defer r.d.buffers.put(buf)
	n, err := io.CopyBuffer(w, &io.LimitedReader{R: r.file, N: length}, buf[:cap(buf)])
	if err == nil && n < length {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reader) copyTo(w io.Writer, off, length int64) (int64, error) {
	buf := r.d.buffers.get(length)
	defer r.d.buffers.put(buf)
	n, err := readAt(r.f.fd, buf[:length], off)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", r.info.Key, err)
	}
	m, err := w.Write(buf[:n])
	if err == nil && int64(n) < length {
		err = io.ErrUnexpectedEOF // another program cut the file short
	}
	return int64(m), err
}

// Close implements store.Reader.
func (r *reader) Close() error {
	if r.file != nil {
		r.f.fd = -1
		return r.file.Close()
	}
	r.f.close()
	return nil
}
