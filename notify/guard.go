package notify

import (
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
	mu    sync.Mutex
	users int // guarded by the stripe's mu
}

func newKeyGuard() *keyGuard { return &keyGuard{seed: maphash.MakeSeed()} }

// lock waits for the name and returns what gives it back.
func (g *keyGuard) lock(name string) (unlock func()) {
	s := &g.stripe[maphash.String(g.seed, name)%uint64(len(g.stripe))]
	s.mu.Lock()
	e := s.held[name]
	if e == nil {
		if s.held == nil {
			s.held = make(map[string]*guardEntry)
		}
		e = new(guardEntry)
		s.held[name] = e
	}
	e.users++
	s.mu.Unlock()
	e.mu.Lock()
	return func() {
		e.mu.Unlock()
		s.mu.Lock()
		if e.users--; e.users == 0 {
			delete(s.held, name)
		}
		s.mu.Unlock()
	}
}
