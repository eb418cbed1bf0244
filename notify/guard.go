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
	mu    sync.Mutex // guards all below, and the entries' users; never held while waiting for a name
	held  map[string]*guardEntry
	spare *guardEntry // for the next name; nil: there is none
}

type guardEntry struct {
	users int           // who has the name, and who waits for it
	free  chan struct{} // holds one when the name was given back to who waits; nil: nobody has waited yet
}

// guardLock is a name of a keyGuard that is locked, or waited for.
type guardLock struct {
	stripe *guardStripe
	name   string
	entry  *guardEntry
}

func newKeyGuard() *keyGuard { return &keyGuard{seed: maphash.MakeSeed()} }

// tryLock takes the name if nobody has it: ok. Else wait must be called, once.
func (g *keyGuard) tryLock(name string) (l guardLock, ok bool) {
	s := &g.stripe[maphash.String(g.seed, name)%uint64(len(g.stripe))]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held[name]
	if e == nil {
		if e, s.spare = s.spare, nil; e == nil {
			e = new(guardEntry)
		}
		if s.held == nil {
			s.held = make(map[string]*guardEntry)
		}
		s.held[name] = e
		ok = true
	} else if e.free == nil {
		e.free = make(chan struct{}, 1)
	}
	e.users++
	return guardLock{s, name, e}, ok
}

// wait waits for the name. Errors: ctx's, and the name is not locked.
func (l *guardLock) wait(ctx context.Context) error {
	select {
	case <-l.entry.free:
		return nil
	case <-ctx.Done():
	}
	s := l.stripe
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.entry.users--; l.entry.users == 0 {
		delete(s.held, l.name) // what it holds goes with it
	}
	return ctx.Err()
}

// unlock gives the name back, perhaps in another goroutine than took it.
func (l *guardLock) unlock() {
	s := l.stripe
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.entry.users--; l.entry.users > 0 {
		l.entry.free <- struct{}{} // has room: only who has the name gives it back
		return
	}
	delete(s.held, l.name)
	s.spare = l.entry
}
