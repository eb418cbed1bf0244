package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"herald/store"
)

// Remove implements store.Bucket. Its linearization point is the unlink, or
// the rename of the version that takes the place; for a delete marker see
// pendingPut.place.
func (b *bucket) Remove(_ context.Context, key, versionID string, opts store.RemoveOptions) (store.Outcome, error) {
	if err := b.enter(); err != nil {
		return store.Outcome{}, err
	}
	defer b.leave()
	if err := b.d.writable(-1); err != nil && !errors.Is(err, store.ErrNoSpace) {
		return store.Outcome{}, fmt.Errorf("remove %s/%s: %w", b.name, key, err)
	}
	g := b.d.guards.lock(b.name, key)
	defer g.unlock()
	if versionID == "" && opts.Versioning != store.Unversioned {
		return b.mark(key, &opts)
	}
	return b.removeVersion(key, versionID, &opts)
}

// mark adds a delete marker.
func (b *bucket) mark(key string, opts *store.RemoveOptions) (store.Outcome, error) {
	p := &pendingPut{b: b, entry: putEntry{bucket: b.name, key: key}}
	defer p.close(b.d)
	if err := p.begin(opts.Op); err != nil {
		return store.Outcome{}, err
	}
	if err := opts.Cond.CheckRemove(p.prior.info(key, true)); err != nil {
		return store.Outcome{}, err
	}
	p.newAttr(opts.Versioning, opts.Op).marker = true
	if err := p.prepare(&body{fd: -1}); err != nil {
		return store.Outcome{}, b.failed("remove "+b.name+"/"+key, err)
	}
	return p.run(&body{fd: -1})
}

// removal is the removal of one version for good.
type removal struct {
	b       *bucket
	entry   removeEntry
	target  *found // what goes; nil: nothing is there
	promote *found // what becomes current; nil: nothing, or a marker
}

func (r *removal) close() {
	r.target.close()
	r.promote.close()
}

func (b *bucket) removeVersion(key, versionID string, opts *store.RemoveOptions) (store.Outcome, error) {
	r := &removal{b: b, entry: removeEntry{bucket: b.name, key: key, op: opts.Op}}
	defer r.close()
	if b.d.outcomes.barred(opts.Op) {
		return store.Outcome{}, store.ErrOpBarred
	}
	if err := r.choose(key, versionID); err != nil {
		return store.Outcome{}, fmt.Errorf("remove %s/%s: %w", b.name, key, err)
	}
	if err := opts.Cond.CheckRemove(r.target.info(key, r.entry.current)); err != nil {
		return store.Outcome{}, err
	}
	after := uint64(0)
	if r.target != nil {
		r.entry.changed = true
		r.entry.versionID = r.target.attr.versionID
		r.entry.gone = r.target.attr.encode(nil)
		after = r.target.attr.seq
	}
	r.entry.seq = b.d.clock.next(after)
	if r.target == nil && opts.Op.IsZero() {
		return store.Outcome{Seq: r.entry.seq}, nil
	}
	return r.run()
}

// choose finds what goes, and what takes its place.
func (r *removal) choose(key, versionID string) (err error) {
	if versionID == "" {
		cur, err := r.b.openCurrent(key)
		if r.target = cur.object(); r.target == nil {
			cur.close()
		}
		r.entry.current = r.target != nil
		if err != nil || r.target == nil {
			return err
		}
	} else {
		r.target, r.entry.current, err = r.b.openVersion(key, versionID)
		if err != nil || r.target == nil || !r.entry.current {
			return err
		}
	}
	next, err := r.b.newest(key, r.target.attr.versionID)
	if r.promote = next.object(); r.promote == nil {
		next.close()
		return err
	}
	r.entry.promoted = r.promote.attr.versionID
	return err
}

// run journals the removal and applies it.
func (r *removal) run() (store.Outcome, error) {
	d, e := r.b.d, &r.entry
	what := "remove " + e.bucket + "/" + e.key
	defer d.onPanic(what)
	t, err := d.flight.append(e.encode(make([]byte, 0, 512)))
	if err != nil {
		return store.Outcome{}, fmt.Errorf("%s: %w", what, err)
	}
	if err := d.flight.wait(t); err != nil {
		return store.Outcome{}, fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	}
	d.fault("posix.remove.journaled")
	out := store.Outcome{Seq: e.seq}
	if e.changed {
		if err := r.apply(); err != nil {
			return store.Outcome{}, r.b.stuck(what, t, err)
		}
		out.Changed = true
		out.Info = r.target.attr.info(e.key, e.current)
		if e.current {
			out.Prior = r.target.object().info(e.key, true)
		}
	}
	d.outcomes.put(e.op, &out)
	d.flight.done(t)
	return out, nil
}

func (r *removal) apply() error {
	b, key := r.b, r.entry.key
	defer b.unlisted.end(b.unlisted.begin())
	var batch indexBatch
	if r.promote != nil || r.target.attr.marker && r.entry.current {
		b.moves.begin()
		defer b.moves.end()
	}
	if r.promote != nil {
		at, err := b.promote(key, r.promote)
		if err != nil {
			return fmt.Errorf("promote: %w", err)
		}
		b.d.fault("posix.remove.promoted")
		batch.removeVersion(b.name, key, r.promote.attr.versionID, r.promote.attr.seq)
		batch.setCurrent(b.name, key, r.promote.attr.info(key, true), at)
	} else if r.entry.current && !r.target.attr.marker {
		batch.setCurrent(b.name, key, nil, 0)
	}
	// What was promoted has taken the place of the current file, if it was
	// one.
	if err := r.unlink(); err != nil {
		return fmt.Errorf("unlink: %w", err)
	}
	b.d.fault("posix.remove.unlinked")
	if r.target.at.area == areaVersions {
		batch.removeVersion(b.name, key, r.target.attr.versionID, r.target.attr.seq)
	}
	return b.d.index.apply(&batch)
}

