package posix

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"herald/store"
)

// Complete implements store.Uploads. Its linearization point is that of
// commit.
func (b *bucket) Complete(_ context.Context, key, uploadID string, parts []store.CompletedPart, opts store.CommitOptions) (store.Outcome, error) {
	m, err := b.upload(key, uploadID)
	if err != nil {
		return store.Outcome{}, err
	}
	defer b.d.uploads.release(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended.Load() {
		return store.Outcome{}, store.ErrNoSuchUpload
	}
	a := &assembly{m: m}
	if err := a.choose(parts); err != nil {
		return store.Outcome{}, err
	}
	out, err := a.commit(b, &opts)
	if errors.Is(err, store.ErrNoSuchBucket) {
		return out, store.ErrNoSuchUpload // it went with its bucket
	}
	return out, err
}

// assembly makes one object of parts. The upload's mu is held.
type assembly struct {
	m     *multipart
	parts []placed
	size  int64
	body  body
	file  string // name of the file in the upload's directory; "": in memory
	whole bool   // file is a d file with most of the object in it
}

// placed is a part and its place in the object.
type placed struct {
	*part
	at int64
}

// choose checks the parts and finds where the object will be put together.
// Errors: store.ErrInvalidPart.
func (a *assembly) choose(parts []store.CompletedPart) error {
	m := a.m
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	named := make(map[int]bool, len(parts))
	in := make(map[int64]int64) // size of d file -> bytes of the object in it
	for _, c := range parts {
		p := m.parts[c.Number]
		if p == nil || p.ETag != c.ETag || named[c.Number] {
			return fmt.Errorf("part %d: %w", c.Number, store.ErrInvalidPart)
		}
		named[c.Number] = true
		a.parts = append(a.parts, placed{p, a.size})
		if size, ok := dataFileSize(p.file); ok {
			in[size] += p.Size
		}
		a.size += p.Size
	}
	if len(parts) == 0 {
		return fmt.Errorf("no parts: %w", store.ErrInvalidPart)
	}
	var most int64
	for size, n := range in {
		if n > in[most] && m.writers[size] == 0 && a.fits(size, named) {
			most = size
		}
	}
	switch {
	case most > 0:
		a.file, a.whole = dataFile(most), true
	case a.size > maxBuffered:
		a.file = "a." + newName()
	}
	return nil
}

// fits tells whether a d file can become the object: all parts in it are of
// the object, and where they belong. partsMu is held.
func (a *assembly) fits(size int64, named map[int]bool) bool {
	file := dataFile(size)
	for n, p := range a.m.parts {
		if p.file == file && !named[n] {
			return false
		}
	}
	for _, p := range a.parts {
		if p.file == file && p.off != p.at {
			return false
		}
	}
	return true
}

// commit puts the object together and commits it.
func (a *assembly) commit(b *bucket, opts *store.CommitOptions) (store.Outcome, error) {
	what := "complete upload of " + b.name + "/" + a.m.up.Key
	a.body = body{fd: -1, size: a.size}
	defer a.close()
	if err := a.build(); err != nil {
		return store.Outcome{}, storeError(what, err)
	}
	b.d.fault("posix.complete.assembled")
	return b.commit(a.m.up.Key, &a.body, opts, a.m.up.ID, nil)
}

// close ends the use of the file, and removes what became no object.
func (a *assembly) close() {
	if a.body.fd >= 0 {
		closeFD(a.body.fd)
	}
	if a.file != "" && !a.whole && !a.body.taken {
		_ = unix.Unlinkat(a.m.d.homeFD, a.m.path(a.file), 0) // swept later otherwise
	}
}

// build makes the body.
func (a *assembly) build() error {
	if a.file == "" {
		return a.gather()
	}
	flags := unix.O_RDWR
	if !a.whole {
		if err := a.m.d.writable(a.size); err != nil {
			return err
		}
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	fd, err := a.m.openFile(a.file, flags)
	if err != nil {
		return err
	}
	a.body.fd, a.body.staged = fd, a.m.path(a.file)
	changed, err := a.fill(fd)
	if err != nil || !changed {
		return err
	}
	return a.m.flush(fd)
}

// fill copies into the object's file what is not there. changed is false if
// that was nothing: then all of the file was flushed when its parts came.
func (a *assembly) fill(fd int) (changed bool, err error) {
	src := &source{m: a.m}
	defer src.close()
	for _, p := range a.parts {
		if a.whole && p.file == a.file {
			continue
		}
		changed = true
		if _, err := unix.Seek(fd, p.at, unix.SEEK_SET); err != nil {
			return true, err
		}
		if err := src.copyTo(fd, p.part); err != nil {
			return true, err
		}
	}
	st, err := statFD(fd)
	if err != nil || st.size == a.size {
		return changed, err
	}
	// Behind the end there is only what aborted or replaced parts left.
	return true, againErr(func() error { return unix.Ftruncate(fd, a.size) })
}

// gather reads a small object into memory.
func (a *assembly) gather() error {
	src := &source{m: a.m}
	defer src.close()
	a.body.data = make([]byte, a.size)
	for _, p := range a.parts {
		if err := src.read(a.body.data[p.at:p.at+p.Size], p.part); err != nil {
			return err
		}
	}
	return nil
}

// source reads parts. It keeps the last file open, which is mostly the next
// part's as well.
type source struct {
	m    *multipart
	file string
	fd   int
	buf  []byte
}

func (s *source) open(p *part) (int, error) {
	name := p.file
	if name == "" {
		name = "parts"
	}
	if s.file == name {
		return s.fd, nil
	}
	s.close()
	fd, err := s.m.openFile(name, unix.O_RDONLY)
	if err != nil {
		return -1, err
	}
	s.file, s.fd = name, fd
	return fd, nil
}

func (s *source) close() {
	if s.file != "" {
		closeFD(s.fd)
		s.file = ""
	}
}

// read reads a part.
func (s *source) read(b []byte, p *part) error {
	fd, err := s.open(p)
	if err != nil {
		return err
	}
	n, err := readAt(fd, b, p.off)
	if err == nil && (n < len(b) || p.file == "" && crc32.Checksum(b, castagnoli) != p.crc) {
		err = fmt.Errorf("part %d: %w", p.Number, errCorrupt)
	}
	return err
}

// copyTo copies a part to where dst stands.
func (s *source) copyTo(dst int, p *part) error {
	if p.file == "" {
		if s.buf == nil {
			s.buf = make([]byte, maxInlinePart)
		}
		if err := s.read(s.buf[:p.Size], p); err != nil {
			return err
		}
		return writeAll(dst, s.buf[:p.Size])
	}
	fd, err := s.open(p)
	if err != nil {
		return err
	}
	return copyAll(dst, fd, p.off, p.Size)
}
