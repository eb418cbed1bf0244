package posix

import (
	"container/list"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"herald/store"
)

const maxOpenDirs = 512 // open directories kept

// dirs are the directories in use: a bounded cache of open directories, each
// with the lock under which it is changed.
type dirs struct {
	mu  sync.Mutex // guards what follows, and the fields of each dir marked so
	m   map[openKey]*dir
	lru *list.List // of *dir with no refs, the next to be closed in front
}

// openKey names an open directory: b tells buckets of one name apart.
type openKey struct {
	b    *bucket
	area area
	path string // within the area
}

// dir is an open directory.
type dir struct {
	key     openKey
	fd      int
	ino     uint64
	refs    int           // dirs.mu
	dropped bool          // dirs.mu: no longer in m; the last user closes it
	idle    *list.Element // dirs.mu: place in lru, nil while in use

	mu sync.Mutex // held around each change of a natural directory
}

func newDirs() *dirs { return &dirs{m: make(map[openKey]*dir), lru: list.New()} }

// get returns a directory that is held by the cache, with a reference; nil if
// there is none.
func (c *dirs) get(k openKey) *dir {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.m[k]
	if e != nil {
		c.use(e)
	}
	return e
}

// use adds a reference. c.mu is held.
func (c *dirs) use(e *dir) {
	e.refs++
	if e.idle != nil {
		c.lru.Remove(e.idle)
		e.idle = nil
	}
}

// add puts an opened directory into the cache, with a reference. If another
// was faster, its directory is returned.
func (c *dirs) add(k openKey, fd int, ino uint64) *dir {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[k]; e != nil {
		c.use(e)
		closeFD(fd)
		return e
	}
	e := &dir{key: k, fd: fd, ino: ino, refs: 1}
	c.m[k] = e
	return e
}

// put gives a reference back.
func (c *dirs) put(e *dir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.refs--; e.refs > 0 {
		return
	}
	if e.dropped {
		closeFD(e.fd)
		return
	}
	e.idle = c.lru.PushBack(e)
	for c.lru.Len() > maxOpenDirs {
		old := c.lru.Remove(c.lru.Front()).(*dir)
		delete(c.m, old.key)
		closeFD(old.fd)
	}
}

// drop takes a directory, of which the caller has a reference, out of the
// cache, because it is no longer what its path leads to.
func (c *dirs) drop(e *dir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.dropped {
		e.dropped = true
		delete(c.m, e.key)
	}
}

// dropBucket closes all directories of a bucket, which nobody uses any more;
// with a nil bucket those of all.
func (c *dirs) dropBucket(b *bucket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.m {
		if b != nil && k.b != b {
			continue
		}
		delete(c.m, k)
		e.dropped = true
		if e.idle != nil {
			c.lru.Remove(e.idle)
			closeFD(e.fd)
		}
	}
}

// base returns the directory that an area's paths begin at, and the path of
// one of them from there.
func (b *bucket) base(a area, path string) (int, string) {
	if a == areaNatural {
		return b.fd, path
	}
	root := a.root(b.name)[len(home)+1:]
	if path == "." {
		return b.d.homeFD, root
	}
	return b.d.homeFD, root + "/" + path
}

