package redis

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Kinds of changes, in the order in which the script makes them.
const (
	commitOp = iota
	abortOp
	renewOp
	reserveOp
	opKinds
)

// op is one change that waits to be sent, or is under way.
type op struct {
	q    *Queue
	kind int
	id   string
	args []any // after the id, for the script
	size int   // about, of args
	work int   // for the script, in about the time of one write

	done chan opResult  // has room for one
	then func(opResult) // is called instead, if not nil

	mu      sync.Mutex // guards what follows
	dropped bool       // nobody waits for it any more
	ended   bool       // done has its result
}

func newOp(q *Queue, kind int, id string, size int, args []any) *op {
	return &op{q: q, kind: kind, id: id, args: args, size: size + len(id) + 16, work: max(2, len(args)-1)}
}

// opResult is the script's answer to an op, a character, or why there is none.
type opResult struct {
	code byte
	err  error
}

// lane gathers the ops for a node: what waits while others are under way goes
// together, with one script for each queue, and more where there is much.
type lane struct {
	d *Driver
	n *node

	mu      sync.Mutex // guards what follows
	waiting []*group   // one for each queue, in the order of their first ops
	open    map[*past]*group
	ops     int // in waiting
	workers int
	began   time.Time // the newest of what is under way
}

// Bounds of what goes together.
const (
	busyWorkers  = 2  // connections that are used at once: one sends while the other is answered
	maxWorkers   = 4  // and where those are stuck
	enoughOps    = 64 // for a connection
	stuckAfter   = 20 * time.Millisecond
	scriptWork   = 128     // in a script call, but for a larger op alone
	scriptBytes  = 256_000 // in a script call, but for a larger op alone
	pipelineWork = 192     // in one transaction, for which the server does nothing else
	pipelineSize = 4 << 20
)

// submit hands an op to the lane. Errors: errClosed.
func (l *lane) submit(o *op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.behind() {
		if err := l.d.spawn(l.work); err != nil {
			return err
		}
		l.workers++
	}
	g := l.open[o.q.past]
	if g == nil || g.work+o.work > scriptWork || g.size+o.size > scriptBytes {
		g = &group{q: o.q}
		if l.open == nil {
			l.open = make(map[*past]*group)
		}
		l.open[o.q.past] = g
		l.waiting = append(l.waiting, g)
	}
	g.add(o)
	l.ops++
	return nil
}

// behind is whether one more connection helps: there is enough for it to do, or
// those that are used are stuck. One that sends much at once costs server and
// gateway less than two that send half of it each.
func (l *lane) behind() bool {
	switch {
	case l.workers == 0:
		return true
	case l.workers < busyWorkers && l.ops >= enoughOps:
		return true
	}
	return l.workers < maxWorkers && time.Since(l.began) > stuckAfter
}

// work sends what waits until nothing does.
func (l *lane) work() {
	for {
		l.gather()
		groups := l.take()
		if groups == nil {
			return
		}
		l.send(groups)
	}
}

// gather lets those who are about to submit an op do so: who was just answered
// often has more to do.
func (l *lane) gather() {
	for n := -1; ; {
		l.mu.Lock()
		now := l.ops
		l.mu.Unlock()
		if now == n {
			return
		}
		n = now
		runtime.Gosched()
	}
}

// take returns what is to be sent next, together; or nil, and the worker has
// ended.
func (l *lane) take() []*group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.workers--
		return nil
	}
	n, size, work := 0, 0, 0
	for n < len(l.waiting) {
		g := l.waiting[n]
		size += g.size
		work += g.work
		if n > 0 && (size > pipelineSize || work > pipelineWork) {
			break
		}
		if l.open[g.q.past] == g {
			delete(l.open, g.q.past)
		}
		l.ops -= g.n
		n++
	}
	l.began = time.Now()
	groups := l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil // not to keep what was sent
	}
	return groups
}

