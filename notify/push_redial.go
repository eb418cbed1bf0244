package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// link is a connection to a broker, or a part of one.
type brokerLink interface {
	comparable
	// lost is closed when it can be used no more.
	lost() <-chan struct{}
	// leave ends it, without waiting: what is in flight fails.
	leave()
}

// redial keeps one link: made when somebody wants it, made again after it was
// lost, with pauses between attempts that fail, and left when nobody has used
// it for long. Its methods may be called concurrently.
type redial[L brokerLink] struct {
	// open makes the link before its context is done.
	open    func(context.Context) (L, error)
	timeout time.Duration // of open
	idle    time.Duration // unused for that long it is left

	mu       sync.Mutex // guards all below
	cur      L          // zero: none
	since    time.Time  // that it is there
	users    int
	opening  chan struct{} // closed when the attempt that runs has ended; nil: none runs
	stop     context.CancelFunc
	failures int       // in a row
	until    time.Time // no attempt before
	err      error     // of the last attempt
	timer    *time.Timer
	closed   bool
}

const (
	// minRedial and maxRedial are the shortest and the longest pause between
	// attempts to connect.
	minRedial = 100 * time.Millisecond
	maxRedial = 2 * time.Second
	// steady is how long a link lives that was worth making.
	steady = time.Second
	// idleLink is how long an unused connection stays (RGW, AMQP).
	idleLink = 30 * time.Second
)

var (
	errPusherClosed = errors.New("the endpoint is used no more")
	errLost         = errors.New("the connection was lost")
	// errKeyBehind is why an event was not sent.
	errKeyBehind = errors.New("an earlier event of the same key was not delivered")
)

// get returns the link; who has it calls put. While a pause between attempts
// lasts it fails at once.
func (r *redial[L]) get(ctx context.Context) (L, error) {
	var none L
	for {
		r.mu.Lock()
		l, wait, err := r.look(time.Now())
		r.mu.Unlock()
		switch {
		case err != nil:
			return none, err
		case wait == nil:
			return l, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return none, fmt.Errorf("connect: %w", ctx.Err())
		}
	}
}

// look returns the link, or what to wait for before looking again. mu is held.
func (r *redial[L]) look(now time.Time) (l L, wait <-chan struct{}, err error) {
	var none L
	if r.closed {
		return none, nil, errPusherClosed
	}
	if r.cur != none {
		select {
		case <-r.cur.lost():
			r.forget(now)
		default:
			r.users++
			return r.cur, nil, nil
		}
	}
	if r.opening == nil {
		if now.Before(r.until) {
			return none, nil, r.err
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
		r.opening, r.stop = make(chan struct{}), cancel
		go r.attempt(ctx, cancel, r.opening)
	}
	return none, r.opening, nil
}

// forget takes note that the link was lost. mu is held.
func (r *redial[L]) forget(now time.Time) {
	var none L
	r.cur, r.users = none, 0
	if now.Sub(r.since) < steady {
		r.failed(errLost, now)
	} else {
		r.failures = 0
	}
}

// failed takes note of a failure. mu is held.
func (r *redial[L]) failed(err error, now time.Time) {
	r.failures++
	r.err = err
	r.until = now.Add(min(minRedial<<min(r.failures-1, 10), maxRedial))
}

// attempt makes the link. It ends with ctx.
func (r *redial[L]) attempt(ctx context.Context, cancel context.CancelFunc, done chan struct{}) {
	defer cancel()
	l, err := r.open(ctx)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(done)
	r.opening, r.stop = nil, nil
	switch {
	case err != nil:
		r.failed(err, now)
	case r.closed:
		l.leave()
	default:
		r.cur, r.since, r.users = l, now, 0
		r.watchIdle()
	}
}

// put gives a link back.
func (r *redial[L]) put(l L) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l != r.cur {
		return // it was lost meanwhile
	}
	if r.users--; r.users == 0 {
		r.watchIdle()
	}
}

// watchIdle begins the time after which the link is left if nobody uses it. mu
// is held.
func (r *redial[L]) watchIdle() {
	if r.timer == nil {
		r.timer = time.AfterFunc(r.idle, r.reap)
	} else {
		r.timer.Reset(r.idle)
	}
}

func (r *redial[L]) reap() {
	var none L
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur != none && r.users == 0 && !r.closed {
		r.cur.leave()
		r.cur = none
	}
}

// Close leaves the link and makes none any more.
func (r *redial[L]) Close() error {
	var none L
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.stop != nil {
		r.stop()
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.cur != none {
		r.cur.leave()
		r.cur = none
	}
	return nil
}

// pushByKey sends events with one: those of one key one after another, and none
// behind one that failed; those of different keys at the same time.
func pushByKey(ctx context.Context, events []Event, one func(context.Context, *Event) Result) []Result {
	results := make([]Result, len(events))
	if len(events) == 1 {
		results[0] = one(ctx, &events[0])
		return results
	}
	chains := make(map[string][]int)
	for i := range events {
		chains[events[i].Key] = append(chains[events[i].Key], i)
	}
	var wg sync.WaitGroup
	for _, chain := range chains {
		wg.Go(func() {
			behind := false
			for _, i := range chain {
				if behind {
					results[i] = Result{Retry, errKeyBehind}
					continue
				}
				results[i] = one(ctx, &events[i])
				behind = results[i].Status == Retry
			}
		})
	}
	wg.Wait()
	return results
}
