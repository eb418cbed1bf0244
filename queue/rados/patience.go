//go:build rados

package rados

import (
	"slices"
	"time"
)

// patience is how long what no request waits for may wait for a reservation, to
// be done by the same operation.
const patience = 20 * time.Millisecond

// patient tells whether no request waits for a call: an ack, or a commit behind
// the answer.
func (c *call) patient() bool { return c.then != nil || c.kind == kindAck }

// often tells whether reservations come so often that one is to be expected. One
// that came late among many does not change that: the wait is short, and in vain
// once, while each commit on its own makes a reservation wait for it.
type often struct {
	last        time.Time
	gap, before time.Duration // between the last two, and those before
}

func (o *often) note(now time.Time) {
	first := o.last.IsZero()
	o.before, o.gap, o.last = o.gap, now.Sub(o.last), now
	if first {
		o.before = o.gap
	}
}

func (o *often) expect(now time.Time) bool {
	return min(o.gap, o.before) < patience && now.Sub(o.last) < patience
}

// await lets calls that can wait do so for a while, if a reservation is to be
// expected: then three operations for each event become one.
func (q *Queue) await() {
	q.mu.Lock()
	hasty := func(c *call) bool { return !c.patient() }
	if len(q.pending) == 0 || slices.ContainsFunc(q.pending, hasty) || !q.often.expect(time.Now()) {
		q.mu.Unlock()
		return
	}
	hurry := make(chan struct{})
	q.hurry = hurry
	q.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-hurry:
	case <-timer.C:
	case <-q.d.closed:
	}
	q.mu.Lock()
	q.hurry = nil
	q.mu.Unlock()
}
