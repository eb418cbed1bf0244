package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"herald/queue"
)

// link is a gateway's connection to queues that it shares with others: the
// driver, which does not look like one for a single process. While it is cut
// no call is carried out or answered.
type link struct {
	queue.Driver
	starts bool // its queues are a queue.Starter

	mu    sync.Mutex     // guards all below
	cut   chan struct{}  // closed when it is whole again; nil: it is
	delay time.Duration  // of each call
	calls map[string]int // by name
	lose  int            // answers to commits
	dead  bool           // it stays cut
}

func newLink(d queue.Driver) *link { return &link{Driver: d, calls: make(map[string]int)} }

func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		l.cut = make(chan struct{})
	}
}

// kill is sever for good: the gateway is as good as dead.
func (l *link) kill() {
	l.sever()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil && !l.dead {
		close(l.cut)
		l.cut = nil
	}
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut != nil
}

func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// loseCommits has n commits take effect and fail.
func (l *link) loseCommits(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = n
}

func (l *link) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose--
	return l.lose >= 0
}

// counts returns the calls so far, and begins anew.
func (l *link) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = make(map[string]int)
	return calls
}

func (l *link) call(ctx context.Context, name string) error {
	l.mu.Lock()
	l.calls[name]++
	cut, delay := l.cut, l.delay
	l.mu.Unlock()
	if delay > 0 {
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
	if cut == nil {
		return nil
	}
	select {
	case <-cut:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) Create(ctx context.Context, name string, capacity int64) error {
	if err := l.call(ctx, "create"); err != nil {
		return err
	}
	return l.Driver.Create(ctx, name, capacity)
}

func (l *link) Delete(ctx context.Context, name string) error {
	if err := l.call(ctx, "delete"); err != nil {
		return err
	}
	return l.Driver.Delete(ctx, name)
}

func (l *link) Open(ctx context.Context, name string) (queue.Queue, error) {
	if err := l.call(ctx, "open"); err != nil {
		return nil, err
	}
	q, err := l.Driver.Open(ctx, name)
	if l.starts {
		return startingQueue{linkedQueue{q, l}}, err
	}
	return linkedQueue{q, l}, err
}

func (l *link) List(ctx context.Context, prefix string) ([]string, error) {
	if err := l.call(ctx, "names"); err != nil {
		return nil, err
	}
	return l.Driver.List(ctx, prefix)
}

func (l *link) Locker() queue.Locker { return linkedLocker{l.Driver.Locker(), l} }

type linkedQueue struct {
	queue.Queue
	l *link
}

func (q linkedQueue) Reserve(ctx context.Context, intent []byte, size int64, n int) (queue.ID, error) {
	if err := q.l.call(ctx, "reserve"); err != nil {
		return 0, err
	}
	return q.Queue.Reserve(ctx, intent, size, n)
}

func (q linkedQueue) Renew(ctx context.Context, id queue.ID) error {
	if err := q.l.call(ctx, "renew"); err != nil {
		return err
	}
	return q.Queue.Renew(ctx, id)
}

func (q linkedQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if err := q.l.call(ctx, "commit"); err != nil {
		return err
	}
	err := q.Queue.Commit(ctx, id, entries)
	if q.l.lost() {
		return errors.New("the answer was lost")
	}
	return err
}

func (q linkedQueue) Abort(ctx context.Context, id queue.ID) error {
	if err := q.l.call(ctx, "abort"); err != nil {
		return err
	}
	return q.Queue.Abort(ctx, id)
}

func (q linkedQueue) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	if err := q.l.call(ctx, "list"); err != nil {
		return nil, false, err
	}
	return q.Queue.List(ctx, after, max)
}

func (q linkedQueue) Ack(ctx context.Context, a queue.Ack) error {
	if err := q.l.call(ctx, "ack"); err != nil {
		return err
	}
	return q.Queue.Ack(ctx, a)
}

func (q linkedQueue) Reservations(ctx context.Context, before time.Time, max int) ([]queue.Reservation, error) {
	if err := q.l.call(ctx, "reservations"); err != nil {
		return nil, err
	}
	return q.Queue.Reservations(ctx, before, max)
}

func (q linkedQueue) Wait(ctx context.Context, after queue.Marker) error {
	if err := q.l.call(ctx, "wait"); err != nil {
		return err
	}
	return q.Queue.(queue.Waiter).Wait(ctx, after)
}

// startingQueue can commit for who does not wait.
type startingQueue struct{ linkedQueue }

func (q startingQueue) StartCommit(ctx context.Context, id queue.ID, entries [][]byte, done func(error)) {
	go func() { done(q.Commit(ctx, id, entries)) }()
}

type linkedLocker struct {
	queue.Locker
	l *link
}

// Acquire is carried out also when nobody waits for its answer any more, unless
// the link is cut.
func (k linkedLocker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	if err := k.l.call(ctx, "acquire"); err != nil {
		if !k.l.isCut() {
			_, _ = k.Locker.Acquire(context.WithoutCancel(ctx), name, owner, ttl)
		}
		return nil, err
	}
	lease, err := k.Locker.Acquire(ctx, name, owner, ttl)
	return &linkedLease{lease, k.l, time.Now().Add(ttl), ttl, sync.Mutex{}}, err
}

func (k linkedLocker) Join(ctx context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	if err := k.l.call(ctx, "join"); err != nil {
		return nil, err
	}
	return k.Locker.Join(ctx, group, owner, ttl)
}

func (k linkedLocker) Leave(ctx context.Context, group, owner string) error {
	if err := k.l.call(ctx, "leave"); err != nil {
		return err
	}
	return k.Locker.Leave(ctx, group, owner)
}

// linkedLease knows its end by itself.
type linkedLease struct {
	queue.Lease
	l       *link
	expires time.Time
	ttl     time.Duration
	mu      sync.Mutex // guards expires
}

func (h *linkedLease) Renew(ctx context.Context) error {
	before := time.Now()
	if err := h.l.call(ctx, "extend"); err != nil {
		return err
	}
	err := h.Lease.Renew(ctx)
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.expires = before.Add(h.ttl)
	}
	return err
}

func (h *linkedLease) Release(ctx context.Context) error {
	if err := h.l.call(ctx, "release"); err != nil {
		return err
	}
	return h.Lease.Release(ctx)
}

func (h *linkedLease) Expires() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expires
}
