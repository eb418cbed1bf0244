//go:build !linux

package posix

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Portable versions, so that people can try the gateway elsewhere: side files
// instead of extended attributes, named temporary files, full flushes.

func openat(dirFD int, path string, flags int, mode uint32) (int, error) {
	return openWalk(dirFD, path, flags, mode)
}

func openTemp(int) (int, error) { return -1, unix.EOPNOTSUPP }

func linkFD(int, int, string, *atomic.Bool) error { return unix.EOPNOTSUPP }

func setMTime(fd int, mtime int64) error {
	tv := unix.NsecToTimeval(mtime)
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}

func getXattr(int, []byte) (int, error) { return 0, errNoAttr }

func setXattr(int, []byte) error { return unix.EOPNOTSUPP }

func preallocate(int, int64) error { return nil }

func startWriteback(int, int64, int64) {}

func flushFile(fd int) error { return againErr(func() error { return unix.Fsync(fd) }) }

func copyRange(int, *int64, int, int64) (int, error) { return 0, unix.EOPNOTSUPP }

func fsyncNames(int) bool { return false }

func freeSpace(int) (bytes, inodes uint64, err error) { return 1 << 62, 1 << 62, nil }

func syncFS(int) error {
	unix.Sync()
	return nil
}

func totalSpace(int) (uint64, error) { return 1 << 62, nil }

const linkEmptyPath = 0

func exchange(int, string, int, string) error { return unix.EOPNOTSUPP }
