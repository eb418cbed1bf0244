//go:build rados

package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// Keys in the omap of root.
const (
	rootBucket = "b/" // and a name: a bucket
	rootGone   = "d/" // and a bucket's id: it was deleted, its objects may not all be removed
)

// bucketRecord is what root knows of a bucket.
type bucketRecord struct {
	bid     string
	created int64 // nanoseconds since 1970
}

func (r *bucketRecord) encode() []byte {
	var e encoder
	e.byte(codecVersion)
	e.string(r.bid)
	e.int(r.created)
	return e.b
}

func decodeBucket(b []byte) (*bucketRecord, error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return nil, errCorrupt
	}
	r := &bucketRecord{bid: d.string(), created: d.int()}
	return r, d.end()
}

// bucket is a store.Bucket.
type bucket struct {
	d    *Driver
	name string
	bid  string
	x    *index
}

var _ store.Bucket = (*bucket)(nil)

// head names the head of a key.
func (b *bucket) head(key string) headKey { return headKey{b.bid, key} }

// lookup returns what root knows of a bucket, nil for nothing. It may be a
// second old.
func (d *Driver) lookup(ctx context.Context, name string) (*bucketRecord, error) {
	values, err := d.roots.get(ctx, rootBucket+name)
	if err != nil || values[0] == nil {
		return nil, err
	}
	return decodeBucket(values[0])
}

// OpenBucket implements store.Driver.
func (d *Driver) OpenBucket(ctx context.Context, name string) (store.Bucket, error) {
	r, err := d.lookup(ctx, name)
	if err != nil {
		return nil, storeError("open bucket "+name, err)
	}
	if r == nil {
		return nil, store.ErrNoSuchBucket
	}
	return &bucket{d: d, name: name, bid: r.bid, x: d.index(r.bid)}, nil
}

// absent is the answer when a key, or a version of it, is not there: that is
// so as well when the bucket is gone.
func (b *bucket) absent(ctx context.Context, answer error) error {
	r, err := b.d.lookup(ctx, b.name)
	switch {
	case err != nil:
		return storeError("open bucket "+b.name, err)
	case r == nil || r.bid != b.bid:
		return store.ErrNoSuchBucket
	}
	return answer
}

// CreateBucket implements store.Driver. Its linearization point is the
// operation that adds the name to root.
func (d *Driver) CreateBucket(ctx context.Context, name string) error {
	what := "create bucket " + name
	// As a later operation may find: not to make an index in vain.
	if err := d.absentBucket(ctx, name); errors.Is(err, store.ErrBucketAlreadyExists) {
		return store.ErrBucketAlreadyExists
	} else if err != nil {
		return storeError(what, err)
	}
	r := bucketRecord{bid: newID(), created: time.Now().UnixNano()}
	if err := createIndex(ctx, d.indexEnv(), r.bid); err != nil {
		return storeError(what, err)
	}
	err := d.nameBucket(ctx, name, &r)
	if errors.Is(err, store.ErrBucketAlreadyExists) {
		d.bg.start(func(ctx context.Context) {
			if err := openIndex(d.indexEnv(), r.bid).drop(ctx); err != nil {
				d.log.Warn("remove the index of a bucket that was made twice", "bucket", name, "id", r.bid, "err", err)
			}
		})
	}
	return err
}

// nameBucket adds a bucket to root. Errors: store.ErrBucketAlreadyExists,
// store.ErrUnknownOutcome.
func (d *Driver) nameBucket(ctx context.Context, name string, r *bucketRecord) error {
	op := librados.NewWrite()
	op.Create(false)
	op.OmapCmp(rootBucket+name, librados.Equal, nil)
	op.OmapSet(librados.Pair{Key: rootBucket + name, Value: r.encode()})
	version, err := d.heads.Operate(ctx, oidRoot, op, 0)
	switch {
	case err == nil:
		d.roots.wrote(version)
		return nil
	case errors.Is(err, librados.ErrMismatch), unsure(err):
		return d.createdInSpite(ctx, name, r.bid, err)
	}
	return storeError("create bucket "+name, err)
}

// absentBucket answers nil if there is no bucket of that name. One whose
// deletion was broken off after its linearization point is none.
func (d *Driver) absentBucket(ctx context.Context, name string) error {
	values, err := d.roots.fetch(ctx, []string{rootBucket + name})
	if err != nil || values[0] == nil {
		return err
	}
	r, err := decodeBucket(values[0])
	if err != nil {
		return err
	}
	l, err := readLayout(ctx, d.heads, r.bid)
	switch {
	case err == nil && !l.Deleted:
		return store.ErrBucketAlreadyExists
	case err != nil && !errors.Is(err, store.ErrNoSuchBucket):
		return err
	}
	if err := d.removeName(ctx, name, r.bid, values[0]); !errors.Is(err, store.ErrNoSuchBucket) {
		return err
	}
	return nil
}

