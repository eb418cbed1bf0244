//go:build rados

package rados

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"herald/queue"
)

// Queue is one queue of a Driver.
type Queue struct {
	d           *Driver
	name, oid   string
	incarnation incarnation

	mu      sync.Mutex    // guards what follows
	dead    bool          // the queue was deleted
	pending []*call       // to be taken by the runner
	running bool          // there is a runner
	hurry   chan struct{} // ends the runner's wait; nil: it does not wait
	wake    chan struct{}
	often   often

	rec    *record // the newest that is known
	raw    []byte  // as it is stored
	places places

	// What follows is the runner's alone.
	view    *view
	own     map[uint64]*ownGroup // by number
	changes uint64
	skip    int // changes before which not to linger
	vain    int // what skip becomes when lingering was in vain again
}

// ownGroup is reservations that this driver made. What is known of them holds
// in the states in which as many changes were made by others.
type ownGroup struct {
	*group
	foreign uint64
}

// call is a request that somebody waits for.
type call struct {
	request
	ctx      context.Context
	done     chan struct{} // closed when there is an answer, unless then is set
	then     func(error)   // called once, by who gives the answer, without Queue.mu
	stop     func() bool   // with then: ends the watch on ctx
	err      error         // the answer
	staged   error         // the answer, if the change succeeds
	finished bool          // guarded by Queue.mu
	left     bool          // nobody waits any more; guarded by Queue.mu
}

var (
	_ queue.Queue   = (*Queue)(nil)
	_ queue.Waiter  = (*Queue)(nil)
	_ queue.Starter = (*Queue)(nil)
)

func newQueue(d *Driver, name string, rec *record) *Queue {
	return &Queue{
		d: d, name: name, oid: prefixQueue + name, incarnation: rec.incarnation,
		rec: rec, raw: rec.encode(), own: make(map[uint64]*ownGroup),
	}
}

// Reserve holds room. Its linearization point is the operation that sets the
// intent and the record.
func (q *Queue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	c := &call{request: request{kind: kindReserve, intent: slices.Clone(intent), size: size, entries: entries}}
	if err := q.do(ctx, c); err != nil {
		return 0, err
	}
	return c.id, nil
}

// Renew sets a reservation's time stamp.
func (q *Queue) Renew(ctx context.Context, id queue.ID) error {
	return q.do(ctx, &call{request: request{kind: kindRenew, id: id}})
}

// Commit turns a reservation into entries. Its linearization point is the
// operation that appends them to the ring, removes the intent and sets the
// record.
func (q *Queue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	return q.do(ctx, commitCall(id, entries))
}

// Abort ends a reservation.
func (q *Queue) Abort(ctx context.Context, id queue.ID) error {
	return q.do(ctx, &call{request: request{kind: kindAbort, id: id}})
}

// Ack removes entries and notes attempts. It is durable when it returns, but
// for the place in the ring, which is given back later.
func (q *Queue) Ack(ctx context.Context, a queue.Ack) error {
	c := &call{request: request{kind: kindAck}}
	c.ack.fence = a.Fence
	var err error
	if c.ack.upTo, err = parseMarker(a.UpTo); err != nil {
		return err
	}
	for _, m := range a.Done {
		seq, err := parseMarker(m)
		if err != nil {
			return err
		}
		c.ack.done = append(c.ack.done, seq)
	}
	c.ack.failed = make(map[uint64]mark, len(a.Failed))
	for _, f := range a.Failed {
		seq, err := parseMarker(f.Marker)
		if err != nil {
			return err
		}
		m := mark{attempts: max(f.Attempts, 0)}
		if !f.LastTry.IsZero() {
			m.last = q.d.clock.stampOf(f.LastTry)
		}
		c.ack.failed[seq] = m
	}
	return q.do(ctx, c)
}

// do has the runner do a request, and waits for it.
func (q *Queue) do(ctx context.Context, c *call) error {
	if err := q.d.enter(); err != nil {
		return err
	}
	defer q.d.leave()
	c.ctx, c.done = ctx, make(chan struct{})
	if err := q.submit(c); err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.finished {
		return c.err
	}
	c.left = true
	return context.Cause(ctx)
}

// submit has the runner do a request.
func (q *Queue) submit(c *call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return queue.ErrNoSuchQueue
	}
	if c.then != nil {
		c.stop = context.AfterFunc(c.ctx, func() { q.leave(c) })
	}
	q.pending = append(q.pending, c)
	if c.kind == kindReserve {
		q.often.note(time.Now())
	}
	if q.hurry != nil && !c.patient() {
		close(q.hurry)
		q.hurry = nil
	}
	if !q.running {
		q.running = true
		q.d.wg.Go(q.run)
	}
	return nil
}

// answer gives calls their answers.
func (q *Queue) answer(calls []*call, err error) {
	for _, c := range q.finish(calls, err) {
		c.stop()
		c.then(c.err)
	}
}

// finish notes the answers of calls, and returns those that are to be told. A
// reservation for which nobody waits any more is given back.
func (q *Queue) finish(calls []*call, err error) (tell []*call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range calls {
		if c.finished {
			continue
		}
		c.finished = true
		c.err = err
		if err == nil {
			c.err = c.staged
		}
		switch {
		case c.then == nil:
			close(c.done)
		case !c.left:
			tell = append(tell, c)
		}
		if c.left && c.kind == kindReserve && c.err == nil {
			q.pending = append(q.pending, &call{
				request: request{kind: kindAbort, id: c.id}, ctx: context.WithoutCancel(c.ctx), done: make(chan struct{}),
			})
		}
	}
	return tell
}

// end marks the queue as deleted.
func (q *Queue) end() {
	q.mu.Lock()
	q.dead = true
	q.wakeAll()
	q.mu.Unlock()
	q.d.forget(q)
}

// usable answers ErrNoSuchQueue for a deleted queue.
func (q *Queue) usable() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return queue.ErrNoSuchQueue
	}
	return nil
}

// learn takes note of a record that was read.
func (q *Queue) learn(raw []byte) (*record, error) {
	rec, err := decodeRecord(raw)
	if err != nil {
		return nil, err
	}
	if rec.incarnation != q.incarnation {
		q.end()
		return nil, queue.ErrNoSuchQueue
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.note(rec, raw)
	return rec, nil
}

// note keeps the newest record. q.mu is held.
func (q *Queue) note(rec *record, raw []byte) {
	if rec.version > q.rec.version {
		q.rec, q.raw = rec, raw
		q.places.forget(rec.from)
	}
}

// current returns the newest record that is known.
func (q *Queue) current() (*record, []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.rec, q.raw
}

// gone makes errors of an operation on the queue those of the contract.
func (q *Queue) gone(err error) error {
	err = noQueue(err)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		q.end()
	}
	return err
}

// wakeAll wakes those who wait. q.mu is held.
func (q *Queue) wakeAll() {
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}
