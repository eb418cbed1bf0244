package posix

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

const (
	ballastBytes = 8 << 20
	// fullPause is how long Pebble waits before it tries again on a full disk.
	fullPause = 50 * time.Millisecond
	// maxFlushErrors is after how many errors a flush is given up.
	maxFlushErrors = 3
)

// ballast is room on the disk that the index gives up when the disk is full:
// Pebble ends the process when it cannot write its manifest.
type ballast struct {
	path  string
	there atomic.Bool
}

// fs is the filesystem for Pebble; it drops the ballast when the disk is full.
func (b *ballast) fs() vfs.FS {
	return vfs.OnDiskFull(vfs.Default, func() {
		if !b.there.Swap(false) {
			time.Sleep(fullPause) // Pebble would try again without end and pause
			return
		}
		_ = unix.Unlink(b.path) // there is nothing else to try
	})
}

// take makes the ballast, if it is not there and the disk has room. It is
// called at each checkpoint.
func (b *ballast) take(root string) {
	if b.there.Load() {
		return
	}
	b.path = filepath.Join(root, home, "index-ballast")
	fd, err := unix.Open(b.path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	err = preallocate(fd, ballastBytes)
	if free, _, ferr := freeSpace(fd); err == nil && ferr == nil && free < 2*ballastBytes {
		err = errors.New("no room to spare")
	}
	closeFD(fd)
	if err != nil {
		_ = unix.Unlink(b.path)
		return
	}
	b.there.Store(true)
}

// flusher flushes the database, without waiting for ever for a full disk.
type flusher struct {
	errors atomic.Int64 // of Pebble's work in the background
	last   atomic.Pointer[error]

	mu      sync.Mutex      // guards pending; held during a flush
	pending <-chan struct{} // a flush that was given up, and goes on
}

func (f *flusher) failed(err error) {
	f.last.Store(&err)
	f.errors.Add(1)
}

// flush flushes db. After an error it may be called again.
func (f *flusher) flush(db *pebble.DB) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending != nil {
		if err := f.wait(); err != nil {
			return err
		}
	}
	var err error
	if f.pending, err = db.AsyncFlush(); err != nil {
		return err
	}
	return f.wait()
}

func (f *flusher) wait() error {
	before := f.errors.Load()
	tick := time.NewTicker(fullPause)
	defer tick.Stop()
	for {
		select {
		case <-f.pending:
			f.pending = nil
			return nil
		case <-tick.C:
			if f.errors.Load()-before >= maxFlushErrors {
				return *f.last.Load()
			}
		}
	}
}

// flush makes durable what was applied before it. On a full disk it answers
// an error, and may be called again.
func (x *index) flush() error {
	if x.damaged.Load() {
		return nil
	}
	err := errors.Join(x.dirs.save(), x.flusher.flush(x.db))
	x.ballast.take(x.d.root)
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if err != nil && !full {
		err = x.damage(err)
	}
	if err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}
