package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"herald/queue"
	"herald/store"
)

// The order per key where several processes have the store open, each with a
// guard of its own (docs/adr/0008-many-gateways.md): the store names the op
// before each op (store.Outcome.After), and the events of an op enter their
// queues when the op before it is settled. That is when its outcome is
// forgotten: an op is forgotten only after its own events have entered theirs,
// and so, after those of all before it. What is settled remains so: it does not
// matter how long somebody pauses after he has looked.
//
// An op that has to wait becomes a late one, and is followed by a goroutine for
// its key.

// errWaits tells that events of an earlier change of the key, by another
// process, are still to enter their queues.
var errWaits = errors.New("events of an earlier change, by another gateway, are to come first")

// Pauses between looks at what a late op waits for.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 250 * time.Millisecond
	// lookTimeout bounds a look.
	lookTimeout = 10 * time.Second
)

// mustWait tells, without asking anybody, that the op before out's may not be
// settled. The key's guard is held: ops of this process that are not late have
// ended.
func (s *Service) mustWait(out *store.Outcome) bool {
	return s.shared != nil && !out.After.IsZero() && !s.forgetter.has(out.After)
}

// isTurn tells whether the op before out's is settled.
func (s *Service) isTurn(ctx context.Context, out *store.Outcome) (bool, error) {
	if !s.mustWait(out) {
		return true, nil
	}
	if s.late.has(out.After) {
		return false, nil
	}
	kept, err := s.shared.Kept(ctx, out.After)
	if err != nil {
		return false, fmt.Errorf("look for the op before: %w", err)
	}
	return !kept, nil
}

// follow lets a goroutine end the late ops of a key, unless one does.
func (s *Service) follow(key string) {
	if s.shared == nil || !s.late.follow(key) {
		return
	}
	started := s.background.startLate(s, func(ctx context.Context) {
		defer s.late.unfollow(key)
		pause := firstLook
		for !s.late.ended(key) {
			n, err := s.catchUpSome(ctx, key)
			if pause = min(2*pause, lastLook); n > 0 {
				pause = firstLook
			}
			if err != nil && ctx.Err() == nil {
				if silent, ok := s.waiting.say(); ok {
					s.log.Warn("late events of a key", "key", key, "err", err, "more", silent)
				}
			}
			if sleep(ctx, pause) != nil {
				return
			}
		}
	})
	if !started {
		s.late.unfollow(key) // others find the reservations
	}
}

// catchUpSome ends those of a key's late ops whose turn it is, and returns how
// many. Its error is that of one that cannot be ended.
func (s *Service) catchUpSome(ctx context.Context, key string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	turn := make(map[*openOp]bool)
	for _, op := range s.late.list(key) {
		ok, lookErr := true, error(nil)
		if op.known {
			ok, lookErr = s.isTurn(ctx, &op.outcome)
		}
		switch {
		case lookErr != nil:
			err = lookErr
		case ok:
			turn[op] = true
		case time.Since(op.since) > s.patience() && !s.late.has(op.outcome.After):
			err = s.takeOver(ctx, op)
		}
	}
	if len(turn) == 0 {
		return 0, err
	}
	lock, err := s.lockKey(ctx, key)
	if err != nil {
		return 0, err
	}
	defer lock.unlock()
	ended := false // the one before, which may be all that the next one waited for
	for _, op := range s.late.list(key) {
		if !turn[op] && !ended {
			continue
		}
		opErr := s.settle(ctx, op)
		s.late.setFull(op, errors.Is(opErr, ErrFull))
		ended = opErr == nil
		if ended {
			s.late.drop(op)
			n++
		} else if !errors.Is(opErr, errWaits) {
			err = opErr
		}
	}
	return n, err
}

// patience is how long an op waits before somebody looks who should have
// settled the one before it. Whoever died is then no longer among the gateways.
func (s *Service) patience() time.Duration { return s.sharing.gatewaysTTL() }

