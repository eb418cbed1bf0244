//go:build unix && !linux

package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const haveDirect = false

func openDirect(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func datasync(f *os.File) error { return f.Sync() }

// syncfs flushes what it can reach: there is no call for one filesystem. The
// clients' files are only scheduled for writing.
func syncfs(dir *os.File) error {
	if err := unix.Sync(); err != nil {
		return err
	}
	return dir.Sync()
}

func allocate(*os.File, int64) error { return nil }

// lockFile takes an exclusive lock that ends with the process.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