// group is what one script call does for a queue.
type group struct {
	q    *Queue
	ops  [opKinds][]*op
	n    int
	size int
	work int
	past mark // of the queue, before the call is sent
	call *call
}

func (g *group) add(o *op) {
	g.ops[o.kind] = append(g.ops[o.kind], o)
	g.n++
	g.size += o.size
	g.work += o.work
}

// send sends groups and passes on what becomes of them.
func (l *lane) send(groups []*group) {
	calls := make([]*call, 0, len(groups))
	for _, g := range groups {
		g.drop()
		if g.n == 0 {
			continue
		}
		g.past = g.q.past.mark()
		g.call = g.compose(l.d)
		calls = append(calls, g.call)
	}
	if len(calls) == 0 {
		return
	}
	l.d.exec(context.WithoutCancel(l.d.ctx), l.n, calls...)
	for _, g := range groups {
		if g.n > 0 {
			g.finish(l.d, l.n)
		}
	}
}

// drop leaves out the ops that nobody waits for any more.
func (g *group) drop() {
	g.n = 0
	for kind, ops := range g.ops {
		g.ops[kind] = slices.DeleteFunc(ops, func(o *op) bool { return !o.wanted() })
		g.n += len(g.ops[kind])
	}
}

func (g *group) compose(d *Driver) *call {
	args := make([]any, 0, 7+5*g.n)
	args = append(args, g.q.id, d.infoFlag(), d.channel())
	for _, ops := range g.ops {
		args = append(args, len(ops))
	}
	for _, ops := range g.ops {
		for _, o := range ops {
			args = append(args, o.id)
		}
	}
	for _, ops := range g.ops {
		for _, o := range ops {
			args = append(args, o.args...)
		}
	}
	return &call{script: changeScript, keys: g.q.keys, args: args}
}

// finish hands out the results of a call.
func (g *group) finish(d *Driver, n *node) {
	codes := ""
	r, err := d.read(g.q, n, g.call, g.past)
	if err == nil {
		codes = r.text(0)
		if err = r.err; err == nil && len(codes) != g.n {
			err = errReply
		}
	}
	i := 0
	for _, ops := range g.ops {
		for _, o := range ops {
			result := opResult{err: err}
			if err == nil {
				result.code = codes[i]
			}
			i++
			o.end(result)
		}
	}
}

// wanted is whether somebody waits for the op.
func (o *op) wanted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.dropped
}

// end passes the result on. A reservation that nobody waits for is given back.
func (o *op) end(r opResult) {
	if o.then != nil {
		o.then(r)
		return
	}
	o.mu.Lock()
	dropped := o.dropped
	o.ended = true
	o.mu.Unlock()
	o.done <- r
	if dropped && o.kind == reserveOp {
		o.q.abandon(o.id)
	}
}

// drop is called by who does not want to wait any longer. It answers false
// when there is nothing to wait for: the result is there, or comes at once.
func (o *op) drop() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped = !o.ended
	return o.dropped
}

// change makes a change, sent until it is answered or ctx is done. sent is how
// often it may have reached the server.
func (q *Queue) change(ctx context.Context, kind int, id string, size int, args ...any) (code byte, sent int, err error) {
	err = q.d.retry(ctx, func() error {
		n, err := q.d.node(ctx, q.keys[0])
		if err != nil {
			return err
		}
		o := newOp(q, kind, id, size, args)
		o.done = make(chan opResult, 1)
		if err := n.lane.submit(o); err != nil {
			return err
		}
		select {
		case r := <-o.done:
			code, sent = r.code, sent+1
			return r.err
		case <-ctx.Done():
			if o.drop() {
				return ctx.Err()
			}
			r := <-o.done
			code, sent = r.code, sent+1
			return r.err
		}
	})
	return code, sent, err
}

// newToken returns what tells a call from all others.
func newToken() string { return strconv.FormatUint(rand.Uint64(), 36) }
