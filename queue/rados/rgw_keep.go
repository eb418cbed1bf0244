//go:build rados

package rados

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// keep does what the owner of a queue does every 30 s: it ends reservations in
// the class that are older than age. Those of a radosgw that died go by that;
// ours may go, too, and are taken anew.
func (l *rgwLease) keep(ctx context.Context, age time.Duration) error {
	stale := expireBefore(l.r.own.stamp() - age.Nanoseconds())
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classLock, methodAssertLocked, l.call.encodeAssert())
	op.Exec(classQueue, methodRGWExpire, stale)
	_, err := l.r.operate(ctx, l.object, op, 0)
	return err
}

// expireBefore is the input of methodRGWExpire.
func expireBefore(stamp int64) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.seconds(stamp) })
}

// repair makes the class's sum of reservations large enough: see makeRoom.
func (r *RGW) repair(ctx context.Context, object string) error {
	c, err := r.readClass(ctx, object)
	if err != nil || c.head.reserved >= c.sum {
		return err
	}
	return r.setReserved(ctx, object, c, c.sum)
}

// makeRoom looks why the class refused to reserve, and sets its sum of
// reservations right if that is the reason. OSDs before 19.2.4 and 20.2.3
// forget ten bytes for each entry of a reservation that ends, so that a queue
// that is used long enough refuses everything although it is empty (Ceph:
// tracker 74713). The sum shall be one byte too large: else a ring may become
// full to the byte, which the class takes for an empty one.
//
// Without an error it is to be tried again: the sum is right now, or somebody
// else changed the head meanwhile, perhaps to set it right. ErrFull only when
// there was a moment at which the room would not have been enough with the sum
// set right, or when it is not the ring that is full: the head, which is
// returned, has room and is as it was the last time.
func (r *RGW) makeRoom(ctx context.Context, object string, need uint64, last []byte) (head []byte, err error) {
	c, err := r.readClass(ctx, object)
	if err != nil {
		return nil, err
	}
	r.own.opts.fault("rgw.room")
	switch fits, free := c.head.fits(need), c.head.free(); {
	case fits && bytes.Equal(c.raw, last): // the pool
		return nil, queue.ErrFull
	case fits:
		return c.raw, nil
	case c.head.reserved <= c.sum, c.sum > free, need > free-c.sum:
		return nil, queue.ErrFull
	}
	if err = r.setReserved(ctx, object, c, c.sum); isFull(err) {
		err = queue.ErrFull
	}
	return nil, err
}

// rgwClass is what the class knows of a queue's reservations.
type rgwClass struct {
	head classHead
	raw  []byte // it, as it is stored
	sum  uint64 // what it should say is reserved
}

func (r *RGW) readClass(ctx context.Context, object string) (*rgwClass, error) {
	read := librados.NewRead()
	read.AssertExists()
	step := read.Read(0, headSize)
	list := read.Exec(classQueue, methodReservations, nil)
	if _, err := r.operate(ctx, object, read, 0); err != nil {
		return nil, err
	}
	head, err := decodeHead(step.Data)
	if err != nil {
		return nil, err
	}
	reservations, err := decodeReservations(list.Data) // with those that are not in the head
	if err != nil {
		return nil, err
	}
	c := &rgwClass{head: head, raw: step.Data[:headPrefix+head.encoded], sum: 1}
	counted := true
	for _, res := range reservations {
		c.sum += res.size + uint64(max(res.entries, 1))*queue.EntryOverhead
		counted = counted && res.entries > 0
	}
	if counted {
		return c, nil
	}
	// Before release 19 the class does not say for how many entries. Radosgw
	// reserves for one. Ours may end meanwhile: too large a sum does no harm,
	// but too small a one lets commits of several entries overrun the ring.
	err = r.eachIntent(ctx, object, func(_ queue.ID, res rgwHeld) {
		c.sum += uint64(res.entries-1) * queue.EntryOverhead
	})
	return c, err
}

// setReserved writes the class's sum of reservations, unless it has changed.
func (r *RGW) setReserved(ctx context.Context, object string, c *rgwClass, sum uint64) error {
	op := librados.NewWrite()
	op.CmpExt(c.raw, 0)
	op.Write(binary.LittleEndian.AppendUint64(nil, sum), c.head.reservedAt())
	_, err := r.operate(ctx, object, op, 0)
	if errors.Is(err, librados.ErrMismatch) {
		return nil
	}
	if err == nil && c.head.reserved > sum {
		r.own.opts.Logger.Info("room that ended reservations had kept is free again", "object", object, "bytes", c.head.reserved-sum)
	}
	return err
}
