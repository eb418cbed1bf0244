package posix

import (
	"fmt"

	"golang.org/x/sys/unix"

	"herald/store"
)

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
	done  bool   // cur is the staged body, which was renamed already
}

func (p *replayedPut) run() error {
	b, key := p.b, p.entry.key
	var err error
	if p.cur, err = b.replayFile(key); err != nil {
		return err
	}
	// By the tags first: of a file that lost its attributes the seq is a guess.
	p.later = p.cur != nil && p.cur.attr.seq > p.attr.seq && !p.curIs(p.prior) && !p.curIs(p.attr)
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

// content puts the new version's file where it belongs, and tells where that
// was.
func (p *replayedPut) content() (area, error) {
	b, key := p.b, p.entry.key
	t, err := p.file()
	if err != nil {
		return 0, err
	}
	defer t.drop(b.d)
	if p.done {
		// What it replaced may still be there, and would be current again
		// once this one goes.
		return p.cur.at.area, b.unlinkEscaped(key, p.cur.at.area)
	}
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
	if err != nil {
		return 0, err
	}
	b.d.fault("posix.replay.placed")
	return at, b.unlinkEscaped(key, at)
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
// place already, which sets done, or was superseded.
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
	if p.done = p.renamed(); !p.done || p.cur.native {
		return nil, nil
	}
	side, err := d.putAttr(p.cur.fd, p.attr, p.entry.attr)
	if err == nil && side {
		err = p.b.writeSide(p.entry.key, p.attr.tag, p.entry.attr, true)
	}
	return nil, err
}

// renamed tells whether cur is the staged body, perhaps without its attributes.
func (p *replayedPut) renamed() bool {
	switch {
	case p.cur == nil || p.later:
		return false
	case p.curIs(p.attr):
		return true
	case p.cur.native || p.cur.known || p.curIs(p.prior):
		return false
	}
	return p.cur.st.size == p.attr.size
}
