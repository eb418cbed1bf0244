package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"herald/store"
)

// lateOps are ops of which this process knows that they happened, or may have,
// and whose events are not in their queues: a queue had no room for them, the
// journal was full, the store could not tell. Their reservations stand. A later
// change of such a key must not get ahead of them; see Service.catchUp.
type lateOps struct {
	mu       sync.Mutex           // guards all below
	by       map[string][]*openOp // by order key, in the order of the changes
	ids      map[store.OpID]bool
	followed map[string]bool // keys with a goroutine that ends their ops (Service.follow)
}

// add is called with the key's guard held, or before anything else runs. One
// that is there already it does not add.
func (l *lateOps) add(op *openOp) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by, l.ids, l.followed = make(map[string][]*openOp), make(map[store.OpID]bool), make(map[string]bool)
	}
	if l.ids[op.ref.ID] {
		return
	}
	if op.since.IsZero() {
		op.since = time.Now()
	}
	key := op.orderKey()
	list := l.by[key]
	at := len(list)
	for at > 0 && op.known && list[at-1].known && list[at-1].outcome.Seq > op.outcome.Seq {
		at--
	}
	l.by[key] = slices.Insert(list, at, op)
	l.ids[op.ref.ID] = true
}

// drop takes out an op that has ended. The key's guard is held.
func (l *lateOps) drop(op *openOp) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := op.orderKey()
	list := slices.DeleteFunc(slices.Clone(l.by[key]), func(o *openOp) bool { return o == op })
	delete(l.ids, op.ref.ID)
	if l.by[key] = list; len(list) == 0 {
		delete(l.by, key)
	}
}

// list returns a key's late ops.
func (l *lateOps) list(key string) []*openOp {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.by[key])
}

// maxLate bounds the late ops of a key that do not hold up its changes.
const maxLate = 256

// room tells whether a change of a key may become a late op. It may not while
// one before it finds no room in a queue, which its reservation would take.
func (l *lateOps) room(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.by[key]
	return len(list) < maxLate && !slices.ContainsFunc(list, func(op *openOp) bool { return op.full })
}

// learn is for an op whose outcome was not known.
func (l *lateOps) learn(op *openOp, out store.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op.outcome, op.known = out, true
}

func (l *lateOps) setFull(op *openOp, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op.full = full
}

// awaited returns, as keys, the ops that come before late ones.
func (l *lateOps) awaited() map[store.OpID][]*held {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[store.OpID][]*held)
	for _, list := range l.by {
		for _, op := range list {
			if op.known && !op.outcome.After.IsZero() && !l.ids[op.outcome.After] {
				out[op.outcome.After] = nil
			}
		}
	}
	return out
}

func (l *lateOps) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids)
}

// follow is true for who is to end the late ops of a key.
func (l *lateOps) follow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.followed[key] || len(l.by[key]) == 0 {
		return false
	}
	l.followed[key] = true
	return true
}

func (l *lateOps) unfollow(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.followed, key)
}

// ended tells who follows a key that nothing is left to be done, and that
// nobody follows it any more.
func (l *lateOps) ended(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.by[key]) > 0 {
		return false
	}
	delete(l.followed, key)
	return true
}

// first returns a key's oldest late op, or nil.
func (l *lateOps) first(key string) *openOp {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list := l.by[key]; len(list) > 0 {
		return list[0]
	}
	return nil
}

func (l *lateOps) has(id store.OpID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

func (l *lateOps) keys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.by))
}

// catchUpTimeout bounds the time that a change waits for late ones.
const catchUpTimeout = 10 * time.Second

// catchUp ends the late ops of a key, in their order. The key's guard is held.
// Where the store tells which op came before which they go on by themselves,
// and it only looks whether another may join them.
// Errors: ErrFull when one has to wait on.
func (s *Service) catchUp(ctx context.Context, key string) error {
	if s.shared != nil {
		if !s.late.room(key) {
			return fmt.Errorf("%w: events of earlier changes wait", ErrFull)
		}
		return nil
	}
	if s.late.first(key) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	for op := s.late.first(key); op != nil; op = s.late.first(key) {
		if err := s.settle(ctx, op); err != nil {
			return fmt.Errorf("%w: events of an earlier change wait: %w", ErrFull, err)
		}
		s.late.drop(op)
	}
	return nil
}

// catchUpAll is catchUp for all keys. Its error names one of those that wait on.
func (s *Service) catchUpAll(ctx context.Context) error {
	var first error
	waiting := 0
	for _, key := range s.late.keys() {
		if s.shared != nil {
			s.follow(key)
			continue
		}
		lock, err := s.lockKey(ctx, key)
		if err == nil {
			err = s.catchUp(ctx, key)
			lock.unlock()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("key %s: %w", key, err))
			waiting++
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d keys wait, one of them: %w", waiting, first)
	}
	return nil
}

// settle ends an op's reservations as its outcome says.
// Errors: ErrFull; errWaits.
func (s *Service) settle(ctx context.Context, op *openOp) error {
	if !op.known {
		out, err := s.cfg.Outcomes.Settle(ctx, op.ref)
		switch {
		case errors.Is(err, store.ErrNoSuchOp):
			return s.undo(ctx, op, "aborted")
		case err != nil:
			return fmt.Errorf("settle %s: %w", op.ref.ID, err)
		}
		s.late.learn(op, out)
	}
	turn, err := s.isTurn(ctx, &op.outcome)
	switch {
	case err != nil:
		return err
	case !turn:
		return errWaits
	case !op.outcome.Changed:
		return s.undo(ctx, op, "unchanged")
	}
	return s.redo(ctx, op)
}
