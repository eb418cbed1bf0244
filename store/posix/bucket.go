package posix

import (
	"sync/atomic"

	"herald/store"
)

// bucket is a store.Bucket. There is one per open bucket of a Driver.
type bucket struct {
	d    *Driver
	name string // driver's name; also the directory's
	fd   int    // the bucket's directory
	ino  uint64
	gone atomic.Bool // deleted: all methods answer ErrNoSuchBucket

	moves    atomic.Uint64 // see the package comment
	versions atomic.Bool   // the bucket has a directory of versions
}

// found is a version and its file.
type found struct {
	at     location
	attr   *attr // of a file changed by another program: as the package comment says
	native bool  // attr was read, not made up
	side   bool  // it has a side file
	nlink  uint64
}

// current finds the key's current version, which may be a delete marker; nil
// if there is none. Callers that change the key hold its guard.
func (b *bucket) current(key string) (*found, error) { panic("being written") }

// version finds one version. Errors: store.ErrNoSuchVersion.
func (b *bucket) version(key, versionID string) (*found, error) { panic("being written") }

// at describes the file at one location, for whoever walks the tree. It
// answers fs.ErrNotExist also for what is no regular file.
func (b *bucket) at(key string, l location) (*found, error) { panic("being written") }

// body is the data of an object about to be committed: in memory, or in a
// file that has been flushed.
type body struct {
	data   []byte
	staged string // path of the file, relative to .herald; "": data
	fd     int    // the staged file, open for writing; the caller closes it
	size   int64
}

// commit makes body the current version of key: what Writer.Commit and
// Complete do. check runs under the key's guard before anything is changed;
// nil: none. upload is the id of the upload that ends with it, or "": apply
// calls b.dropUpload(key, upload), also in replay.
func (b *bucket) commit(key string, body *body, opts *store.CommitOptions, upload string, check func() error) (store.Outcome, error) {
	panic("being written")
}
