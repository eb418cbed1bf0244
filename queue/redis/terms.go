package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"herald/queue"
)

// Loss tells of writes that redis acknowledged and does not have any more.
type Loss struct {
	Time   time.Time
	Queue  string
	Detail string
}

// maxLosses is how many losses are remembered.
const maxLosses = 100

// Losses returns how often the driver found acknowledged writes gone since it
// was opened, and the latest of these, oldest first. It finds that out with the
// first call for a queue after a failover or restart, from the record that the
// queue has of its servers' terms.
func (d *Driver) Losses() (count uint64, latest []Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost, append([]Loss(nil), d.losses...)
}

// mark is the place of a write: the term of the server that made it, and its
// number, which grows with each write of the queue.
type mark struct {
	term   string
	number int64
	losses int // found so far
}

// past is the newest write of a queue that this driver knows to be made.
type past struct {
	mu       sync.Mutex // guards what follows
	newest   mark
	checking bool
}

// pastOf returns what is known about the queue of that id.
func (d *Driver) pastOf(id string) *past {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pasts[id]
	if p == nil {
		p = &past{}
		d.pasts[id] = p
	}
	return p
}

func (p *past) mark() mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// observe compares an answer with what was known before its call was sent. A
// server never goes back within its term. In another term it must be asked
// where the former ended: check is true then, for one caller.
func (p *past) observe(before, got mark) (lost int64, check bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case got.number == 0 || p.checking || before.losses != p.newest.losses:
		return 0, false
	case p.newest.number == 0:
		p.newest = got
		return 0, false
	case got.term != p.newest.term:
		p.checking = true
		return 0, true
	case got.term == before.term && got.number < before.number:
		p.newest = mark{got.term, got.number, p.newest.losses + 1}
		return before.number - got.number, false
	}
	p.newest.number = max(p.newest.number, got.number)
	return 0, false
}

// observe is called with each answer about a queue.
func (d *Driver) observe(q *Queue, before, got mark) {
	lost, check := q.past.observe(before, got)
	if lost > 0 {
		d.tellLoss(q.name, fmt.Sprintf("%d writes", lost))
	}
	if check && d.spawn(func() { d.checkTerm(q) }) != nil {
		q.past.resume(mark{})
	}
}

// resume ends a check with what the server says now, when it did.
func (p *past) resume(now mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checking = false
	if now.number != 0 {
		p.newest = now
	}
}

// checkTimeout bounds the tries to learn how a term ended; the next answer
// from another term tries again.
const checkTimeout = time.Minute

// checkTerm finds out what another server has of the writes that are known.
func (d *Driver) checkTerm(q *Queue) {
	ctx, cancel := context.WithTimeout(d.ctx, checkTimeout)
	defer cancel()
	known := q.past.mark()
	now := mark{}
	defer func() { q.past.resume(now) }()
	c := &call{script: statsScript, keys: q.keys, args: []any{q.id}}
	reply, _, err := d.do(ctx, c)
	if err != nil {
		return
	}
	r := newReader(reply)
	if r.status() != 1 {
		return // told where it is read
	}
	got := r.mark()
	r.skip(1 + 6)
	history := r.nextText()
	if r.err != nil {
		return
	}
	d.surveyAgain(ctx, got.term)
	lost, ok := lostSince(known, got, history)
	now = mark{got.term, got.number, known.losses}
	if lost == 0 && ok {
		d.log.Debug("redis has another master, or it was restarted; no writes are lost", "queue", q.name)
		return
	}
	now.losses++
	detail := "writes; how many is not known, for the server has no record of the one before"
	if ok {
		detail = fmt.Sprintf("%d writes", lost)
	}
	d.tellLoss(q.name, detail)
}

// lostSince returns how many of the writes up to known are gone. ok is whether
// the history goes back to it; see scripts/common.lua.
func lostSince(known, now mark, history string) (lost int64, ok bool) {
	start := int64(0) // of the term whose line comes
	for line := range strings.Lines(history) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 3 {
			return 0, false
		}
		end, err1 := strconv.ParseInt(f[1], 10, 64)
		next, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			return 0, false
		}
		if f[0] == known.term && known.number >= start {
			lost, ok = max(0, known.number-end), true
		}
		start = next
	}
	if now.term == known.term && known.number >= start {
		lost, ok = max(0, known.number-now.number), true
	}
	return lost, ok
}

// vanished is called when a queue is not there and nobody deleted it.
func (d *Driver) vanished(q *Queue) {
	q.past.mu.Lock()
	known := q.past.newest
	q.past.newest = mark{losses: known.losses + 1}
	q.past.mu.Unlock()
	if known.number != 0 {
		d.tellLoss(q.name, "the queue with all that was in it")
	}
}

func (d *Driver) tellLoss(name, detail string) {
	d.log.Error("redis has lost acknowledged writes", "queue", name, "lost", detail)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost++
	d.losses = append(d.losses, Loss{Time: d.opts.Now(), Queue: name, Detail: detail})
	if len(d.losses) > maxLosses {
		d.losses = d.losses[1:]
	}
}

// read reads the beginning of an answer about a queue. Errors: ErrNoSuchQueue,
// and that of the call.
func (d *Driver) read(q *Queue, n *node, c *call, before mark) (*reader, error) {
	if c.err != nil {
		return nil, c.err
	}
	r := newReader(c.reply)
	switch s := r.status(); {
	case r.err != nil:
		return nil, r.err
	case s == -1:
		d.vanished(q)
		return nil, queue.ErrNoSuchQueue
	case s == 0:
		d.forget(q.id)
		return nil, queue.ErrNoSuchQueue
	}
	got := r.mark()
	n.clock.observe(c.sent, c.answered, r.nextNumber())
	if r.err != nil {
		return nil, r.err
	}
	d.observe(q, before, got)
	r.rest()
	return r, nil
}

// forget drops what is known of a deleted queue.
func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pasts, id)
}
