//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	librados "herald/rados"
	"herald/store"
)

// errMarkGone: a change took so long that somebody took it for dead. It can
// not be made any more.
var errMarkGone = errors.New("the change took too long and was given up by another gateway")

// errClosed is the answer to calls on a closed driver.
var errClosed = errors.New("store is closed")

// headReader is what the index needs of the heads, which are the truth.
type headReader interface {
	// keyState returns what the head of a key says now; the zero keyState
	// when there is no head. Without versions it may leave out noncurrent.
	keyState(ctx context.Context, bid, key string, versions bool) (*keyState, error)
	// repairHead sees to it that the change tag of a key does not happen any
	// more, if it did not yet, and that nothing of it is left then.
	repairHead(ctx context.Context, bid, key string, tag store.OpID) error
	// sweepHead removes what the head of a key notes as used by nothing, and
	// the head if all it does is to remember that the key was removed, and
	// nobody needs that any more. done is false when it has to be called again
	// later.
	sweepHead(ctx context.Context, bid, key string) (done bool, err error)
}

// keyState is all that a listing shows of a key.
type keyState struct {
	gen        uint64       // number of this state; 0: there is no head
	current    *store.Info  // or a delete marker; nil: the key has no version
	noncurrent []store.Info // newest first
}

// entry is the index's entry of the current version.
func (k *keyState) entry() *indexEntry {
	if k.current == nil {
		return nil
	}
	return &indexEntry{gen: k.gen, info: *k.current}
}

// indexEnv is what an index needs of the driver.
type indexEnv struct {
	io      *librados.IO
	heads   headReader
	bg      *background
	gateway string                   // id of this process, never used again
	fault   func(point string) error // of tests: an error stops there; nil: none
	now     func() time.Time
	limits  indexLimits
	// dropUpload removes what is left of an upload in a deleted bucket; nil:
	// there is nothing.
	dropUpload func(ctx context.Context, bid, key, id string) error
	log        *slog.Logger
}

// errStopped is where a test stopped what was under way.
var errStopped = errors.New("stopped by a test")

// at is a point where a test may stop what is under way.
func (e *indexEnv) at(point string) error {
	if e.fault == nil {
		return nil
	}
	if err := e.fault(point); err != nil {
		return fmt.Errorf("%w at %s: %w", errStopped, point, err)
	}
	return nil
}

// indexLimits are what a test makes smaller; zero: as it should be.
type indexLimits struct {
	mark   time.Duration // after which a change that was not renewed is taken for dead; a minute
	head   time.Duration // for which a head remembers that its key was removed; an hour
	frozen time.Duration // after which who froze a shard is taken for dead; 30 s
	copy   time.Duration // after which who copies a shard is taken for dead; 10 min
	drop   time.Duration // for which a bucket that is deleted waits for changes under way; 2 s
	split  int64         // entries of a shard that is split; 100,000
}

func (a *indexLimits) setDefaults() {
	a.mark = cmp.Or(a.mark, time.Minute)
	a.head = cmp.Or(a.head, time.Hour)
	a.frozen = cmp.Or(a.frozen, 30*time.Second)
	a.copy = cmp.Or(a.copy, 10*time.Minute)
	a.drop = cmp.Or(a.drop, 2*time.Second)
	a.split = cmp.Or(a.split, 100_000)
}

// index is the index of one bucket. It repeats for listings what the heads
// say. Its methods may be called concurrently; there is one for each bucket
// in a process.
type index struct {
	env   *indexEnv
	bid   string
	novel novelty // of its keys

	loading sync.Mutex // held while the layout is read
	mu      sync.Mutex // guards what follows
	layout  *layout    // nil: not read yet
	gone    bool       // the bucket is deleted
	shards  map[string]*shard

	due      atomic.Int64 // nanoseconds since 1970: when to sweep again
	sweeping sync.Mutex   // held by a sweep; guards what follows
	calm     time.Duration
	seen     map[string]seenValue
}