// openDir returns a directory with a reference; the caller gives it back by
// dirs.put. It is what the path leads to at this moment, also when other
// programs rename directories.
func (b *bucket) openDir(a area, path string) (*dir, error) {
	fd, rel := b.base(a, path)
	k := openKey{b, a, path}
	if e := b.d.dirs.get(k); e != nil {
		if a != areaNatural || path == "." {
			return e, nil // ours alone; the bucket's own was compared when it was opened
		}
		st, err := statAt(fd, rel, 0)
		if err == nil && st.ino == e.ino {
			return e, nil
		}
		b.d.dirs.drop(e)
		b.d.dirs.put(e)
	}
	dirFD, err := openBeneath(fd, rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	st, err := statFD(dirFD)
	if err != nil {
		closeFD(dirFD)
		return nil, err
	}
	return b.d.dirs.add(k, dirFD, st.ino), nil
}

// makeDir is openDir that makes what is missing.
func (b *bucket) makeDir(a area, path string) (*dir, error) {
	for range maxTries {
		e, err := b.openDir(a, path)
		if !errors.Is(err, unix.ENOENT) {
			return e, err
		}
		if path == "." {
			if a == areaNatural {
				return nil, store.ErrNoSuchBucket
			}
			// First: another one finds the directory as soon as it is there,
			// and its files must be looked for then.
			b.has[a].Store(true)
			if err := unix.Mkdirat(b.d.homeFD, a.root(b.name)[len(home)+1:], 0o700); err != nil && err != unix.EEXIST {
				return nil, err
			}
			continue
		}
		parent, name := splitPath(path)
		err = b.change(a, parent, true, func(fd int) error { return b.mkdir(fd, a, path, name) })
		if err != nil && err != unix.EEXIST {
			return nil, err
		}
	}
	return nil, unix.ENOENT
}

// mkdir makes the directory name, whose path is given, in its parent fd.
func (b *bucket) mkdir(fd int, a area, path, name string) error {
	if a != areaNatural {
		return unix.Mkdirat(fd, name, 0o700)
	}
	// Less the umask: other programs may read the tree.
	if err := unix.Mkdirat(fd, name, 0o777); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		b.dirChanged(path, 0, dirStamp(&st))
	}
	b.d.fault("posix.dir.made")
	return nil
}

// dirChanged tells the index of a change of ours; a change that it misses
// costs one more reading of the directory.
func (b *bucket) dirChanged(path string, before, after int64) {
	if err := b.d.index.dirChanged(b.name, path, before, after); err != nil {
		b.d.log.Error("index lost a change of a directory", "bucket", b.name, "dir", path, "error", err)
	}
}

func stampFD(fd int) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0
	}
	return dirStamp(&st)
}

const maxTries = 200 // in races with those who remove directories

// change runs f, which links, renames or unlinks in the directory of an area
// ("." for the area's root), or makes or removes directories in it. It holds
// the directory's lock, and tells the index what it was before and after (in
// areaNatural). With mkdir the directory is made if it is not there. f is run
// again if the directory turns out to have been removed.
func (b *bucket) change(a area, path string, mkdir bool, f func(fd int) error) error {
	for range maxTries {
		open := b.openDir
		if mkdir {
			open = b.makeDir
		}
		e, err := open(a, path)
		if err != nil {
			return err
		}
		again, err := b.changeDir(e, f)
		b.d.dirs.put(e)
		if !again || !mkdir {
			return err
		}
	}
	return unix.ENOENT
}

// changeDir runs f under the directory's lock. again tells that the directory
// was removed meanwhile.
func (b *bucket) changeDir(e *dir, f func(fd int) error) (again bool, err error) {
	if e.key.area == areaNatural {
		e.mu.Lock()
		defer e.mu.Unlock()
		before := stampFD(e.fd)
		if err = f(e.fd); err == nil {
			b.dirChanged(e.key.path, before, stampFD(e.fd))
			return false, nil
		}
	} else if err = f(e.fd); err == nil {
		return false, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return false, err
	}
	if st, serr := statFD(e.fd); serr != nil || st.nlink != 0 {
		return false, err
	}
	b.d.dirs.drop(e)
	return true, err
}

// prune removes a directory of an area if it is empty, and then those above
// it. It never removes the area's root.
func (b *bucket) prune(a area, path string) {
	for path != "." {
		parent, name := splitPath(path)
		err := b.change(a, parent, false, func(fd int) error {
			if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
				return err
			}
			if a == areaNatural {
				b.dirChanged(path, 1, 0)
			}
			return nil
		})
		if err != nil {
			return // not empty, or a symbolic link, or gone: all is well
		}
		if e := b.d.dirs.get(openKey{b, a, path}); e != nil {
			b.d.dirs.drop(e)
			b.d.dirs.put(e)
		}
		path = parent
	}
}
