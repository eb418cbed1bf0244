package posix

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// bucket is a store.Bucket. There is one per open bucket of a Driver.
type bucket struct {
	d    *Driver
	name string // driver's name; also the directory's
	fd   int    // the bucket's directory
	ino  uint64

	// life is held for reading by whoever uses the bucket, and for writing to
	// end it. It is taken before any key's guard, and only once.
	life sync.RWMutex
	gone bool // life: all methods answer ErrNoSuchBucket

	moves    moves // see the package comment
	unlisted unlisted
	has      [areaMeta + 1]atomic.Bool // areas whose root was made; the natural one always
}

var _ store.Bucket = (*bucket)(nil)

// moves counts files that move in a way which may hide them from a search: a
// search that finds nothing is to be trusted if all moves that had begun when
// it ended had ended when it began.
type moves struct{ begun, ended atomic.Uint64 }

func (m *moves) begin() { m.begun.Add(1) }
func (m *moves) end()   { m.ended.Add(1) }

// enter must succeed before the bucket is used, and be followed by leave.
// Errors: store.ErrNoSuchBucket.
func (b *bucket) enter() error {
	b.life.RLock()
	if b.gone {
		b.life.RUnlock()
		return store.ErrNoSuchBucket
	}
	return nil
}

func (b *bucket) leave() { b.life.RUnlock() }

// end makes all that use the bucket answer ErrNoSuchBucket. b.life is held.
func (b *bucket) end() {
	b.gone = true
	b.d.dirs.dropBucket(b)
	closeFD(b.fd)
}

// validBucket tells whether a directory of that name in root is a bucket.
func validBucket(name string) bool {
	_, bucket := store.SplitStoreName(name)
	return bucketDir(name) && store.ValidBucketName(bucket)
}

// OpenBucket implements store.Driver.
func (d *Driver) OpenBucket(_ context.Context, name string) (store.Bucket, error) {
	b, err := d.bucket(name)
	if err != nil {
		return nil, err // not a nil *bucket in an interface
	}
	return b, nil
}

// bucket returns the bucket of that name, as it is on disk at this moment.
// Errors: store.ErrNoSuchBucket.
func (d *Driver) bucket(name string) (*bucket, error) {
	if !validBucket(name) {
		return nil, store.ErrNoSuchBucket
	}
	b, stale, err := d.lookBucket(name)
	if stale != nil {
		// Not under d.mu: it waits for who uses the bucket, and one of them may
		// be DeleteBucket, which wants d.mu.
		d.retire(stale)
	}
	return b, err
}

// lookBucket is bucket; stale is one of that name which was removed or
// replaced by another program, or is being deleted: the caller retires it.
func (d *Driver) lookBucket(name string) (b, stale *bucket, err error) {
	st, err := statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW)
	d.mu.Lock()
	defer d.mu.Unlock()
	if b = d.buckets[name]; b != nil && err == nil && st.ino == b.ino {
		return b, nil, nil
	}
	// Again: what is known may be newer than the answer.
	st, err = statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !absent(err) {
		return nil, nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	if b != nil && err == nil && st.ino == b.ino {
		return b, nil, nil
	}
	stale = b
	delete(d.buckets, name)
	if err != nil || !st.dir() {
		return nil, stale, store.ErrNoSuchBucket
	}
	if b, err = d.newBucket(name); err != nil {
		return nil, stale, err
	}
	d.buckets[name] = b
	return b, stale, nil
}

// retire ends a bucket that is no longer what its name leads to, unless it has
// ended already.
func (d *Driver) retire(b *bucket) {
	b.life.Lock()
	defer b.life.Unlock()
	if !b.gone {
		b.end()
	}
}

