package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const haveDirect = true

// openDirect opens for O_DIRECT, and tries a read, as some filesystems refuse
// only then.
func openDirect(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(alignedBuffer(blockSize)[:blockSize], 0); err != nil {
		_ = f.Close() // nothing written
		return nil, err
	}
	return f, nil
}

func datasync(f *os.File) error { return retryEINTR(f, unix.Fdatasync) }

// syncfs flushes the filesystem that the directory lies on.
func syncfs(dir *os.File) error { return retryEINTR(dir, unix.Syncfs) }

func retryEINTR(f *os.File, call func(fd int) error) error {
	for {
		err := call(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// allocate gives the file its space.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
