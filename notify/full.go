package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herald/queue"
)

// What is done when a topic's queue has no room.
const (
	fullReject     = "reject"      // the change is refused (RGW)
	fullDropOldest = "drop-oldest" // the oldest entries go
	fullDropNew    = "drop-new"    // the change has no event
)

// errDropped: the change has no event for a topic, whose queue is full.
var errDropped = errors.New("event dropped: the queue is full")

// maxDrops is how often room is made for one reservation: others may be
// faster to take it.
const maxDrops = 16

// makeRoom does what the topic has done when its queue is full: nil when it is
// worth trying again. It is the caller that counts how often.
// Errors: ErrFull, errDropped.
func (s *Service) makeRoom(ctx context.Context, t *Topic, q queue.Queue, size int64, entries, try int) error {
	switch t.Arg(ArgWhenFull) {
	case fullDropNew:
		s.drop(t, fullDropNew, entries)
		return errDropped
	case fullDropOldest:
		if try == maxDrops {
			return ErrFull
		}
		if try > 1 { // there was room, for others
			if err := sleep(ctx, time.Duration(try)*5*time.Millisecond); err != nil {
				return ErrFull
			}
		}
		return s.dropOldest(ctx, t, q, size+int64(entries)*queue.EntryOverhead)
	}
	return ErrFull
}

// drop counts events that are given up for want of room.
func (s *Service) drop(t *Topic, how string, n int) {
	s.metrics.dropped.WithLabelValues(topicLabel(t), how).Add(float64(n))
	s.metrics.lost.Add(float64(n))
	if silent, ok := s.dropping.say(); ok {
		s.log.Warn("events dropped: the queue is full", "topic", t.ARN, "how", how, "events", n, "more", silent)
	}
}

// dropOldest removes as many of a queue's oldest entries as need takes, in
// bytes. One that is on its way to the endpoint may arrive all the same.
// Errors: ErrFull when that cannot give the room.
func (s *Service) dropOldest(ctx context.Context, t *Topic, q queue.Queue, need int64) error {
	select {
	case s.makingRoom <- struct{}{}: // one after the other: the same entries make room once
		defer func() { <-s.makingRoom }()
	case <-ctx.Done():
		return ErrFull
	}
	st, err := q.Stats(ctx)
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	if need > st.Capacity-st.Reserved {
		return ErrFull
	}
	need -= st.Capacity - st.Reserved - st.Bytes
	if sender, ok := q.(queue.Sender); ok {
		// The oldest are at the server, the room is wanted in the outbox: it comes
		// when the first that waits there finds room at the server.
		head, err := sender.Unsent(ctx, 1)
		if err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		if len(head) > 0 {
			need += int64(len(head[0].Data)) + queue.EntryOverhead
		}
		if len(head) == 0 || need <= 0 {
			return nil
		}
	}
	var upTo queue.Marker
	n := 0
	err = eachEntry(ctx, q, "", func(e queue.Entry) (bool, error) {
		if need <= 0 && n > 0 {
			return false, nil
		}
		upTo = e.Marker
		need -= int64(len(e.Data)) + queue.EntryOverhead
		n++
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	if n == 0 {
		return ErrFull
	}
	if err := q.Ack(ctx, queue.Ack{UpTo: upTo}); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	s.drop(t, fullDropOldest, n)
	return nil
}
