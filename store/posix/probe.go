package posix

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// probe finds out what the filesystem can do, by trying it.
func (d *Driver) probe() error {
	name, err := d.writeTemp([]byte("probe"))
	if err != nil {
		return err
	}
	defer func() { _ = unix.Unlinkat(d.stagingFD, name, 0) }()
	fd, err := unix.Openat(d.stagingFD, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	d.xattr = setXattr(fd, []byte{0}) == nil
	if !d.xattr {
		d.log.Info("the filesystem has no extended attributes: attributes go to side files", "root", d.root)
	}
	if d.granularity, err = mtimeGranularity(fd); err != nil {
		return err
	}
	d.fsyncNames = fsyncNames(fd)
	d.probeAnonymous()
	return nil
}

// mtimeGranularity finds what is kept of a time: 1 (nanoseconds) up to 2 s.
func mtimeGranularity(fd int) (int64, error) {
	const odd = 1_000_000_001_111_111_111 // odd in every digit
	if err := setMTime(fd, odd); err != nil {
		return 0, err
	}
	st, err := statFD(fd)
	if err != nil {
		return 0, err
	}
	for _, g := range []int64{1, 100, 1000, 1e6, 1e9, 2e9} {
		if odd-odd%g == st.mtime {
			return g, nil
		}
	}
	return 0, fmt.Errorf("the filesystem does not keep files' times: set %d, got %d", int64(odd), st.mtime)
}

// probeAnonymous finds out whether and how O_TMPFILE works.
func (d *Driver) probeAnonymous() {
	fd, err := openTemp(d.stagingFD)
	if err != nil {
		return
	}
	defer closeFD(fd)
	name := newName()
	d.linkPlain.Store(true)
	if err := unix.Linkat(fd, "", d.stagingFD, name, linkEmptyPath); err != nil {
		d.linkPlain.Store(false)
		if linkFD(fd, d.stagingFD, name, &d.linkPlain) != nil {
			return
		}
	}
	d.anonymous = true
	_ = unix.Unlinkat(d.stagingFD, name, 0)
}

// space remembers for a moment how much is left.
type space struct {
	mu    sync.Mutex // guards what follows
	at    time.Time
	left  uint64 // bytes above the reserve, less what was promised since at
	files uint64
}

const (
	spaceAge   = 100 * time.Millisecond
	spaceFiles = 64 // inodes in reserve
)

// writable answers whether an object of that size may be begun.
// Errors: store.ErrNoSpace.
func (d *Driver) writable(size int64) error {
	if err := d.broken.Load(); err != nil {
		return fmt.Errorf("store refuses changes: %w", *err)
	}
	s := &d.space
	s.mu.Lock()
	defer s.mu.Unlock()
	need := uint64(max(size, 0)) + 4096
	if time.Since(s.at) > spaceAge || s.left < need {
		bytes, files, err := freeSpace(d.rootFD)
		if err != nil {
			return fmt.Errorf("free space: %w", err)
		}
		s.at, s.files = time.Now(), files
		s.left = bytes - min(bytes, d.reserve())
	}
	if s.left < need || s.files < spaceFiles {
		return store.ErrNoSpace
	}
	s.left -= need
	return nil
}

func (d *Driver) reserve() uint64 {
	if d.opts.Reserve != 0 {
		return d.opts.Reserve
	}
	total, err := totalSpace(d.rootFD)
	if err != nil {
		return 16 << 20
	}
	return min(16<<20, total/64)
}

// Check implements store.Checker.
func (d *Driver) Check(context.Context) error {
	if err := d.journal.Err(); err != nil {
		return err
	}
	if err := d.writable(0); err != nil && !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	_, err := statFD(d.rootFD)
	return err
}

var _ store.Checker = (*Driver)(nil)
