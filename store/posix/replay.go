package posix

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"herald/journal"
	"herald/store"
)

// replay is the state of a start: which keys the replayed records touched, so
// that the index can be set right by the files at the end, and what was in
// staging before.
type replay struct {
	once    sync.Once
	touched map[guardKey]struct{}
	staging []string
}

func (r *replay) begin(d *Driver) (err error) {
	r.touched = make(map[guardKey]struct{})
	r.staging, err = names(d.stagingFD, ".")
	return err
}

// end is called at the first checkpoint, which is the end of Recover.
func (r *replay) end(d *Driver) (err error) {
	r.once.Do(func() {
		for k := range r.touched {
			if err = d.reindex(k.bucket, k.key); err != nil {
				return
			}
		}
		for _, name := range r.staging {
			// No record wants it any more.
			_ = unix.Unlinkat(d.stagingFD, name, 0)
		}
		r.touched, r.staging = nil, nil
	})
	return err
}

// reindex tells the index what files a key has, and removes side files that
// belong to none: replay does not know those of versions that were replaced
// before the crash.
func (d *Driver) reindex(bucketName, key string) error {
	b, err := d.bucket(bucketName)
	if errors.Is(err, store.ErrNoSuchBucket) {
		return nil
	}
	if err != nil {
		return err
	}
	ib, err := d.index.bucket(bucketName)
	if err != nil {
		return err
	}
	if _, err := d.index.scanner.recheck(b, ib, key); err != nil {
		return err
	}
	if _, err = d.index.scanner.compareVersions(b, ib, key, true); err != nil {
		return err
	}
	orphans, err := b.orphanSides(key)
	for _, l := range orphans {
		err = errors.Join(err, b.unlink(l))
	}
	return err
}

// Replay implements journal.Client.
func (d *Driver) Replay(_ journal.LSN, payload []byte) error {
	dec := &decoder{b: payload}
	kind := entryKind(dec.byte())
	err := d.replayKind(kind, dec)
	if err != nil {
		return fmt.Errorf("replay record of kind %d: %w", kind, err)
	}
	return nil
}

func (d *Driver) replayKind(kind entryKind, dec *decoder) error {
	switch {
	case kind >= kindUploads:
		return d.replayUpload(kind, dec)
	case kind == kindPut:
		e, err := decodePut(dec)
		if err != nil {
			return err
		}
		return d.replayPut(e)
	case kind == kindRemove:
		e, err := decodeRemove(dec)
		if err != nil {
			return err
		}
		return d.replayRemove(e)
	case kind == kindUpdate:
		e, err := decodeUpdate(dec)
		if err != nil {
			return err
		}
		return d.replayUpdate(e)
	case kind == kindDoc:
		e, err := decodeDoc(dec)
		if err != nil {
			return err
		}
		return d.docs.apply(e)
	case kind == kindForget:
		e, err := decodeForget(dec)
		if err != nil {
			return err
		}
		d.outcomes.drop(e.ops)
		return nil
	}
	return errUnknownKind
}

// replayBucket returns the bucket of a record, or nil if it is gone, and notes
// that the record's key was touched.
func (d *Driver) replayBucket(name, key string) (*bucket, error) {
	b, err := d.bucket(name)
	if errors.Is(err, store.ErrNoSuchBucket) {
		return nil, nil
	}
	d.replay.touched[guardKey{name, key}] = struct{}{}
	for i := 1; i < len(key); i++ {
		if key[i] == '/' { // it may have been moved out of the way before the crash
			d.replay.touched[guardKey{name, key[:i]}] = struct{}{}
		}
	}
	return b, err
}

