package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/queue"
	"herald/queue/redis"
)

// Times of a queue on a server.
const (
	// remoteTimeout bounds the calls that a client of the gateway waits for: a
	// write whose event has no place to wait is refused after it.
	remoteTimeout = 5 * time.Second
	// listTimeout bounds the list of a queue's reservations, of which there
	// may be many.
	listTimeout = 30 * time.Second
	// openTimeout bounds one attempt to reach the server, and openPause is
	// the pause between them.
	openTimeout = 10 * time.Second
	openPause   = time.Second
	// awayEvery is the pause between log lines about a server that stays away.
	awayEvery = 30 * time.Second
)

// awayError is the answer while the server cannot be reached. A client is told
// to try again later.
type awayError struct {
	where string
	cause error
}

func (e *awayError) Error() string { return fmt.Sprintf("queue %s is away: %v", e.where, e.cause) }

func (e *awayError) Unwrap() error { return e.cause }

// Is makes it one of the errors that pass with time.
func (e *awayError) Is(target error) bool { return target == context.DeadlineExceeded }

// remoteQueues are queues on a server which may be away, also when the gateway
// starts: it is opened when first used, and tried again whenever it is used
// until it could be. Once open, the driver itself reconnects. The calls that
// requests of clients wait for are bounded in time.
type remoteQueues struct {
	where string // for people, without password
	log   *slog.Logger
	guard *copyGuard // nil: none
	open  func(ctx context.Context) (queue.Driver, error)

	ctx  context.Context // of attempts; ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	driver  queue.Driver
	err     error         // of the last attempt
	tried   time.Time     // when it ended
	running chan struct{} // closed when the attempt that runs ends; nil: none runs
	told    time.Time     // when the log was told last
}

var _ queue.Driver = (*remoteQueues)(nil)

func newRemoteQueues(where string, log *slog.Logger, guard *copyGuard, open func(context.Context) (queue.Driver, error)) *remoteQueues {
	ctx, stop := context.WithCancel(context.Background())
	return &remoteQueues{where: where, log: log, guard: guard, open: open, ctx: ctx, stop: stop}
}

// get returns the driver, opening it if need be.
func (r *remoteQueues) get(ctx context.Context) (queue.Driver, error) {
	for {
		r.mu.Lock()
		if d := r.driver; d != nil {
			r.mu.Unlock()
			return d, r.guarded()
		}
		if r.running == nil && (r.err == nil || time.Since(r.tried) >= openPause) && r.ctx.Err() == nil {
			r.running = make(chan struct{})
			r.wg.Go(r.attempt)
		}
		running, err := r.running, r.err
		r.mu.Unlock()
		if running == nil {
			return nil, &awayError{r.where, err}
		}
		select {
		case <-running:
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("it does not answer: %w", context.Cause(ctx))
			}
			return nil, &awayError{r.where, err}
		}
	}
}

// reach makes one attempt. A server that can never be used as it is, or as it
// is spoken to, is an error; one that is away is not.
func (r *remoteQueues) reach(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := r.get(ctx)
	var away *awayError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &away) && refused(away.cause):
		return away.cause
	case ctx.Err() != nil: // the attempt goes on
		r.log.Warn("queue does not answer: writes that cause events are refused until it does", "queue", r.where)
	}
	return nil
}

// refused tells whether a server, or the URL, was of no use, rather than away.
func refused(err error) bool {
	for _, away := range []error{
		errCopy, context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF, syscall.ETIMEDOUT,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ENOTCONN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EAGAIN,
	} {
		if errors.Is(err, away) {
			return false
		}
	}
	var network *net.OpError
	var name *net.DNSError
	return !errors.As(err, &network) && !errors.As(err, &name) && !redis.Full(err)
}

// attempt opens the driver once.
func (r *remoteQueues) attempt() {
	ctx, cancel := context.WithTimeout(r.ctx, openTimeout)
	defer cancel()
	d, err := r.openGuarded(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.running)
	r.running, r.tried = nil, time.Now()
	switch {
	case err == nil:
		if r.err != nil {
			r.log.Info("queue is reached again", "queue", r.where)
		}
		r.driver, r.err = d, nil
	default:
		r.err = err
		if time.Since(r.told) >= awayEvery && r.ctx.Err() == nil {
			r.told = time.Now()
			r.log.Warn("queue cannot be reached: writes that cause events are refused until it can", "queue", r.where, "err", err)
		}
	}
}

// openGuarded opens the driver, and keeps copies of the store away.
func (r *remoteQueues) openGuarded(ctx context.Context) (queue.Driver, error) {
	d, err := r.open(ctx)
	if err != nil || r.guard == nil {
		return d, err
	}
	lease, err := r.guard.take(ctx, d)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	r.wg.Go(func() { r.guard.keep(r.ctx, d, lease) })
	return d, nil
}

// guarded is an error while a copy of the store is served.
func (r *remoteQueues) guarded() error {
	if r.guard == nil {
		return nil
	}
	if err := r.guard.check(); err != nil {
		return &awayError{r.where, err}
	}
	return nil
}

