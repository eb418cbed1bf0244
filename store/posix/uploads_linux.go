package posix

import "golang.org/x/sys/unix"

// bucketIdentity tells a bucket from one of the same name before or after it;
// 0: there is none. Inode numbers are used again, so the time of birth counts
// as well, where the filesystem has it.
func (d *Driver) bucketIdentity(name string) uint64 {
	var st unix.Statx_t
	err := againErr(func() error {
		return unix.Statx(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st)
	})
	if err != nil {
		return 0
	}
	id := st.Ino*0x9e3779b97f4a7c15 + 1
	if st.Mask&unix.STATX_BTIME != 0 {
		id ^= uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	return max(id, 1)
}