func (d *Driver) newBucket(name string) (*bucket, error) {
	fd, err := openBeneath(d.rootFD, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if absent(err) {
			return nil, store.ErrNoSuchBucket
		}
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	st, err := statFD(fd)
	if err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	b := &bucket{d: d, name: name, fd: fd, ino: st.ino}
	b.has[areaNatural].Store(true)
	for _, a := range []area{areaKeys, areaVersions, areaMeta} {
		_, err := statAt(d.rootFD, a.root(name), 0)
		b.has[a].Store(err == nil)
	}
	return b, nil
}

// CreateBucket implements store.Driver. The directory is flushed.
func (d *Driver) CreateBucket(_ context.Context, name string) error {
	if !validBucket(name) {
		return fmt.Errorf("create bucket %q: %w", name, store.ErrInvalidBucketName)
	}
	if err := d.writable(0); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	d.bucketMu.Lock()
	defer d.bucketMu.Unlock()
	if _, err := statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return store.ErrBucketAlreadyExists
	}
	// What an interrupted removal of a bucket of that name left.
	if err := d.clearBucket(name); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if err := unix.Mkdirat(d.rootFD, name, 0o777); err != nil {
		if err == unix.EEXIST {
			return store.ErrBucketAlreadyExists
		}
		return storeError("create bucket "+name, err)
	}
	if err := d.index.bucketMade(name); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if err := flushFile(d.rootFD); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// clearBucket removes what .herald has of a bucket that is no longer there.
func (d *Driver) clearBucket(name string) error {
	for _, a := range []area{areaKeys, areaVersions, areaMeta} {
		if err := removeTree(d.rootFD, a.root(name), true); err != nil {
			return err
		}
	}
	if err := d.dropUploads(name); err != nil {
		return err
	}
	return d.index.bucketGone(name)
}

// DeleteBucket implements store.Driver. Its linearization point is the
// removal of the directory, which is then flushed.
func (d *Driver) DeleteBucket(_ context.Context, name string) error {
	d.bucketMu.Lock()
	defer d.bucketMu.Unlock()
	b, err := d.bucket(name)
	if err != nil {
		return err
	}
	b.life.Lock()
	defer b.life.Unlock()
	if b.gone {
		return store.ErrNoSuchBucket
	}
	for _, a := range []area{areaKeys, areaVersions} {
		// Whatever is a file there is an object, a version, or a marker.
		if err := removeTree(d.rootFD, a.root(name), false); err != nil {
			return bucketError(name, err)
		}
		b.has[a].Store(false)
	}
	d.dirs.dropBucket(b)
	if err := removeTree(d.rootFD, name, false); err != nil {
		return bucketError(name, err)
	}
	d.mu.Lock()
	if d.buckets[name] == b {
		delete(d.buckets, name)
	}
	d.mu.Unlock()
	b.end()
	if err := d.clearBucket(name); err != nil {
		return bucketError(name, err)
	}
	if err := flushFile(d.rootFD); err != nil {
		return bucketError(name, err)
	}
	return nil
}

// forgetGone lets the index forget the buckets that are no longer there: their
// removal was interrupted after its linearization point, or another program
// removed them.
func (d *Driver) forgetGone() error {
	for _, name := range d.index.names() {
		if _, err := statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW); !absent(err) {
			continue
		}
		if err := d.index.bucketGone(name); err != nil {
			return err
		}
	}
	return nil
}

func bucketError(name string, err error) error {
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return store.ErrBucketNotEmpty
	}
	return fmt.Errorf("delete bucket %s: %w", name, err)
}

// removeTree removes a directory and the directories in it; with files also
// what else is in it, and else it answers ENOTEMPTY for that, having removed
// only empty directories. What is not there is no error.
func removeTree(dirFD int, path string, files bool) error {
	fd, err := openBeneath(dirFD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if absent(err) {
			return nil
		}
		return err
	}
	err = removeEntries(fd, files)
	closeFD(fd)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(dirFD, path, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

func removeEntries(fd int, files bool) error {
	list, err := names(fd, ".")
	if err != nil {
		return err
	}
	for _, name := range list {
		st, err := statAt(fd, name, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.ENOENT:
		case err != nil:
			return err
		case st.dir():
			err = removeTree(fd, name, files)
		case files:
			err = unix.Unlinkat(fd, name, 0)
		default:
			err = unix.ENOTEMPTY
		}
		if err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

// ListBuckets implements store.Driver.
func (d *Driver) ListBuckets(context.Context) ([]store.BucketEntry, error) {
	list, err := names(d.rootFD, ".")
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	slices.Sort(list)
	var out []store.BucketEntry
	for _, name := range list {
		if !validBucket(name) {
			continue
		}
		st, err := statAt(d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.dir() {
			out = append(out, store.BucketEntry{Name: name, Created: time.Unix(0, st.mtime).UTC()})
		}
	}
	return out, nil
}
