package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herald/queue"
	"herald/store"
)

// ending is a change from when its key's guard is held until that is given
// back, by the request or behind it.
type ending struct {
	s      *Service
	held   []*held // what was reserved
	left   *openOp // what the resolver, or the next change of the key, goes on with; nil: nothing
	op     openOp  // what left points to
	lock   guardLock
	locked bool // lock is; else there is no guard
}

// Ending what was begun has its own time: the client may be gone.
const (
	// reserveTimeout bounds the call that holds room in a queue on a server.
	reserveTimeout = 5 * time.Second
	abortTimeout   = 10 * time.Second
	enqueueTimeout = 30 * time.Second
	// guardTimeout bounds the wait for a key whose events of before cannot
	// reach their queues.
	guardTimeout = time.Minute
)

// lockKey waits for the guard of a key. Errors: context.DeadlineExceeded.
func (s *Service) lockKey(ctx context.Context, key string) (guardLock, error) {
	lock, ok := s.guard.tryLock(key)
	if ok {
		return lock, nil
	}
	if s.remote {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, guardTimeout)
		defer cancel()
	}
	if err := lock.wait(ctx); err != nil {
		return guardLock{}, fmt.Errorf("wait for earlier changes of %s: %w", key, err)
	}
	return lock, nil
}

// close gives everything back. It is called once.
func (e *ending) close() {
	if e.left != nil && len(e.left.held) > 0 {
		e.left.queues = e.left.held[0].in.queues
		e.s.late.add(e.left)
		defer e.s.follow(e.left.orderKey())
	}
	for _, h := range e.held {
		e.s.live.remove(h)
	}
	if e.locked {
		e.lock.unlock()
	}
}

// abort is for a change that did not happen.
func (e *ending) abort() {
	e.s.abort(e.held)
	e.held, e.left = nil, nil
}

// behind commits the entries behind the request. It is false when it does not.
func (e *ending) behind() bool {
	return e.startCommit() || e.s.background.start(e.s, enqueueTimeout, e.run)
}

// startCommit is behind without a goroutine, for one reservation in a queue
// that can do so. What does not go well goes on with one.
func (e *ending) startCommit() bool {
	if len(e.held) != 1 {
		return false
	}
	h := e.held[0]
	q, ok := h.queue.(queue.Starter)
	if !ok {
		return false
	}
	ctx := e.s.background.soon.get(e.s.background.ctx, enqueueTimeout)
	_, entries, err := e.s.compose(ctx, h, &e.left.outcome)
	if err != nil || len(entries) == 0 || !e.s.background.enter() {
		return false
	}
	q.StartCommit(ctx, h.id, entries, func(err error) {
		if err != nil {
			// What the queue has decided is as if it had not been tried.
			h.tried = !errors.Is(err, queue.ErrNoSuchQueue) && !errors.Is(err, queue.ErrNoSuchReservation) && !errors.Is(err, queue.ErrTooLarge)
			e.s.background.goOn(ctx, e.s, e.run)
			return
		}
		defer e.s.background.leave()
		e.s.metrics.stored.Add(float64(len(entries)))
		e.s.fault("notify.queued")
		e.left.held = nil
		e.s.forgetter.add(e.s, e.left.ref)
		e.close()
	})
	return true
}

// run is enqueue and close behind a request.
func (e *ending) run(ctx context.Context) {
	forget := false
	defer func() {
		if forget {
			e.s.forgetter.add(e.s, e.left.ref)
		}
		e.close()
	}()
	forget = e.commit(ctx)
}

// enqueue commits the entries of a change that happened, and forgets its
// outcome.
func (e *ending) enqueue(ctx context.Context) {
	if len(e.held) == 0 {
		e.left = nil
		return
	}
	if e.s.remote { // whatever time the change took, this has its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, enqueueTimeout)
		defer cancel()
	}
	if !e.commit(ctx) {
		return
	}
	e.s.forget(ctx, e.left.ref)
}

// commit commits the entries, to several queues at once where that takes round
// trips. What cannot be committed now is left; it tells whether nothing is.
func (e *ending) commit(ctx context.Context) bool {
	if len(e.held) == 1 {
		e.held[0].err = e.s.deliverTo(ctx, e.held[0], &e.left.outcome)
	} else {
		parallel(len(e.held), e.s.atOnce(), func(i int) { e.held[i].err = e.s.deliverTo(ctx, e.held[i], &e.left.outcome) })
	}
	var left []*held
	for _, h := range e.held {
		if h.err != nil {
			left = append(left, h)
			e.s.metrics.deferred.Inc()
			e.s.metrics.storeFailed.Add(float64(len(h.in.rules)))
			e.s.log.Error("commit entries, left to the resolver", "queue", h.name, "err", h.err)
		}
	}
	e.s.fault("notify.queued")
	e.left.held = left
	return len(left) == 0
}

// abort ends reservations of an op that did not happen. One that cannot be
// ended is left to the resolver.
func (s *Service) abort(list []*held) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	parallel(len(list), s.atOnce(), func(i int) {
		h := list[i]
		err := h.queue.Abort(ctx, h.id)
		if err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			s.log.Warn("abort reservation", "queue", h.name, "err", err)
		}
		s.live.remove(h)
	})
}