// replayFile opens the key's current object as replay sees it; nil if there is
// none.
func (b *bucket) replayFile(key string) (*found, error) {
	f, err := b.file(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f, b.identify(f)
}

// identify makes f.attr tell which version a file is, also when its data or
// its side file were lost with the power. In replay versions of a key are told
// apart by their tags alone, which are the files' times.
func (b *bucket) identify(f *found) error {
	if f.native {
		return nil
	}
	var buf [maxInline + 512]byte
	if b.d.xattr {
		n, err := getXattr(f.fd, buf[:])
		if err != nil && !errors.Is(err, errNoAttr) {
			return err
		}
		if a, _, err := decodeAttr(buf[:n]); err == nil {
			f.attr, f.known = a, true
			return nil
		}
	}
	f.attr.seq = uint64(max(f.st.mtime, 0))
	return nil
}

// dropVersion removes a version's file under versions/, with its side file, if
// pred answers true of its attributes.
func (b *bucket) dropVersion(key, versionID string, pred func(*attr) bool) error {
	f, err := b.versionFile(key, versionID)
	if f == nil || err != nil {
		return err
	}
	defer f.close()
	if err := b.identify(f); err != nil || !pred(f.attr) {
		return err
	}
	if f.side {
		if err := b.dropSide(key, f.attr.tag); err != nil {
			return err
		}
	}
	return b.unlink(f.at)
}

func (d *Driver) replayRemove(e *removeEntry) error {
	d.clock.seen(e.seq)
	out := store.Outcome{Changed: e.changed, Seq: e.seq}
	var gone *attr
	if e.changed {
		var err error
		if gone, _, err = decodeAttr(e.gone); err != nil {
			return err
		}
		out.Info = gone.info(e.key, e.current)
		if e.current && !gone.marker {
			out.Prior = gone.info(e.key, true)
		}
	}
	d.outcomes.put(e.op, &out)
	if !e.changed {
		return nil
	}
	b, err := d.replayBucket(e.bucket, e.key)
	if b == nil || err != nil {
		return err
	}
	return b.replayRemove(e, gone)
}

func (b *bucket) replayRemove(e *removeEntry, gone *attr) error {
	cur, err := b.replayFile(e.key)
	if err != nil {
		return err
	}
	defer cur.close()
	is := cur != nil && cur.attr.tag == gone.tag
	promoted := false
	if is || cur == nil {
		if promoted, err = b.replayPromote(e); err != nil {
			return fmt.Errorf("promote: %w", err)
		}
	} else if err := b.dropEscaped(e.key, cur.at.area, func(a *attr) bool { return a.tag == gone.tag }); err != nil {
		return err
	}
	if is && !promoted {
		if err := b.unlink(cur.at); err != nil {
			return err
		}
	}
	if is && cur.side {
		if err := b.dropSide(e.key, gone.tag); err != nil {
			return err
		}
	}
	return b.dropVersion(e.key, e.versionID, func(a *attr) bool { return a.tag == gone.tag })
}

// replayPromote gives the version that a removal promoted the place of the
// current one, if it is under versions/ still.
func (b *bucket) replayPromote(e *removeEntry) (promoted bool, err error) {
	if e.promoted == "" {
		return false, nil
	}
	next, err := b.versionFile(e.key, e.promoted)
	if next == nil || err != nil {
		return false, err
	}
	defer next.close()
	if err := b.identify(next); err != nil {
		return false, err
	}
	if next.attr.marker || next.attr.seq >= e.seq {
		return false, nil // the null version of now is a later one than that of then
	}
	_, err = b.promote(e.key, next)
	return err == nil, err
}

func (d *Driver) replayUpdate(e *updateEntry) error {
	a, _, err := decodeAttr(e.attr)
	if err != nil {
		return err
	}
	b, err := d.replayBucket(e.bucket, e.key)
	if b == nil || err != nil {
		return err
	}
	v, err := b.replayFile(e.key)
	if err != nil {
		return err
	}
	if v == nil || v.attr.tag != a.tag {
		v.close()
		if v, err = b.versionFile(e.key, a.versionID); err != nil {
			return err
		}
		if v != nil {
			err = b.identify(v)
		}
	}
	defer v.close()
	if err != nil {
		return err
	}
	if v == nil || v.attr.tag != a.tag {
		return nil // replaced or removed later
	}
	return b.replaceAttr(e.key, v, a, e.attr)
}
