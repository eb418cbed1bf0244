package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
)

// waiters are those who wait for entries. One subscription of the driver tells
// of commits to queues for which somebody asked to be told.
type waiters struct {
	settled chan struct{} // closed when the server first answered, yes or no

	mu         sync.Mutex // guards what follows
	byQueue    map[string]map[chan struct{}]bool
	started    bool
	answered   bool // settled is closed
	subscribed bool // the server knows of the subscription
}

func newWaiters() *waiters {
	return &waiters{byQueue: make(map[string]map[chan struct{}]bool), settled: make(chan struct{})}
}

func (w *waiters) add(id string) chan struct{} {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byQueue[id] == nil {
		w.byQueue[id] = make(map[chan struct{}]bool)
	}
	w.byQueue[id][c] = true
	return c
}

func (w *waiters) remove(id string, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byQueue[id], c)
	if len(w.byQueue[id]) == 0 {
		delete(w.byQueue, id)
	}
}

// wake wakes who waits for the queue.
func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	notify(w.byQueue[id])
}

// wakeAll has everybody ask again: messages may have been missed.
func (w *waiters) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, set := range w.byQueue {
		notify(set)
	}
}

func notify(set map[chan struct{}]bool) {
	for c := range set {
		select {
		case c <- struct{}{}:
		default: // woken already
		}
	}
}

// set notes whether the server knows of the subscription.
func (w *waiters) set(subscribed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subscribed = subscribed
	if !w.answered {
		w.answered = true
		close(w.settled)
	}
}

// Bounds of waiting.
const (
	pollSlow      = 10 * time.Second // while subscribed: a safety net
	pollFast      = 250 * time.Millisecond
	askFor        = 10 * time.Minute // how long the server remembers that somebody waits: each time is a write
	subscribeTime = 2 * time.Second  // to be waited for at most
)

// Wait returns when there is an entry after the marker. Whoever commits while
// somebody waits tells so; without that it asks now and then.
func (q *Queue) Wait(ctx context.Context, after queue.Marker) error {
	c := q.d.waiters.add(q.id)
	defer q.d.waiters.remove(q.id, c)
	for {
		poll := pollFast
		if q.d.subscription(ctx) {
			poll = pollSlow
		}
		r, _, err := q.call(ctx, waitScript, markerArg(after), askFor.Milliseconds())
		if err != nil {
			return q.wrap("wait for", err)
		}
		there := r.nextNumber() == 1
		if there || r.err != nil {
			return q.wrap("wait for", r.err)
		}
		timer := time.NewTimer(poll)
		select {
		case <-c:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// subscription starts it at first, and answers whether there is one.
func (d *Driver) subscription(ctx context.Context) bool {
	w := d.waiters
	w.mu.Lock()
	if !w.started {
		w.started = d.spawn(d.listen) == nil
	}
	w.mu.Unlock()
	timer := time.NewTimer(subscribeTime)
	defer timer.Stop()
	select {
	case <-w.settled:
	case <-timer.C:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.subscribed
}

// listen receives messages until the driver is closed. After each loss of the
// connection all waiters ask again.
func (d *Driver) listen() {
	sub := d.client.Subscribe(d.ctx, d.channel())
	defer func() { _ = sub.Close() }() // nothing is lost by that
	stop := context.AfterFunc(d.ctx, func() { _ = sub.Close() })
	defer stop()
	pause := minPause
	for d.ctx.Err() == nil {
		message, err := sub.Receive(d.ctx)
		switch m := message.(type) {
		case *goredis.Subscription:
			d.waiters.set(true)
			d.waiters.wakeAll()
			pause = minPause
		case *goredis.Message:
			d.waiters.wake(m.Payload)
		}
		if err == nil {
			continue
		}
		d.waiters.set(false)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-d.ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, maxPause)
	}
}
