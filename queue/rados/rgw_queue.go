//go:build rados

package rados

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// rgwQueue is a queue that a radosgw may use at the same time. Its object is
// radosgw's, in the ring and in the class's reservations. An intent is a key
// of the omap; what ends or changes it compares it first, in the operation
// that does the rest.
type rgwQueue struct {
	r            *RGW
	name, object string
	id           rgwID

	mu    sync.Mutex           // guards what follows
	held  map[queue.ID]rgwHeld // made by this driver, and open as far as it knows
	ring  ring
	seen  rgwSeen
	index rgwIndex
	wake  chan struct{} // closed at the next commit of this driver
}

// rgwRefresh is the age at which Renew takes room in the class anew.
const rgwRefresh = rgwStale / 3

var (
	_ queue.Queue  = (*rgwQueue)(nil)
	_ queue.Waiter = (*rgwQueue)(nil)
)

func newRGWQueue(r *RGW, name, object string, id rgwID) *rgwQueue {
	return &rgwQueue{r: r, name: name, object: object, id: id, held: make(map[queue.ID]rgwHeld), wake: make(chan struct{})}
}

// guard lets an operation fail when the queue is another one, or gone.
func (q *rgwQueue) guard(op interface {
	AssertExists()
	CmpXattr(string, librados.Comparison, []byte)
}) {
	op.AssertExists()
	op.CmpXattr(attrRGWID, librados.Equal, q.id.encode())
}

func (q *rgwQueue) write() *librados.WriteOp {
	op := librados.NewWrite()
	q.guard(op)
	return op
}

func (q *rgwQueue) read() *librados.ReadOp {
	op := librados.NewRead()
	q.guard(op)
	return op
}

// operate does an operation. ErrNoSuchQueue when the queue is another one, or
// gone; ErrMismatch for another comparison, ENOENT for a reservation that the
// class does not have.
func (q *rgwQueue) operate(ctx context.Context, op librados.Op, flags librados.Flags) (lost bool, err error) {
	lost, err = q.r.operate(ctx, q.object, op, flags)
	if errors.Is(err, librados.ErrMismatch) || errors.Is(err, syscall.ENOENT) {
		switch id, idErr := q.r.readID(ctx, q.object); {
		case errors.Is(idErr, syscall.ENOENT), errors.Is(idErr, syscall.ENODATA), idErr == nil && id != q.id:
			return lost, queue.ErrNoSuchQueue
		case idErr != nil:
			return lost, idErr
		}
	}
	return lost, err
}

// isFull tells whether the ring, or the pool, has no room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func intentKey(id queue.ID) string { return key(keyRGWReservation, uint64(id)) }

// Reserve holds room. Its linearization point is the operation that reserves
// in the class and sets the intent. Under which id the class knows it, is noted
// afterwards; an intent without that makes Commit reserve again.
func (q *rgwQueue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	switch {
	case size < 1 || entries < 1:
		return 0, queue.ErrInvalid
	case size > maxCommit || entries > maxCommit/queue.EntryOverhead:
		return 0, queue.ErrFull
	}
	if err := q.r.own.enter(); err != nil {
		return 0, err
	}
	defer q.r.own.leave()
	id := queue.ID(max(randomID(), 1))
	h := rgwHeld{reservation: reservation{time: q.r.own.stamp(), size: size, entries: entries, intent: slices.Clone(intent)}}
	op := q.write()
	op.OmapCmp(intentKey(id), librados.Equal, nil)
	op.OmapSet(librados.Pair{Key: intentKey(id), Value: h.encode()})
	lost, err := q.take(ctx, op, &h, size, entries)
	if lost && errors.Is(err, librados.ErrMismatch) { // it was done, and the answer was lost
		q.hold(id, h)
		return id, nil
	}
	if err == nil {
		q.r.own.opts.fault("rgw.reserved")
		op := q.write()
		op.OmapSet(librados.Pair{Key: intentKey(id), Value: h.encode()})
		_, err = q.operate(ctx, op, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("reserve in %s: %w", q.name, err)
	}
	q.hold(id, h)
	return id, nil
}

// take adds a reservation in the class to an operation, and does it. Errors:
// ErrFull.
func (q *rgwQueue) take(ctx context.Context, op *librados.WriteOp, h *rgwHeld, size int64, entries int) (lost bool, err error) {
	step := op.ExecOut(classQueue, methodReserve, encodeReserve(uint64(size), uint32(entries)))
	for seen := []byte(nil); ; {
		taken := q.r.own.stamp()
		again, err := q.operate(ctx, op, librados.ReturnVec)
		lost = lost || again
		if err == nil {
			h.taken = taken
			h.class, err = decodeReserve(step.Data)
		}
		if !isFull(err) {
			return lost, err
		}
		q.r.own.opts.fault("rgw.full")
		if seen, err = q.r.makeRoom(ctx, q.object, cost(size, entries), seen); err != nil {
			return lost, noQueue(err)
		}
	}
}

// takeAgain reserves in the class anew, and notes it. ErrMismatch when the
// reservation has changed.
func (q *rgwQueue) takeAgain(ctx context.Context, id queue.ID, old rgwHeld) (rgwHeld, error) {
	h := old
	if _, err := q.take(ctx, q.write(), &h, h.size, h.entries); err != nil {
		return old, err
	}
	op := q.write()
	op.OmapCmp(intentKey(id), librados.Equal, old.encode())
	op.OmapSet(librados.Pair{Key: intentKey(id), Value: h.encode()})
	if old.taken != 0 {
		op.Exec(classQueue, methodAbort, encodeAbort(old.class))
	}
	if _, err := q.operate(ctx, op, 0); err != nil {
		return old, err
	}
	q.hold(id, h)
	return h, nil
}

func (q *rgwQueue) hold(id queue.ID, h rgwHeld) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held[id] = h
}

