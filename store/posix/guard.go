package posix

import (
	"hash/maphash"
	"sync"
)

const guardShards = 64

// guards are the locks of keys: a mutex per bucket and key, which exists while
// somebody holds it or waits for it.
type guards struct {
	seed   maphash.Seed
	shards [guardShards]guardShard
}

type guardShard struct {
	mu sync.Mutex // guards m and each guard's refs
	m  map[guardKey]*guard
}

type guardKey struct{ bucket, key string }

// guard is the held lock of one key.
type guard struct {
	sync.Mutex
	shard *guardShard
	key   guardKey
	refs  int
}

func newGuards() *guards {
	g := &guards{seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].m = make(map[guardKey]*guard)
	}
	return g
}

// lock waits for the key's lock and takes it; unlock gives it back. Whoever
// holds a key may lock proper prefixes of it, nothing else.
func (g *guards) lock(bucket, key string) *guard {
	k := guardKey{bucket, key}
	s := &g.shards[maphash.Comparable(g.seed, k)%guardShards]
	s.mu.Lock()
	e := s.m[k]
	if e == nil {
		e = &guard{shard: s, key: k}
		s.m[k] = e
	}
	e.refs++
	s.mu.Unlock()
	e.Lock()
	return e
}

func (e *guard) unlock() {
	e.Unlock()
	e.shard.mu.Lock()
	if e.refs--; e.refs == 0 {
		delete(e.shard.m, e.key)
	}
	e.shard.mu.Unlock()
}