// openIndex returns a bucket's index. It reads nothing.
func openIndex(env *indexEnv, bid string) *index {
	env.limits.setDefaults()
	return &index{env: env, bid: bid, shards: map[string]*shard{}}
}

// indexChange is one change of a head as its index sees it.
type indexChange struct {
	was, now *indexEntry  // the current version before and after; nil: the key has no version
	add      []store.Info // noncurrent versions that the key has now
	remove   []store.Info // noncurrent versions that it has no more
	garbage  bool         // the head has notes of what is to be removed: sweepHead has to be called
}

// mark announces one change of a key. Until it ends, whoever lists asks the
// key's head. It is ended once, by end or cancel.
type mark struct {
	x   *index
	key string
	tag store.OpID

	mu    sync.Mutex // guards what follows
	value []byte     // in the index
	since time.Time  // when it was made or renewed, or earlier
}

// markStale is how old a mark becomes before its writer renews it. Others take
// the writer for dead after a minute.
const markStale = 20 * time.Second

// begin announces a change of a key; tag names it. The mark is durable on
// return. Errors: store.ErrNoSuchBucket, store.ErrNoSpace.
func (x *index) begin(ctx context.Context, key string, tag store.OpID) (*mark, error) {
	m := &mark{x: x, key: key, tag: tag}
	if err := m.do(ctx, callBegin); err != nil {
		return nil, fmt.Errorf("announce a change of a key: %w", err)
	}
	return m, nil
}

// stale tells whether the mark has to be renewed before the head is changed.
func (m *mark) stale() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.since) > markStale
}

// renew tells others that the change is still under way. Errors: errMarkGone,
// store.ErrNoSuchBucket.
func (m *mark) renew(ctx context.Context) error {
	if err := m.do(ctx, callRenew); err != nil {
		return fmt.Errorf("renew a mark: %w", err)
	}
	return nil
}

// do makes or renews the mark and waits for it.
func (m *mark) do(ctx context.Context, kind callKind) error {
	return m.x.do(ctx, newIndexCall(kind, m))
}

// do submits a call and waits for its answer.
func (x *index) do(ctx context.Context, c *indexCall) error {
	if err := x.submit(ctx, c); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		if c.leave() {
			return context.Cause(ctx)
		}
		return <-c.done
	}
}

// end takes the key's entries to what the head says now, and removes the
// mark. It does not wait for that. The changes of one key by one gateway end
// in their order.
func (m *mark) end(change indexChange) {
	c := newIndexCall(callEnd, m)
	c.change = &change
	m.x.put(c)
}

// endRepaired is end for what the head is to be asked of, and swept for.
func (m *mark) endRepaired() {
	c := newIndexCall(callEnd, m)
	c.repair = true
	m.x.put(c)
}

// settle ends a change of which it is not known whether it happened. If it did
// not, it never will.
func (m *mark) settle() {
	x := m.x
	x.env.bg.start(func(ctx context.Context) {
		s := x.lookup(m.key)
		if s == nil {
			return
		}
		if err := s.repair(ctx, m); err != nil && ctx.Err() == nil {
			x.env.log.Warn("change of a key is left to be repaired", "shard", s.oid, "key", m.key, "err", err)
		}
	})
}

// cancel ends a change that did not happen, and never will.
func (m *mark) cancel() { m.x.put(newIndexCall(callCancel, m)) }

// callKind is what a call wants.
type callKind uint8

const (
	callBegin callKind = iota
	callRenew
	callEnd
	callCancel
	callSet
)

// indexCall is one call for a shard.
type indexCall struct {
	kind   callKind
	m      *mark
	change *indexChange      // of callEnd; nil: ask the head
	repair bool              // of callEnd: it is another's, which is dead
	set    map[string][]byte // of callSet: what to write; nil: remove
	value  []byte            // of callBegin, callRenew: of the mark
	at     time.Time
	done   chan error // with room for the answer
	state  atomic.Int32
}

