//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// A batch is bounded, so that no operation takes long.
const (
	batchCalls = 1024
	batchBytes = 1 << 20 // of data and intents; a single call may have more
)

// run does what is pending, a batch at a time, until nothing is. Calls that
// come while an operation is under way make up the next batch.
func (q *Queue) run() {
	ctx := context.Background() // operations end by their own timeout, and by Close
	for last := 0; ; {
		q.linger(last)
		q.await()
		batch := q.take()
		last = len(batch)
		if batch == nil {
			return
		}
		select {
		case <-q.d.closed:
			q.answer(batch, ErrClosed)
			continue
		default:
		}
		if err := q.process(ctx, batch); err != nil {
			q.answer(batch, fmt.Errorf("queue %s: %w", q.name, q.gone(err)))
		}
	}
}

// How a batch is waited for. The time is spun through: what is waited for are
// goroutines that can run, and a timer may take a millisecond.
const (
	lingerMin   = 4 // calls
	lingerQuiet = 60 * time.Microsecond
	lingerMost  = 500 * time.Microsecond
	lingerSkip  = 16 // changes, at most, without waiting after it was in vain
)

// linger waits a moment for those who were answered just now, in a batch of
// that many: they may come with their next call, and would have to wait for a
// whole operation else. Where they do not come, it waits more and more seldom.
func (q *Queue) linger(answered int) {
	if answered < lingerMin {
		return
	}
	if q.skip > 0 {
		q.skip--
		return
	}
	first := q.waitingCalls()
	n, begin := first, time.Now()
	for grown := begin; n < first+answered; runtime.Gosched() {
		now := time.Now()
		if more := q.waitingCalls(); more > n {
			n, grown = more, now
		} else if now.Sub(grown) > lingerQuiet || now.Sub(begin) > lingerMost {
			break
		}
	}
	if n-first < answered/4 {
		q.vain = min(2*q.vain+1, lingerSkip)
	} else {
		q.vain = 0
	}
	q.skip = q.vain
}

// waitingCalls returns how many calls are to be taken.
func (q *Queue) waitingCalls() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// take returns the next batch. When there is none, the runner has ended.
func (q *Queue) take() []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*call
	size := 0
	for n, c := range q.pending {
		more := len(c.intent)
		for _, p := range c.data {
			more += len(p)
		}
		if n > 0 && size+more > batchBytes || n == batchCalls {
			break
		}
		size += more
		batch = append(batch, c)
	}
	q.pending = slices.Delete(q.pending, 0, len(batch))
	q.running = len(batch) > 0
	return batch
}

// process does a batch. Its error is the answer to those calls that have none
// yet.
func (q *Queue) process(ctx context.Context, batch []*call) error {
	read := false // whether what is known was read for this batch
	for try := 0; ; try++ {
		batch = q.waiting(batch)
		if len(batch) == 0 {
			return nil
		}
		if err := q.usable(); err != nil {
			return err
		}
		if err := q.freeRing(ctx); err != nil {
			return err
		}
		t, raw, err := q.plan(ctx, batch, read)
		if err != nil {
			return err
		}
		if !read && refused(batch) {
			read = true // it may be otherwise by now
			continue
		}
		if t.short {
			if made, err := q.compact(ctx); made || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if !t.dirty {
			q.answer(batch, nil)
			return nil
		}
		done, err := q.execute(ctx, t, raw, q.guards(batch))
		if done {
			q.answer(batch, nil)
			return nil
		}
		if err != nil {
			return q.failed(ctx, batch, err)
		}
		read = true
		time.Sleep(time.Duration(rand.Int64N(int64(1+min(try, 8)) * int64(time.Millisecond)))) // others are at it
	}
}

// waiting returns the calls that somebody still waits for.
func (q *Queue) waiting(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(batch), func(c *call) bool { return c.left || c.finished })
}

// refused tells whether a call's answer is an error that another driver's
// change can have made untrue.
func refused(batch []*call) bool {
	return slices.ContainsFunc(batch, func(c *call) bool {
		return errors.Is(c.staged, queue.ErrFull) || errors.Is(c.staged, queue.ErrFenced) ||
			errors.Is(c.staged, queue.ErrNoSuchReservation)
	})
}

