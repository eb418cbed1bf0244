package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// ring is the segment files as one endless space of positions, of which the
// last size() bytes exist.
type ring struct {
	dir      string
	segBytes uint64
	epoch    uint64
	direct   atomic.Bool // written by O_DIRECT
	segs     []*segment
	// inject, in tests, makes I/O fail.
	inject func(op string) error
}

// segment is one file. "ring.N" has been written full; until then its name is
// "ring.N.new", its space allocated.
type segment struct {
	path  string
	mu    sync.Mutex // guards f while it is made
	f     *os.File
	ready atomic.Bool
}

func newRing(dir string, segBytes int64, segments int, direct bool) *ring {
	r := &ring{dir: dir, segBytes: uint64(segBytes)}
	r.direct.Store(direct && haveDirect)
	for i := range segments {
		r.segs = append(r.segs, &segment{path: filepath.Join(dir, fmt.Sprintf("ring.%d", i))})
	}
	return r
}

func (r *ring) size() uint64 { return r.segBytes * uint64(len(r.segs)) }

// at returns the segment of a position and the offset in it.
func (r *ring) at(pos uint64) (*segment, int64) {
	return r.segs[pos/r.segBytes%uint64(len(r.segs))], int64(pos % r.segBytes)
}

// pieces calls f for each piece of [pos, pos+n) that lies in one segment.
func (r *ring) pieces(pos uint64, n int, f func(s *segment, off int64, from, to int) error) error {
	for from := 0; from < n; {
		s, off := r.at(pos + uint64(from))
		to := min(n, from+int(int64(r.segBytes)-off))
		if err := f(s, off, from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func (r *ring) writeAt(pos uint64, data []byte) error {
	return r.pieces(pos, len(data), func(s *segment, off int64, from, to int) error {
		if !s.ready.Load() {
			if err := r.prepare(s); err != nil {
				return err
			}
		}
		if err := r.injected("write"); err != nil {
			return err
		}
		_, err := s.f.WriteAt(data[from:to], off)
		return err
	})
}

func (r *ring) sync(pos uint64, n int) error {
	return r.pieces(pos, n, func(s *segment, _ int64, _, _ int) error {
		if err := r.injected("sync"); err != nil {
			return err
		}
		return datasync(s.f)
	})
}

func (r *ring) injected(op string) error {
	if r.inject == nil {
		return nil
	}
	return r.inject(op)
}

// allocate creates the files that are missing, with their space, so that the
// disk cannot be full later. Files of another size are made anew.
func (r *ring) allocate() error {
	for _, s := range r.segs {
		st, err := os.Stat(s.path)
		if err == nil && uint64(st.Size()) == r.segBytes {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("allocate journal: %w", err)
		}
		if err == nil {
			if err := os.Remove(s.path); err != nil {
				return fmt.Errorf("allocate journal: %w", err)
			}
		}
		if err := r.allocateOne(s); err != nil {
			return fmt.Errorf("allocate journal: %w", err)
		}
	}
	return r.removeSurplus()
}

func (r *ring) allocateOne(s *segment) error {
	f, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(r.segBytes)); err != nil {
		return err
	}
	return allocate(f, int64(r.segBytes))
}

// removeSurplus deletes segments that an earlier, larger ring had.
func (r *ring) removeSurplus() error {
	for i := len(r.segs); ; i++ {
		path := filepath.Join(r.dir, fmt.Sprintf("ring.%d", i))
		err := os.Remove(path)
		err2 := os.Remove(path + ".new")
		if errors.Is(err, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
			return nil
		}
		if err != nil && err2 != nil {
			return fmt.Errorf("allocate journal: %w", err)
		}
	}
}

// prepare opens a segment for writing; a new one is written full first.
func (r *ring) prepare(s *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready.Load() {
		return nil
	}
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		if err := r.fill(s); err != nil {
			return fmt.Errorf("prepare journal segment: %w", err)
		}
	}
	f, err := r.openWrite(s.path)
	if err != nil {
		return fmt.Errorf("prepare journal segment: %w", err)
	}
	s.f = f
	s.ready.Store(true)
	return nil
}

// fill writes a new segment full of zeros, so that its extents are written
// ones and flushing it later changes no metadata.
func (r *ring) fill(s *segment) error {
	f, err := r.openWrite(s.path + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	zeros := alignedBuffer(1 << 20)[:1<<20]
	for off := uint64(0); off < r.segBytes; off += uint64(len(zeros)) {
		n := min(uint64(len(zeros)), r.segBytes-off)
		if _, err := f.WriteAt(zeros[:n], int64(off)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		return err
	}
	return syncDir(r.dir)
}

// openWrite opens a file for aligned writes, by O_DIRECT unless the
// filesystem refuses.
func (r *ring) openWrite(path string) (*os.File, error) {
	if r.direct.Load() {
		f, err := openDirect(path)
		if err == nil {
			return f, nil
		}
		r.direct.Store(false)
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// prepareAll prepares the segments that are not ready.
func (r *ring) prepareAll(done <-chan struct{}) error {
	for _, s := range r.segs {
		select {
		case <-done:
			return nil
		default:
		}
		if err := r.prepare(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *ring) close() error {
	var errs []error
	for _, s := range r.segs {
		s.mu.Lock()
		if s.f != nil {
			errs = append(errs, s.f.Close())
			s.f = nil
			s.ready.Store(false)
		}
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
