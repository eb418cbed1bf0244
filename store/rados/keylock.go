//go:build rados

package rados

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const lockShards = 64

// keyLocks let the changes of one key by this gateway wait for each other. A
// lock exists while somebody holds it or waits for it.
type keyLocks struct {
	seed   maphash.Seed
	shards [lockShards]lockShard
}

type lockShard struct {
	mu sync.Mutex // guards m and each lock's refs
	m  map[headKey]*keyLock
}

type keyLock struct {
	held chan struct{} // has an element while the lock is held
	refs int
}

func newKeyLocks() *keyLocks {
	l := &keyLocks{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].m = make(map[headKey]*keyLock)
	}
	return l
}

// lock waits for a key's lock and takes it; unlock gives it back.
func (l *keyLocks) lock(ctx context.Context, k headKey) (unlock func(), err error) {
	s := &l.shards[maphash.Comparable(l.seed, k)%lockShards]
	s.mu.Lock()
	e := s.m[k]
	if e == nil {
		e = &keyLock{held: make(chan struct{}, 1)}
		s.m[k] = e
	}
	e.refs++
	s.mu.Unlock()
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held; s.drop(k, e) }, nil
	case <-ctx.Done():
		s.drop(k, e)
		return nil, context.Cause(ctx)
	}
}

func (s *lockShard) drop(k headKey, e *keyLock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(s.m, k)
	}
}

// changeCounts counts the changes of keys by this gateway, of several keys
// together: that nothing was counted tells that a key was not changed.
type changeCounts struct {
	seed   maphash.Seed
	counts [1024]atomic.Uint64
}

func newChangeCounts() *changeCounts { return &changeCounts{seed: maphash.MakeSeed()} }

// of is where the changes of a key are counted.
func (c *changeCounts) of(k headKey) *atomic.Uint64 {
	return &c.counts[maphash.Comparable(c.seed, k)%uint64(len(c.counts))]
}
