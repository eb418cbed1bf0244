package posix

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"

	"herald/store"
)

// bucket looks at one bucket.
func (f *fsck) bucket(ctx context.Context, name string) (err error) {
	if f.b, err = f.d.bucket(name); err == nil {
		err = f.b.enter()
	}
	if errors.Is(err, store.ErrNoSuchBucket) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	defer f.b.leave()
	if f.ib, err = f.x.bucket(name); err != nil {
		return err
	}
	f.stats.Buckets++
	if err := f.x.scanner.complete(ctx, f.b, f.ib); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		f.natural, f.escaped, f.versions, f.sides, f.indexCurrent, f.indexVersions,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// natural goes over the files in the bucket's directory.
func (f *fsck) natural(ctx context.Context) error {
	pending := []string{""}
	for len(pending) > 0 {
		path := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		files, dirs, err := f.b.readDirectory(dirName(path))
		if absent(err) {
			continue
		}
		if err != nil {
			f.report(FindingUnreadable, "", path+": "+err.Error(), nil)
			continue
		}
		for _, name := range dirs {
			if len(path)+len(name) < store.MaxKeyLength {
				pending = append(pending, path+name+"/")
			}
		}
		for _, name := range files {
			if len(path)+len(name) > store.MaxKeyLength {
				continue // no key
			}
			if err := errors.Join(f.object(path+name), ctx.Err()); err != nil {
				return err
			}
		}
	}
	return nil
}

// escaped goes over the files at escape places.
func (f *fsck) escaped(ctx context.Context) error {
	return f.b.walkArea(ctx, areaKeys, func(dir string, files []string) error {
		for _, name := range files {
			l := location{areaKeys, dir, name}
			key, ok := unescape(l.path())
			if !ok || store.ValidKey(key) != nil {
				f.report(FindingStray, "", areaKeys.root(f.b.name)+"/"+l.path(), f.lose(l))
				continue
			}
			if !f.shadowed(key, l) {
				if err := f.object(key); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
}

func (f *fsck) shadowed(key string, l location) bool {
	g := f.d.guards.lock(f.b.name, key)
	defer g.unlock()
	if !natural(key) {
		return false
	}
	if _, err := f.b.at(key, naturalLocation(key)); err != nil {
		return false
	}
	if _, err := f.b.at(key, l); err != nil {
		return false
	}
	f.report(FindingShadowed, key, l.path(), f.lose(l))
	return true
}

// object looks at a key's current object.
func (f *fsck) object(key string) error {
	f.attributes(key)
	d, how, err := f.x.scanner.compareKey(f.b, f.ib, key, f.opts.Repair)
	if errors.Is(err, errUnreadable) {
		return nil // as attributes said
	}
	if err != nil {
		return err
	}
	if d != same && d != moved {
		// A file is moved aside for another before anything is journaled, so
		// after a kill the index may not know of it; the next listing does.
		f.report(store.FindingKind(d), key, how, done)
	}
	return nil
}

func (f *fsck) attributes(key string) {
	g := f.d.guards.lock(f.b.name, key)
	defer g.unlock()
	file, err := f.b.file(key)
	if errors.Is(err, fs.ErrNotExist) {
		return // a link, or a directory by now
	}
	if err != nil {
		f.report(FindingUnreadable, key, err.Error(), nil)
		return
	}
	defer file.close()
	f.stats.Objects++
	f.stats.Bytes += file.st.size
	f.file(key, file)
}

// file looks at one version's attributes and data.
func (f *fsck) file(key string, file *found) {
	if !file.native {
		f.foreign(key, file)
		return
	}
	if !f.opts.Deep || file.attr.marker || !isHex(file.attr.etag, 16) {
		return
	}
	h := md5.New()
	buf := make([]byte, copyBuffer)
	for off := int64(0); ; {
		n, err := readAt(file.fd, buf, off)
		if err != nil {
			f.report(FindingUnreadable, key, err.Error(), nil)
			return
		}
		_, _ = h.Write(buf[:n]) // never fails
		if off += int64(n); n < len(buf) {
			break
		}
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != file.attr.etag {
		f.report(FindingETag, key, fmt.Sprintf("version %s: ETag %s, MD5 of the data %s", file.attr.versionID, file.attr.etag, sum), nil)
	}
}

// foreign tells files of other programs from our own whose attributes were
// damaged.
func (f *fsck) foreign(key string, file *found) {
	f.stats.Foreign++
	_, side, err := f.b.rawAttr(file.fd, &file.st, key)
	switch {
	case errors.Is(err, errCorrupt):
		f.report(FindingAttrCorrupt, key, file.at.path(), nil)
	case errors.Is(err, errNoAttr) && side:
		f.report(FindingAttrLost, key, file.at.path(), nil)
	case err != nil && !errors.Is(err, errNoAttr):
		f.report(FindingUnreadable, key, "attributes: "+err.Error(), nil)
	}
}

// versions goes over the noncurrent versions.
func (f *fsck) versions(ctx context.Context) error {
	return f.b.walkArea(ctx, areaVersions, func(dir string, files []string) error {
		if len(files) == 0 {
			return ctx.Err()
		}
		key, ok := unescape(dir)
		ok = ok && store.ValidKey(key) == nil
		for _, name := range files {
			if !ok || name != store.NullVersion && !isHex(name, 16) {
				l := location{areaVersions, dir, name}
				f.report(FindingStray, "", areaVersions.root(f.b.name)+"/"+l.path(), f.lose(l))
			}
		}
		if !ok {
			return ctx.Err()
		}
		f.keyVersions(key, files)
		return errors.Join(f.compareVersions(key), ctx.Err())
	})
}

func (f *fsck) keyVersions(key string, ids []string) {
	g := f.d.guards.lock(f.b.name, key)
	defer g.unlock()
	cur, err := f.b.file(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.report(FindingUnreadable, key, err.Error(), nil)
		return
	}
	cur.close()
	var newest *found
	for _, id := range ids {
		v, err := f.b.versionFile(key, id)
		if err != nil {
			f.report(FindingUnreadable, key, "version "+id+": "+err.Error(), nil)
			continue
		}
		if v == nil {
			continue
		}
		f.stats.Versions++
		f.file(key, v)
		v.close()
		if v.same(cur) {
			f.report(FindingVersionTwice, key, id, func() error { return f.b.unlink(v.at) })
			continue
		}
		if newest == nil || v.attr.seq > newest.attr.seq {
			newest = v
		}
	}
	if cur == nil && newest != nil && !newest.attr.marker {
		f.report(FindingNoCurrent, key, newest.attr.versionID, nil)
	}
}

func (f *fsck) compareVersions(key string) error {
	found, err := f.x.scanner.compareVersions(f.b, f.ib, key, f.opts.Repair)
	if err != nil && !errors.Is(err, errUnreadable) { // of those, keyVersions told
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		f.report(store.FindingKind(found[id]), key, id, done)
	}
	return nil
}

// sides goes over the side files.
func (f *fsck) sides(ctx context.Context) error {
	return f.b.walkArea(ctx, areaMeta, func(dir string, files []string) error {
		if len(files) == 0 {
			return ctx.Err()
		}
		key, ok := unescape(dir)
		if !ok || store.ValidKey(key) != nil {
			for _, name := range files {
				l := location{areaMeta, dir, name}
				f.report(FindingStray, "", areaMeta.root(f.b.name)+"/"+l.path(), f.lose(l))
			}
			return ctx.Err()
		}
		f.keySides(key)
		return ctx.Err()
	})
}

func (f *fsck) keySides(key string) {
	g := f.d.guards.lock(f.b.name, key)
	defer g.unlock()
	orphans, err := f.b.orphanSides(key)
	if err != nil {
		f.report(FindingUnreadable, key, err.Error(), nil)
		return
	}
	for _, l := range orphans {
		f.report(FindingSideOrphan, key, l.name, func() error { return f.b.unlink(l) })
	}
}

// orphanSides are the key's side files that belong to none of its versions.
// The caller holds the key's guard.
func (b *bucket) orphanSides(key string) (orphans []location, err error) {
	if !b.has[areaMeta].Load() {
		return nil, nil
	}
	base, rel := b.base(areaMeta, escape(key))
	tags, err := names(base, rel)
	if absent(err) || err == nil && len(tags) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("side files: %w", err)
	}
	used, err := b.usedTags(key)
	if err != nil {
		return nil, fmt.Errorf("side files: %w", err)
	}
	slices.Sort(tags)
	for _, name := range tags {
		if tag, err := strconv.ParseInt(name, 16, 64); err != nil || !used[tag] {
			orphans = append(orphans, location{areaMeta, escape(key), name})
		}
	}
	return orphans, nil
}

// usedTags are those of the key's versions.
func (b *bucket) usedTags(key string) (map[int64]bool, error) {
	used := make(map[int64]bool)
	use := func(file *found) {
		if file == nil {
			return
		}
		used[file.st.mtime] = true
		if a, _, err := b.rawAttr(file.fd, &file.st, key); err == nil {
			used[a.tag] = true
		}
		file.close()
	}
	cur, err := b.file(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	use(cur)
	base, rel := b.base(areaVersions, escape(key))
	ids, err := names(base, rel)
	if err != nil && !absent(err) {
		return nil, err
	}
	for _, id := range ids {
		v, err := b.versionFile(key, id)
		if err != nil {
			return nil, err
		}
		use(v)
	}
	return used, nil
}

// indexCurrent goes over the index's current objects.
func (f *fsck) indexCurrent(ctx context.Context) (err error) {
	var it spaceIter
	if err := it.open(f.x.db, spaceCurrent, f.ib.id, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.close()) }()
	for it.seek(""); it.valid; it.next() {
		key := string(it.key)
		if _, err := decodeEntry(it.it.Value()); err != nil {
			// What a file says about it was reported above.
			f.report(FindingIndexCorrupt, key, "current", func() error {
				_, err := f.x.scanner.recheck(f.b, f.ib, key)
				return err
			})
			continue
		}
		d, how, err := f.x.scanner.compareKey(f.b, f.ib, key, f.opts.Repair)
		if err != nil && !errors.Is(err, errUnreadable) {
			return err
		}
		if d == extra {
			f.report(FindingIndexExtra, key, how, done)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return it.err()
}

// indexVersions goes over the index's versions.
func (f *fsck) indexVersions(ctx context.Context) (err error) {
	var it spaceIter
	if err := it.open(f.x.db, spaceVersions, f.ib.id, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.close()) }()
	last, seen := "", false
	for it.seek(""); it.valid; it.next() {
		key := string(it.key)
		if _, err := decodeEntry(it.it.Value()); err != nil {
			k := slices.Clone(it.it.Key())
			f.report(FindingIndexCorrupt, key, "version", func() error { return f.x.db.Delete(k, pebble.NoSync) })
			continue
		}
		if seen && key == last {
			continue
		}
		last, seen = key, true
		found, err := f.x.scanner.compareVersions(f.b, f.ib, key, f.opts.Repair)
		if err != nil && !errors.Is(err, errUnreadable) {
			return err
		}
		for _, id := range slices.Sorted(maps.Keys(found)) {
			if found[id] == extra {
				f.report(FindingIndexExtra, key, id, done)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return it.err()
}
