//go:build !linux

package posix

import "golang.org/x/sys/unix"

// bucketIdentity tells a bucket from one of the same name before or after it,
// as well as inode numbers can; 0: there is none.
func (d *Driver) bucketIdentity(name string) uint64 {
	st, err := statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return 0
	}
	return max(st.ino, 1)
}
