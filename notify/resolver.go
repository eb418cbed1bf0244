package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"
	"herald/store"
)

// decisions of the resolver, as metrics count them. It is never written.
var decisions = [...]string{"committed", "aborted", "unchanged", "undecodable"}

// maxResolve bounds the reservations of one queue that a pass holds in memory.
const maxResolve = 1 << 16

// forgetBatch is how many outcomes are forgotten at once.
const forgetBatch = 4096

// Recover resolves the reservations of our store that a crash left behind: all
// of them if no other process that lives can have made any, else the stale
// ones. It
// does so once; Run and the first Reserve call it, so that no new event gets
// ahead of an old one. Events for which a queue has no room do not hold it up,
// as delivery begins after it: later changes of their keys wait for them.
func (s *Service) Recover(ctx context.Context) error {
	if s.recovered.Load() {
		return nil
	}
	select {
	case s.recovery <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.recovery }()
	if s.recovered.Load() {
		return nil
	}
	before := time.Now().Add(-s.opt.StaleAge)
	if s.alone {
		before = time.Now().Add(24 * time.Hour) // whatever a clock did
	}
	for n := 1; n > 0; { // a pass is bounded
		var err error
		if n, err = s.resolve(ctx, before, false); err != nil {
			return fmt.Errorf("resolve reservations: %w", err)
		}
	}
	if err := s.forgetLeft(ctx); err != nil {
		return fmt.Errorf("forget outcomes: %w", err)
	}
	s.recovered.Store(true)
	return nil
}

// resolveLoop resolves what is late or grew stale, until ctx is done.
func (s *Service) resolveLoop(ctx context.Context) {
	for sleep(ctx, s.opt.ResolveEvery) == nil {
		late := s.catchUpAll(ctx)
		_, err := s.resolve(ctx, time.Now().Add(-s.opt.StaleAge), true)
		if err = errors.Join(late, err); err != nil && ctx.Err() == nil {
			s.log.Error("resolve reservations", "err", err)
		}
	}
}

// openOp is an op with reservations that nobody holds.
type openOp struct {
	ref     store.OpRef
	held    []*held
	queues  []string // of all its reservations, when there were several
	outcome store.Outcome
	known   bool      // outcome is
	since   time.Time // when it became late
	full    bool      // a queue has no room for it; guarded by lateOps.mu
}

// orderKey is facts.orderKey.
func (op *openOp) orderKey() string { return op.ref.Bucket + "/" + op.ref.Key }

// resolve ends the reservations made or renewed before that time. Ops that
// came true have their entries committed in the order of the changes. It
// returns how many ops it found.
func (s *Service) resolve(ctx context.Context, before time.Time, gently bool) (int, error) {
	ops, err := s.openOps(ctx, before, gently)
	if err != nil {
		return 0, err
	}
	var happened []*openOp
	var errs []error
	unsettled := make(map[string]bool) // keys with an op of unknown fate
	for _, op := range ops {
		out, err := s.cfg.Outcomes.Settle(ctx, op.ref)
		switch {
		case errors.Is(err, store.ErrNoSuchOp):
			errs = append(errs, s.undo(ctx, op, "aborted"))
		case err != nil:
			unsettled[op.orderKey()] = true
			errs = append(errs, fmt.Errorf("settle %s: %w", op.ref.ID, err))
		case !out.Changed && s.shared == nil:
			errs = append(errs, s.undo(ctx, op, "unchanged"))
		default:
			op.outcome, op.known = out, true
			happened = append(happened, op)
		}
	}
	slices.SortFunc(happened, func(a, b *openOp) int { return cmp.Compare(a.outcome.Seq, b.outcome.Seq) })
	for _, op := range happened {
		if unsettled[op.orderKey()] {
			continue // one before it may have come true
		}
		if err := s.redoInOrder(ctx, op); err != nil {
			unsettled[op.orderKey()] = true
			errs = append(errs, err)
		}
	}
	return len(ops), errors.Join(errs...)
}

// redoInOrder is settle under the key's guard and after the key's late ops.
// Where a queue has no room, or the op has to wait for one of another process,
// it becomes a late one.
func (s *Service) redoInOrder(ctx context.Context, op *openOp) error {
	key := op.orderKey()
	lock, err := s.lockKey(ctx, key)
	if err != nil {
		return err
	}
	defer lock.unlock()
	if s.shared == nil {
		err = s.catchUp(ctx, key)
	}
	if err == nil {
		err = s.settle(ctx, op)
	}
	switch {
	case errors.Is(err, ErrFull):
		s.log.Warn("no room for the events of a change", "key", key, "err", err)
	case !errors.Is(err, errWaits):
		return err
	}
	s.late.add(op)
	s.follow(key)
	return nil
}

