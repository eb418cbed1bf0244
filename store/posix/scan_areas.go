package posix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"

	"herald/store"
)

// walkArea goes over the files of one of our own areas of a bucket, a
// directory at a time: visit gets the directory's path within the area and
// the names of the files in it. Directories are not given in order.
func (b *bucket) walkArea(ctx context.Context, a area, visit func(dir string, files []string) error) error {
	base, _ := b.base(a, ".")
	pending := []string{"."}
	for len(pending) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		_, rel := b.base(a, dir)
		in, err := names(base, rel)
		if absent(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("read directory %s: %w", rel, err)
		}
		files := in[:0]
		for _, name := range in {
			path := location{a, dir, name}.path()
			st, err := statAt(base, rel+"/"+name, unix.AT_SYMLINK_NOFOLLOW)
			switch {
			case absent(err):
			case err != nil:
				return fmt.Errorf("stat %s/%s: %w", rel, name, err)
			case st.dir():
				pending = append(pending, path)
			default:
				files = append(files, name)
			}
		}
		if err := visit(dir, files); err != nil {
			return err
		}
	}
	return nil
}

// walkKeys gives the keys that have a file at their escape place.
func (b *bucket) walkKeys(ctx context.Context, f func(key string) error) error {
	return b.walkArea(ctx, areaKeys, func(dir string, files []string) error {
		for _, name := range files {
			key, ok := unescape(location{areaKeys, dir, name}.path())
			if !ok {
				continue // for fsck
			}
			if err := f(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// walkVersions gives the keys that have files among the versions.
func (b *bucket) walkVersions(ctx context.Context, f func(key string) error) error {
	return b.walkArea(ctx, areaVersions, func(dir string, files []string) error {
		key, ok := unescape(dir)
		if len(files) == 0 || !ok {
			return nil
		}
		return f(key)
	})
}

// compareVersions compares the index with the files that a key has among the
// versions, and with correct makes it agree. It gives the differences by
// version id. Errors: errUnreadable.
func (s *scanner) compareVersions(b *bucket, ib *indexBucket, key string, correct bool) (map[string]difference, error) {
	g := s.x.d.guards.lock(b.name, key)
	defer g.unlock()
	has, err := b.versionEntries(key)
	if err != nil {
		return nil, fmt.Errorf("versions of %q: %w: %w", key, errUnreadable, err)
	}
	had, err := s.x.versionEntries(ib, key)
	if err != nil {
		return nil, err
	}
	found := make(map[string]difference)
	batch := s.x.db.NewBatch()
	defer func() { _ = batch.Close() }() // committed, or not to be
	for id, e := range had {
		if n := has[id]; n == nil || n.Seq != e.seq {
			found[id] = extra
			err = errors.Join(err, s.x.removeVersion(batch, ib, &indexOp{key: key, versionID: id}),
				batch.Delete(versionKey(ib.id, key, e.seq), nil))
		}
	}
	for id, info := range has {
		e := had[id]
		switch {
		case e == nil || e.seq != info.Seq:
			found[id] = missing
		case !bytes.Equal(e.encoded, encodeEntry(info, areaVersions)):
			found[id] = stale
		default:
			continue
		}
		err = errors.Join(err, s.x.applyOp(batch, &indexOp{space: spaceVersions, bucket: b.name, key: key, info: info}))
	}
	if err != nil || len(found) == 0 || !correct {
		return found, err
	}
	return found, batch.Commit(pebble.NoSync)
}

// versionEntries describes the files that a key has among the versions, by
// version id, but for another name of the current object's file.
func (b *bucket) versionEntries(key string) (map[string]*store.Info, error) {
	base, rel := b.base(areaVersions, escape(key))
	ids, err := names(base, rel)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("read directory %s: %w", rel, err)
	}
	cur, err := b.file(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cur.close()
	infos := make(map[string]*store.Info, len(ids))
	for _, id := range ids {
		if id != store.NullVersion && !isHex(id, 16) {
			continue // for fsck
		}
		f, err := b.at(key, versionLocation(key, id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.same(cur) {
			continue
		}
		info := f.info(key, false)
		info.VersionID = id
		if id != store.NullVersion {
			info.Seq, _ = strconv.ParseUint(id[:16], 16, 64) // isHex said so
		}
		infos[id] = info
	}
	return infos, nil
}

// versionEntry is an entry of the index as it is stored.
type versionEntry struct {
	seq     uint64
	encoded []byte
}

// versionEntries gives what the index has in the space of versions for a key,
// by version id.
func (x *index) versionEntries(ib *indexBucket, key string) (map[string]*versionEntry, error) {
	lower, upper := versionsOfKey(ib.id, key)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	entries := make(map[string]*versionEntry)
	for it.First(); it.Valid(); it.Next() {
		_, seq, ok := splitVersionKey(it.Key(), nil)
		e, err := decodeEntry(it.Value())
		if err != nil || !ok {
			continue // removed by fsck
		}
		entries[e.versionID] = &versionEntry{seq, bytes.Clone(it.Value())}
	}
	return entries, errors.Join(it.Error(), it.Close())
}

// same tells whether two versions are one file.
func (f *found) same(other *found) bool {
	return other != nil && f.st.ino == other.st.ino && f.st.dev == other.st.dev
}
