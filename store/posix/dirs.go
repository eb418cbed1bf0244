package posix

// dirs are the directories in use: a bounded cache of open directories, each
// with the lock under which it is changed.
type dirs struct{}

// change runs f, which links, renames or unlinks in the directory dir of an
// area ("." for the area's root), or makes or removes directories in it. It
// holds the directory's lock, and tells the index the directory's mtime before
// and after (areaNatural only): index.dirChanged(bucket, dir, before, after).
// With mkdir the directory is made if it is not there.
func (b *bucket) change(a area, dir string, mkdir bool, f func(fd int) error) error {
	panic("being written")
}
