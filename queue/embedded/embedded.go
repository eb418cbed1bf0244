// Package embedded implements queues in files of one process, on a journal
// that it may share with the store: one flush makes an object and its event
// durable together.
//
// Every change is a journal record. What has been committed waits in memory up
// to TailBytes per queue, then in segment files, which are written without
// flushing; the journal holds it until a checkpoint has made the files
// durable. An entry that is acked soon is never written to a file at all. In
// memory a queue keeps its figures, its reservations, the attempts of entries
// that failed, and a bit for each entry in a segment from which some are gone.
//
// A checkpoint writes a snapshot of each queue that has changed, in one of two
// files in turn. The one to start from is the newest that the journal has
// confirmed as flushed. A segment's file that a confirmed snapshot mentions is
// not written over before a later one is confirmed.
//
// Files below the directory:
//
//	catalog.0 catalog.1        the queues, the last fence
//	NAME.ID/snapshot.0 .1      one queue
//	NAME.ID/segment.N          its entries
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"herald/journal"
	"herald/queue"
)

// MaxName is the longest name of a queue, in bytes.
const MaxName = 1024

// Errors besides those of the contract.
var (
	ErrClosed      = errors.New("queue driver closed")
	ErrInvalidName = errors.New("invalid queue name")
	ErrForeign     = errors.New("written with another journal")
)

// Options for Open. The zero value is valid.
type Options struct {
	// Sync makes Reserve, Commit and Abort durable before they return. Set it
	// when the journal is not shared with the store, whose order it otherwise
	// relies on.
	Sync bool
	// TailBytes is how many bytes of entries a queue keeps in memory (default
	// 256 KiB).
	TailBytes int
	// SegmentBytes is about the size of a segment file (default 4 MiB).
	SegmentBytes int
	// Now is the clock (default time.Now).
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.TailBytes == 0 {
		o.TailBytes = 256 << 10
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 4 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Driver holds queues in a directory.
type Driver struct {
	dir    string
	j      *journal.Journal
	opts   Options
	locker *locker
	spills sync.Pool // *[]byte: what entryLog.spill writes from
	// afterCatalog, in tests, is called in the middle of a checkpoint.
	afterCatalog func()

	mu      sync.RWMutex // guards what follows
	closed  bool
	queues  map[string]*Queue
	byID    map[uint64]*Queue
	nextID  uint64
	fence   uint64 // the last one given out
	lsn     journal.LSN
	catalog snapshotFile
	trash   []string // directories of deleted queues
	leaving []string // likewise, not in the catalog being flushed
}

var (
	_ queue.Driver    = (*Driver)(nil)
	_ queue.Exclusive = (*Driver)(nil)
	_ journal.Client  = (*client)(nil)
	_ journal.Starter = (*client)(nil)
)

// Open prepares the queues in dir and registers them with the journal. They
// are ready when the journal has recovered. The journal is not closed with the
// driver; it is best closed before it.
func Open(dir string, j *journal.Journal, opts Options) (*Driver, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	d := &Driver{
		dir:    dir,
		j:      j,
		opts:   opts.withDefaults(),
		queues: make(map[string]*Queue),
		byID:   make(map[uint64]*Queue),
	}
	d.locker = newLocker(d)
	d.catalog.path = filepath.Join(dir, "catalog")
	if err := j.Register(journal.StreamQueue, (*client)(d)); err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	return d, nil
}

// Exclusive tells that only one process has these queues open.
func (d *Driver) Exclusive() bool { return true }

// Locker returns the locks of this process.
func (d *Driver) Locker() queue.Locker { return d.locker }

// Create makes a queue, durably.
func (d *Driver) Create(ctx context.Context, name string, capacity int64) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("create queue %q: %w", name, ErrInvalidName)
	}
	if capacity <= 0 {
		return fmt.Errorf("create queue %s: capacity %d: %w", name, capacity, queue.ErrInvalid)
	}
	return d.change(func() (journal.LSN, error) {
		if _, ok := d.queues[name]; ok {
			return 0, queue.ErrQueueExists
		}
		id := d.nextID + 1
		rec := putBytes(putNumbers([]byte{opCreate}, id), []byte(name))
		lsn, err := d.j.TryAppend(journal.StreamQueue, putNumbers(rec, uint64(capacity)))
		if err == nil {
			d.applyCreate(lsn, id, name, capacity)
		}
		return lsn, err
	})
}

// Delete removes a queue, durably.
func (d *Driver) Delete(ctx context.Context, name string) error {
	return d.change(func() (journal.LSN, error) {
		q, ok := d.queues[name]
		if !ok {
			return 0, queue.ErrNoSuchQueue
		}
		lsn, err := d.j.TryAppend(journal.StreamQueue, putNumbers([]byte{opDelete}, q.id))
		if err == nil {
			d.applyDelete(lsn, q)
		}
		return lsn, err
	})
}

// change runs f, which appends a record and applies it, under the driver's
// mutex, and waits until it is durable.
func (d *Driver) change(f func() (journal.LSN, error)) error {
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return ErrClosed
		}
		lsn, err := f()
		d.mu.Unlock()
		if errors.Is(err, journal.ErrRingFull) {
			if err := d.j.WaitRoom(MaxName + 64); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		return d.j.Wait(lsn)
	}
}

func (d *Driver) applyCreate(lsn journal.LSN, id uint64, name string, capacity int64) {
	q := newQueue(d, id, name, capacity)
	q.lsn = lsn
	d.queues[name], d.byID[id] = q, q
	d.nextID = max(d.nextID, id)
	d.lsn = lsn
}

func (d *Driver) applyDelete(lsn journal.LSN, q *Queue) {
	delete(d.queues, q.name)
	delete(d.byID, q.id)
	d.lsn = lsn
	d.trash = append(d.trash, q.dir)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deleted = true
	q.wakeAll()
	q.log.closeFiles()
}

// Open returns a handle.
func (d *Driver) Open(ctx context.Context, name string) (queue.Queue, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return nil, ErrClosed
	}
	q, ok := d.queues[name]
	if !ok {
		return nil, queue.ErrNoSuchQueue
	}
	return q, nil
}

// List returns the names with the prefix, in byte order.
func (d *Driver) List(ctx context.Context, prefix string) ([]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return nil, ErrClosed
	}
	var names []string
	for name := range d.queues {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Close makes everything durable, and ends the driver's use. It does not
// close the journal, whose checkpoints go on working.
func (d *Driver) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	queues := d.all()
	d.mu.Unlock()
	if closed {
		return nil
	}
	for _, q := range queues {
		q.mu.Lock()
		q.closed = true
		q.wakeAll()
		q.log.closeFiles()
		q.mu.Unlock()
	}
	return d.j.Wait(d.j.End())
}

// all returns the queues. d.mu is held.
func (d *Driver) all() []*Queue {
	queues := make([]*Queue, 0, len(d.byID))
	for _, q := range d.byID {
		queues = append(queues, q)
	}
	return queues
}