// openOps gathers reservations of our store by op.
func (s *Service) openOps(ctx context.Context, before time.Time, gently bool) ([]*openOp, error) {
	names, _, err := s.ownQueues(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]*held, len(names))
	var foreign atomic.Int64
	err = s.eachQueue(ctx, names, gently, func(i int) (err error) {
		var n int
		found[i], n, err = s.orphans(ctx, names[i], before)
		foreign.Add(int64(n))
		return err
	})
	if err != nil {
		return nil, err
	}
	s.metrics.foreign.Set(float64(foreign.Load()))
	var ops []*openOp
	byID := make(map[store.OpID]*openOp)
	for _, h := range slices.Concat(found...) {
		op := byID[h.in.op]
		if op == nil {
			op = &openOp{ref: h.in.ref(), queues: h.in.queues}
			byID[h.in.op] = op
			ops = append(ops, op)
		}
		op.held = append(op.held, h)
	}
	return ops, nil
}

// ownQueues returns the queues that may hold reservations of our store: those
// of its topics. Others on the same server are not looked at. complete is false
// when a topic cannot be read.
func (s *Service) ownQueues(ctx context.Context) (names []string, complete bool, err error) {
	names, err = s.cfg.Queues.List(ctx, "")
	if err != nil {
		return nil, false, fmt.Errorf("list queues: %w", err)
	}
	if !s.remote {
		return names, true, nil
	}
	topics, complete, err := s.topics.all(ctx)
	if err != nil {
		return nil, false, err
	}
	ours := make(map[string]bool, len(topics))
	for _, t := range topics {
		ours[t.Dest.Queue] = true
	}
	return slices.DeleteFunc(names, func(name string) bool { return !ours[baseQueue(name)] }), complete, nil
}