// release forgets a reservation that has ended.
func (q *rgwQueue) release(id queue.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.held, id)
}

// find returns an open reservation. Errors: ErrNoSuchReservation.
func (q *rgwQueue) find(ctx context.Context, id queue.ID) (rgwHeld, error) {
	q.mu.Lock()
	h, ok := q.held[id]
	q.mu.Unlock()
	if ok {
		return h, nil
	}
	return q.readHeld(ctx, id)
}

// readHeld reads a reservation as it is now.
func (q *rgwQueue) readHeld(ctx context.Context, id queue.ID) (rgwHeld, error) {
	op := q.read()
	step := op.OmapGetByKeys(intentKey(id))
	if _, err := q.operate(ctx, op, 0); err != nil {
		return rgwHeld{}, err
	}
	if len(step.Pairs) == 0 {
		q.release(id)
		return rgwHeld{}, queue.ErrNoSuchReservation
	}
	h, err := decodeRGWHeld(step.Pairs[0].Value)
	if err == nil {
		q.hold(id, h)
	}
	return h, err
}

// Renew sets a reservation's time stamp, and takes its room in the class anew
// before radosgw ends it. Without room for both it goes on without: Commit
// takes it.
func (q *rgwQueue) Renew(ctx context.Context, id queue.ID) error {
	if err := q.r.own.enter(); err != nil {
		return err
	}
	defer q.r.own.leave()
	h, err := q.find(ctx, id)
	for ; err == nil; h, err = q.readHeld(ctx, id) {
		err := q.renew(ctx, id, h)
		if !errors.Is(err, librados.ErrMismatch) {
			return err
		}
	}
	return err
}

// renew tries it once. ErrMismatch when the reservation has changed.
func (q *rgwQueue) renew(ctx context.Context, id queue.ID, h rgwHeld) error {
	now := q.r.own.stamp()
	if now-h.taken > rgwRefresh.Nanoseconds() {
		fresh, err := q.takeAgain(ctx, id, h)
		if err != nil && !errors.Is(err, queue.ErrFull) {
			return err
		}
		h = fresh
	}
	old := h.encode()
	h.time = now
	op := q.write()
	op.OmapCmp(intentKey(id), librados.Equal, old)
	op.OmapSet(librados.Pair{Key: intentKey(id), Value: h.encode()})
	lost, err := q.operate(ctx, op, 0)
	if lost && errors.Is(err, librados.ErrMismatch) {
		// It was done, or another one renewed or ended it since.
		h, err = q.readHeld(ctx, id)
	}
	if err == nil {
		q.hold(id, h)
	}
	return err
}

// Commit turns a reservation into entries. Its linearization point is the
// operation that appends them to the ring and removes the intent.
func (q *rgwQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if err := q.r.own.enter(); err != nil {
		return err
	}
	defer q.r.own.leave()
	h, err := q.find(ctx, id)
	anyLost := false
	for ; err == nil; h, err = q.readHeld(ctx, id) {
		lost, err := q.commit(ctx, id, h, entries)
		anyLost = anyLost || lost
		if !errors.Is(err, librados.ErrMismatch) {
			return err
		}
	}
	if anyLost && errors.Is(err, queue.ErrNoSuchReservation) {
		return nil // done, and the answer was lost
	}
	return err
}

