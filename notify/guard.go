package notify

import (
	"context"
	"hash/maphash"
	"sync"
)

// keyGuard is a mutex for each name that is in use.
type keyGuard struct {
	seed   maphash.Seed
	stripe [64]guardStripe
}

type guardStripe struct {
	mu   sync.Mutex // guards held; never held while waiting for a name
	held map[string]*guardEntry
}

type guardEntry struct {
	token chan struct{} // holds one while the name is locked
	users int           // guarded by the stripe's mu
}

func newKeyGuard() *keyGuard { return &keyGuard{seed: maphash.MakeSeed()} }

// tryLock takes the name if nobody has it, and returns what gives it back,
// which may be called by another goroutine. If somebody does, wait is what waits
// for the name; it must be called, once.
func (g *keyGuard) tryLock(name string) (unlock func(), wait func(context.Context) (unlock func(), err error)) {
	s := &g.stripe[maphash.String(g.seed, name)%uint64(len(g.stripe))]
	s.mu.Lock()
	e := s.held[name]
	if e == nil {
		if s.held == nil {
			s.held = make(map[string]*guardEntry)
		}
		e = &guardEntry{token: make(chan struct{}, 1)}
		s.held[name] = e
	}
	e.users++
	s.mu.Unlock()
	free := func() {
		<-e.token
		s.leave(name, e)
	}
	select {
	case e.token <- struct{}{}:
		return free, nil
	default:
	}
	return nil, func(ctx context.Context) (func(), error) {
		select {
		case e.token <- struct{}{}:
			return free, nil
		case <-ctx.Done():
			s.leave(name, e)
			return nil, ctx.Err()
		}
	}
}

func (s *guardStripe) leave(name string, e *guardEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(s.held, name)
	}
}