// failed does the calls of a batch one by one, so that each gets the answer
// that is its own.
func (q *Queue) failed(ctx context.Context, batch []*call, err error) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, queue.ErrNoSuchQueue) || errors.Is(err, ErrClosed) {
		return err
	}
	if len(batch) > 1 {
		for _, c := range batch {
			if err := q.process(ctx, []*call{c}); err != nil {
				q.answer([]*call{c}, fmt.Errorf("queue %s: %w", q.name, q.gone(err)))
			}
		}
		return nil
	}
	if isFull(err) {
		q.d.opts.Logger.Error("the pool is full", "queue", q.name, "err", err)
		if k := batch[0].kind; k == kindReserve || k == kindCommit {
			return fmt.Errorf("the pool is full: %w", queue.ErrFull)
		}
	}
	return err
}

// plan makes a change of a batch.
func (q *Queue) plan(ctx context.Context, batch []*call, read bool) (*txn, []byte, error) {
	for try := 0; ; try++ {
		rec, raw, f, err := q.gather(ctx, batch, read && try == 0)
		if err != nil {
			return nil, nil, err
		}
		t := newTxn(rec, f, q.d.stamp())
		unknown := q.apply(t, batch)
		if unknown == nil {
			t.seal()
			return t, raw, nil
		}
		if try > len(batch)+100 {
			return nil, nil, unknown
		}
		if err := q.locate(ctx, unknown.seq); err != nil {
			return nil, nil, err
		}
	}
}

// apply adds the calls to a change, and notes their answers.
func (q *Queue) apply(t *txn, batch []*call) *errUnknownPlace {
	q.mu.Lock() // for the places
	defer q.mu.Unlock()
	for _, c := range batch {
		if c.kind == kindAck && q.d.locker.superseded(queue.OwnerLock+q.name, c.ack.fence) {
			c.staged = queue.ErrFenced
			continue
		}
		var unknown errUnknownPlace
		if c.staged = t.apply(&c.request); errors.As(c.staged, &unknown) {
			return &unknown
		}
	}
	return nil
}

// gather returns the record that is known, or else the newest, and what must
// be known of it for a batch.
func (q *Queue) gather(ctx context.Context, batch []*call, read bool) (*record, []byte, facts, error) {
	acks := slices.ContainsFunc(batch, func(c *call) bool { return c.kind == kindAck })
	for {
		if acks && q.view == nil {
			if err := q.loadView(ctx); err != nil {
				return nil, nil, facts{}, err
			}
		}
		rec, raw := q.current()
		f, missing := q.known(batch, rec)
		if read || len(missing) > 0 {
			var err error
			if rec, raw, err = q.readGroups(ctx, &f, missing); err != nil {
				return nil, nil, facts{}, err
			}
			read = false
			if _, more := q.known(batch, rec); !within(more, missing) {
				continue // what was known of others is out of date
			}
		}
		if !acks {
			return rec, raw, f, nil
		}
		if q.view != nil && q.view.acks == rec.acks {
			f.view = *q.view
			return rec, raw, f, nil
		}
		q.view = nil
	}
}

// within tells whether all numbers are among those that were read.
func within(numbers, read []uint64) bool {
	return !slices.ContainsFunc(numbers, func(n uint64) bool { return !slices.Contains(read, n) })
}

// known returns what is known of the reservations that a batch names, and
// the groups of which nothing is.
func (q *Queue) known(batch []*call, rec *record) (facts, []uint64) {
	f := facts{groups: map[uint64]*group{}, own: map[uint64]bool{}, places: &q.places}
	var missing []uint64
	for _, c := range batch {
		number, _ := splitID(c.id)
		if c.kind == kindReserve || c.kind == kindAck || f.groups[number] != nil {
			continue
		}
		own, ok := q.own[number]
		f.own[number] = ok
		if ok && own.foreign == rec.foreign {
			f.groups[number] = own.group
		} else if !slices.Contains(missing, number) {
			missing = append(missing, number)
		}
	}
	return f, missing
}

// readRecord reads the record.
func (q *Queue) readRecord(ctx context.Context) (*record, []byte, error) {
	return q.readGroups(ctx, nil, nil)
}

