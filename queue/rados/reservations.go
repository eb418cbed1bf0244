//go:build rados

package rados

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// stale is a reservation that is listed.
type stale struct {
	id queue.ID
	*reservation
}

func (a stale) compare(b stale) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.id, b.id))
}

// Reservations returns the reservations that are older than before. They are
// kept by id; so all are read, and the oldest returned.
func (q *Queue) Reservations(ctx context.Context, before time.Time, most int) ([]queue.Reservation, error) {
	if err := q.enter(); err != nil {
		return nil, err
	}
	defer q.d.leave()
	line := q.d.clock.stampOf(before)
	var old []stale
	err := q.eachReservation(ctx, func(id queue.ID, r *reservation) {
		if r.time < line {
			old = append(old, stale{id, r})
		}
		if len(old) > 2*max(most, 0)+1024 {
			old = oldest(old, most)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reservations of queue %s: %w", q.name, q.gone(err))
	}
	var list []queue.Reservation
	for _, r := range oldest(old, most) {
		list = append(list, queue.Reservation{
			ID: r.id, Intent: r.intent, Size: r.size, Entries: r.entries, Time: q.d.clock.timeOf(r.time),
		})
	}
	return list, nil
}

func oldest(list []stale, most int) []stale {
	slices.SortFunc(list, stale.compare)
	return list[:min(len(list), max(most, 0))]
}

// eachReservation reads all reservations, page by page.
func (q *Queue) eachReservation(ctx context.Context, f func(queue.ID, *reservation)) error {
	for after := ""; ; {
		op := librados.NewRead()
		op.AssertExists()
		record, page := op.GetXattr(xattrRecord), op.OmapGetVals(after, keyReservation, 1000)
		if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
			return err
		}
		if _, err := q.learn(record.Data); err != nil {
			return err
		}
		for _, p := range page.Pairs {
			id, err := parseKey(keyReservation, p.Key)
			if err != nil {
				return err
			}
			r, err := decodeReservation(p.Value)
			if err != nil {
				return fmt.Errorf("reservation %d: %w", id, err)
			}
			f(queue.ID(id), r)
			after = p.Key
		}
		if !page.More || len(page.Pairs) == 0 {
			return nil
		}
	}
}
