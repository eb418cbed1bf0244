package posix

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"herald/store"
)

// Files are raw descriptors here: an *os.File costs allocations and a
// registration with the poller at each open, for nothing.

// again repeats a call that a signal interrupted.
func again[T any](f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if err != unix.EINTR {
			return v, err
		}
	}
}

func againErr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// fileStat is what we use of a stat.
type fileStat struct {
	dev, ino uint64
	size     int64
	mtime    int64 // nanoseconds since 1970
	nlink    uint64
	mode     uint32 // type and permissions
}

func (s *fileStat) regular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }
func (s *fileStat) dir() bool     { return s.mode&unix.S_IFMT == unix.S_IFDIR }

func (s *fileStat) set(st *unix.Stat_t) {
	s.dev, s.ino = uint64(st.Dev), st.Ino
	s.size = st.Size
	s.mtime = st.Mtim.Nano()
	s.nlink = uint64(st.Nlink)
	s.mode = uint32(st.Mode)
}

func statFD(fd int) (s fileStat, err error) {
	var st unix.Stat_t
	if err = againErr(func() error { return unix.Fstat(fd, &st) }); err == nil {
		s.set(&st)
	}
	return s, err
}

func statAt(dirFD int, path string, flags int) (s fileStat, err error) {
	var st unix.Stat_t
	if err = againErr(func() error { return unix.Fstatat(dirFD, path, &st, flags) }); err == nil {
		s.set(&st)
	}
	return s, err
}

func closeFD(fd int) { _ = unix.Close(fd) }

// writeAll writes all of b at the file's offset.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := again(func() (int, error) { return unix.Write(fd, b) })
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// readAt reads until b is full or the file ends.
func readAt(fd int, b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := again(func() (int, error) { return unix.Pread(fd, b[done:], off+int64(done)) })
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

// openBeneath opens a path below dirFD. No component leads out of it.
func openBeneath(dirFD int, path string, flags int, mode uint32) (int, error) {
	return again(func() (int, error) { return openat(dirFD, path, flags|unix.O_CLOEXEC, mode) })
}

// openWalk is openBeneath by one component after the other, without following
// symbolic links.
func openWalk(dirFD int, path string, flags int, mode uint32) (int, error) {
	dir := dirFD
	defer func() {
		if dir != dirFD {
			closeFD(dir)
		}
	}()
	for {
		c, rest, more := cutComponent(path)
		if !more {
			return unix.Openat(dir, c, flags|unix.O_NOFOLLOW, mode)
		}
		next, err := unix.Openat(dir, c, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		if dir != dirFD {
			closeFD(dir)
		}
		dir, path = next, rest
	}
}

func cutComponent(path string) (first, rest string, more bool) {
	for i := range len(path) {
		if path[i] == '/' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// absent tells that a file or a directory on the way to it is not there, or
// is none.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// inTheWay tells that something else is where a file or a directory should
// come, so that the key has to go to its escape place.
func inTheWay(err error) bool {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return false
	}
	switch e {
	case unix.ENOTDIR, unix.EISDIR, unix.EEXIST, unix.ENOTEMPTY, unix.ENAMETOOLONG, unix.ELOOP, unix.EXDEV:
		return true
	}
	return false
}

// storeError makes store.ErrNoSpace of a full disk, and says what was done.
func storeError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s: %w: %w", what, store.ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// names of a directory's entries, unsorted.
func names(dirFD int, path string) ([]string, error) {
	fd, err := openBeneath(dirFD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // read only
	return f.Readdirnames(-1)
}
