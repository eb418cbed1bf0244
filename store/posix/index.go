package posix

import "herald/store"

// index is the ordered index of what listings show.
//
// The core calls it so (the owner of this file may improve it; tell by
// changing this stub):
//
//	openIndex(d *Driver) (*index, error)
//	ix.apply(batch) error                 after each change, under the key's guard; also in replay
//	ix.dirChanged(bucket, dir, before, after int64)   a directory's mtime around our own change
//	ix.bucketGone(bucket string)          forget all about a bucket
//	ix.flush() error                      at a checkpoint
//	ix.close() error
type index struct{}

// indexBatch collects the changes of one key, applied as one.
type indexBatch struct{}

func (b *indexBatch) putVersion(bucket string, info *store.Info)         {}
func (b *indexBatch) removeVersion(bucket, key, versionID string)        {}
func (b *indexBatch) setCurrent(bucket, key string, current *store.Info) {}
