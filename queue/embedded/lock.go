package embedded

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"herald/journal"
	"herald/queue"
)

// locker gives out leases within the process. Fences come from one counter
// for all locks, which is journaled, so that they grow across restarts.
type locker struct {
	d *Driver

	mu      sync.Mutex // guards what follows
	held    map[string]*lock
	waiting map[string]*waiting             // who is in Acquire, by lock
	groups  map[string]map[string]time.Time // group -> owner -> end of membership
	sweepAt int                             // how many held locks and groups call for a sweep
}

// waiting are those who have, or will have, a fence for a lock and do not hold
// it. As long as there are any, an older fence than the newest holder's may be
// among them.
type waiting struct {
	n    int
	last uint64 // newest fence given out meanwhile
}

// sweepMin is how many locks and groups are not worth a sweep.
const sweepMin = 1024

// lock is the state of a lock that is held.
type lock struct {
	owner   string
	fence   uint64
	expires time.Time // guarded by the locker's mu
	latest  *lease    // that its owner acquired; likewise
}

// lease is the handle of one Acquire.
type lease struct {
	l    *locker
	name string
	held *lock
	ttl  time.Duration
}

var (
	_ queue.Locker = (*locker)(nil)
	_ queue.Lease  = (*lease)(nil)
)

func newLocker(d *Driver) *locker {
	return &locker{
		d: d, held: make(map[string]*lock), waiting: make(map[string]*waiting),
		groups: make(map[string]map[string]time.Time), sweepAt: sweepMin,
	}
}

// Join enters owner into a group.
func (l *locker) Join(_ context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.d.opts.Now()
	g := l.groups[group]
	if g == nil {
		l.sweep(now)
		g = make(map[string]time.Time)
		l.groups[group] = g
	}
	g[owner] = now.Add(ttl)
	maps.DeleteFunc(g, func(_ string, end time.Time) bool { return !now.Before(end) })
	return slices.Sorted(maps.Keys(g)), nil
}

// Leave takes owner out of a group.
func (l *locker) Leave(_ context.Context, group, owner string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.groups[group], owner); len(l.groups[group]) == 0 {
		delete(l.groups, group)
	}
	return nil
}

// Acquire takes a lock. A new fence is durable when it returns.
func (l *locker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	l.enter(name)
	defer l.leave(name)
	for fence := uint64(0); ; {
		if h, err := l.take(name, owner, ttl, fence); h != nil || err != nil {
			return h, err
		}
		var err error
		if fence, err = l.d.nextFence(); err != nil {
			return nil, err
		}
	}
}

func (l *locker) enter(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[name]
	if w == nil {
		w = &waiting{}
		l.waiting[name] = w
	}
	w.n++
}

func (l *locker) leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[name]
	if w.n--; w.n == 0 {
		delete(l.waiting, name)
	}
}

// sweep forgets what has ended, when there may be much of it. l.mu is held.
func (l *locker) sweep(now time.Time) {
	if len(l.held)+len(l.groups) < l.sweepAt {
		return
	}
	maps.DeleteFunc(l.held, func(_ string, h *lock) bool { return !now.Before(h.expires) })
	maps.DeleteFunc(l.groups, func(_ string, g map[string]time.Time) bool {
		maps.DeleteFunc(g, func(_ string, end time.Time) bool { return !now.Before(end) })
		return len(g) == 0
	})
	l.sweepAt = max(2*(len(l.held)+len(l.groups)), sweepMin)
}

// take answers ErrLocked, or the lease that the owner holds or gets now with
// the fence. It answers neither when the lock is free but the fence is not
// newer than those before.
func (l *locker) take(name, owner string, ttl time.Duration, fence uint64) (queue.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.d.opts.Now()
	if h := l.held[name]; h != nil && now.Before(h.expires) {
		if h.owner != owner {
			return nil, queue.ErrLocked
		}
		return l.lease(name, h, ttl, now), nil
	}
	w := l.waiting[name]
	if fence <= w.last {
		return nil, nil
	}
	l.sweep(now)
	h := &lock{owner: owner, fence: fence}
	l.held[name], w.last = h, fence
	return l.lease(name, h, ttl, now), nil
}

// lease makes the handle of a lock that was just acquired. l.mu is held.
func (l *locker) lease(name string, h *lock, ttl time.Duration, now time.Time) *lease {
	h.latest, h.expires = &lease{l: l, name: name, held: h, ttl: ttl}, now.Add(ttl)
	return h.latest
}

// nextFence counts fences, durably.
func (d *Driver) nextFence() (uint64, error) {
	var fence uint64
	err := d.change(func() (journal.LSN, error) {
		fence = d.fence + 1
		lsn, err := d.j.TryAppend(journal.StreamQueue, putNumbers([]byte{opFence}, 0, fence))
		if err == nil {
			d.fence, d.lsn = fence, lsn
		}
		return lsn, err
	})
	return fence, err
}

// Fence returns the fencing number.
func (h *lease) Fence() uint64 { return h.held.fence }

// Renew extends the lease; one that has expired is lost.
func (h *lease) Renew(ctx context.Context) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	now := h.l.d.opts.Now()
	if h.l.held[h.name] != h.held || !now.Before(h.held.expires) {
		return queue.ErrLeaseLost
	}
	h.held.expires = now.Add(h.ttl)
	return nil
}

// Release gives the lock back, unless its owner acquired it again since.
func (h *lease) Release(ctx context.Context) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if h.l.held[h.name] == h.held && h.held.latest == h {
		delete(h.l.held, h.name)
		h.held.expires = h.l.d.opts.Now()
	}
	return nil
}

// Expires tells when the lease ends.
func (h *lease) Expires() time.Time {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return h.held.expires
}
