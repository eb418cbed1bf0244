package posix

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"herald/store"
)

// pendingPut is one put under way: of an object or of a delete marker.
type pendingPut struct {
	b     *bucket
	entry putEntry
	attr  *attr
	prior *found // the version current before, also a marker; nil: none
	null  *found // the archived null version that goes with it
	side  bool   // attr is in a side file
	temp  *temp
	kept  bool // temp, if it has a name, belongs to a record that is not applied
}

func (p *pendingPut) close(d *Driver) {
	p.prior.close()
	p.null.close()
	if p.kept && p.temp != nil {
		p.temp.path = ""
	}
	p.temp.drop(d)
}

// commit makes body the current version of key: what Writer.Commit and
// Complete do. check runs under the key's guard before anything is changed;
// nil: none. upload is the id of the upload that ends with it, or "": apply
// calls b.dropUpload(key, upload), also in replay. The caller is not inside
// b.enter.
func (b *bucket) commit(key string, body *body, opts *store.CommitOptions, upload string, check func() error) (store.Outcome, error) {
	if err := b.enter(); err != nil {
		return store.Outcome{}, err
	}
	defer b.leave()
	g := b.d.guards.lock(b.name, key)
	defer g.unlock()
	p := &pendingPut{b: b, entry: putEntry{bucket: b.name, key: key, upload: upload, staged: body.staged, data: body.data}}
	defer p.close(b.d)
	if err := p.begin(opts.Op); err != nil {
		return store.Outcome{}, err
	}
	if err := opts.Cond.CheckWrite(p.prior.object().info(key, true)); err != nil {
		return store.Outcome{}, err
	}
	if check != nil {
		if err := check(); err != nil {
			return store.Outcome{}, err
		}
	}
	if err := b.d.writable(int64(len(body.data))); err != nil {
		return store.Outcome{}, fmt.Errorf("commit %s/%s: %w", b.name, key, err)
	}
	a := p.newAttr(opts.Versioning, opts.Op)
	a.size, a.etag, a.attrs = body.size, opts.ETag, opts.Attrs
	if !opts.ModTime.IsZero() {
		a.modTime = opts.ModTime.UnixNano()
	}
	if err := p.prepare(body); err != nil {
		return store.Outcome{}, b.failed("commit "+b.name+"/"+key, err)
	}
	return p.run(body)
}

// begin finds the current version.
func (p *pendingPut) begin(op store.OpID) (err error) {
	if p.b.d.outcomes.barred(op) {
		return store.ErrOpBarred
	}
	if p.prior, err = p.b.openCurrent(p.entry.key); err != nil {
		return fmt.Errorf("commit %s/%s: %w", p.b.name, p.entry.key, err)
	}
	return nil
}

// newAttr sets p.attr with what does not depend on the content, and decides
// what becomes of the version that is current now.
func (p *pendingPut) newAttr(v store.Versioning, op store.OpID) *attr {
	d := p.b.d
	after := uint64(0)
	if p.prior != nil {
		after = p.prior.attr.seq
	}
	a := &attr{versionID: store.NullVersion, seq: d.clock.next(after), op: op}
	a.tag = int64(a.seq) - int64(a.seq)%d.granularity
	a.modTime = a.tag
	if p.prior != nil && (a.tag == p.prior.attr.tag || p.prior.native && a.tag < p.prior.attr.tag) {
		// Within one tick. It may run ahead of the clock, which clients do not see.
		a.tag, a.modTime = p.prior.attr.tag+d.granularity, int64(a.seq)
	}
	prior := p.prior.object()
	if v == store.Enabled {
		a.versionID = newVersionID(a.seq, op)
		p.entry.archive = prior != nil
	} else {
		p.entry.archive = prior != nil && prior.attr.versionID != store.NullVersion
		p.entry.dropNull = p.b.has[areaVersions].Load()
	}
	if prior != nil {
		p.entry.prior = prior.attr.encode(nil)
	}
	p.attr = a
	return a
}

// newVersionID returns an id that sorts by seq: 16 hex digits of it, and 16 of
// the op or at random.
func newVersionID(seq uint64, op store.OpID) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], seq)
	copy(id[8:], op[8:])
	if op.IsZero() {
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return hex.EncodeToString(id[:])
}

// prepare makes the file with the content and its attributes, nameless or
// staged, and the directory where it will be: all that can fail for want of
// room. It encodes p.attr.
func (p *pendingPut) prepare(body *body) error {
	d, key := p.b.d, p.entry.key
	p.entry.attr = p.attr.encode(make([]byte, 0, 512))
	home := d.stagingFD
	if natural(key) && !p.attr.marker {
		dir, err := p.b.makeRoom(key)
		if err != nil {
			return err
		}
		if dir != nil {
			defer d.dirs.put(dir)
			home = dir.fd
		}
	}
	if body.staged != "" {
		p.temp = &temp{fd: body.fd, path: ""}
	} else if err := p.newTemp(home, body.data); err != nil {
		return err
	}
	side, err := d.putAttr(p.temp.fd, p.attr, p.entry.attr)
	p.side = side
	d.fault("posix.commit.prepared")
	return err
}