// takeOver makes the op before a late one a late one of this process, if its
// reservations are those of a gateway that is gone, or there are none: then its
// events are in their queues, and who should have forgotten it is gone. (To do
// so in error does no harm: reservations end once, and whoever comes second
// finds the op forgotten.)
func (s *Service) takeOver(ctx context.Context, op *openOp) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ref := store.OpRef{ID: op.outcome.After, Bucket: op.ref.Bucket, Key: op.ref.Key}
	list, ok, err := s.awaited.find(ctx, s, ref.ID)
	if err != nil || !ok {
		return err
	}
	out, err := s.shared.Settle(ctx, ref)
	if errors.Is(err, store.ErrNoSuchOp) { // it was forgotten meanwhile, and is barred for nothing
		return s.shared.Forget(ctx, ref)
	}
	if err != nil {
		return fmt.Errorf("settle %s: %w", ref.ID, err)
	}
	before := &openOp{ref: ref, held: list, outcome: out, known: true, since: op.since}
	if len(list) > 0 {
		before.queues = list[0].in.queues
	}
	s.log.Info("events of a gateway that is gone", "op", ref.ID, "bucket", ref.Bucket, "key", ref.Key, "reservations", len(list))
	lock, err := s.lockKey(ctx, op.orderKey())
	if err != nil {
		return err
	}
	defer lock.unlock()
	s.late.add(before)
	return nil
}

// openReservations are the reservations of the ops that late ones wait for, in
// all queues of our topics, as of a moment ago: one look serves all keys.
type openReservations struct {
	busy  chan struct{} // holds a token while somebody looks, or uses what follows
	at    time.Time
	by    map[store.OpID][]*held
	alive []string // gateways
	whole bool     // nothing was left out
}

// lookEvery is the pause between looks at the reservations of all queues.
const lookEvery = time.Second

// find returns an op's reservations. It is false when the op is to be left
// alone: a gateway that lives may go on with it, or it cannot be told.
func (o *openReservations) find(ctx context.Context, s *Service, op store.OpID) ([]*held, bool, error) {
	select {
	case o.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-o.busy }()
	list, known := o.by[op]
	if !known || time.Since(o.at) > max(lookEvery, s.patience()/8) {
		if err := o.look(ctx, s); err != nil {
			return nil, false, err
		}
		list, known = o.by[op]
	}
	gone := func(h *held) bool {
		return h.in.maker != "" && h.in.maker != s.owner && !slices.Contains(o.alive, h.in.maker)
	}
	for _, h := range list {
		if !gone(h) {
			return nil, false, nil
		}
	}
	return slices.Clone(list), known && o.whole, nil
}

// look reads them anew. The token is held.
func (o *openReservations) look(ctx context.Context, s *Service) error {
	o.by, o.at = nil, time.Now()
	by := s.late.awaited()
	alive, err := s.sharing.look(ctx, GatewaysGroup)
	if err != nil {
		return err
	}
	names, whole, err := s.ownQueues(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards by and whole
	err = s.eachQueue(ctx, names, false, func(i int) error {
		q, err := s.openQueue(ctx, names[i])
		var list []queue.Reservation
		if err == nil {
			list, err = q.Reservations(ctx, time.Now().Add(24*time.Hour), maxResolve)
		}
		if errors.Is(err, queue.ErrNoSuchQueue) {
			s.handles.Delete(names[i])
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		whole = whole && len(list) < maxResolve
		for _, r := range list {
			in, decodeErr := decodeIntent(r.Intent)
			if decodeErr != nil || !s.ours(in) {
				continue
			}
			if _, ok := by[in.op]; ok {
				by[in.op] = append(by[in.op], &held{in: in, name: names[i], queue: q, id: r.ID, code: r.Intent})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look for open reservations: %w", err)
	}
	o.by, o.alive, o.whole = by, alive, whole
	return nil
}

// look returns who is in a group, without being found there.
func (g *sharing) look(ctx context.Context, group string) ([]string, error) {
	l := g.s.cfg.Queues.Locker()
	me := g.s.owner + ProbeSuffix
	names, err := l.Join(ctx, group, me, probeTTL)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", group, err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ProbeSuffix) })
	return names, l.Leave(ctx, group, me)
}
