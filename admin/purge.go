package admin

import (
	"context"

	"herald/store"
)

// bucketRm removes a bucket, and what is in it if that is asked for.
func (a *Admin) bucketRm(ctx context.Context, c *call) error {
	if c.bucket == "" {
		return invalid("no --bucket given")
	}
	if c.purge {
		return a.purgeBucket(ctx, c.topicTenant(), c.bucket)
	}
	return a.Store.DeleteBucket(ctx, c.topicTenant(), c.bucket)
}

// purgeUser removes the buckets of a user, with what is in them.
func (a *Admin) purgeUser(ctx context.Context, uid string) error {
	buckets, err := a.Store.ListBuckets(ctx, func(b *store.BucketInfo) bool { return b.Owner == uid })
	if err != nil {
		return err
	}
	for _, b := range buckets {
		if err := a.purgeBucket(ctx, b.Tenant, b.Name); err != nil {
			return err
		}
	}
	return nil
}

// purgeBucket removes all versions of all objects of a bucket, and the bucket.
// There are no events (RGW).
func (a *Admin) purgeBucket(ctx context.Context, tenant, name string) error {
	b, err := a.Store.OpenBucket(ctx, tenant, name)
	if err != nil {
		return err
	}
	for {
		page, err := b.List(ctx, store.ListOptions{Versions: true, Max: 1000})
		if err != nil {
			return err
		}
		for i := range page.Entries {
			if _, err := b.Remove(ctx, page.Entries[i].Key, page.Entries[i].VersionID, store.RemoveOptions{}); err != nil {
				return err
			}
		}
		if !page.Truncated {
			return a.Store.DeleteBucket(ctx, tenant, name)
		}
	}
}
