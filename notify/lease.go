package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"herald/queue"
)

// holding is a lease in use. It is renewed beside the work that it protects,
// and the work's context ends when the lease does: by this process's clock,
// whether or not the server that keeps it answers.
type holding struct {
	lease queue.Lease
	ttl   time.Duration
	end   context.CancelCauseFunc // of the work

	mu       sync.Mutex // guards all below
	until    time.Time  // the lease is sure before it
	over     error      // why it is not held any more; nil while it is
	renewal  *time.Timer
	expiry   *time.Timer
	renewing sync.WaitGroup // added to with mu held, while over is nil
}

var (
	// errLeaseOver: the lease ended by the clock.
	errLeaseOver = errors.New("lease is over")
	// errReleased: it was given back.
	errReleased = errors.New("lease was given back")
)

// releaseTimeout bounds the giving back of a lease, which else just runs out.
const releaseTimeout = 2 * time.Second

// leaseContext is the context of the work under a lease. It says that it has
// ended as soon as the lease has, also where no timer has run yet: in a process
// that was stopped and goes on.
type leaseContext struct {
	context.Context
	h *holding
}

// Err looks at the clock first.
func (c leaseContext) Err() error {
	_ = c.h.check() // ends the context
	return c.Context.Err()
}

// takeLease acquires a lock. work carries ctx's values but not its end: it
// ends with the lease. When ctx ends meanwhile the answer is waited for a while:
// a lease that nobody knows of would keep others off until it runs out.
// Errors: queue.ErrLocked.
func takeLease(ctx context.Context, l queue.Locker, name, owner string, ttl time.Duration) (h *holding, work context.Context, err error) {
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(releaseTimeout, cancel) })()
	lease, err := l.Acquire(asking, name, owner, ttl)
	switch {
	case err != nil && asking.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil:
		return nil, nil, err
	case ctx.Err() != nil:
		giveBack(lease)
		return nil, nil, ctx.Err()
	}
	inner, end := context.WithCancelCause(context.WithoutCancel(ctx))
	h = &holding{lease: lease, ttl: ttl, end: end, until: lease.Expires()}
	work = leaseContext{inner, h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewal = time.AfterFunc(h.renewIn(), func() { h.renew(work) })
	h.expiry = time.AfterFunc(time.Until(h.until), h.expire)
	return h, work, nil
}

// renewIn is when to renew: after a third of the lease. mu is held.
func (h *holding) renewIn() time.Duration { return time.Until(h.until) - h.ttl/3*2 }

// renew extends the lease. While the server does not answer it is asked again
// until the lease ends.
func (h *holding) renew(work context.Context) {
	h.mu.Lock()
	if h.over != nil {
		h.mu.Unlock()
		return
	}
	h.renewing.Add(1)
	h.mu.Unlock()
	defer h.renewing.Done()
	err := h.lease.Renew(work)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over != nil: // meanwhile; it is not taken up again
	case errors.Is(err, queue.ErrLeaseLost), errors.Is(err, queue.ErrFenced):
		h.lose(err)
	case err != nil:
		h.renewal.Reset(h.ttl / 12)
	default:
		h.until = h.lease.Expires()
		h.expiry.Reset(time.Until(h.until))
		h.renewal.Reset(h.renewIn())
	}
}

// expire ends what the clock has ended.
func (h *holding) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over != nil:
	case passed(h.until):
		h.lose(errLeaseOver)
	default: // renewed at the last moment
		h.expiry.Reset(time.Until(h.until))
	}
}

// passed tells whether a time is over by the monotonic clock or by the wall's:
// the one does not count the sleep of a machine, the other may be set back.
func passed(t time.Time) bool {
	now := time.Now()
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// lose ends the work. mu is held, and over is nil.
func (h *holding) lose(err error) {
	h.over = err
	h.renewal.Stop()
	h.expiry.Stop()
	h.end(err)
}

// check is nil while the lease is surely held. A process that was stopped
// learns here, before it does anything, that its time is over.
func (h *holding) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over == nil && passed(h.until) {
		h.lose(errLeaseOver)
	}
	return h.over
}

// fenced ends the work: the queue has seen another owner.
func (h *holding) fenced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over == nil {
		h.lose(queue.ErrFenced)
	}
}

// release ends the work and gives the lease back, also one that seems lost: it
// may be so by this process's clock only.
func (h *holding) release() {
	h.mu.Lock()
	if h.over == nil {
		h.lose(errReleased)
	}
	h.mu.Unlock()
	h.renewing.Wait()
	giveBack(h.lease)
}

func giveBack(lease queue.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	_ = lease.Release(ctx) // without an answer it runs out
}