// commit tries it once. ErrMismatch when the reservation has changed.
func (q *rgwQueue) commit(ctx context.Context, id queue.ID, h rgwHeld, entries [][]byte) (lost bool, err error) {
	size := int64(0)
	for _, data := range entries {
		size += int64(len(data))
	}
	if size > h.size || len(entries) > h.entries {
		return false, queue.ErrTooLarge
	}
	for {
		if h.taken == 0 {
			if h, err = q.takeAgain(ctx, id, h); err != nil {
				return lost, err
			}
		}
		op := q.write()
		op.OmapCmp(intentKey(id), librados.Equal, h.encode())
		op.OmapRm(intentKey(id))
		if len(entries) > 0 {
			op.Exec(classQueue, methodCommit, encodeCommit(h.class, entries...))
		} else {
			op.Exec(classQueue, methodAbort, encodeAbort(h.class))
		}
		again, err := q.operate(ctx, op, 0)
		lost = lost || again
		if errors.Is(err, syscall.ENOENT) { // radosgw ended it in the class
			if h, err = q.takeAgain(ctx, id, h); err == nil {
				continue
			}
		}
		switch {
		case err == nil:
			q.release(id)
			q.awake()
		case isFull(err): // the pool: the ring has the room that was reserved
			err = fmt.Errorf("the pool is full: %w", queue.ErrFull)
		}
		return lost, err
	}
}

// Abort ends a reservation.
func (q *rgwQueue) Abort(ctx context.Context, id queue.ID) error {
	if err := q.r.own.enter(); err != nil {
		return err
	}
	defer q.r.own.leave()
	h, err := q.find(ctx, id)
	if errors.Is(err, queue.ErrNoSuchReservation) {
		return nil
	}
	if err != nil {
		return err
	}
	op := q.write()
	op.OmapRm(intentKey(id))
	if h.taken != 0 {
		op.Exec(classQueue, methodAbort, encodeAbort(h.class))
	}
	if _, err := q.operate(ctx, op, 0); err != nil {
		return err
	}
	q.release(id)
	return nil
}

// Reservations returns ours that are older than a time. Those of radosgw have
// no intent, and end by their age: see keep.
func (q *rgwQueue) Reservations(ctx context.Context, before time.Time, most int) ([]queue.Reservation, error) {
	if err := q.r.own.enter(); err != nil {
		return nil, err
	}
	defer q.r.own.leave()
	_ = q.r.own.stamp() // keeps the clock
	limit := q.r.own.clock.stampOf(before)
	var out []queue.Reservation
	err := q.eachIntent(ctx, func(id queue.ID, res rgwHeld) {
		if res.time < limit {
			out = append(out, queue.Reservation{
				ID: id, Intent: bytes.Clone(res.intent), Size: res.size, Entries: res.entries, Time: q.r.own.clock.timeOf(res.time),
			})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reservations of %s: %w", q.name, err)
	}
	slices.SortStableFunc(out, func(a, b queue.Reservation) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
	return out[:min(len(out), max(most, 0))], nil
}

// eachIntent calls f with our open reservations.
func (q *rgwQueue) eachIntent(ctx context.Context, f func(queue.ID, rgwHeld)) error {
	if err := q.r.eachIntent(ctx, q.object, f); err != nil {
		return err
	}
	_, err := q.operate(ctx, q.read(), 0) // it was this queue's
	return err
}

func (r *RGW) eachIntent(ctx context.Context, object string, f func(queue.ID, rgwHeld)) error {
	for after := ""; ; {
		op := librados.NewRead()
		op.AssertExists()
		step := op.OmapGetVals(after, keyRGWReservation, 1000)
		if _, err := r.operate(ctx, object, op, 0); err != nil {
			return noQueue(err)
		}
		for _, p := range step.Pairs {
			after = p.Key
			id, err := parseKey(keyRGWReservation, p.Key)
			res, errValue := decodeRGWHeld(p.Value)
			if err = errors.Join(err, errValue); err != nil {
				return fmt.Errorf("key %q: %w", p.Key, err)
			}
			f(queue.ID(id), res)
		}
		if !step.More || len(step.Pairs) == 0 {
			return nil
		}
	}
}

// awake wakes those who wait for entries.
func (q *rgwQueue) awake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.wake)
	q.wake = make(chan struct{})
}
