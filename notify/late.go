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
	mu  sync.Mutex           // guards all below
	by  map[string][]*openOp // by order key, in the order of the changes
	ids map[store.OpID]bool
}

// add is called with the key's guard held, or before anything else runs.
func (l *lateOps) add(op *openOp) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by, l.ids = make(map[string][]*openOp), make(map[store.OpID]bool)
	}
	key := op.orderKey()
	l.by[key] = append(l.by[key], op)
	l.ids[op.ref.ID] = true
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

// dropFirst forgets what first gave. The key's guard is held.
func (l *lateOps) dropFirst(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.by[key]
	delete(l.ids, list[0].ref.ID)
	if l.by[key] = list[1:]; len(list) == 1 {
		delete(l.by, key)
	}
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
// Errors: ErrFull when one has to wait on.
func (s *Service) catchUp(ctx context.Context, key string) error {
	if s.late.first(key) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	for op := s.late.first(key); op != nil; op = s.late.first(key) {
		if err := s.settle(ctx, op); err != nil {
			return fmt.Errorf("%w: events of an earlier change wait: %w", ErrFull, err)
		}
		s.late.dropFirst(key)
	}
	return nil
}

// catchUpAll is catchUp for all keys. Its error names one of those that wait on.
func (s *Service) catchUpAll(ctx context.Context) error {
	var first error
	waiting := 0
	for _, key := range s.late.keys() {
		unlock, err := s.lockKey(ctx, key)
		if err == nil {
			err = s.catchUp(ctx, key)
			unlock()
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
func (s *Service) settle(ctx context.Context, op *openOp) error {
	if !op.known {
		out, err := s.cfg.Outcomes.Settle(ctx, op.ref)
		switch {
		case errors.Is(err, store.ErrNoSuchOp):
			return s.undo(ctx, op, "aborted")
		case err != nil:
			return fmt.Errorf("settle %s: %w", op.ref.ID, err)
		case !out.Changed:
			return s.undo(ctx, op, "unchanged")
		}
		op.outcome, op.known = out, true
	}
	return s.redo(ctx, op)
}