// States of a call.
const (
	callWaits int32 = iota
	callLeft
	callAnswered
)

func newIndexCall(kind callKind, m *mark) *indexCall {
	c := &indexCall{kind: kind, m: m, at: time.Now(), done: make(chan error, 1)}
	if kind == callBegin || kind == callRenew {
		c.value = markValue(false, m.x.env.now(), m.x.env.gateway)
	}
	return c
}

// leave says that nobody waits for the answer; false: it was given.
func (c *indexCall) leave() bool { return c.state.CompareAndSwap(callWaits, callLeft) }

func (c *indexCall) left() bool { return c.state.Load() == callLeft }

// answer tells who waits. A mark that nobody waits for any more is removed.
func (c *indexCall) answer(err error) {
	m := c.m
	if err == nil && c.value != nil {
		m.mu.Lock()
		m.value, m.since = c.value, c.at
		m.mu.Unlock()
	}
	if c.state.CompareAndSwap(callWaits, callAnswered) {
		c.done <- err
	} else if err == nil && c.kind == callBegin {
		m.cancel()
	}
}

// put submits a call that nobody waits for, by a mark that was made.
func (x *index) put(c *indexCall) {
	if s := x.lookup(c.m.key); s != nil {
		s.fast.addLater(c)
	}
}

// submit gives a call to the shard of its key.
func (x *index) submit(ctx context.Context, c *indexCall) error {
	s := x.lookup(c.m.key)
	if s == nil {
		if err := x.load(ctx, 0); err != nil {
			return err
		}
		if s = x.lookup(c.m.key); s == nil {
			return store.ErrNoSuchBucket
		}
	}
	if !s.fast.add(c) {
		return errClosed
	}
	return nil
}

// lookup returns the shard of a key; nil: the layout was not read yet, or the
// bucket is gone.
func (x *index) lookup(key string) *shard {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.layout == nil || x.gone {
		return nil
	}
	ref, ok := x.layout.find(key)
	if !ok {
		return nil
	}
	return x.shard(ref)
}

// shard returns the shard of that name. The caller holds x.mu.
func (x *index) shard(ref shardRef) *shard {
	s := x.shards[ref.Tag]
	if s == nil {
		s = newShard(x, ref)
		x.shards[ref.Tag] = s
	}
	return s
}

// all returns all shards and the version of the layout that names them.
func (x *index) all(ctx context.Context) ([]*shard, uint64, error) {
	if err := x.load(ctx, 0); err != nil {
		return nil, 0, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gone {
		return nil, 0, store.ErrNoSuchBucket
	}
	shards := make([]*shard, len(x.layout.Shards))
	for i, ref := range x.layout.Shards {
		shards[i] = x.shard(ref)
	}
	return shards, x.layout.version, nil
}

// load reads the layout unless there is one of another version than the one
// that did not serve; 0: any serves. Errors: store.ErrNoSuchBucket.
func (x *index) load(ctx context.Context, bad uint64) error {
	if ok, err := x.loaded(bad); ok {
		return err
	}
	x.loading.Lock()
	defer x.loading.Unlock()
	if ok, err := x.loaded(bad); ok {
		return err
	}
	l, err := readLayout(ctx, x.env.io, x.bid)
	if err == nil && l.Deleted {
		err = store.ErrNoSuchBucket
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if errors.Is(err, store.ErrNoSuchBucket) {
		x.gone = true
	}
	if err != nil {
		return err
	}
	x.layout = l
	kept := map[string]*shard{}
	for _, ref := range l.Shards {
		if s := x.shards[ref.Tag]; s != nil {
			kept[ref.Tag] = s
		}
	}
	x.shards = kept
	return nil
}

func (x *index) loaded(bad uint64) (ok bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gone {
		return true, store.ErrNoSuchBucket
	}
	return x.layout != nil && x.layout.version != bad, nil
}

// version is that of the layout that is in use; 0: none was read.
func (x *index) version() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.layout == nil {
		return 0
	}
	return x.layout.version
}
