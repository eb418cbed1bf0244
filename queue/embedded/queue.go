package embedded

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"herald/journal"
	"herald/queue"
)

// Queue is one queue of a Driver.
type Queue struct {
	d        *Driver
	id       uint64
	name     string
	capacity int64
	dir      string

	mu           sync.Mutex // guards what follows; held while a record is appended and applied
	deleted      bool
	closed       bool
	lsn          journal.LSN // of the last record applied
	nextID       uint64
	fence        uint64 // the newest seen
	reservations map[queue.ID]*reservation
	spare        []*reservation // ended ones, to be used again
	reserved     int64          // bytes, with overhead
	log          entryLog
	wake         chan struct{} // closed at the next commit; nil when nobody waits
	snap         snapshotFile
	repaired     bool // by Check; no record tells of it
	scratch      []byte
	parts        [][]byte
}

type reservation struct {
	intent  []byte
	size    int64
	entries int
	time    int64 // nanoseconds since 1970
}

func (r *reservation) cost() int64 { return r.size + int64(r.entries)*queue.EntryOverhead }

var (
	_ queue.Queue  = (*Queue)(nil)
	_ queue.Waiter = (*Queue)(nil)
)

func newQueue(d *Driver, id uint64, name string, capacity int64) *Queue {
	dir := filepath.Join(d.dir, dirName(name, id))
	return &Queue{
		d: d, id: id, name: name, capacity: capacity, dir: dir,
		nextID:       id<<32 + 1, // no reservation of an earlier queue of the name is taken for one of this
		reservations: make(map[queue.ID]*reservation),
		log: entryLog{
			dir: dir, spills: &d.spills, nextSeq: 1, segmentBytes: d.opts.SegmentBytes, tailMax: d.opts.TailBytes,
			attempts: make(map[uint64]attempt),
		},
		snap: snapshotFile{path: filepath.Join(dir, "snapshot")},
	}
}

// change runs f, which appends a record and applies it, under the queue's
// mutex. size is about that of the record. An LSN of zero means that there was
// nothing to do.
func (q *Queue) change(size int, durable bool, f func() (journal.LSN, error)) error {
	for {
		q.mu.Lock()
		err := q.usable()
		var lsn journal.LSN
		if err == nil {
			lsn, err = f()
		}
		q.mu.Unlock()
		if errors.Is(err, journal.ErrRingFull) {
			if err := q.d.j.WaitRoom(size + 128); err != nil {
				return fmt.Errorf("queue %s: %w", q.name, err)
			}
			continue
		}
		if err == nil && durable && lsn != 0 {
			err = q.d.j.Wait(lsn)
		}
		return err
	}
}

func (q *Queue) usable() error {
	switch {
	case q.deleted:
		return queue.ErrNoSuchQueue
	case q.closed:
		return ErrClosed
	}
	return nil
}

