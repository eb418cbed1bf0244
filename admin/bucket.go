package admin

import (
	"context"
	"slices"
	"strings"

	"herald/store"
)

var bucketCommands = []command{
	{"bucket list", "the names of all buckets, or of a user's", []string{"uid", "tenant"}, (*Admin).bucketList},
	{"bucket rm", "remove a bucket", []string{"bucket", "tenant", "purge-objects", "purge-data"}, (*Admin).bucketRm},
	{"bucket compression", "show, or set, how a bucket's new objects are kept", []string{"bucket", "tenant", "uid", "set"}, (*Admin).bucketCompression},
}

func (a *Admin) bucketList(ctx context.Context, c *call) error {
	owner := c.uid
	if owner != "" && c.tenant != "" && !strings.Contains(owner, "$") {
		owner = c.tenant + "$" + owner
	}
	buckets, err := a.Store.ListBuckets(ctx, func(b *store.BucketInfo) bool {
		return (owner == "" || b.Owner == owner) && (c.tenant == "" || b.Tenant == c.tenant)
	})
	if err != nil {
		return err
	}
	names := []string{}
	for _, b := range buckets {
		names = append(names, b.Name)
	}
	return c.print(names)
}

// noCompression is how the absence of compression is called.
const noCompression = "none"

// bucketCompression shows or sets a bucket's compression. What is there already
// stays as it is.
func (a *Admin) bucketCompression(ctx context.Context, c *call) error {
	if c.bucket == "" {
		return invalid("no --bucket given")
	}
	if c.set != "" {
		if err := a.checkCompression(c.set); err != nil {
			return err
		}
		err := a.Store.UpdateBucket(ctx, c.topicTenant(), c.bucket, func(info *store.BucketInfo) error {
			info.Attrs[store.AttrCompression] = c.set
			if c.set == noCompression {
				delete(info.Attrs, store.AttrCompression)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	info, err := a.Store.BucketInfo(ctx, c.topicTenant(), c.bucket)
	if err != nil {
		return err
	}
	doc := map[string]string{"bucket": info.Name, "compression": noCompression}
	if how := info.Attrs[store.AttrCompression]; how != "" {
		doc["compression"] = how
	}
	return c.print(doc)
}

// checkCompression tells whether the store can do what is asked for.
func (a *Admin) checkCompression(how string) error {
	known := a.Store.Compressions()
	switch {
	case how == noCompression || slices.Contains(known, how):
		return nil
	case len(known) == 0:
		return &exitError{exitUnsupported, "this store does not compress: its objects are plain files"}
	}
	return invalid("--set must be %s or %s", noCompression, strings.Join(known, ", "))
}
