//go:build rados

package rados

import (
	"context"
	"errors"
	"time"

	"herald/queue"
)

// makeRoom gives back what is free at the start of the ring when that has
// become much, which under load no change does beside what else it does.
func (q *Queue) makeRoom(ctx context.Context, read bool) error {
	rec, raw := q.current()
	dead := rec.live - rec.front
	if dead == 0 || dead < uint64(rec.ring)/8 && rec.used()+rec.room < uint64(rec.ring)/2 {
		return nil
	}
	t := newTxn(rec, facts{places: &q.places}, q.d.stamp())
	t.trim()
	_, err := q.execute(ctx, t, raw, nil)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return err
	}
	return err
}

func (q *Queue) listParked(ctx context.Context, l *listing, after uint64) (uint64, error) {
	return after, nil
}

func (q *Queue) loadParked(ctx context.Context, v *view) (bool, error) { return true, nil }

var _ = time.Now
