//go:build rados

package rados

import (
	"context"
	"sync"
	"time"
)

// background is what runs behind requests: batches, repairs, removals of what
// nobody uses. Driver.Close waits for it.
type background struct {
	ctx    context.Context // of the goroutines, which have no caller
	cancel context.CancelFunc
	// closing is closed when close begins: what waits for its time ends then.
	closing chan struct{}

	mu      sync.Mutex // guards what follows
	running int
	closed  bool
	idle    chan struct{} // closed when nothing runs after closed
}

func newBackground() *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel, closing: make(chan struct{}), idle: make(chan struct{})}
}

// start runs f in a goroutine. After close it answers false and runs nothing,
// but what runs already may still start more.
func (b *background) start(f func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed && b.running == 0 {
		return false
	}
	b.running++
	go func() {
		defer b.done()
		f(b.ctx)
	}()
	return true
}

func (b *background) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running--; b.running == 0 && b.closed {
		close(b.idle)
	}
}

// close waits until nothing runs any more. After the grace it cancels the
// context of what still runs.
func (b *background) close(grace time.Duration) {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
		if b.running == 0 {
			close(b.idle)
		}
	}
	b.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-b.idle:
	case <-timer.C:
	}
	b.cancel()
	<-b.idle
}

// isClosing tells whether close has begun.
func (b *background) isClosing() bool {
	select {
	case <-b.closing:
		return true
	default:
		return false
	}
}

// batcher makes one operation of the calls that wait for the same object: one
// batch is under way at a time, and what comes meanwhile makes up the next.
// Calls that nobody waits for go with the next of the others, or soon on their
// own.
type batcher[C any] struct {
	bg  *background
	max int // calls of a batch
	do  func(ctx context.Context, batch []C)

	mu      sync.Mutex // guards what follows
	waiting []C
	due     time.Time     // when what waits is to be done; zero: now
	hurry   chan struct{} // wakes run, which waits for due
	running bool
}

// batchLater is how long a call waits for others if nobody waits for it.
const batchLater = 20 * time.Millisecond

// newBatcher returns a batcher whose batches do carries out. do answers the
// calls itself. Its context ends when the driver is closed and its grace is
// over.
func newBatcher[C any](bg *background, size int, do func(ctx context.Context, batch []C)) *batcher[C] {
	return &batcher[C]{bg: bg, max: size, do: do, hurry: make(chan struct{}, 1)}
}

// add puts a call into one of the next batches, in the order of the calls. It
// does not wait. It answers false when the driver is closed.
func (b *batcher[C]) add(c C) bool { return b.put(c, time.Time{}) }

// addLater is add for a call that nobody waits for.
func (b *batcher[C]) addLater(c C) bool { return b.put(c, time.Now().Add(batchLater)) }

func (b *batcher[C]) put(c C, due time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running {
		if !b.bg.start(b.run) {
			return false
		}
		b.running = true
	}
	switch {
	case len(b.waiting) == 0:
		b.due = due
	case due.IsZero() && !b.due.IsZero():
		b.due = due
	}
	if b.due.IsZero() {
		select {
		case b.hurry <- struct{}{}:
		default:
		}
	}
	b.waiting = append(b.waiting, c)
	return true
}

// run carries out batches until no call waits.
func (b *batcher[C]) run(ctx context.Context) {
	for {
		batch, pause := b.take()
		switch {
		case batch != nil:
			b.do(ctx, batch)
		case pause == 0:
			return
		default:
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-b.hurry:
			case <-b.bg.closing:
			}
			timer.Stop()
		}
	}
}

// take returns the next batch, or else for how long to wait for it; 0: there
// is none, and run has to end.
func (b *batcher[C]) take() (batch []C, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(b.max, len(b.waiting))
	if n == 0 {
		b.running, b.waiting = false, nil
		return nil, 0
	}
	if !b.due.IsZero() && !b.bg.isClosing() {
		if pause = time.Until(b.due); pause > 0 {
			return nil, pause
		}
	}
	batch = b.waiting[:n:n]
	b.waiting, b.due = b.waiting[n:], time.Time{}
	return batch, 0
}