// bounded is a context for a call that a client waits for. A caller whose own
// ends about then needs no other.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < remoteTimeout+2*time.Second {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, remoteTimeout)
}

// lossTeller is a driver that finds out when its server lost what it had
// acknowledged.
type lossTeller interface {
	Lost() uint64
}

// metrics tell whether the server is reached, and what it lost.
func (r *remoteQueues) metrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_queue_open", Help: "1 when the queues' server was reached since the start.",
		}, func() float64 {
			if r.opened() == nil {
				return 0
			}
			return 1
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "herald_queue_losses_total", Help: "How often the queues' server was found to have lost what it had acknowledged.",
		}, func() float64 {
			if l, ok := r.opened().(lossTeller); ok {
				return float64(l.Lost())
			}
			return 0
		}),
	}
}

// passing returns an awayError for an answer that will be another when somebody
// has seen to the server: it has no memory, or a failover was to one that may
// not be used.
func (r *remoteQueues) passing(err error) error {
	if errors.Is(err, redis.ErrNotDurable) || redis.Full(err) {
		return &awayError{r.where, err}
	}
	return err
}

// opened is the driver, or nil while it could not be opened.
func (r *remoteQueues) opened() queue.Driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.driver
}

// Create makes a queue.
func (r *remoteQueues) Create(ctx context.Context, name string, capacity int64) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := r.get(ctx)
	if err != nil {
		return err
	}
	return r.passing(d.Create(ctx, name, capacity))
}

// Open returns a handle.
func (r *remoteQueues) Open(ctx context.Context, name string) (queue.Queue, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	q, err := d.Open(ctx, name)
	if err != nil {
		return nil, r.passing(err)
	}
	bounded := boundedQueue{q, r}
	w, waits := q.(queue.Waiter)
	s, starts := q.(queue.Starter)
	switch {
	case waits && starts:
		return struct {
			boundedQueue
			queue.Waiter
			queue.Starter
		}{bounded, w, s}, nil
	case waits:
		return struct {
			boundedQueue
			queue.Waiter
		}{bounded, w}, nil
	}
	return bounded, nil
}

// Delete removes a queue.
func (r *remoteQueues) Delete(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := r.get(ctx)
	if err != nil {
		return err
	}
	return r.passing(d.Delete(ctx, name))
}

// List returns names.
func (r *remoteQueues) List(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	return d.List(ctx, prefix)
}

// Check examines a queue, where the driver can.
func (r *remoteQueues) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	d, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	c, ok := d.(queue.Checker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return c.Check(ctx, name, repair)
}

// Close closes the driver, if it was opened.
func (r *remoteQueues) Close() error {
	r.mu.Lock() // an attempt begins before it, or never
	r.stop()
	r.mu.Unlock()
	r.wg.Wait()
	r.mu.Lock()
	d := r.driver
	r.driver, r.err = nil, errors.New("closed")
	r.mu.Unlock()
	if d == nil {
		return nil
	}
	return d.Close()
}

// Locker shares work out.
func (r *remoteQueues) Locker() queue.Locker { return remoteLocker{r} }

// remoteLocker is the driver's locker.
type remoteLocker struct{ r *remoteQueues }

// Acquire takes a lock.
func (l remoteLocker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := l.r.get(ctx)
	if err != nil {
		return nil, err
	}
	lease, err := d.Locker().Acquire(ctx, name, owner, ttl)
	return lease, l.r.passing(err)
}

// Join enters a group.
func (l remoteLocker) Join(ctx context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := l.r.get(ctx)
	if err != nil {
		return nil, err
	}
	return d.Locker().Join(ctx, group, owner, ttl)
}

// Leave takes owner out of a group.
func (l remoteLocker) Leave(ctx context.Context, group, owner string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := l.r.get(ctx)
	if err != nil {
		return err
	}
	return d.Locker().Leave(ctx, group, owner)
}

// boundedQueue bounds what a client of the gateway waits for. What comes after
// the change itself (Commit, Abort) has its caller's time.
type boundedQueue struct {
	queue.Queue
	r *remoteQueues
}

// Reserve holds room.
func (q boundedQueue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	if err := q.r.guarded(); err != nil {
		return 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	id, err := q.Queue.Reserve(ctx, intent, size, entries)
	return id, q.r.passing(err)
}

// Renew keeps a reservation.
func (q boundedQueue) Renew(ctx context.Context, id queue.ID) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return q.Queue.Renew(ctx, id)
}

// Reservations lists reservations: the first request after a start waits for
// it.
func (q boundedQueue) Reservations(ctx context.Context, before time.Time, max int) ([]queue.Reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return q.Queue.Reservations(ctx, before, max)
}

// Stats returns the queue's figures.
func (q boundedQueue) Stats(ctx context.Context) (queue.Stats, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return q.Queue.Stats(ctx)
}
