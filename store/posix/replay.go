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

func (d *Driver) replayPut(e *putEntry) error {
	a, _, err := decodeAttr(e.attr)
	if err != nil {
		return err
	}
	out := store.Outcome{Changed: true, Seq: a.seq, Info: a.info(e.key, true)}
	var prior *attr
	if len(e.prior) > 0 {
		if prior, _, err = decodeAttr(e.prior); err != nil {
			return err
		}
		out.Prior = prior.info(e.key, true)
	}
	d.clock.seen(a.seq)
	d.outcomes.put(a.op, &out)
	b, err := d.replayBucket(e.bucket, e.key)
	if b == nil || err != nil {
		return err
	}
	p := &replayedPut{b: b, entry: e, attr: a, prior: prior}
	defer func() { p.cur.close() }()
	return p.run()
}

// replayedPut is a put that is applied again. The tree may be as it was before
// it, as it is after it, or as later records made it, in any part.
//
// The rule that keeps all of it right: nothing of a later seq is ever
// replaced, because it may be a staged body, of which there is no other copy.
// A version that finds a later one in its place goes to versions/, where its
// successor's record finds it, archived or to be removed. And what is in the
// place without being what the record replaced, because a later record promoted
// it, is archived: that later record will promote it again.
type replayedPut struct {
	b     *bucket
	entry *putEntry
	attr  *attr
	prior *attr  // nil: none
	cur   *found // the file at the key's place now
	later bool   // cur is later than this put
}

func (p *replayedPut) run() error {
	b, key := p.b, p.entry.key
	var err error
	if p.cur, err = b.replayFile(key); err != nil {
		return err
	}
	p.later = p.cur != nil && p.cur.attr.seq > p.attr.seq
	placed, err := p.content()
	if err != nil {
		return fmt.Errorf("content: %w", err)
	}
	if p.prior != nil && !p.entry.archive {
		// What an earlier record left there for this one.
		if err := b.dropVersion(key, p.prior.versionID, func(a *attr) bool { return a.tag == p.prior.tag }); err != nil {
			return fmt.Errorf("prior version: %w", err)
		}
	}
	if p.entry.dropNull && !(placed == areaVersions && p.attr.versionID == store.NullVersion) {
		if err := b.dropVersion(key, store.NullVersion, func(a *attr) bool { return a.seq < p.attr.seq }); err != nil {
			return fmt.Errorf("null version: %w", err)
		}
	}
	if p.entry.upload != "" {
		return b.dropUpload(key, p.entry.upload)
	}
	return nil
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

func (p *replayedPut) curIs(a *attr) bool {
	return p.cur != nil && a != nil && p.cur.attr.tag == a.tag
}

// clear makes the place free for the new version: what is there is archived,
// unless the record says that it is replaced. free is false if the place keeps
// what it has.
func (p *replayedPut) clear() (free bool, err error) {
	switch {
	case p.cur == nil:
		return true, nil
	case p.later, p.curIs(p.attr):
		return false, nil
	case p.curIs(p.prior):
		if !p.entry.archive {
			return true, nil
		}
	case !p.cur.native && !p.cur.known: // another program's
		return !p.attr.marker, nil
	}
	return true, p.archive()
}

// archive is bucket.archive that replaces nothing later: which there is if the
// same id, the null version's, was archived again.
func (p *replayedPut) archive() error {
	old, err := p.b.versionFile(p.entry.key, p.cur.attr.versionID)
	if err != nil {
		return err
	}
	if old != nil {
		err := p.b.identify(old)
		old.close()
		if err != nil || old.attr.seq > p.cur.attr.seq || old.st.ino == p.cur.st.ino {
			return err
		}
	}
	return p.b.archive(p.entry.key, p.cur)
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

// content puts the new version's file where it belongs, and tells where that
// was.
func (p *replayedPut) content() (area, error) {
	b, key := p.b, p.entry.key
	t, err := p.file()
	if err != nil {
		return 0, err
	}
	defer t.drop(b.d)
	free, err := p.clear()
	if err != nil {
		return 0, fmt.Errorf("archive: %w", err)
	}
	if t == nil || p.attr.marker {
		// It is elsewhere, and so is not what is here now.
		if free && p.cur != nil && (p.cur.native || p.cur.known || p.curIs(p.prior)) {
			if err := b.unlink(p.cur.at); err != nil {
				return 0, err
			}
		}
		if t == nil {
			return areaNatural, nil
		}
	}
	side, err := b.d.putAttr(t.fd, p.attr, p.entry.attr)
	if err != nil {
		return 0, err
	}
	if side {
		if err := b.writeSide(key, p.attr.tag, p.entry.attr, p.entry.staged != ""); err != nil {
			return 0, err
		}
	}
	if p.later && !p.cur.native && !p.cur.known && b.d.inodeAttrs() {
		return areaNatural, nil // another program's file took its place
	}
	if p.attr.marker || p.later {
		return areaVersions, p.toVersions(t)
	}
	return p.place(t)
}

func (p *replayedPut) place(t *temp) (area, error) {
	b, key := p.b, p.entry.key
	if natural(key) {
		dir, err := b.makeRoom(key)
		if err != nil {
			return 0, err
		}
		if dir != nil {
			b.d.dirs.put(dir)
		}
	}
	at, err := b.place(key, t, nil, false)
	if err == nil && at == areaNatural && b.has[areaKeys].Load() {
		err = b.unlink(escapeLocation(key))
	}
	return at, err
}

// toVersions gives the file its place under versions/, unless what is there is
// later.
func (p *replayedPut) toVersions(t *temp) error {
	b, key := p.b, p.entry.key
	old, err := b.versionFile(key, p.attr.versionID)
	if err != nil {
		return err
	}
	if old != nil {
		err := b.identify(old)
		old.close()
		if err != nil || old.attr.seq > p.attr.seq {
			return err
		}
	}
	l := versionLocation(key, p.attr.versionID)
	return b.change(l.area, l.dir, true, func(fd int) error { return t.into(b.d, fd, l.name, replacing) })
}

// file returns the file with the put's data; nil: a staged file that has its
// place already, or was superseded.
func (p *replayedPut) file() (*temp, error) {
	d := p.b.d
	if p.entry.staged == "" {
		t, err := d.newTemp(d.stagingFD)
		if err != nil {
			return nil, err
		}
		if err := writeAll(t.fd, p.entry.data); err != nil {
			t.drop(d)
			return nil, err
		}
		return t, nil
	}
	fd, err := openBeneath(d.homeFD, p.entry.staged, unix.O_RDWR, 0)
	if err == nil {
		return &temp{fd: fd, path: p.entry.staged, own: true}, nil
	}
	if !absent(err) {
		return nil, err
	}
	// Renamed, but perhaps without its attributes.
	if p.cur != nil && !p.cur.native && !p.later && (p.curIs(p.attr) || p.cur.st.size == p.attr.size) {
		side, err := d.putAttr(p.cur.fd, p.attr, p.entry.attr)
		if err == nil && side {
			err = p.b.writeSide(p.entry.key, p.attr.tag, p.entry.attr, true)
		}
		return nil, err
	}
	return nil, nil
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
	if e.promoted != "" && (is || cur == nil) {
		next, err := b.versionFile(e.key, e.promoted)
		if err != nil {
			return err
		}
		defer next.close()
		if promoted = next != nil; promoted {
			if _, err := b.promote(e.key, next); err != nil {
				return fmt.Errorf("promote: %w", err)
			}
		}
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
