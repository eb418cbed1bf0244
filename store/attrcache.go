package store

import (
	"sync"
	"sync/atomic"
)

// maxDecoded bounds an AttrCache, in buckets; beyond it, it starts anew.
const maxDecoded = 4096

// AttrCache keeps what one attribute of buckets means, decoded once. The zero
// AttrCache is empty and ready. It may be used concurrently.
type AttrCache[T any] struct {
	buckets sync.Map // bucket id -> *decoded[T]
	n       atomic.Int32
}

// decoded is an attribute and what it means; it is never changed.
type decoded[T any] struct {
	attr string
	is   T
}

// Of returns what a bucket's attribute means, which the caller must not change:
// the zero T where the bucket has none. An error is decode's.
func (c *AttrCache[T]) Of(b *BucketInfo, name string, decode func(attr string) (T, error)) (T, error) {
	var none T
	attr := b.Attrs[name]
	if attr == "" {
		return none, nil
	}
	// The texts are mostly the same bytes, and comparing those costs nothing.
	if v, ok := c.buckets.Load(b.ID); ok && v.(*decoded[T]).attr == attr {
		return v.(*decoded[T]).is, nil
	}
	is, err := decode(attr)
	if err != nil {
		return none, err
	}
	if _, had := c.buckets.Swap(b.ID, &decoded[T]{attr, is}); !had && c.n.Add(1) > maxDecoded {
		c.buckets.Clear()
		c.n.Store(0)
	}
	return is, nil
}
