//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	librados "herald/rados"
	"herald/store"
)

// fsckBucket is a bucket of which there is something.
type fsckBucket struct {
	bid    string
	number uint32
	name   string // in root; of a deleted bucket, what it was
	known  bucketPlace
	line   []byte // in root

	shards   []string
	heads    int64 // that were listed
	anything bool  // something was listed
	corrupt  bool  // its layout cannot be read
}

// bucketPlace is where root has a bucket.
type bucketPlace uint8

const (
	bucketNowhere bucketPlace = iota
	bucketNamed
	bucketDeleted
)

// title is how a finding names the bucket.
func (b *fsckBucket) title() string {
	switch {
	case b == nil:
		return ""
	case b.known == bucketNamed:
		return b.name
	}
	return "(" + b.bid + ")"
}

// bucket returns what is known of a bucket id.
func (f *fsck) bucket(bid string) *fsckBucket {
	b := f.buckets[bid]
	if b == nil {
		b = &fsckBucket{bid: bid, number: uint32(len(f.buckets))}
		f.buckets[bid] = b
	}
	return b
}

// numbers are the buckets by their numbers.
func (f *fsck) numbers() map[uint32]*fsckBucket {
	m := make(map[uint32]*fsckBucket, len(f.buckets))
	for _, b := range f.buckets {
		m[b.number] = b
	}
	return m
}

// sorted are the buckets in the order of their names.
func (f *fsck) sorted() []*fsckBucket {
	return slices.SortedFunc(maps.Values(f.buckets), func(a, b *fsckBucket) int {
		return strings.Compare(a.name+"\x00"+a.bid, b.name+"\x00"+b.bid)
	})
}

// objectKind is what an object is, by its name.
type objectKind uint8

const (
	objectOther  objectKind = iota // none of ours
	objectSingle                   // root and its like
	objectLayout
	objectShard
	objectHead
	objectHashed // a head whose name does not tell its key
	objectTail
	objectRefs
	objectUpload
	objectStray // it begins as one of ours
)

// objectName is an object's name, taken apart.
type objectName struct {
	kind objectKind
	bid  string
	rest string     // of a shard: its tag; of a head: the key; of an upload: its id
	tag  store.OpID // of tails and references
	n    int64      // of a tail
}

// parseObjectName takes a name apart.
func parseObjectName(oid string) objectName {
	if oid == oidRoot || oid == oidRecords || oid == oidOps {
		return objectName{kind: objectSingle}
	}
	kinds := map[string]objectKind{
		"x.": objectLayout, "i.": objectShard, prefixHead: objectHead, prefixHashed: objectHashed,
		prefixTail: objectTail, prefixRefs: objectRefs, prefixUpload: objectUpload,
	}
	kind, ok := kinds[oid[:min(2, len(oid))]]
	if !ok {
		return objectName{}
	}
	stray := objectName{kind: objectStray}
	n := objectName{kind: kind}
	n.bid, n.rest, ok = strings.Cut(oid[2:], ".")
	if !isHex(n.bid, 8) || ok != (kind != objectLayout) {
		return stray
	}
	switch kind {
	case objectShard:
		_, ok = store.ParseOpID(n.rest)
	case objectHead:
		n.rest, ok = unescapeKey(n.rest)
	case objectHashed:
		ok = isHex(n.rest, 32)
	case objectRefs:
		n.tag, ok = store.ParseOpID(n.rest)
	case objectTail:
		tag, number, _ := strings.Cut(n.rest, ".")
		n.tag, ok = store.ParseOpID(tag)
		var err error
		n.n, err = strconv.ParseInt(number, 10, 64)
		ok = ok && err == nil && n.n >= 0 && n.n < allTails && tailOID(n.bid, n.tag, n.n) == oid
	case objectUpload:
		ok = validUploadID(n.rest)
	default:
		ok = true
	}
	if !ok {
		return stray
	}
	return n
}