// commitPauses are those between attempts to commit entries while the guard is
// held: order is worth a short wait. It is never written.
var commitPauses = [...]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// deliverTo ends a reservation whose change happened. Nil means that nothing
// is left to be done.
func (s *Service) deliverTo(ctx context.Context, h *held, out *store.Outcome) error {
	for try := 0; ; try++ {
		err := s.commitEntries(ctx, h, out)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrNoSuchTopic):
			s.metrics.skipped.WithLabelValues("topic_deleted").Inc() // RGW: with all that waits in it
			return s.giveUp(ctx, h)
		case errors.Is(err, queue.ErrNoSuchReservation):
			// Ended already: by an earlier try whose answer was lost, or by
			// another gateway's resolver.
			s.metrics.skipped.WithLabelValues("resolved_elsewhere").Inc()
			return nil
		case errors.Is(err, queue.ErrFull): // the disk, or the pool
			return fmt.Errorf("%w: %w", ErrFull, err)
		case errors.Is(err, ErrFull), try == len(commitPauses):
			return err
		}
		if sleep(ctx, commitPauses[try]) != nil {
			return err
		}
	}
}

// giveUp ends the reservation of a topic that is gone, where the queue is not:
// a gateway with another store has a topic of that name.
func (s *Service) giveUp(ctx context.Context, h *held) error {
	if err := h.queue.Abort(ctx, h.id); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		return err
	}
	return nil
}

// compose returns the entries that the outcome gives, for the topic as it is
// now. Errors: ErrNoSuchTopic.
func (s *Service) compose(ctx context.Context, h *held, out *store.Outcome) (*Topic, [][]byte, error) {
	record := h.record
	if record == "" {
		tenant, name, err := ParseTopicARN(h.in.arn)
		if err != nil {
			return nil, nil, err
		}
		record = knownRecord(tenant, name)
	}
	topic, _, err := s.topics.load(ctx, record)
	if err != nil {
		return nil, nil, err
	}
	if topic.Dest.Queue == "" {
		return nil, nil, ErrNoSuchTopic
	}
	return topic, s.format(h.in.entries(s.region, topic, out)...), nil
}

// commitEntries writes the entries that the outcome gives. Errors: ErrFull
// when they are larger than reserved and there is no more room; ErrNoSuchTopic;
// queue.ErrNoSuchReservation: somebody else did it.
func (s *Service) commitEntries(ctx context.Context, h *held, out *store.Outcome) error {
	topic, entries, err := s.compose(ctx, h, out)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return s.giveUp(ctx, h)
	}
	// Nobody else touches a reservation that was renewed a moment ago, or any
	// of a store that is ours alone: if it is gone, its queue was deleted and
	// made again, or its server lost it. It may as well be that an earlier
	// try ended it, and only its answer was lost: better twice than never.
	mine := s.alone || !h.tried && s.live.fresh(h, s.opt.StaleAge*2/3)
	h.tried = true
	err = h.queue.Commit(ctx, h.id, entries)
	switch {
	case err == nil:
		s.metrics.stored.Add(float64(len(entries)))
		return nil
	case errors.Is(err, queue.ErrNoSuchQueue):
		s.handles.Delete(h.name)
		if err := s.topics.repair(ctx, topic.Tenant(), topic.Name); err != nil {
			return err
		}
	case errors.Is(err, queue.ErrNoSuchReservation) && mine && !s.forgotten(ctx, h), errors.Is(err, queue.ErrTooLarge):
	default:
		return err
	}
	return s.commitAnew(ctx, h, topic, entries)
}

// forgotten tells that another process forgot the op: it has ended the op's
// reservations when this one paused, and what waited for that may have come
// since. (Where that cannot be told: better twice than never.)
func (s *Service) forgotten(ctx context.Context, h *held) bool {
	if s.shared == nil {
		return false
	}
	kept, err := s.shared.Kept(ctx, h.in.op)
	return err == nil && !kept
}

// commitAnew commits entries by another reservation. It is made before the old
// one goes: never neither. Errors: ErrFull.
func (s *Service) commitAnew(ctx context.Context, h *held, topic *Topic, entries [][]byte) error {
	q, err := s.openQueue(ctx, h.name)
	if err != nil {
		return err
	}
	var size int64
	for _, e := range entries {
		size += int64(len(e))
	}
	id, err := q.Reserve(ctx, h.code, size, len(entries))
	for try := 0; errors.Is(err, queue.ErrFull); try++ {
		if err := s.makeRoom(ctx, topic, q, size, len(entries), try); errors.Is(err, errDropped) {
			return s.giveUp(ctx, h)
		} else if err != nil {
			return err
		}
		id, err = q.Reserve(ctx, h.code, size, len(entries))
	}
	if err != nil {
		return err
	}
	if err := q.Commit(ctx, id, entries); err != nil {
		return err
	}
	s.metrics.stored.Add(float64(len(entries)))
	return s.giveUp(ctx, h)
}
