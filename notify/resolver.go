package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"herald/queue"
	"herald/store"
)

// decisions of the resolver, as metrics count them. It is never written.
var decisions = [...]string{"committed", "aborted", "unchanged", "undecodable"}

type recoveredFlag = atomic.Bool

// maxResolve bounds the reservations of one queue that a pass holds in memory.
const maxResolve = 1 << 16

// forgetBatch is how many outcomes are forgotten at once.
const forgetBatch = 4096

// Recover resolves the reservations that a crash left behind: all of them if
// this process is the only one that can have made any, else the stale ones. It
// does so once; Run and the first Reserve call it, so that no new event gets
// ahead of an old one. Events for which a queue has no room do not hold it up,
// as delivery begins after it: later changes of their keys wait for them.
func (s *Service) Recover(ctx context.Context) error {
	if s.recovered.Load() {
		return nil
	}
	s.recovery.Lock()
	defer s.recovery.Unlock()
	if s.recovered.Load() {
		return nil
	}
	before := time.Now().Add(-s.opt.StaleAge)
	if s.exclusive {
		before = time.Now().Add(24 * time.Hour) // whatever a clock did
	}
	for n := 1; n > 0; { // a pass is bounded
		var err error
		if n, err = s.resolve(ctx, before); err != nil {
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
		_, err := s.resolve(ctx, time.Now().Add(-s.opt.StaleAge))
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
	known   bool // outcome is
}

func (op *openOp) orderKey() string { return op.held[0].in.orderKey() }

// resolve ends the reservations made or renewed before that time. Ops that
// came true have their entries committed in the order of the changes. It
// returns how many ops it found.
func (s *Service) resolve(ctx context.Context, before time.Time) (int, error) {
	ops, err := s.openOps(ctx, before)
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
		case !out.Changed:
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

// redoInOrder is redo under the key's guard and after the key's late ops. Where
// a queue has no room the op becomes a late one.
func (s *Service) redoInOrder(ctx context.Context, op *openOp) error {
	key := op.orderKey()
	defer s.guard.lock(key)()
	err := s.catchUp(ctx, key)
	if err == nil {
		err = s.redo(ctx, op)
	}
	if !errors.Is(err, ErrFull) {
		return err
	}
	s.log.Warn("no room for the events of a change", "key", key, "err", err)
	s.late.add(op)
	return nil
}

// openOps gathers reservations by op, in order of time.
func (s *Service) openOps(ctx context.Context, before time.Time) ([]*openOp, error) {
	names, err := s.cfg.Queues.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	var ops []*openOp
	byID := make(map[store.OpID]*openOp)
	for _, name := range names {
		list, err := s.orphans(ctx, name, before)
		if err != nil {
			return nil, err
		}
		for _, h := range list {
			op := byID[h.in.op]
			if op == nil {
				op = &openOp{ref: h.in.ref(), queues: h.in.queues}
				byID[h.in.op] = op
				ops = append(ops, op)
			}
			op.held = append(op.held, h)
		}
	}
	return ops, nil
}

// orphans returns a queue's reservations that stand for an op and that nobody
// in this process holds. The others are ended here: those of unfinished moves
// (dead letters, redrive), and those that cannot be read.
func (s *Service) orphans(ctx context.Context, name string, before time.Time) ([]*held, error) {
	q, err := s.cfg.Queues.Open(ctx, name)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	list, err := q.Reservations(ctx, before, maxResolve)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reservations of %s: %w", name, err)
	}
	var out []*held
	for _, r := range list {
		if s.live.has(name, r.ID) {
			continue
		}
		in, err := decodeIntent(r.Intent)
		switch {
		case err != nil:
			err = s.buryIntent(ctx, q, name, r)
		case in.op.IsZero():
			err = q.Abort(ctx, r.ID)
		case s.late.has(in.op): // looked at after live: an op goes from there to here
		default:
			out = append(out, &held{in: in, name: name, queue: q, id: r.ID, code: r.Intent})
		}
		if err != nil {
			return nil, fmt.Errorf("reservation of %s: %w", name, err)
		}
	}
	return out, nil
}

// buryIntent keeps an intent that cannot be read as a dead letter: whether its
// op came true can no more be found out, but a person may.
func (s *Service) buryIntent(ctx context.Context, q queue.Queue, name string, r queue.Reservation) error {
	s.log.Error("intent cannot be read, kept as a dead letter", "queue", name)
	s.metrics.resolved.WithLabelValues("undecodable").Inc()
	if err := s.dead.bury(ctx, baseQueue(name), deadLetter{Reason: reasonUndecodable, Queue: name, Raw: r.Intent}); err != nil {
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
	if decision == "aborted" && !s.exclusive {
		// The op may still run in another gateway: its bar must stay.
		return nil
	}
	return s.forgetIfLast(ctx, op)
}

// redo commits the entries of an op that came true.
func (s *Service) redo(ctx context.Context, op *openOp) error {
	for _, h := range op.held {
		if err := s.deliverTo(ctx, h, &op.outcome); err != nil {
			return fmt.Errorf("commit entries of %s to %s: %w", op.ref.ID, h.name, err)
		}
		s.metrics.resolved.WithLabelValues("committed").Inc()
	}
	s.fault("notify.resolved")
	return s.forgetIfLast(ctx, op)
}

// forgetLeft forgets outcomes that no reservation names any more: who should
// have forgotten them died between that and the commit of their events. The
// outcomes come first: an op that has one has made its reservations before.
func (s *Service) forgetLeft(ctx context.Context) error {
	refs, err := s.cfg.Outcomes.List(ctx, store.OpID{}, 0)
	if err != nil || len(refs) == 0 {
		return err
	}
	names, err := s.cfg.Queues.List(ctx, "")
	if err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	open := make(map[store.OpID]bool)
	for _, name := range names {
		list, err := s.reservations(ctx, name)
		if err != nil {
			return err
		}
		if len(list) == maxResolve {
			return nil // perhaps not all of them
		}
		for _, r := range list {
			if in, err := decodeIntent(r.Intent); err == nil {
				open[in.op] = true
			}
		}
	}
	refs = slices.DeleteFunc(refs, func(ref store.OpRef) bool { return open[ref.ID] })
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
	return slices.ContainsFunc(list, func(r queue.Reservation) bool {
		in, err := decodeIntent(r.Intent)
		return err == nil && in.op == op
	}), err
}