// objects calls do with the names of all objects in the pool of heads or that of
// tails.
func (f *fsck) objects(ctx context.Context, io *librados.IO, do func(oid string, n objectName) error) error {
	for oid, err := range io.Objects(ctx) {
		if err == nil {
			err = do(oid, parseObjectName(oid))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list takes note of all tails, and of all that buckets have.
func (f *fsck) list(ctx context.Context) error {
	note := func(oid string, n objectName) error {
		if n.kind == objectStray {
			f.report(FindingStray, nil, "", oid, nil)
		}
		if n.bid == "" || n.kind == objectStray {
			return nil
		}
		b := f.bucket(n.bid)
		switch b.anything = true; n.kind {
		case objectTail:
			f.tails.add(b.number, n.tag, n.n)
		case objectRefs:
			f.tails.addRefs(b.number, n.tag)
		case objectShard:
			b.shards = append(b.shards, n.rest)
		case objectHead, objectHashed:
			b.heads++
		}
		return nil
	}
	err := f.objects(ctx, f.d.heads, note)
	if err == nil && f.d.data != f.d.heads {
		err = f.objects(ctx, f.d.data, note)
	}
	f.tails.sort()
	return err
}

// root reads which buckets there are. Those that were made after the objects
// were listed are of no interest, but for their names.
func (f *fsck) root(ctx context.Context) error {
	return eachPair(ctx, f.d.heads, oidRoot, "", "", func(p librados.Pair) bool {
		name, ok := strings.CutPrefix(p.Key, rootBucket)
		if !ok {
			bid, gone := strings.CutPrefix(p.Key, rootGone)
			if !gone || !isHex(bid, 8) {
				f.report(FindingRootCorrupt, nil, "", fmt.Sprintf("line %q", p.Key), nil)
				return true
			}
			b := f.bucket(bid)
			b.name, b.known, b.line = string(p.Value), bucketDeleted, p.Value
			return true
		}
		r, err := decodeBucket(p.Value)
		if err != nil || !isHex(r.bid, 8) {
			f.report(FindingRootCorrupt, nil, "", fmt.Sprintf("line %q", p.Key), nil)
			return true
		}
		f.stats.Buckets++
		b := f.bucket(r.bid)
		b.name, b.known, b.line = name, bucketNamed, p.Value
		return true
	})
}

// reread looks in root for a bucket that it did not have.
func (f *fsck) reread(ctx context.Context, b *fsckBucket) (bucketPlace, error) {
	place := bucketNowhere
	err := eachPair(ctx, f.d.heads, oidRoot, "", "", func(p librados.Pair) bool {
		if p.Key == rootGone+b.bid {
			place = bucketDeleted
		} else if r, err := decodeBucket(p.Value); err == nil && strings.HasPrefix(p.Key, rootBucket) && r.bid == b.bid {
			place = bucketNamed
		}
		return place == bucketNowhere
	})
	return place, err
}

// layouts reads the layouts of all buckets and looks for those that are not as
// root has them, and for shards that are none's.
func (f *fsck) layouts(ctx context.Context) error {
	for _, b := range f.sorted() {
		l, err := f.layout(ctx, b)
		if err == nil {
			err = f.suspectLayout(ctx, b, l)
		}
		if err == nil && l != nil && !l.Deleted && b.known == bucketNamed {
			err = f.lostShards(ctx, b, l)
		}
		if err == nil && !b.corrupt {
			err = f.strayShards(ctx, b, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// layout reads a bucket's layout; nil: there is none.
func (f *fsck) layout(ctx context.Context, b *fsckBucket) (*layout, error) {
	l, err := readLayout(ctx, f.d.heads, b.bid)
	switch {
	case errors.Is(err, store.ErrNoSuchBucket):
		return nil, nil
	case errors.Is(err, errCorrupt):
		f.blind.Store(true)
		if !b.corrupt {
			b.corrupt = true
			f.report(FindingIndexCorrupt, b, "", layoutName(b.bid)+": "+err.Error(), nil)
		}
		return nil, nil
	}
	return l, err
}

// suspectLayout compares what root and the layout say of a bucket.
func (f *fsck) suspectLayout(ctx context.Context, b *fsckBucket, l *layout) error {
	if b.corrupt || b.known == bucketNamed && l != nil && !l.Deleted || b.known == bucketDeleted && l != nil {
		return nil
	}
	if b.known == bucketNamed && b.heads > 0 {
		f.blind.Store(true) // its marks are lost
	}
	return f.suspect(ctx, func(ctx context.Context) error {
		place, err := f.reread(ctx, b)
		if err != nil || place != b.known { // it was made, or removed, meanwhile
			return err
		}
		l, err := f.layout(ctx, b)
		if err != nil {
			return err
		}
		switch {
		case place == bucketNamed && l == nil && b.heads > 0:
			f.report(FindingIndexLost, b, "", layoutName(b.bid), func() error { return f.newLayout(ctx, b) })
		case place == bucketNamed && l != nil && l.Deleted:
			young, err := f.young(ctx, b)
			if err != nil || young { // its deleter died, or is at it: the sweep goes on
				return err
			}
			fallthrough
		case place == bucketNamed && l == nil:
			f.report(FindingBucketLeft, b, "", b.bid, func() error { return f.d.removeName(ctx, b.name, b.bid, b.line) })
		case place == bucketDeleted && l == nil && !b.anything:
			f.report(FindingDeletedLeft, b, "", rootGone+b.bid, func() error { return f.d.sweepGone(ctx, rootGone+b.bid) })
		case place == bucketNowhere && l != nil:
			return f.unborn(ctx, b)
		}
		return nil
	})
}

// newLayout makes the layout of a bucket whose is lost.
func (f *fsck) newLayout(ctx context.Context, b *fsckBucket) error {
	f.d.mu.Lock()
	delete(f.d.indexes, b.bid) // which is without hope
	f.d.mu.Unlock()
	return createIndex(ctx, f.d.indexEnv(), b.bid)
}

// young tells whether a bucket's layout was written a short while ago, or is
// gone.
func (f *fsck) young(ctx context.Context, b *fsckBucket) (bool, error) {
	op := librados.NewRead()
	stat := op.Stat()
	_, err := f.d.heads.Operate(ctx, layoutName(b.bid), op, 0)
	return err != nil || time.Since(stat.MTime) < f.limits.young, ignoreAbsent(err)
}

// unborn looks at a layout that root does not know of. Who made it may not
// have come to write his line yet, or has died. A layout that says that its
// bucket is deleted ends all that, and the sweep removes what it names.
func (f *fsck) unborn(ctx context.Context, b *fsckBucket) error {
	young, err := f.young(ctx, b)
	if err != nil || young {
		return err
	}
	if b.heads > 0 {
		return nil // of these it is told
	}
	f.report(FindingIndexStray, b, "", layoutName(b.bid), func() error {
		err := openIndex(f.d.indexEnv(), b.bid).drop(ctx)
		if err != nil && !errors.Is(err, store.ErrNoSuchBucket) {
			return err
		}
		op := librados.NewWrite()
		op.OmapSet(librados.Pair{Key: rootGone + b.bid, Value: []byte(b.name)})
		if _, err := f.d.heads.Operate(ctx, oidRoot, op, 0); err != nil {
			return err
		}
		return f.d.sweepGone(ctx, rootGone+b.bid)
	})
	return nil
}

// lostShards looks for shards of the layout that are not there.
func (f *fsck) lostShards(ctx context.Context, b *fsckBucket, l *layout) error {
	for _, ref := range l.Shards {
		s := newShard(f.index(b), ref)
		state, err := s.readState(ctx)
		if err == nil && state == "" {
			f.blind.Store(true)
			err = f.suspect(ctx, func(ctx context.Context) error {
				l, err := f.layout(ctx, b)
				if err != nil || !l.names(ref.Tag) {
					return err
				}
				if state, err := s.readState(ctx); err != nil || state != "" {
					return err
				}
				f.report(FindingIndexLost, b, "", s.oid, func() error { return createShard(ctx, f.d.indexEnv(), b.bid, ref, shardLive) })
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// strayShards looks for shards that are not in the layout, nor are to be.
func (f *fsck) strayShards(ctx context.Context, b *fsckBucket, l *layout) error {
	for _, tag := range b.shards {
		id, _ := store.ParseOpID(tag) // parseObjectName said so
		if time.Since(opTime(id)) < f.limits.young || l.names(tag) || l == nil && b.known == bucketNamed && b.heads > 0 {
			continue
		}
		err := f.suspect(ctx, func(ctx context.Context) error {
			l, err := f.layout(ctx, b)
			if err != nil || l.names(tag) {
				return err
			}
			if next, err := f.nextShards(ctx, b, l); err != nil || strings.Contains(next, tag) {
				return err
			}
			oid := shardName(b.bid, tag)
			op := librados.NewRead()
			op.Stat()
			if _, err := f.d.heads.Operate(ctx, oid, op, 0); err != nil {
				return ignoreAbsent(err)
			}
			f.report(FindingIndexStray, b, "", oid, func() error { return f.index(b).remove(ctx, oid) })
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// names tells whether the layout has a shard of that tag.
func (l *layout) names(tag string) bool {
	return l != nil && slices.ContainsFunc(l.Shards, func(r shardRef) bool { return r.Tag == tag })
}

// nextShards are the states of the shards in the layout: they name those that
// are to take their place.
func (f *fsck) nextShards(ctx context.Context, b *fsckBucket, l *layout) (states string, err error) {
	if l == nil {
		return "", nil
	}
	for _, ref := range l.Shards {
		state, err := newShard(f.index(b), ref).readState(ctx)
		if err != nil {
			return "", err
		}
		states += state + " "
	}
	return states, nil
}