// eachQueue calls f for each of the names: many at once, or gently, at a rate
// that a server does not feel. It returns the first error.
func (s *Service) eachQueue(ctx context.Context, names []string, gently bool, f func(i int) error) error {
	errs := make([]error, len(names))
	limit := s.atOnce()
	if gently {
		limit = 1
	}
	parallel(len(names), limit, func(i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = f(i)
		}
		if gently && s.remote {
			_ = sleep(ctx, queueSpacing) // its end is seen by the next
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// queueSpacing is the pause between queues in a pass that is not urgent.
const queueSpacing = 5 * time.Millisecond

// undecodableAge is how long a reservation on a server is left alone that this
// version cannot read: a newer one may have made it.
const undecodableAge = time.Hour

// orphans returns a queue's reservations that stand for an op of our store and
// that nobody in this process holds. foreign counts those of others. Those of
// unfinished moves (dead letters, redrive), and those that cannot be read, are
// ended here.
func (s *Service) orphans(ctx context.Context, name string, before time.Time) (out []*held, foreign int, err error) {
	q, err := s.cfg.Queues.Open(ctx, name)
	var list []queue.Reservation
	if err == nil {
		list, err = q.Reservations(ctx, before, maxResolve)
	}
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reservations of %s: %w", name, err)
	}
	live := s.live.ids(name)
	for _, r := range list {
		if live[r.ID] {
			continue
		}
		age := time.Since(r.Time)
		in, err := decodeIntent(r.Intent)
		switch {
		case len(r.Intent) == 0, strings.HasPrefix(string(r.Intent), queue.OutboxIntent): // of somebody who has none, as radosgw; of another gateway's outbox
			foreign++
			err = nil
		case err != nil && s.remote && age < undecodableAge:
			foreign++
			err = nil
		case err != nil:
			err = s.buryIntent(ctx, q, name, r)
		case in.op.IsZero():
			if !s.remote || age >= s.opt.StaleAge { // else another gateway may be at it
				err = q.Abort(ctx, r.ID)
			}
		case !s.ours(in):
			foreign++
		case s.late.has(in.op): // looked at after live: an op goes from there to here
		default:
			out = append(out, &held{in: in, name: name, queue: q, id: r.ID, code: r.Intent})
		}
		if err != nil {
			return nil, 0, fmt.Errorf("reservation of %s: %w", name, err)
		}
	}
	return out, foreign, nil
}

// ours tells whether our store knows what became of an op. Intents without a
// store are those of a queue that was never shared.
func (s *Service) ours(in *intent) bool {
	return in.store == s.cfg.StoreID || in.store == "" && !s.remote
}

// buryIntent keeps an intent that cannot be read as a dead letter: whether its
// op came true can no more be found out, but a person may.
func (s *Service) buryIntent(ctx context.Context, q queue.Queue, name string, r queue.Reservation) error {
	s.log.Error("intent cannot be read, kept as a dead letter", "queue", name)
	s.metrics.resolved.WithLabelValues("undecodable").Inc()
	err := s.dead.bury(ctx, baseQueue(name), deadLetter{Reason: reasonUndecodable, Queue: name, Raw: r.Intent})
	if errors.Is(err, queue.ErrNoSuchQueue) { // its topic is gone
		s.dead.lose(baseQueue(name), 1)
	} else if err != nil {
		return err
	}
	return q.Abort(ctx, r.ID)
}

// undo ends the reservations of an op that changed nothing.
func (s *Service) undo(ctx context.Context, op *openOp, decision string) error {
	for _, h := range op.held {
		if err := h.queue.Abort(ctx, h.id); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return fmt.Errorf("abort reservation in %s: %w", h.name, err)
		}
		s.metrics.resolved.WithLabelValues(decision).Inc()
	}
	if decision == "aborted" && !s.alone {
		// The op may still run in another gateway: its bar must stay.
		return nil
	}
	return s.forgetIfLast(ctx, op)
}

// redo commits the entries of an op that came true.
func (s *Service) redo(ctx context.Context, op *openOp) error {
	for _, h := range op.held {
		if h.ended {
			continue
		}
		if err := s.deliverTo(ctx, h, &op.outcome); err != nil {
			return fmt.Errorf("commit entries of %s to %s: %w", op.ref.ID, h.name, err)
		}
		h.ended = true
		s.metrics.resolved.WithLabelValues("committed").Inc()
	}
	s.fault("notify.resolved")
	return s.forgetIfLast(ctx, op)
}

// forgetLeft forgets outcomes that no reservation names any more: who should
// have forgotten them died between that and the commit of their events. The
// outcomes come first: an op that has one has made its reservations before.
func (s *Service) forgetLeft(ctx context.Context) error {
	if _, ok := s.cfg.Outcomes.(store.SharedOutcomes); ok && !s.remote {
		return nil // of other processes' queues nothing is known here
	}
	refs, err := s.cfg.Outcomes.List(ctx, store.OpID{}, 0)
	if err != nil || len(refs) == 0 {
		return err
	}
	if !s.alone { // others may have topics that are seen here after a second
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	names, all, err := s.ownQueues(ctx)
	if err != nil {
		return err
	}
	open, keys := make(map[store.OpID]bool), make(map[string]bool)
	var mu sync.Mutex // guards open, keys and all
	err = s.eachQueue(ctx, names, false, func(i int) error {
		list, err := s.reservations(ctx, names[i])
		mu.Lock()
		defer mu.Unlock()
		all = all && len(list) < maxResolve
		for _, r := range list {
			if in, err := decodeIntent(r.Intent); err == nil {
				open[in.op] = true
				keys[in.key] = s.shared != nil // later ops of it must not seem to be settled
			}
		}
		return err
	})
	if err != nil || !all {
		return err
	}
	refs = slices.DeleteFunc(refs, func(ref store.OpRef) bool { return open[ref.ID] || keys[ref.Key] })
	for part := range slices.Chunk(refs, forgetBatch) {
		if err := s.cfg.Outcomes.Forget(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}

// reservations returns all of a queue's, up to maxResolve.
func (s *Service) reservations(ctx context.Context, name string) ([]queue.Reservation, error) {
	q, err := s.cfg.Queues.Open(ctx, name)
	var list []queue.Reservation
	if err == nil {
		list, err = q.Reservations(ctx, time.Now().Add(24*time.Hour), maxResolve)
	}
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reservations of %s: %w", name, err)
	}
	return list, nil
}

// forgetIfLast forgets an op's outcome unless another of its reservations is
// still open, in a queue that this pass did not reach or found too young.
func (s *Service) forgetIfLast(ctx context.Context, op *openOp) error {
	for _, name := range op.queues {
		if slices.ContainsFunc(op.held, func(h *held) bool { return h.name == name }) {
			continue
		}
		open, err := s.hasReservation(ctx, name, op.ref.ID)
		if err != nil {
			return err
		}
		if open {
			return nil
		}
	}
	if err := s.cfg.Outcomes.Forget(ctx, op.ref); err != nil {
		return fmt.Errorf("forget %s: %w", op.ref.ID, err)
	}
	return nil
}

func (s *Service) hasReservation(ctx context.Context, name string, op store.OpID) (bool, error) {
	list, err := s.reservations(ctx, name)
	if len(list) == maxResolve {
		return true, err // perhaps it is behind those
	}
	return slices.ContainsFunc(list, func(r queue.Reservation) bool {
		in, err := decodeIntent(r.Intent)
		return err == nil && in.op == op
	}), err
}