// createdInSpite finds out whether a bucket was made when the answer was lost, or
// was that there is one: the cluster may refuse what it made when it comes again.
func (d *Driver) createdInSpite(ctx context.Context, name, bid string, cause error) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	values, err := d.roots.fetch(ctx, []string{rootBucket + name})
	if err == nil && values[0] != nil {
		if r, err := decodeBucket(values[0]); err == nil && r.bid == bid {
			d.roots.forget()
			return nil
		}
		return store.ErrBucketAlreadyExists
	}
	if err == nil && errors.Is(cause, librados.ErrMismatch) {
		return store.ErrBucketAlreadyExists // then
	}
	return fmt.Errorf("create bucket %s: %w: %w", name, store.ErrUnknownOutcome, cause)
}

// DeleteBucket implements store.Driver. Its linearization point is in
// index.drop; from then on the bucket takes no change. Then the name is taken
// from root.
func (d *Driver) DeleteBucket(ctx context.Context, name string) error {
	what := "delete bucket " + name
	values, err := d.roots.fetch(ctx, []string{rootBucket + name})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if values[0] == nil {
		return store.ErrNoSuchBucket
	}
	r, err := decodeBucket(values[0])
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = d.index(r.bid).drop(ctx)
	switch {
	case errors.Is(err, store.ErrBucketNotEmpty):
		return store.ErrBucketNotEmpty
	case err != nil && !errors.Is(err, store.ErrNoSuchBucket):
		return storeError(what, err)
	}
	deleted := err == nil
	if !deleted {
		if err := d.awaitDeleter(ctx, name, values[0]); err != nil {
			return err
		}
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	if err = d.removeName(ctx, name, r.bid, values[0]); deleted && errors.Is(err, store.ErrNoSuchBucket) {
		return nil // a sweep, or who makes it again, was faster
	}
	return err
}

// deleterPatience is how long who ended a bucket's index has to take its name
// away, before he is taken for dead.
const deleterPatience = 2 * time.Second

// awaitDeleter waits for another who ended a bucket's index; line is what root has
// of it. Errors: store.ErrNoSuchBucket: he has taken its name away.
func (d *Driver) awaitDeleter(ctx context.Context, name string, line []byte) error {
	for begin := time.Now(); time.Since(begin) < deleterPatience; wait(ctx, 20*time.Millisecond) {
		now, err := d.roots.fetch(ctx, []string{rootBucket + name})
		if err != nil {
			return storeError("delete bucket "+name, err)
		}
		if !bytes.Equal(now[0], line) {
			return store.ErrNoSuchBucket
		}
	}
	return nil
}

// removeName takes a bucket whose index has ended out of root; line is what
// root has of it. Errors: store.ErrNoSuchBucket, when another was faster.
func (d *Driver) removeName(ctx context.Context, name, bid string, line []byte) error {
	op := librados.NewWrite()
	op.OmapCmp(rootBucket+name, librados.Equal, line)
	op.OmapRm(rootBucket + name)
	op.OmapSet(librados.Pair{Key: rootGone + bid, Value: []byte(name)})
	version, err := d.heads.Operate(ctx, oidRoot, op, 0)
	switch {
	case err == nil:
		d.roots.changed(ctx, version)
		return nil
	case errors.Is(err, librados.ErrMismatch):
		d.roots.forget()
		return store.ErrNoSuchBucket
	}
	return storeError("delete bucket "+name, err)
}

// ListBuckets implements store.Driver.
func (d *Driver) ListBuckets(ctx context.Context) ([]store.BucketEntry, error) {
	var list []store.BucketEntry
	var bad error
	err := eachPair(ctx, d.heads, oidRoot, "", rootBucket, func(p librados.Pair) bool {
		r, err := decodeBucket(p.Value)
		if err != nil {
			bad = fmt.Errorf("bucket %q: %w", p.Key, err)
			return false
		}
		list = append(list, store.BucketEntry{
			Name: strings.TrimPrefix(p.Key, rootBucket), Created: time.Unix(0, r.created).UTC(),
		})
		return true
	})
	if err := errors.Join(err, bad); err != nil && !errors.Is(err, syscall.ENOENT) {
		return nil, storeError("list buckets", err)
	}
	return list, nil
}

// List implements store.Bucket.
func (b *bucket) List(ctx context.Context, opts store.ListOptions) (*store.Page, error) {
	page, err := b.x.list(ctx, opts)
	if err != nil {
		return nil, b.failed("list", opts.Prefix, err)
	}
	return page, nil
}
