package outbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"
)

// box is the outbox of one queue. Its forwarder runs while something waits.
type box struct {
	d     *Driver
	name  string
	local queue.Queue

	changing sync.Mutex // held by Delete
	deleted  atomic.Bool
	room     chan struct{} // holds one when there may be room at the server again

	mu      sync.Mutex // guards what follows
	ctx     context.Context
	stop    context.CancelFunc
	running chan struct{} // closed when the forwarder ends; nil: none runs
	again   bool          // something was committed since it looked
	halted  bool

	// What follows is the forwarder's, or of who has halted it.
	far   queue.Queue // nil: not open
	swept bool        // nothing is left at the server of moves before
	move  *move       // that has a record, or is to get one; nil: none
	more  bool        // the last batch was not all that waited
}

func newBox(d *Driver, name string, local queue.Queue, noted *move) *box {
	b := &box{d: d, name: name, local: local, move: noted, room: make(chan struct{}, 1)}
	b.ctx, b.stop = context.WithCancel(d.ctx)
	return b
}

// kick has the forwarder look for entries.
func (b *box) kick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again = true
	if b.running != nil || b.halted {
		return
	}
	ctx, done := b.ctx, make(chan struct{})
	if b.d.spawn(func() { b.run(ctx, done) }) {
		b.running = done
	}
}

// halt ends the forwarder, and keeps it from running again. The caller unlocks
// changing.
func (b *box) halt() {
	b.changing.Lock()
	b.mu.Lock()
	b.halted = true
	b.stop()
	running := b.running
	b.mu.Unlock()
	if running != nil {
		<-running
	}
}

// goOn ends what halt began.
func (b *box) goOn() {
	b.mu.Lock()
	b.halted = false
	b.ctx, b.stop = context.WithCancel(b.d.ctx)
	b.mu.Unlock()
	b.kick()
}

// wait returns when no forwarder runs.
func (b *box) wait(ctx context.Context) error {
	b.mu.Lock()
	running := b.running
	b.mu.Unlock()
	if running == nil {
		return nil
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pauses of a forwarder.
const (
	// retryFirst and retryLast are the shortest and the longest after a
	// failure.
	retryFirst = 20 * time.Millisecond
	retryLast  = time.Second
	// gatherEach is that between batches for each entry of the last one: so it
	// stays short below 500 entries a second, and grows to Options.Gather above.
	gatherEach = 2 * time.Millisecond
	// troubleAfter is how many failures in a row are told of, troubleEvery
	// how often.
	troubleAfter = 8
	troubleEvery = 64
)

// run forwards until nothing is left.
func (b *box) run(ctx context.Context, done chan struct{}) {
	defer close(done)
	for fails := 0; ; {
		b.mu.Lock()
		b.again = false
		b.mu.Unlock()
		n, err := b.forward(ctx)
		switch {
		case ctx.Err() != nil:
			b.rest(true)
			return
		case err != nil:
			if fails++; fails == troubleAfter || fails%troubleEvery == 0 {
				b.d.opts.Logger.Warn("events wait in the outbox", "queue", b.name, "tries", fails, "err", err)
			}
			b.retryAfter(ctx, min(retryFirst<<min(fails-1, 10), retryLast))
			continue
		case n == 0 && b.rest(false):
			return
		case n > 0:
			_ = sleep(ctx, b.pause(n))
		}
		fails = 0
	}
}

// hurry ends the pause after a failure: entries at the server were removed.
func (b *box) hurry() {
	select {
	case b.room <- struct{}{}:
	default: // told already
	}
}

// retryAfter is the pause after a failure.
func (b *box) retryAfter(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.room:
	case <-ctx.Done(): // it is seen by who tries again
	}
}

// pause is how long a forwarder that moved n entries lets others gather. Where
// more wait already it does not: an outbox must not fill up because of pauses.
func (b *box) pause(n int) time.Duration {
	if b.more {
		return 0
	}
	return min(time.Duration(n)*gatherEach, b.d.opts.Gather)
}

// rest ends the forwarder, unless there is more to be done. It is false then.
func (b *box) rest(anyway bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again && !anyway {
		return false
	}
	b.running = nil
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stands tells whether an error of the queue on the server is that it was
// deleted by somebody else, and will be made again.
func (b *box) stands(err error) bool {
	return b != nil && errors.Is(err, queue.ErrNoSuchQueue) && !b.deleted.Load()
}

// open returns the queue on the server, which is made if it is gone: gateways
// with other stores may have deleted it.
func (b *box) open(ctx context.Context) (queue.Queue, error) {
	if b.far != nil {
		return b.far, nil
	}
	q, err := b.d.remote.Open(ctx, b.name)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		if b.move != nil && !b.move.committed { // that was to it
			if err := b.anew(ctx); err != nil {
				return nil, err
			}
		}
		var st queue.Stats
		if st, err = b.local.Stats(ctx); err != nil {
			return nil, err
		}
		if err = b.d.remote.Create(ctx, b.name, st.Capacity); err != nil && !errors.Is(err, queue.ErrQueueExists) {
			return nil, err
		}
		q, err = b.d.remote.Open(ctx, b.name)
	}
	if err != nil {
		return nil, err
	}
	b.far = q
	return q, nil
}
