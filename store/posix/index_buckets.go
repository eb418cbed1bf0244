package posix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// loadBuckets reads the buckets' ids.
func (x *index) loadBuckets() error {
	clear(x.buckets)
	it, err := x.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{spaceBucket},
		UpperBound: []byte{spaceBucket + 1},
	})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		v := it.Value()
		if len(v) != 5 {
			return errors.Join(errIndexUnusable, it.Close())
		}
		b := &indexBucket{name: string(it.Key()[1:]), id: binary.BigEndian.Uint32(v)}
		b.complete.Store(v[4] != 0)
		x.buckets[b.name] = b
		x.nextID = max(x.nextID, b.id+1)
	}
	return errors.Join(it.Error(), it.Close())
}

// bucket returns what is known of a bucket, which gets an id if it has none.
func (x *index) bucket(name string) (*indexBucket, error) {
	x.mu.RLock()
	b := x.buckets[name]
	x.mu.RUnlock()
	if b != nil {
		return b, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if b := x.buckets[name]; b != nil {
		return b, nil
	}
	b = &indexBucket{name: name, id: x.nextID}
	if err := x.saveBucket(b); err != nil {
		return nil, err
	}
	x.nextID++
	x.buckets[name] = b
	return b, nil
}

// names are the names of the buckets that have an id.
func (x *index) names() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.buckets))
}

func (x *index) saveBucket(b *indexBucket) error {
	v := binary.BigEndian.AppendUint32(nil, b.id)
	if b.complete.Load() {
		v = append(v, 1)
	} else {
		v = append(v, 0)
	}
	return x.db.Set(append([]byte{spaceBucket}, b.name...), v, pebble.NoSync)
}

// bucketMade tells that we made a bucket: it has no file that the index will
// not be told about.
func (x *index) bucketMade(name string) error {
	b, err := x.bucket(name)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if b.complete.Swap(true) {
		return nil
	}
	if err := x.saveBucket(b); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	x.dirs.made(b)
	return nil
}

// bucketGone forgets all about a bucket.
func (x *index) bucketGone(name string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.buckets[name]
	if b == nil {
		return nil
	}
	x.dirs.drop(b)
	batch := x.db.NewBatch()
	for _, space := range [...]byte{spaceCurrent, spaceDir, spaceNull, spaceVersions} {
		if err := batch.DeleteRange(bucketKey(space, b.id, ""), bucketKey(space, b.id+1, ""), nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	if err := batch.Delete(append([]byte{spaceBucket}, name...), nil); err != nil {
		return errors.Join(err, batch.Close())
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("index: forget bucket: %w", err)
	}
	delete(x.buckets, name)
	return nil
}