// newTemp makes the file with the content.
func (p *pendingPut) newTemp(home int, data []byte) (err error) {
	if p.temp, err = p.b.d.newTemp(home); err == nil {
		err = writeAll(p.temp.fd, data)
	}
	return err
}

// makeRoom makes the directory of a key's natural place; files in the way go
// to their escape places. It returns the directory with a reference, or nil if
// there cannot be one.
func (b *bucket) makeRoom(key string) (*dir, error) {
	path, _ := splitPath(key)
	for range maxTries {
		e, err := b.makeDir(areaNatural, path)
		if err == nil || !inTheWay(err) {
			return e, err
		}
		moved, err := b.moveAside(path)
		if err != nil || !moved {
			return nil, err
		}
	}
	return nil, nil
}

// moveAside moves the file that is where the directory path, or one above it,
// should be to its escape place. moved is false if it is no object.
func (b *bucket) moveAside(path string) (moved bool, err error) {
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		key := path[:i]
		st, err := statAt(b.fd, key, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case absent(err):
			return true, nil // gone meanwhile
		case err != nil:
			return false, err
		case st.dir():
			continue
		case !st.regular():
			return false, nil
		}
		return true, b.escapeFile(key)
	}
	return true, nil
}

// escapeFile moves a key's file from its natural to its escape place. Its
// linearization point is the rename; the index hears of it.
func (b *bucket) escapeFile(key string) error {
	g := b.d.guards.lock(b.name, key)
	defer g.unlock()
	f, err := b.at(key, naturalLocation(key))
	if err != nil {
		return nil // it is no longer there: the caller looks again
	}
	from, to := naturalLocation(key), escapeLocation(key)
	err = b.change(to.area, to.dir, true, func(toFD int) error {
		return b.change(from.area, from.dir, false, func(fromFD int) error {
			return unix.Renameat(fromFD, from.name, toFD, to.name)
		})
	})
	if err != nil {
		return err
	}
	b.d.fault("posix.move.moved")
	var batch indexBatch
	batch.setCurrent(b.name, key, f.attr.info(key, true), areaKeys)
	return b.d.index.apply(&batch)
}

// run journals the put and applies it. Its error is ErrUnknownOutcome if the
// journal may have the change.
func (p *pendingPut) run(body *body) (store.Outcome, error) {
	b, d := p.b, p.b.d
	what := "commit " + b.name + "/" + p.entry.key
	defer d.onPanic(what)
	head := p.entry.encode(make([]byte, 0, 1024))
	t, err := d.flight.append(head, p.entry.data)
	if err != nil {
		return store.Outcome{}, fmt.Errorf("%s: %w", what, err)
	}
	p.kept = true
	if body.staged != "" {
		body.taken = true
		p.temp.path = body.staged
	}
	d.fault("posix.commit.appended")
	if err := d.flight.wait(t); err != nil {
		return store.Outcome{}, fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	}
	d.fault("posix.commit.journaled")
	defer b.unlisted.end(b.unlisted.begin())
	at, err := p.apply()
	if err != nil {
		return store.Outcome{}, b.stuck(what, t, err)
	}
	p.kept = false
	out := store.Outcome{
		Changed: true, Seq: p.attr.seq,
		Info:  p.attr.info(p.entry.key, true),
		Prior: p.prior.object().info(p.entry.key, true),
	}
	if err := p.note(at, &out); err != nil {
		return store.Outcome{}, d.breakDown(what, err)
	}
	d.flight.done(t)
	return out, nil
}

// failed is the answer when a change could not be prepared.
func (b *bucket) failed(what string, err error) error {
	if b.vanished() {
		return store.ErrNoSuchBucket
	}
	return storeError(what, err)
}

// stuck is the answer when a journaled change could not be applied. Where
// another program removed the bucket meanwhile that is no matter: replay skips
// buckets that are not there.
func (b *bucket) stuck(what string, t *ticket, err error) error {
	if b.vanished() {
		b.d.flight.done(t)
		return store.ErrNoSuchBucket
	}
	return b.d.breakDown(what, err)
}

func (b *bucket) vanished() bool {
	st, err := statFD(b.fd)
	return err != nil || st.nlink == 0
}

// apply changes the tree as the record says, and tells where the object is.
func (p *pendingPut) apply() (area, error) {
	b, key := p.b, p.entry.key
	if p.entry.archive {
		if err := b.archive(key, p.prior); err != nil {
			return 0, fmt.Errorf("archive: %w", err)
		}
		b.d.fault("posix.apply.archived")
	}
	if p.side {
		if err := b.writeSide(key, p.attr.tag, p.entry.attr, p.entry.staged != ""); err != nil {
			return 0, err
		}
	}
	if p.entry.dropNull {
		var err error
		if p.null, err = b.versionFile(key, store.NullVersion); err != nil {
			return 0, err
		}
	}
	prior := p.prior.object()
	if p.null != nil || prior != nil && prior.at.area == areaKeys {
		b.moves.begin()
		defer b.moves.end()
	}
	at, err := p.place()
	if err != nil {
		return 0, fmt.Errorf("place: %w", err)
	}
	b.d.fault("posix.apply.placed")
	if err := p.sweep(at); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	b.d.fault("posix.apply.swept")
	return at, nil
}

