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

// Reservations returns the reservations that are older than before. They are
// kept by id; so all are read, and the oldest returned.
func (q *Queue) Reservations(ctx context.Context, before time.Time, most int) ([]queue.Reservation, error) {
	if err := q.enter(); err != nil {
		return nil, err
	}
	defer q.d.leave()
	line := q.d.clock.stampOf(before)
	var old []queue.Reservation
	err := q.eachGroup(ctx, func(number uint64, g *group) {
		for i := range g.members {
			if m := g.open(i); m != nil && g.stamp(i) < line {
				old = append(old, queue.Reservation{
					ID: idOf(number, i), Intent: m.intent, Size: m.size, Entries: m.entries, Time: q.d.clock.timeOf(g.stamp(i)),
				})
			}
		}
		if len(old) > 2*max(most, 0)+1024 {
			old = oldest(old, most)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reservations of queue %s: %w", q.name, q.gone(err))
	}
	return oldest(old, most), nil
}

func oldest(list []queue.Reservation, most int) []queue.Reservation {
	slices.SortFunc(list, func(a, b queue.Reservation) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), max(most, 0))]
}

// eachGroup reads all reservations, page by page. What became of them is read
// first: what ends meanwhile may still be returned, but nothing that had ended
// before.
func (q *Queue) eachGroup(ctx context.Context, f func(uint64, *group)) error {
	states := make(map[uint64][]byte)
	err := q.eachValue(ctx, keyState, 1000, func(number uint64, value []byte) error {
		states[number] = value
		return nil
	})
	if err != nil {
		return err
	}
	return q.eachValue(ctx, keyGroup, 100, func(number uint64, value []byte) error {
		g, err := groupOf(value, states[number])
		if err != nil {
			return fmt.Errorf("reservations %d: %w", number, err)
		}
		f(number, g)
		return nil
	})
}

// eachValue reads all keys of a kind, some at a time.
func (q *Queue) eachValue(ctx context.Context, prefix string, some int, f func(n uint64, value []byte) error) error {
	for after := ""; ; {
		op := librados.NewRead()
		op.AssertExists()
		record, page := op.GetXattr(xattrRecord), op.OmapGetVals(after, prefix, some)
		if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
			return err
		}
		if _, err := q.learn(record.Data); err != nil {
			return err
		}
		for _, p := range page.Pairs {
			n, err := parseKey(prefix, p.Key)
			if err == nil {
				err = f(n, p.Value)
			}
			if err != nil {
				return err
			}
			after = p.Key
		}
		if !page.More || len(page.Pairs) == 0 {
			return nil
		}
	}
}
