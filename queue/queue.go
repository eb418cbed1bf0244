// Package queue is the contract of the persistent queues that make Herald's
// notifications reliable, and of the locks that share them out. A driver
// (queue/embedded, queue/redis, queue/rados) implements Driver; notify is its
// only user.
//
// A queue is filled in two phases. Reserve holds room and remembers an intent;
// Commit turns the reservation into entries, Abort gives the room back. What
// is reserved survives a crash together with its intent, so that somebody can
// find out later whether the intent came true, and commit or abort in place of
// a gateway that died in between.
//
// Promises that every driver keeps, each tested by queue/queuetest:
//
//   - Reserve, Renew and Abort: see their comments. Commit is atomic: all
//     entries or none, and with them the end of the reservation.
//   - Durable before the store: a Reserve, Commit or Abort that returned
//     survives a crash if anything survives that was written to the store
//     afterwards. A driver with a medium of its own makes it durable before it
//     returns; one that shares a journal with the store relies on its order.
//     After a crash there is either the reservation or what became of it,
//     never neither.
//   - Entries are listed in the order of their commits, and stay until they
//     are acked. Memory is bounded however many wait.
//   - Times, given and returned, are of the caller's clock. A driver whose
//     medium has a clock of its own translates them by age, so that a gateway
//     whose clock is wrong harms nothing.
//   - A call whose answer was lost is repeated by the driver until its context
//     ends, and takes effect once.
//   - Capacity counts live entries and live reservations, each with
//     EntryOverhead; it is recomputed from what is live and cannot drift.
package queue

import (
	"context"
	"time"
)

// EntryOverhead is what an entry costs beside its data, in bytes (Ceph's
// cls_queue: 10 bytes of framing each).
const EntryOverhead = 10

// DefaultCapacity is the capacity of a queue in bytes (RGW: 128,000,000, per
// shard).
const DefaultCapacity = 128_000_000

// Driver holds queues. All methods may be called concurrently.
type Driver interface {
	// Create makes a queue of the given capacity in bytes, durably.
	// Errors: ErrQueueExists.
	Create(ctx context.Context, name string, capacity int64) error
	// Open returns a handle; it is cheap and needs no closing. After Delete
	// its methods answer ErrNoSuchQueue. Errors: ErrNoSuchQueue.
	Open(ctx context.Context, name string) (Queue, error)
	// Delete removes a queue with its entries and reservations, durably.
	// Errors: ErrNoSuchQueue.
	Delete(ctx context.Context, name string) error
	// List returns the names with the prefix, in byte order.
	List(ctx context.Context, prefix string) ([]string, error)
	// Locker shares work between gateways.
	Locker() Locker
	// Close waits for what runs and makes everything durable.
	Close() error
}

// Exclusive is the optional capability of a Driver that only one process can
// have open: a reservation found when it was opened belongs to nobody alive.
type Exclusive interface {
	Exclusive() bool
}

// ID names a reservation within its queue. It is never zero and not used
// again while it could be mistaken.
type ID uint64

// Marker is the place of an entry in its queue: opaque, stable, compared only
// by the driver. The empty Marker is before the first entry.
type Marker string

// Queue is a bounded two-phase queue. All methods may be called concurrently,
// and all may answer ErrNoSuchQueue.
type Queue interface {
	// Reserve holds size bytes and EntryOverhead for each of the entries
	// (both at least 1; else ErrInvalid). Errors: ErrFull, ErrInvalid.
	Reserve(ctx context.Context, intent []byte, size int64, entries int) (ID, error)
	// Renew sets the reservation's time stamp to now. It need not be durable.
	// Errors: ErrNoSuchReservation.
	Renew(ctx context.Context, id ID) error
	// Commit appends the entries' data, atomically and in order, and ends the
	// reservation; List shows them when it returns. An empty list ends the
	// reservation with no entry. Errors: ErrNoSuchReservation; ErrTooLarge if
	// the data, or their number, exceed what was reserved; ErrFull if what the
	// queue is kept in has no room for anything (the reservation stays).
	Commit(ctx context.Context, id ID, entries [][]byte) error
	// Abort ends the reservation. An unknown id is no error.
	Abort(ctx context.Context, id ID) error
	// List returns the entries after a marker (also one whose entry is gone),
	// oldest first, at most max entries and, but for the first, about 4 MiB;
	// more tells whether others follow. Errors: ErrNoSuchMarker: the medium
	// went back to an older state, and does not know the marker; to be listed
	// from the beginning.
	List(ctx context.Context, after Marker, max int) (entries []Entry, more bool, err error)
	// Ack removes what was delivered and notes failed attempts. It need not
	// be durable on return: what an Ack removed may come again after a crash.
	// Errors: ErrFenced; ErrNoSuchMarker, of UpTo, as for List.
	Ack(ctx context.Context, ack Ack) error
	// Reservations returns those whose time stamp is before the given time,
	// oldest first, at most max.
	Reservations(ctx context.Context, before time.Time, max int) ([]Reservation, error)
	// Stats returns the queue's figures of this moment.
	Stats(ctx context.Context) (Stats, error)
}

// Waiter is the optional capability of a Queue to tell of commits, so that
// nobody has to poll.
type Waiter interface {
	// Wait returns when there is an entry after the marker, or ctx is done.
	// Errors: ErrNoSuchMarker, as for List.
	Wait(ctx context.Context, after Marker) error
}

// Entry is a committed entry.
type Entry struct {
	Marker   Marker
	Data     []byte
	Enqueued time.Time
	Attempts int       // failed attempts noted by Ack; they survive a failover
	LastTry  time.Time // of the latest of them
}

// Ack tells what became of listed entries.
type Ack struct {
	// UpTo removes this entry and all that were before it when it was listed.
	UpTo Marker
	// Done are single entries to be removed. Unknown ones are no error.
	Done []Marker
	// Failed notes attempts of entries that stay. Unknown ones are no error.
	Failed []Attempt
	// Fence, when not zero, must not be older than the newest fence the queue
	// has seen; else ErrFenced and nothing is changed.
	Fence uint64
}

// Attempt is the state of an entry's delivery so far.
type Attempt struct {
	Marker   Marker
	Attempts int
	LastTry  time.Time
}

// Reservation is an open reservation.
type Reservation struct {
	ID      ID
	Intent  []byte
	Size    int64 // bytes, without overhead
	Entries int
	Time    time.Time // made or last renewed
}

// Stats are a queue's figures.
type Stats struct {
	Capacity     int64 // bytes
	Entries      int64
	Bytes        int64 // of entries, with overhead
	Reservations int64
	Reserved     int64     // bytes of reservations, with overhead
	Oldest       time.Time // when the oldest entry was enqueued; zero when empty
}
