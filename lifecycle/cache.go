package lifecycle

import "herald/store"

// Cache keeps the decoded rules of buckets. The zero Cache is empty and ready.
// It may be used concurrently.
type Cache struct {
	rules store.AttrCache[[]Rule]
}

// Of returns a bucket's rules, which the caller must not change.
func (c *Cache) Of(b *store.BucketInfo) ([]Rule, error) {
	return c.rules.Of(b, Attr, Parse)
}