// readGroups reads the record and reservations, as they are at the same
// moment.
func (q *Queue) readGroups(ctx context.Context, f *facts, numbers []uint64) (*record, []byte, error) {
	op := librados.NewRead()
	op.AssertExists()
	record := op.GetXattr(xattrRecord)
	var values *librados.Step
	if len(numbers) > 0 {
		keys := make([]string, 0, 2*len(numbers))
		for _, n := range numbers {
			keys = append(keys, key(keyGroup, n), key(keyState, n))
		}
		values = op.OmapGetByKeys(keys...)
	}
	if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
		return nil, nil, err
	}
	rec, err := q.learn(record.Data)
	if err != nil || values == nil {
		return rec, record.Data, err
	}
	byKey := make(map[string][]byte, len(values.Pairs))
	for _, p := range values.Pairs {
		byKey[p.Key] = p.Value
	}
	for _, n := range numbers {
		g, err := groupOf(byKey[key(keyGroup, n)], byKey[key(keyState, n)])
		if err != nil {
			return nil, nil, fmt.Errorf("reservations %d: %w", n, err)
		}
		switch {
		case g == nil:
			delete(q.own, n)
		case f.own[n]:
			q.own[n] = &ownGroup{g, rec.foreign}
			fallthrough
		default:
			f.groups[n] = g
		}
	}
	return rec, record.Data, nil
}

// groupOf decodes the two values of a group; it is nil when there is none.
func groupOf(value, states []byte) (*group, error) {
	if value == nil {
		return nil, nil
	}
	g, err := decodeGroup(value)
	if err == nil && states != nil {
		err = g.decodeStates(states)
	}
	return g, err
}

// execute does a change. It answers false, without an error, when the queue
// is not as the change takes it to be.
func (q *Queue) execute(ctx context.Context, t *txn, raw []byte, guards []guard) (bool, error) {
	q.changes++
	t.rec.sign(q.d.id, q.changes)
	next := t.rec.encode()
	op := q.operation(t, raw, next, guards)
	q.d.opts.fault("change")
	_, err := q.d.operate(ctx, q.oid, op, 0)
	switch {
	case err == nil:
		q.done(t, next)
		return true, nil
	case errors.Is(err, librados.ErrMismatch):
		return q.found(ctx, t, guards)
	case errors.Is(err, syscall.EBUSY) && len(guards) > 0:
		return false, q.lapse(ctx, guards)
	}
	q.distrust()
	return false, err
}

// operation returns the one operation that a change is.
func (q *Queue) operation(t *txn, raw, next []byte, guards []guard) *librados.WriteOp {
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrRecord, librados.Equal, raw)
	for _, g := range guards {
		g.add(op)
	}
	switch {
	case t.frame != nil:
		op.Exec(classRing, methodEnqueue, encodeEnqueue(t.frame))
	case t.free != "":
		op.Exec(classRing, methodFree, encodeFree(t.free))
	}
	op.SetXattr(xattrRecord, next)
	if len(t.set) > 0 {
		pairs := make([]librados.Pair, 0, len(t.set))
		for k, v := range t.set {
			pairs = append(pairs, librados.Pair{Key: k, Value: v})
		}
		op.OmapSet(pairs...)
	}
	if len(t.rm) > 0 {
		op.OmapRm(slices.Collect(maps.Keys(t.rm))...)
	}
	return op
}

// found reads the record after a comparison failed. A change of which an
// answer was lost may have been the reason itself.
func (q *Queue) found(ctx context.Context, t *txn, guards []guard) (bool, error) {
	rec, raw, err := q.readRecord(ctx)
	if err != nil {
		return false, err
	}
	if rec.has(q.d.id, q.changes) {
		q.done(t, raw)
		return true, nil
	}
	return false, q.superseded(ctx, guards)
}

// maxOwn is how many groups of reservations are remembered.
const maxOwn = 10_000

// done takes note of a change that was made.
func (q *Queue) done(t *txn, raw []byte) {
	q.mu.Lock()
	q.note(t.rec, raw)
	if t.frame != nil {
		q.wakeAll()
	}
	q.mu.Unlock()
	before := t.rec.foreign - t.strange
	for number, o := range q.own {
		switch g := t.ends[number]; {
		case g != nil && g.over():
			delete(q.own, number)
		case g != nil:
			q.own[number] = &ownGroup{g, t.rec.foreign}
		case t.strange > 0 && o.foreign == before: // changed by this driver, so its own are as they were
			o.foreign = t.rec.foreign
		}
	}
	if len(q.own) > maxOwn {
		clear(q.own) // they were ended by others, or are read again
	}
	if t.made != nil {
		q.own[t.number] = &ownGroup{t.made, t.rec.foreign}
	}
	q.noteView(t)
}

// distrust forgets what an operation of unknown outcome may have changed.
func (q *Queue) distrust() {
	q.view = nil
	for _, o := range q.own {
		o.foreign = math.MaxUint64
	}
}