func (r *removal) unlink() error {
	b, key := r.b, r.entry.key
	var errs []error
	if r.target.at.area == areaVersions || r.promote == nil {
		errs = append(errs, b.dropEscaped(key, r.target.at.area, anyVersion), b.unlink(r.target.at))
	}
	if r.target.side {
		errs = append(errs, b.dropSide(key, r.target.attr.tag))
	}
	return errors.Join(errs...)
}

// unlinkEscaped removes the file at a key's escape place, if there is one,
// after the key got another in the area at.
func (b *bucket) unlinkEscaped(key string, at area) error {
	if at != areaNatural || !b.has[areaKeys].Load() {
		return nil
	}
	return b.unlink(escapeLocation(key))
}

// dropEscaped removes the file at a key's escape place and its side file, if
// pred answers true of its attributes: another file, which is in the area at,
// covers it, and it would be seen as soon as that goes.
func (b *bucket) dropEscaped(key string, at area, pred func(*attr) bool) error {
	if at != areaNatural {
		return nil
	}
	f, err := b.open(key, escapeLocation(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.close()
	if err := b.identify(f); err != nil || !pred(f.attr) {
		return err
	}
	if f.side && f.st.nlink == 1 { // else it is under versions/ too
		err = b.dropSide(key, f.attr.tag)
	}
	return errors.Join(err, b.unlink(f.at))
}

func anyVersion(*attr) bool { return true }

// promote makes a noncurrent version the current one, in place of the file
// that is there.
func (b *bucket) promote(key string, f *found) (area, error) {
	t := &temp{fd: -1, path: areaVersions.root(b.name)[len(home)+1:] + "/" + f.at.path()}
	at, err := b.place(key, t, nil, false)
	if err != nil {
		return 0, err
	}
	b.d.fault("posix.promote.placed")
	if err := b.unlinkEscaped(key, at); err != nil {
		return 0, err
	}
	b.prune(areaVersions, f.at.dir)
	return at, nil
}

// Update implements store.Bucket. Its linearization point is the call that
// sets the extended attribute, or renames the side file.
func (b *bucket) Update(_ context.Context, key, versionID string, f func(*store.Info) (store.Attrs, error)) (*store.Info, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	if err := b.d.writable(0); err != nil {
		return nil, fmt.Errorf("update %s/%s: %w", b.name, key, err)
	}
	g := b.d.guards.lock(b.name, key)
	defer g.unlock()
	v, info, err := b.find(key, versionID)
	if err != nil {
		return nil, err
	}
	defer v.close()
	arg := *info
	arg.Attrs = cloneAttrs(info.Attrs)
	attrs, err := f(&arg)
	if err != nil {
		return nil, err
	}
	a := *v.attr
	a.attrs = cloneAttrs(attrs)
	if err := b.update(key, v, &a); err != nil {
		return nil, err
	}
	return a.info(key, info.IsLatest), nil
}

// update gives a version other attributes. A file that another program made
// becomes one of ours by it, with the ETag that it was shown with.
func (b *bucket) update(key string, v *found, a *attr) error {
	d, what := b.d, "update "+b.name+"/"+key
	e := updateEntry{bucket: b.name, key: key, attr: a.encode(make([]byte, 0, 512))}
	t, err := d.flight.append(e.encode(make([]byte, 0, 1024)))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := d.flight.wait(t); err != nil {
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	}
	d.fault("posix.update.journaled")
	if err := b.replaceAttr(key, v, a, e.attr); err != nil {
		return b.stuck(what, t, err)
	}
	d.fault("posix.update.applied")
	var batch indexBatch
	switch info := a.info(key, false); {
	case v.at.area == areaVersions:
		batch.putVersion(b.name, info)
	default:
		batch.setCurrent(b.name, key, info, v.at.area)
	}
	if err := d.index.apply(&batch); err != nil {
		return d.breakDown(what, err)
	}
	d.flight.done(t)
	return nil
}

// replaceAttr writes blob, which is a encoded, in place of a file's
// attributes. What once had a side file keeps it.
func (b *bucket) replaceAttr(key string, v *found, a *attr, blob []byte) error {
	if !v.side && b.d.inodeAttrs() && len(blob) <= maxInline {
		err := setXattr(v.fd, blob)
		if err != unix.ENOSPC && err != unix.E2BIG {
			return err
		}
	}
	if err := b.writeSide(key, a.tag, blob, true); err != nil {
		return err
	}
	if v.side && v.native || !b.d.inodeAttrs() {
		return nil
	}
	return setXattr(v.fd, a.encodeHead(nil, attrSide))
}

func cloneAttrs(attrs store.Attrs) store.Attrs {
	c := make(store.Attrs, len(attrs))
	for k, v := range attrs {
		c[k] = v
	}
	return c
}
