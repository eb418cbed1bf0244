//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"herald/queue"
	librados "herald/rados"
)

// Ack removes entries and notes attempts. Its linearization point is the
// operation that frees the ring and sets the marks. Where this driver holds
// the queue's lock it compares that, too.
func (q *rgwQueue) Ack(ctx context.Context, a queue.Ack) error {
	err := q.r.own.enter()
	if err != nil {
		return err
	}
	defer q.r.own.leave()
	for range tries {
		if err = q.ack(ctx, a); !errors.Is(err, errAckAgain) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("ack %s: %w", q.name, err)
	}
	return nil
}

// errAckAgain: somebody else removed entries meanwhile.
var errAckAgain = errors.New("the ring has changed")

func (q *rgwQueue) ack(ctx context.Context, a queue.Ack) error {
	p, err := q.page(ctx, 0, 0)
	if err != nil {
		return err
	}
	set, front, err := q.plan(ctx, p, a)
	if err != nil {
		return err
	}
	op := q.write()
	if a.Fence != 0 {
		op.CmpXattr(attrRGWFence, librados.GreaterOrEqual, fenceText(a.Fence)) // ours than the queue's
		op.SetXattr(attrRGWFence, fenceText(a.Fence))
		q.r.assertLease(op, q.object, a.Fence)
	}
	var rm []string
	for at := range p.marks {
		if at < front {
			rm = append(rm, markKey(at))
		}
	}
	if len(rm) > 0 {
		op.OmapRm(rm...)
	}
	var pairs []librados.Pair
	for at, m := range set {
		if at >= front {
			pairs = append(pairs, librados.Pair{Key: markKey(at), Value: m.encode()})
		}
	}
	if len(pairs) > 0 {
		op.OmapSet(pairs...)
	}
	if front > p.front {
		op.Exec(classQueue, methodRemove, encodeRemove(q.ringSize().marker(front), 0)) // 0: the OSD counts
	}
	_, err = q.operate(ctx, op, 0)
	switch {
	case errors.Is(err, librados.ErrMismatch), errors.Is(err, syscall.EBUSY):
		return queue.ErrFenced
	case front > p.front && errors.Is(err, syscall.EINVAL):
		return errAckAgain
	}
	return err
}

// plan makes up what an Ack changes: marks to be set, and the place of the
// first entry that stays.
func (q *rgwQueue) plan(ctx context.Context, p *rgwPage, a queue.Ack) (set map[uint64]mark, front uint64, err error) {
	front, set = p.front, make(map[uint64]mark)
	upTo, some, err := parseRGWMarker(a.UpTo)
	if err != nil {
		return nil, 0, err
	}
	if some && upTo >= p.front {
		if front, err = q.endOf(ctx, upTo, p.tail); err != nil {
			return nil, 0, err
		}
	}
	for _, m := range a.Done {
		at, size, err := q.live(ctx, p, m)
		if err != nil {
			return nil, 0, err
		}
		if size > 0 {
			set[at] = mark{gone: true, cost: size}
		}
	}
	for _, f := range a.Failed {
		at, size, err := q.live(ctx, p, f.Marker)
		if err != nil {
			return nil, 0, err
		}
		if size > 0 && !set[at].gone {
			m := mark{attempts: max(f.Attempts, 0)}
			if !f.LastTry.IsZero() {
				m.last = q.r.own.clock.stampOf(f.LastTry)
			}
			set[at] = m
		}
	}
	for front < p.tail && (set[front].gone || p.marks[front].gone) {
		if front, err = q.endOf(ctx, front, p.tail); err != nil {
			return nil, 0, err
		}
	}
	return set, front, nil
}

// live returns the place of an entry and what it takes; 0 when it is gone.
func (q *rgwQueue) live(ctx context.Context, p *rgwPage, m queue.Marker) (at, size uint64, err error) {
	at, ok, err := parseRGWMarker(m)
	if err != nil || !ok || at < p.front || at >= p.tail || p.marks[at].gone {
		return 0, 0, err
	}
	end, err := q.endOf(ctx, at, p.tail)
	if errors.Is(err, errNoEntry) {
		return 0, 0, nil
	}
	return at, end - at, err
}

// endOf is where the entry at a place ends; the tail for what lies behind it.
// An entry that was there, but has been removed since, is errAckAgain.
func (q *rgwQueue) endOf(ctx context.Context, at, tail uint64) (uint64, error) {
	if at >= tail {
		return tail, nil
	}
	q.mu.Lock()
	end, ok := q.index.next(at)
	q.mu.Unlock()
	if ok {
		return end, nil
	}
	p, err := q.page(ctx, at, rgwPageSize)
	if err != nil {
		return 0, err
	}
	if at < p.front {
		return 0, errAckAgain
	}
	i, ok := slices.BinarySearchFunc(p.list, at, func(e rgwPlaced, at uint64) int { return cmp.Compare(e.at, at) })
	if !ok {
		return 0, errNoEntry
	}
	return p.list[i].end, nil
}
