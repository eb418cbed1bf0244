package redis

import (
	"context"
	"sync"
	"time"
)

// doubts are reservations that were sent more than once. The first of these
// may still be on its way, on a connection that was given up, and make the
// reservation again after it has ended. So when it ends it is aborted once
// more, later. What that misses is found by its time stamp.
type doubts struct {
	mu  sync.Mutex // guards ids
	ids map[string]bool
}

func (d *doubts) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = make(map[string]bool)
	}
	d.ids[id] = true
}

// remove answers whether the id was in doubt.
func (d *doubts) remove(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	doubt := d.ids[id]
	delete(d.ids, id)
	return doubt
}

const (
	// doubtTime is how late something can arrive that was sent before.
	doubtTime = 30 * time.Second
	// abandonTimeout bounds the tries to give room back that nobody waits for.
	abandonTimeout = 10 * time.Second
)

// settle is called when a reservation has ended.
func (q *Queue) settle(id string) {
	if q.d.doubts.remove(id) {
		_ = q.d.spawn(func() { q.abortLater(id) }) // closed: somebody else finds it
	}
}

// abandon aborts a reservation whose caller has gone, beside.
func (q *Queue) abandon(id string) {
	_ = q.d.spawn(func() { // as above
		q.abortNow(id)
		q.abortLater(id)
	})
}

func (q *Queue) abortNow(id string) {
	ctx, cancel := context.WithTimeout(q.d.ctx, abandonTimeout)
	defer cancel()
	_, _, _ = q.change(ctx, abortOp, id, 0) // else somebody else finds it
}

func (q *Queue) abortLater(id string) {
	timer := time.NewTimer(doubtTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		q.abortNow(id)
	case <-q.d.ctx.Done():
	}
}
