package posix

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"herald/store"
)

// found is a version and its file.
type found struct {
	at     location
	attr   *attr // of a file changed by another program: as the package comment says
	native bool  // attr was read, not made up
	known  bool  // in replay: attr is what the file says, though its data or more of it were lost
	side   bool  // it has a side file
	st     fileStat
	fd     int // open for reading; -1: not
}

func (f *found) close() {
	if f != nil && f.fd >= 0 {
		closeFD(f.fd)
		f.fd = -1
	}
}

// object is f, or nil where f is a delete marker.
func (f *found) object() *found {
	if f == nil || f.attr.marker {
		return nil
	}
	return f
}

// info describes f for the contract; nil gives nil.
func (f *found) info(key string, latest bool) *store.Info {
	if f == nil {
		return nil
	}
	return f.attr.info(key, latest)
}

// open opens and describes the file at one location of key. It answers
// fs.ErrNotExist also for what is no regular file.
func (b *bucket) open(key string, l location) (*found, error) {
	if l.area != areaNatural && !b.has[l.area].Load() {
		return nil, fs.ErrNotExist
	}
	path := key
	if l.area != areaNatural {
		path = l.path()
	}
	base, rel := b.base(l.area, path)
	for range maxTries {
		fd, err := openBeneath(base, rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			// A link that leads out of the bucket, or in circles, is no object.
			if absent(err) || err == unix.EXDEV || err == unix.ELOOP || err == unix.ENXIO || err == unix.ENAMETOOLONG {
				return nil, fs.ErrNotExist
			}
			return nil, fmt.Errorf("open: %w", err)
		}
		f := &found{at: l, fd: fd}
		again, err := b.describe(key, f)
		if err == nil && !again {
			return f, nil
		}
		f.close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fs.ErrNotExist
}

// describe fills in what is known of an open file. again tells that the file
// lost its side file because it was replaced just now.
func (b *bucket) describe(key string, f *found) (again bool, err error) {
	if f.st, err = statFD(f.fd); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if !f.st.regular() {
		return false, fs.ErrNotExist
	}
	f.attr, f.native, f.side, err = b.readAttr(f.fd, &f.st, key)
	if err != nil {
		return false, fmt.Errorf("read attributes: %w", err)
	}
	if !f.native && b.has[areaMeta].Load() {
		if st, err := statFD(f.fd); err == nil && st.nlink == 0 {
			return true, nil
		}
	}
	if f.at.area == areaVersions && !f.native {
		f.attr.versionID = f.at.name
	}
	return false, nil
}

// at is open for who does not want the data.
func (b *bucket) at(key string, l location) (*found, error) {
	f, err := b.open(key, l)
	f.close()
	return f, err
}

// file opens the key's current object: at its natural place, or else at its
// escape place. Errors: fs.ErrNotExist.
func (b *bucket) file(key string) (*found, error) {
	if natural(key) {
		f, err := b.open(key, naturalLocation(key))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	if !b.has[areaKeys].Load() {
		return nil, fs.ErrNotExist
	}
	return b.open(key, escapeLocation(key))
}

// openCurrent opens the key's current version, which may be a delete marker; nil
// if there is none. Callers that change the key hold its guard. The caller
// closes it.
func (b *bucket) openCurrent(key string) (*found, error) {
	f, err := b.file(key)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = b.newest(key, "")
	if err != nil || f == nil {
		return nil, err
	}
	if !f.attr.marker {
		// Versions without a current one: another program removed it.
		f.close()
		return nil, nil
	}
	return f, nil
}

// newest opens the newest of the key's versions under versions/, but for one;
// nil if there is none.
func (b *bucket) newest(key, but string) (*found, error) {
	if !b.has[areaVersions].Load() {
		return nil, nil
	}
	base, rel := b.base(areaVersions, escape(key))
	ids, err := names(base, rel)
	if err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("list versions: %w", err)
	}
	best, null := "", false
	for _, id := range ids {
		switch {
		case id == but:
		case id == store.NullVersion:
			null = true
		case isHex(id, 16) && id > best: // ids begin with the seq
			best = id
		}
	}
	var f *found
	if best != "" {
		if f, err = b.versionFile(key, best); err != nil {
			return nil, err
		}
	}
	if !null {
		return f, nil
	}
	n, err := b.versionFile(key, store.NullVersion)
	if err != nil || n == nil {
		return f, err
	}
	if f == nil || n.attr.seq > f.attr.seq {
		f, n = n, f
	}
	n.close()
	return f, nil
}

// versionFile opens a version under versions/; nil if there is none.
func (b *bucket) versionFile(key, versionID string) (*found, error) {
	if versionID != store.NullVersion && !isHex(versionID, 16) {
		return nil, nil
	}
	f, err := b.open(key, versionLocation(key, versionID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// openVersion opens one version, which may be a delete marker, and tells whether
// it is the current one; nil if there is none. The caller closes it.
func (b *bucket) openVersion(key, versionID string) (f *found, latest bool, err error) {
	cur, err := b.file(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if cur != nil && cur.attr.versionID == versionID {
		return cur, true, nil
	}
	cur.close()
	f, err = b.versionFile(key, versionID)
	if f == nil || err != nil || !f.attr.marker || cur != nil {
		return f, false, err
	}
	top, err := b.newest(key, "")
	latest = top != nil && top.attr.versionID == versionID
	top.close()
	return f, latest, err
}

// find opens what a read asks for. A search that found nothing while something
// moved is repeated under the key's guard.
// Errors: store.ErrNoSuchKey, ErrNoSuchVersion, *DeleteMarkerError.
func (b *bucket) find(key, versionID string) (*found, *store.Info, error) {
	ended := b.moves.ended.Load()
	f, latest, err := b.search(key, versionID)
	if f == nil && err == nil && b.moves.begun.Load() != ended {
		g := b.d.guards.lock(b.name, key)
		f, latest, err = b.search(key, versionID)
		g.unlock()
	}
	switch {
	case err != nil:
		return nil, nil, err
	case f == nil && versionID == "":
		return nil, nil, store.ErrNoSuchKey
	case f == nil:
		return nil, nil, store.ErrNoSuchVersion
	case f.attr.marker:
		f.close()
		return nil, nil, &store.DeleteMarkerError{Info: f.attr.info(key, latest)}
	}
	return f, f.attr.info(key, latest), nil
}

func (b *bucket) search(key, versionID string) (f *found, latest bool, err error) {
	if versionID == "" {
		f, err = b.openCurrent(key)
		return f, true, err
	}
	return b.openVersion(key, versionID)
}