// Reserve holds room. Its linearization point is the append to the journal.
func (q *Queue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	if size < 1 || entries < 1 {
		return 0, queue.ErrInvalid
	}
	if size > q.capacity || int64(entries) > q.capacity/queue.EntryOverhead {
		return 0, queue.ErrFull
	}
	r := reservation{intent: intent, size: size, entries: entries, time: q.d.opts.Now().UnixNano()}
	var id queue.ID
	err := q.change(len(intent), q.d.opts.Sync, func() (journal.LSN, error) {
		if r.cost() > q.capacity-q.reserved-q.log.bytes {
			return 0, queue.ErrFull
		}
		id = queue.ID(q.nextID)
		rec := putNumbers(append(q.scratch[:0], opReserve), q.id, uint64(id), uint64(r.time), uint64(size), uint64(entries))
		q.scratch = rec
		lsn, err := q.d.j.TryAppend(journal.StreamQueue, rec, intent)
		if err == nil {
			q.applyReserve(lsn, id, r)
		}
		return lsn, err
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

// Renew sets the time stamp; it is not journaled.
func (q *Queue) Renew(ctx context.Context, id queue.ID) error {
	now := q.d.opts.Now().UnixNano()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	r, ok := q.reservations[id]
	if !ok {
		return queue.ErrNoSuchReservation
	}
	r.time = now
	return nil
}

// Commit turns a reservation into entries. Its linearization point is the
// append of its one record to the journal.
func (q *Queue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	size := int64(0)
	for _, e := range entries {
		size += int64(len(e))
	}
	now := q.d.opts.Now().UnixNano()
	return q.change(int(size), q.d.opts.Sync, func() (journal.LSN, error) {
		r, ok := q.reservations[id]
		if !ok {
			return 0, queue.ErrNoSuchReservation
		}
		if size > r.size || len(entries) > r.entries {
			return 0, queue.ErrTooLarge
		}
		lsn, err := q.d.j.TryAppend(journal.StreamQueue, q.commitRecord(id, now, entries)...)
		clear(q.parts)
		if errors.Is(err, journal.ErrTooLarge) {
			return 0, fmt.Errorf("%w: %w", queue.ErrTooLarge, err)
		}
		if err == nil {
			q.applyCommit(lsn, id, now, entries)
		}
		return lsn, err
	})
}

// commitRecord returns the parts of a record, in memory that the queue keeps.
func (q *Queue) commitRecord(id queue.ID, now int64, entries [][]byte) [][]byte {
	b := putNumbers(append(q.scratch[:0], opCommit), q.id, uint64(id), uint64(now), q.log.nextSeq, uint64(len(entries)))
	// Lengths go to the end of scratch; it must not move while parts point
	// into it.
	b = slices.Grow(b, binary.MaxVarintLen64*len(entries))
	parts := append(q.parts[:0], b)
	for _, e := range entries {
		at := len(b)
		b = binary.AppendUvarint(b, uint64(len(e)))
		parts = append(parts, b[at:], e)
	}
	q.scratch, q.parts = b, parts
	return parts
}

// Abort gives the room back.
func (q *Queue) Abort(ctx context.Context, id queue.ID) error {
	return q.change(0, q.d.opts.Sync, func() (journal.LSN, error) {
		if _, ok := q.reservations[id]; !ok {
			return 0, nil
		}
		rec := putNumbers(append(q.scratch[:0], opAbort), q.id, uint64(id))
		q.scratch = rec
		lsn, err := q.d.j.TryAppend(journal.StreamQueue, rec)
		if err == nil {
			q.applyAbort(lsn, id)
		}
		return lsn, err
	})
}

// List returns entries. The caller must not change their data.
func (q *Queue) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	seq, err := parseMarker(after)
	if err != nil {
		return nil, false, err
	}
	for {
		refs, more, err := q.plan(seq, max)
		if err != nil {
			return nil, false, err
		}
		entries, err := read(refs)
		if err == nil {
			return entries, more, nil
		}
		// Entries may have been acked since, and their file been used again.
		q.mu.Lock()
		again := stale(refs)
		q.mu.Unlock()
		if !again || ctx.Err() != nil {
			return nil, false, fmt.Errorf("queue %s: %w", q.name, err)
		}
	}
}

func (q *Queue) plan(seq uint64, max int) ([]ref, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, false, err
	}
	if max <= 0 {
		more, err := q.log.hasAfter(seq)
		return nil, more, err
	}
	return q.log.plan(seq, max)
}

// Ack removes entries and notes attempts. It is journaled, but not flushed.
func (q *Queue) Ack(ctx context.Context, ack queue.Ack) error {
	a, err := parseAck(ack)
	if err != nil {
		return err
	}
	return q.change(32*(len(a.done)+len(a.failed)), false, func() (journal.LSN, error) {
		if a.fence != 0 && a.fence < q.fence {
			return 0, queue.ErrFenced
		}
		a.upTo = min(a.upTo, q.log.nextSeq-1)
		if a.upTo == 0 && len(a.done)+len(a.failed) == 0 && a.fence <= q.fence {
			return 0, nil
		}
		q.scratch = a.encode(q.scratch[:0], q.id)
		lsn, err := q.d.j.TryAppend(journal.StreamQueue, q.scratch)
		if err == nil {
			err = q.applyAck(lsn, a)
		}
		return lsn, err
	})
}

// Reservations returns the reservations that are older than before.
func (q *Queue) Reservations(ctx context.Context, before time.Time, limit int) ([]queue.Reservation, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	line := int64(math.MaxInt64)
	if before.Before(time.Unix(0, math.MaxInt64)) {
		line = before.UnixNano()
	}
	var old []queue.Reservation
	for id, r := range q.reservations {
		if r.time < line {
			old = append(old, queue.Reservation{
				ID: id, Intent: r.intent, Size: r.size, Entries: r.entries, Time: time.Unix(0, r.time),
			})
		}
	}
	slices.SortFunc(old, func(a, b queue.Reservation) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
	old = old[:min(len(old), max(limit, 0))]
	for i := range old {
		old[i].Intent = slices.Clone(old[i].Intent) // its memory is used again
	}
	return old, nil
}

// Stats returns the queue's figures.
func (q *Queue) Stats(ctx context.Context) (queue.Stats, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return queue.Stats{}, err
	}
	oldest, err := q.log.oldest()
	return queue.Stats{
		Capacity:     q.capacity,
		Entries:      q.log.entries,
		Bytes:        q.log.bytes,
		Reservations: int64(len(q.reservations)),
		Reserved:     q.reserved,
		Oldest:       oldest,
	}, err
}

// Wait returns when there is an entry after the marker.
func (q *Queue) Wait(ctx context.Context, after queue.Marker) error {
	seq, err := parseMarker(after)
	if err != nil {
		return err
	}
	for {
		wake, err := q.waitChan(seq)
		if err != nil || wake == nil {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitChan returns nil when there is an entry after seq, else what will be
// closed at the next commit.
func (q *Queue) waitChan(seq uint64) (<-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	if has, err := q.log.hasAfter(seq); has || err != nil {
		return nil, err
	}
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return q.wake, nil
}

// wakeAll wakes those who wait. q.mu is held.
func (q *Queue) wakeAll() {
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}

// markerOf writes a sequence number as 16 hexadecimal digits.
func markerOf(seq uint64) queue.Marker {
	var b [8]byte
	var s [16]byte
	binary.BigEndian.PutUint64(b[:], seq)
	hex.Encode(s[:], b[:])
	return queue.Marker(s[:])
}

func parseMarker(m queue.Marker) (uint64, error) {
	if m == "" {
		return 0, nil
	}
	var b [8]byte
	if len(m) != 16 {
		return 0, fmt.Errorf("marker %q: %w", m, queue.ErrInvalid)
	}
	if _, err := hex.Decode(b[:], []byte(m)); err != nil {
		return 0, fmt.Errorf("marker %q: %w", m, queue.ErrInvalid)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