// archive makes a version noncurrent: its file gets a second name.
func (b *bucket) archive(key string, f *found) error {
	l := versionLocation(key, f.attr.versionID)
	return b.change(l.area, l.dir, true, func(fd int) error {
		err := b.link(f, fd, l.name)
		if err == unix.EEXIST {
			// Archived before a crash; or what has the id there is older.
			if err = unix.Unlinkat(fd, l.name, 0); err == nil || err == unix.ENOENT {
				err = b.link(f, fd, l.name)
			}
		}
		return err
	})
}

// link gives an object's file another name.
func (b *bucket) link(f *found, dirFD int, name string) error {
	if b.d.anonymous {
		return linkFD(f.fd, dirFD, name, &b.d.linkPlain)
	}
	base, rel := b.base(f.at.area, f.at.path())
	return unix.Linkat(base, rel, dirFD, name, 0)
}

// place names the new file: this is where the change becomes visible. It
// returns the area where it is.
func (p *pendingPut) place() (area, error) {
	b, key := p.b, p.entry.key
	if !p.attr.marker {
		return b.place(key, p.temp, p.prior.object(), p.entry.staged == "")
	}
	l := versionLocation(key, p.attr.versionID)
	err := b.change(l.area, l.dir, true, func(fd int) error {
		return p.temp.into(b.d, fd, l.name, replacing)
	})
	if prior := p.prior.object(); err == nil && prior != nil {
		err = errors.Join(b.dropEscaped(key, prior.at.area, anyVersion), b.unlink(prior.at))
	}
	return areaVersions, err
}

// place gives a file its name as the key's current version: in the natural
// place, or else in the escape place. prior is the current object, if there is
// one; lazy tells that the file's data need not be written soon.
func (b *bucket) place(key string, t *temp, prior *found, lazy bool) (area, error) {
	locations := []location{naturalLocation(key), escapeLocation(key)}
	if !natural(key) {
		locations = locations[1:]
	}
	var err error
	for _, l := range locations {
		how := replacing
		switch {
		case prior == nil && lazy:
			how = fresh
		case lazy && prior.at == l:
			how = swapping
		}
		err = b.change(l.area, l.dir, true, func(fd int) error { return t.into(b.d, fd, l.name, how) })
		if err == nil || !inTheWay(err) {
			return l.area, err
		}
	}
	return 0, err
}

// sweep removes what the new version replaced, apart from the file that was in
// its place.
func (p *pendingPut) sweep(at area) error {
	b, key := p.b, p.entry.key
	prior := p.prior.object()
	var errs []error
	switch {
	case prior == nil:
	case prior.at.area == areaKeys:
		errs = append(errs, b.unlinkEscaped(key, at))
	case !prior.native:
		errs = append(errs, b.dropEscaped(key, at, anyVersion))
	}
	if prior != nil && !p.entry.archive && prior.side {
		errs = append(errs, b.dropSide(key, prior.attr.tag))
	}
	if p.null != nil {
		if !p.attr.marker || p.attr.versionID != store.NullVersion { // else it was replaced
			errs = append(errs, b.unlink(p.null.at))
		}
		if p.null.side {
			errs = append(errs, b.dropSide(key, p.null.attr.tag))
		}
	}
	if p.entry.upload != "" {
		errs = append(errs, b.dropUpload(key, p.entry.upload))
	}
	return errors.Join(errs...)
}

// unlink removes a file, and the directories that it leaves empty. What is
// not there is no error.
func (b *bucket) unlink(l location) error {
	err := b.change(l.area, l.dir, false, func(fd int) error { return unix.Unlinkat(fd, l.name, 0) })
	if err != nil && !absent(err) {
		return err
	}
	b.prune(l.area, l.dir)
	return nil
}

// note tells the index and the outcomes.
func (p *pendingPut) note(at area, out *store.Outcome) error {
	b, key := p.b, p.entry.key
	var batch indexBatch
	if p.entry.archive {
		batch.putVersion(b.name, p.prior.attr.info(key, false))
	}
	if p.null != nil {
		batch.removeVersion(b.name, key, store.NullVersion, p.null.attr.seq)
	}
	if p.attr.marker {
		batch.putVersion(b.name, out.Info)
		batch.setCurrent(b.name, key, nil, 0)
	} else {
		batch.setCurrent(b.name, key, out.Info, at)
	}
	if err := b.d.index.apply(&batch); err != nil {
		return err
	}
	b.d.fault("posix.apply.indexed")
	b.d.outcomes.put(p.attr.op, out)
	return nil
}
