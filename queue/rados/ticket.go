//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	librados "herald/rados"
)

// ticket is a reservation of the class. The class commits nothing without
// one; it is made just for that. What holds room for reservations of the
// contract is the record.
type ticket struct {
	id   uint32
	size uint64 // bytes of data that may be committed
	made time.Time
}

const (
	// minTicket is the least size of a ticket that is made ahead.
	minTicket = 16 << 10
	// ticketAge is how long a ticket may wait for its commit.
	ticketAge = 30 * time.Second
	// orphanAge is after what time a ticket is taken for one whose driver is
	// gone. It is measured by the OSD alone.
	orphanAge = 2 * time.Minute
	// sweepEvery is how often a queue that is used is swept of such tickets.
	sweepEvery = 10 * time.Minute
	// noEntries makes the class add nothing for the entries of a reservation:
	// it multiplies their number by ten in 32 bits, and gives less back than it
	// took (Ceph: tracker 74713). The ten bytes are in the size instead.
	noEntries = 1 << 31
)

// ticket returns one for the frame of a change. When the next change may need
// one before it can bring one along, that is made meanwhile.
func (q *Queue) ticket(ctx context.Context, t *txn) (*ticket, error) {
	need := uint64(len(t.frame))
	q.biggest = max(need, q.biggest-q.biggest/8)
	tk := q.takeSpare()
	if tk != nil && (tk.size < need || time.Since(tk.made) > ticketAge) {
		old := tk
		q.d.wg.Go(func() { q.abortTicket(old) })
		tk = nil
	}
	size := q.ticketSize(t.rec)
	if tk == nil {
		var err error
		if tk, err = q.newTicket(ctx, max(need, size)); errors.Is(err, syscall.ENOSPC) {
			if err := q.sweep(ctx, 0); err != nil {
				return nil, err
			}
			tk, err = q.newTicket(ctx, need)
		}
		if err != nil {
			return nil, err
		}
	}
	if size > 0 && t.made != nil {
		q.prefetch(size)
	}
	if time.Since(q.swept) > sweepEvery {
		q.swept = time.Now()
		q.d.wg.Go(func() {
			if err := q.sweep(ctx, orphanAge); err != nil && !errors.Is(err, syscall.ENOENT) {
				q.d.opts.Logger.Warn("sweep a queue", "queue", q.name, "err", err)
			}
		})
	}
	q.d.opts.fault("ticket")
	return tk, nil
}

// ticketSize is how large a ticket is best made ahead of its commit, or 0 when
// the ring has no room for that.
func (q *Queue) ticketSize(rec *record) uint64 {
	size := max(minTicket, q.biggest+q.biggest/2)
	if rec.used()+rec.room+8*size >= uint64(rec.ring) {
		return 0
	}
	return size
}

// bring has a change that makes reservations, and commits nothing, bring the
// next ticket along. The returned step has it.
func (q *Queue) bring(op *librados.WriteOp, t *txn) (step *librados.Step, size uint64) {
	size = q.ticketSize(t.rec)
	q.mu.Lock()
	spare := len(q.spare) > 0
	q.mu.Unlock()
	if spare || size == 0 || t.made == nil || t.frame != nil || t.remove != "" {
		return nil, 0
	}
	return op.ExecOut(classQueue, methodReserve, encodeReserve(size+entryHeader, noEntries)), size
}

// takeSpare returns the first ticket that was made ahead, or nil.
func (q *Queue) takeSpare() *ticket {
	q.mu.Lock()
	var spare chan *ticket
	if len(q.spare) > 0 {
		spare, q.spare = q.spare[0], q.spare[1:]
	}
	q.mu.Unlock()
	if spare == nil {
		return nil
	}
	return <-spare
}

// keep puts a ticket back that was not used.
func (q *Queue) keep(tk *ticket) {
	if tk == nil {
		return
	}
	spare := make(chan *ticket, 1)
	spare <- tk
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = append(q.spare, spare)
}

// prefetch has tickets made while changes are under way: two, because one that
// is asked for together with a change comes after it.
func (q *Queue) prefetch(size uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.spare) < 2 {
		spare := make(chan *ticket, 1)
		q.spare = append(q.spare, spare)
		q.d.wg.Go(func() {
			tk, err := q.newTicket(context.Background(), size)
			if err != nil {
				tk = nil // the next commit finds out
			}
			spare <- tk
		})
	}
}

func (q *Queue) newTicket(ctx context.Context, size uint64) (*ticket, error) {
	op := librados.NewRead()
	op.AssertExists()
	step := op.Exec(classQueue, methodReserve, encodeReserve(size+entryHeader, noEntries))
	made := time.Now()
	if _, err := q.d.operate(ctx, q.oid, op, librados.ReturnVec); err != nil {
		return nil, err
	}
	id, err := decodeReserve(step.Data)
	if err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	return &ticket{id: id, size: size, made: made}, nil
}

// abortTicket gives a ticket back. One that stays is swept later.
func (q *Queue) abortTicket(tk *ticket) {
	ctx, cancel := context.WithTimeout(context.Background(), q.d.opts.OpTimeout)
	defer cancel()
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classQueue, methodAbort, encodeAbort(tk.id))
	if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
		q.d.opts.Logger.Info("give back a ticket", "queue", q.name, "err", err)
	}
}

// dropTickets gives the spare tickets back when the driver is closed.
func (q *Queue) dropTickets() {
	for len(q.spare) > 0 {
		if tk := q.takeSpare(); tk != nil {
			q.abortTicket(tk)
		}
	}
}

// sweep gives tickets back whose drivers are gone: those that are older than
// one that is made now by that age. When a driver is not gone, its commit finds
// its ticket missing and makes another.
func (q *Queue) sweep(ctx context.Context, age time.Duration) error {
	newest, err := q.newTicket(ctx, 1)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	op := librados.NewRead()
	op.AssertExists()
	step := op.Exec(classQueue, methodReservations, nil)
	if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
		return err
	}
	open, err := decodeReservations(step.Data)
	if err != nil {
		return err
	}
	var line time.Time
	for id, r := range open {
		if newest == nil || id == newest.id {
			line = r.time.Add(-age)
		}
	}
	for id, r := range open {
		if newest != nil && id == newest.id || age == 0 || r.time.Before(line) {
			q.abortTicket(&ticket{id: id})
		}
	}
	return nil
}
