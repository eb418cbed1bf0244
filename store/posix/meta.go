package posix

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

var errNoAttr = errors.New("no attributes")

const maxSide = 4 << 20 // bytes of a side file

// attrBuffers hold an extended attribute while it is decoded.
var attrBuffers = sync.Pool{New: func() any { return new([maxInline + 512]byte) }}

// readAttr returns what is known of an open file of key, and whether it has a
// side file. A file without attributes, or with those of other data, gets
// made-up ones: native is then false.
func (b *bucket) readAttr(fd int, st *fileStat, key string) (a *attr, native, side bool, err error) {
	a, side, err = b.rawAttr(fd, st, key)
	switch {
	case errors.Is(err, errNoAttr), errors.Is(err, errCorrupt):
		return foreignAttr(st), false, false, nil
	case err != nil:
		return nil, false, false, err
	case a.size != st.size || a.tag != st.mtime:
		return foreignAttr(st), false, side, nil
	}
	return a, true, side, nil
}

// rawAttr returns a file's attributes, whether or not they belong to its data.
// Errors: errNoAttr, errCorrupt.
func (b *bucket) rawAttr(fd int, st *fileStat, key string) (a *attr, side bool, err error) {
	buf := attrBuffers.Get().(*[maxInline + 512]byte)
	defer attrBuffers.Put(buf)
	err = errNoAttr
	n := 0
	if b.d.xattr {
		n, err = getXattr(fd, buf[:])
	}
	switch {
	case err == nil:
		a, side, err = decodeAttr(buf[:n])
		if err != nil || !side {
			return a, side, err
		}
		full, err := b.readSide(key, a.tag)
		if err != nil {
			return nil, true, err
		}
		return full, true, nil
	case !errors.Is(err, errNoAttr):
		return nil, false, err
	case !b.has[areaMeta].Load():
		return nil, false, errNoAttr
	}
	a, err = b.readSide(key, st.mtime)
	return a, err == nil, err
}

// foreignAttr makes up the attributes of a file that another program made or
// changed.
func foreignAttr(st *fileStat) *attr {
	h := fnv.New128a()
	var in [24]byte
	binary.BigEndian.PutUint64(in[0:], st.ino)
	binary.BigEndian.PutUint64(in[8:], uint64(st.mtime))
	binary.BigEndian.PutUint64(in[16:], uint64(st.size))
	_, _ = h.Write(in[:]) // never fails
	return &attr{
		versionID: store.NullVersion,
		size:      st.size,
		tag:       st.mtime,
		modTime:   st.mtime,
		seq:       uint64(min(max(st.mtime, 1), time.Now().UnixNano())),
		etag:      hex.EncodeToString(h.Sum(nil)) + "-0",
	}
}

// sideLocation is where the side file of a key's version with that tag is.
func sideLocation(key string, tag int64) location {
	return location{areaMeta, escape(key), strconv.FormatInt(tag, 16)}
}

// readSide reads a side file. Errors: errNoAttr, errCorrupt.
func (b *bucket) readSide(key string, tag int64) (*attr, error) {
	fd, rel := b.base(areaMeta, sideLocation(key, tag).path())
	fd, err := openBeneath(fd, rel, unix.O_RDONLY, 0)
	if err != nil {
		if absent(err) {
			return nil, errNoAttr
		}
		return nil, err
	}
	defer closeFD(fd)
	st, err := statFD(fd)
	if err != nil || st.size > maxSide {
		return nil, errors.Join(err, errCorrupt)
	}
	buf := make([]byte, st.size)
	if n, err := readAt(fd, buf, 0); err != nil || n < len(buf) {
		return nil, errors.Join(err, errCorrupt)
	}
	a, _, err := decodeAttr(buf)
	return a, err
}

// writeSide writes a side file, in place of an older one. With flush its
// content is durable, which it must be unless the journal has all of the
// version: so that a body of which there is no copy keeps its name.
func (b *bucket) writeSide(key string, tag int64, blob []byte, flush bool) error {
	write := b.d.writeTemp
	if flush && !b.d.opts.Relaxed {
		write = b.d.writeFlushed
	}
	name, err := write(blob)
	if err != nil {
		return fmt.Errorf("write side file: %w", err)
	}
	l := sideLocation(key, tag)
	err = b.change(l.area, l.dir, true, func(fd int) error {
		return unix.Renameat(b.d.stagingFD, name, fd, l.name)
	})
	if err != nil {
		_ = unix.Unlinkat(b.d.stagingFD, name, 0)
		return fmt.Errorf("write side file: %w", err)
	}
	return nil
}

// dropSide removes a side file, if there is one.
func (b *bucket) dropSide(key string, tag int64) error {
	if !b.has[areaMeta].Load() {
		return nil
	}
	return b.unlink(sideLocation(key, tag))
}

// putAttr gives an open file the attributes in blob, which is a encoded, and
// its mtime. It says whether they are in a side file; that is written only by
// the caller, before the file gets its name: see finishAttr.
func (d *Driver) putAttr(fd int, a *attr, blob []byte) (side bool, err error) {
	if err := setMTime(fd, a.tag); err != nil {
		return false, fmt.Errorf("set time: %w", err)
	}
	if !d.inodeAttrs() {
		return true, nil
	}
	if len(blob) <= maxInline {
		err := setXattr(fd, blob)
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.E2BIG) {
			return false, err
		}
	}
	var head [512]byte
	return true, setXattr(fd, a.encodeHead(head[:0], attrSide))
}

func (d *Driver) inodeAttrs() bool { return d.xattr && !d.opts.NoXattr }
