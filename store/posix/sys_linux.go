package posix

import (
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openat is openat2 that stays beneath dirFD, also by symbolic links. Kernels
// before 5.6, and sandboxes that forbid it, get the walk.
func openat(dirFD int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dirFD, path, &how)
		switch err {
		case unix.EAGAIN: // a rename came between
			continue
		case unix.EXDEV:
			// The path leads out; or the file was swapped for another, and so
			// moved out, in between.
			if try < 8 {
				continue
			}
		case unix.ENOSYS, unix.EPERM:
			return openWalk(dirFD, path, flags, mode)
		}
		return fd, err
	}
}

// openTemp opens a file without a name, to be given one in the directory's
// filesystem. It answers EOPNOTSUPP or the like where there are no such files.
func openTemp(dirFD int) (int, error) {
	return again(func() (int, error) {
		return unix.Openat(dirFD, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	})
}

// linkFD gives an open file a name.
func linkFD(fd, dirFD int, name string, plain *atomic.Bool) error {
	if plain.Load() {
		err := againErr(func() error { return unix.Linkat(fd, "", dirFD, name, unix.AT_EMPTY_PATH) })
		if err != unix.ENOENT && err != unix.EPERM {
			return err
		}
		// Before Linux 6.10 that needs a capability (or the directory is
		// gone: the other way will tell).
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	return againErr(func() error {
		return unix.Linkat(unix.AT_FDCWD, path, dirFD, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// setMTime sets a file's modification time, nanoseconds since 1970.
func setMTime(fd int, mtime int64) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func getXattr(fd int, buf []byte) (int, error) {
	n, err := again(func() (int, error) { return unix.Fgetxattr(fd, attrName, buf) })
	if err == unix.ENODATA {
		return 0, errNoAttr
	}
	return n, err
}

func setXattr(fd int, value []byte) error {
	return againErr(func() error { return unix.Fsetxattr(fd, attrName, value, 0) })
}

// preallocate reserves room for a file that will have n bytes. It is a help
// only, except for ENOSPC.
func preallocate(fd int, n int64) error {
	err := againErr(func() error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, n) })
	if err == unix.ENOSPC || err == unix.EDQUOT {
		return err
	}
	return nil
}

// startWriteback begins to write what was written to the file, without
// waiting for it.
func startWriteback(fd int, off, n int64) {
	_ = unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) // a hint
}

func flushFile(fd int) error { return againErr(func() error { return unix.Fsync(fd) }) }

// copyRange copies inside the kernel; 0 bytes: the source has ended.
func copyRange(src int, off *int64, dst int, n int64) (int, error) {
	return again(func() (int, error) {
		return unix.CopyFileRange(src, off, dst, nil, int(min(n, 1<<30)), 0)
	})
}

// fsyncNames tells that an fsync of a new file makes its name durable as well.
func fsyncNames(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return true
	}
	return false
}

// freeSpace gives the bytes and inodes that are left. Filesystems without a
// fixed number of inodes have plenty.
func freeSpace(fd int) (bytes, inodes uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, 0, err
	}
	inodes = st.Ffree
	if st.Files == 0 {
		inodes = 1 << 62
	}
	return st.Bavail * uint64(st.Bsize), inodes, nil
}

func syncFS(fd int) error { return againErr(func() error { return unix.Syncfs(fd) }) }

func totalSpace(fd int) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	return st.Blocks * uint64(st.Bsize), nil
}

const linkEmptyPath = unix.AT_EMPTY_PATH

// exchange swaps two names.
func exchange(fromFD int, from string, toFD int, to string) error {
	return unix.Renameat2(fromFD, from, toFD, to, unix.RENAME_EXCHANGE)
}
