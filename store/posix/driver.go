package posix

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"herald/journal"
	"herald/store"
)

// wal is what the driver uses of *journal.Journal.
type wal interface {
	Register(journal.Stream, journal.Client)
	Append(stream journal.Stream, parts ...[]byte) (journal.LSN, error)
	Wait(journal.LSN) error
	// End is at or above the LSN of every record appended so far.
	End() journal.LSN
}

// Options of Open; the zero value is valid.
type Options struct {
	// Relaxed answers before the journal is flushed: a change survives the
	// death of the process, not of the machine.
	Relaxed bool
	// NoXattr keeps all attributes in side files, also where the filesystem
	// has extended attributes.
	NoXattr bool
	// Holder is written to the lock file beside pid and host, so that a
	// second gateway can name the first (its address, say).
	Holder string
	Logger *slog.Logger // default: discards
	// Fault is called at each of FaultPoints, for tests that kill the process
	// there. Default: none.
	Fault func(point string)
}

// Driver keeps buckets in one directory tree. All methods may be called
// concurrently.
type Driver struct {
	root    string // absolute
	journal wal
	opts    Options
	log     *slog.Logger
	rootFD  int // the tree
	homeFD  int // .herald

	xattr       bool  // attributes are in the inode
	granularity int64 // nanoseconds: what the filesystem keeps of mtime

	clock    clock
	guards   *guards
	dirs     *dirs
	flight   *flight
	index    *index
	docs     *records
	outcomes *outcomes

	mu      sync.Mutex // guards buckets
	buckets map[string]*bucket
}

var _ store.Driver = (*Driver)(nil)

// Open opens the tree in root, which is made if need be, takes its lock, and
// registers the driver as the journal's client. It is ready after
// journal.Recover.
func Open(root string, j wal, opts Options) (*Driver, error) {
	panic("being written")
}

// fault is a named place where tests may kill the process.
func (d *Driver) fault(point string) {
	if d.opts.Fault != nil {
		d.opts.Fault(point)
	}
}

// CreateBucket implements store.Driver.
func (d *Driver) CreateBucket(ctx context.Context, name string) error { panic("being written") }

// OpenBucket implements store.Driver.
func (d *Driver) OpenBucket(ctx context.Context, name string) (store.Bucket, error) {
	panic("being written")
}

// DeleteBucket implements store.Driver.
func (d *Driver) DeleteBucket(ctx context.Context, name string) error { panic("being written") }

// ListBuckets implements store.Driver.
func (d *Driver) ListBuckets(ctx context.Context) ([]store.BucketEntry, error) {
	panic("being written")
}

// Records implements store.Driver.
func (d *Driver) Records() store.Records { panic("being written") }

// Outcomes implements store.Driver.
func (d *Driver) Outcomes() store.Outcomes { panic("being written") }

// Close implements store.Driver.
func (d *Driver) Close() error { panic("being written") }

var _ io.Closer = (*Driver)(nil)
