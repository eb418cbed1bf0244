//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// ops are store.Outcomes. The outcome of an op is in the head that it changed.
// The object "ops" has a line for each op that was begun and not forgotten:
// without its line an outcome in a head counts no more, and goes with the next
// change of the key.
type ops struct {
	d   *Driver
	log *batcher[*opCall]

	mu   sync.Mutex // guards what follows
	live map[store.OpID]*liveOp
}

var _ store.SharedOutcomes = (*ops)(nil)

// liveOp is an op of this process that was not forgotten.
type liveOp struct {
	head  headKey
	moves int // how often its outcome went, or was to go, to the head's omap, as another op followed
}

// opCall is a call for the log: one line more, or less.
type opCall struct {
	op   store.OpID
	line []byte     // nil: remove it
	done chan error // has room for the answer; nil: nobody waits
}

// opBatch is how many lines one operation writes.
const opBatch = 1000

func newOps(d *Driver) *ops {
	o := &ops{d: d, live: make(map[store.OpID]*liveOp)}
	o.log = newBatcher(d.bg, opBatch, o.write)
	return o
}

// write does a batch of calls in one operation.
func (o *ops) write(ctx context.Context, batch []*opCall) {
	last := make(map[store.OpID]*opCall, len(batch))
	for _, c := range batch {
		last[c.op] = c
	}
	var set []librados.Pair
	var rm []string
	for id, c := range last {
		if c.line != nil {
			set = append(set, librados.Pair{Key: id.String(), Value: c.line})
		} else {
			rm = append(rm, id.String())
		}
	}
	op := librados.NewWrite()
	op.Create(false)
	if len(rm) > 0 {
		op.OmapRm(rm...)
	}
	if len(set) > 0 {
		op.OmapSet(set...)
	}
	err := o.try(ctx, op)
	for _, c := range batch {
		if c.done != nil {
			c.done <- err
		}
	}
}

// try does an operation on the log, which may be done twice.
func (o *ops) try(ctx context.Context, op *librados.WriteOp) (err error) {
	for range 3 {
		if _, err = o.d.heads.Operate(ctx, oidOps, op, 0); err == nil || !errors.Is(err, syscall.ETIMEDOUT) {
			break
		}
	}
	if err != nil {
		o.d.log.Warn("write the log of ops", "err", err)
	}
	return storeError("write the log of ops", err)
}

// submit puts a call into the log, and waits for its answer.
func (o *ops) submit(ctx context.Context, c *opCall) error {
	c.done = make(chan error, 1)
	if !o.log.addLater(c) { // who forgets is in no hurry
		return errClosed
	}
	return c.wait(ctx)
}

func (c *opCall) wait(ctx context.Context) error {
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start begins to write an op's line, which is durable when wait returns. For a
// zero op there is none.
func (o *ops) start(ctx context.Context, op store.OpID, k headKey) (wait func() error) {
	if op.IsZero() {
		return func() error { return nil }
	}
	o.mu.Lock()
	o.live[op] = &liveOp{head: k}
	o.mu.Unlock()
	var e encoder
	e.byte(codecVersion)
	e.string(k.bid)
	e.string(k.key)
	c := &opCall{op: op, line: e.b, done: make(chan error, 1)}
	if !o.log.add(c) {
		c.done <- errClosed
	}
	return func() error {
		ctx, cancel := o.d.begins(ctx)
		defer cancel()
		err := c.wait(ctx)
		if err != nil {
			o.drop(op)
		}
		return err
	}
}

func decodeLine(b []byte) (k headKey, err error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return k, errCorrupt
	}
	k.bid, k.key = d.string(), d.string()
	return k, d.end()
}

// drop takes back the line of an op that did not happen.
func (o *ops) drop(op store.OpID) {
	if op.IsZero() {
		return
	}
	o.forgotten(op)
	o.log.addLater(&opCall{op: op})
}

// forgotten lets this process forget one of its ops, and returns what it knew of
// it, nil for nothing.
func (o *ops) forgotten(op store.OpID) *liveOp {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.live[op]
	delete(o.live, op)
	return l
}

// own returns what this process knows of one of its ops, nil for nothing.
func (o *ops) own(op store.OpID) *liveOp {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.live[op]; l != nil {
		c := *l
		return &c
	}
	return nil
}

// line returns where an op acts, nil when it has no line. It asks the cluster,
// as any gateway may forget an op.
func (o *ops) line(ctx context.Context, op store.OpID) (*headKey, error) {
	read := librados.NewRead()
	step := read.OmapGetByKeys(op.String())
	if _, err := o.d.heads.Operate(ctx, oidOps, read, 0); errors.Is(err, syscall.ENOENT) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if len(step.Pairs) == 0 {
		return nil, nil
	}
	k, err := decodeLine(step.Pairs[0].Value)
	return &k, err
}

// Kept implements store.SharedOutcomes.
func (o *ops) Kept(ctx context.Context, id store.OpID) (bool, error) {
	line, err := o.line(ctx, id)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", id, err)
	}
	return line != nil, nil
}

// former returns the outcome that an edit replaces, if somebody may still ask
// for it.
func (o *ops) former(ctx context.Context, e *edit) (*outcome, error) {
	if e.op.IsZero() || e.state.op.IsZero() || e.state.op == e.op {
		return nil, nil
	}
	if !o.moves(e.state.op) {
		if k, err := o.line(ctx, e.state.op); err != nil || k == nil {
			return nil, err
		}
		e.foreign = true
	}
	return e.state.outcome, nil
}

// moves notes that the outcome of an op of this process is going to the head's
// omap, before it does; false: it is not one of them.
func (o *ops) moves(op store.OpID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.live[op]
	if l != nil {
		l.moves++
	}
	return l != nil
}

// Settle implements store.Outcomes. The linearization point of a bar is an
// operation on the head, guarded as all changes of it.
func (o *ops) Settle(ctx context.Context, ref store.OpRef) (store.Outcome, error) {
	out, err := o.settle(ctx, ref)
	if err != nil && !errors.Is(err, store.ErrNoSuchOp) {
		err = fmt.Errorf("settle %s: %w: %w", ref.ID, store.ErrUnknownOutcome, err)
	}
	return out, err
}

func (o *ops) settle(ctx context.Context, ref store.OpRef) (store.Outcome, error) {
	k, err := o.line(ctx, ref.ID)
	if err != nil {
		return store.Outcome{}, err
	}
	if k == nil {
		r, err := o.d.lookup(ctx, ref.Bucket)
		if err != nil {
			return store.Outcome{}, err
		}
		if r == nil {
			return store.Outcome{}, store.ErrNoSuchOp
		}
		k = &headKey{r.bid, ref.Key}
	}
	unlock, err := o.d.locks.lock(ctx, *k)
	if err != nil {
		return store.Outcome{}, err
	}
	defer unlock()
	id := ref.ID.String()
	for ; ; wait(ctx, time.Millisecond) {
		h, err := o.d.readHead(ctx, *k, headRead{omap: []string{keyOutcome + id, keyBar + id}})
		if err != nil {
			return store.Outcome{}, err
		}
		known, err := h.outcomeOf(ref.ID)
		if err != nil {
			return store.Outcome{}, err
		}
		if known != nil {
			// Its line was there before it.
			if k, err := o.line(ctx, ref.ID); err != nil || k != nil {
				return known.public(h.headKey.key), err
			}
			o.forgotten(ref.ID)
			return store.Outcome{}, store.ErrNoSuchOp
		}
		if h.omap[keyBar+id] != nil {
			return store.Outcome{}, store.ErrNoSuchOp
		}
		again, err := o.d.barAnnounced(ctx, h, ref.ID)
		if errors.Is(err, store.ErrNoSuchBucket) { // whose heads change no more
			err = store.ErrNoSuchOp
		}
		if err != nil {
			return store.Outcome{}, err
		}
		if !again {
			return store.Outcome{}, store.ErrNoSuchOp
		}
	}
}

// outcomeOf returns what the head knows of an op, nil for nothing. Its place in
// the omap must have been asked for.
func (h *head) outcomeOf(op store.OpID) (*outcome, error) {
	if h.op == op {
		return h.outcome, nil
	}
	if b := h.omap[keyOutcome+op.String()]; b != nil {
		return parseOutcome(b)
	}
	return nil, nil
}

// bar sees to it that an op, or a change that is named by its TAG, does not
// come true, if the head is still as it was read. An answer that was lost is
// an error: to bar again does no harm.
func (d *Driver) bar(ctx context.Context, h *head, id store.OpID) (again bool, err error) {
	op := librados.NewWrite()
	if h.guard == 0 {
		op.Create(true)
		op.SetXattr(xattrState, h.encode())
	} else {
		op.AssertVersion(h.guard)
	}
	op.OmapSet(librados.Pair{Key: keyBar + id.String(), Value: []byte{codecVersion}})
	_, err = d.heads.Operate(ctx, h.oid(), op, 0)
	if conflict(err) {
		return true, nil
	}
	return false, err
}

// barAnnounced is bar where the index may know nothing of the key. If the head is
// made for the bar, that is announced as a change is, so that a sweep finds it.
// Errors: store.ErrNoSuchBucket.
func (d *Driver) barAnnounced(ctx context.Context, h *head, id store.OpID) (again bool, err error) {
	if h.guard != 0 {
		return d.bar(ctx, h, id)
	}
	begins, cancel := d.begins(ctx)
	defer cancel()
	m, err := d.index(h.bid).begin(begins, h.headKey.key, newTag())
	if err != nil {
		return false, err
	}
	defer m.endRepaired()
	return d.bar(ctx, h, id)
}

// List implements store.Outcomes. The refs have no bucket, as Forget needs
// none. It asks the head of each op whether the op came true: it is for the
// start of a gateway, not for requests.
func (o *ops) List(ctx context.Context, after store.OpID, limit int) ([]store.OpRef, error) {
	var refs []store.OpRef
	for {
		lines, more, err := o.lines(ctx, after)
		if err == nil {
			lines, err = o.cameTrue(ctx, lines, &after)
		}
		if err != nil {
			return nil, fmt.Errorf("list ops: %w", err)
		}
		for _, l := range lines {
			refs = append(refs, store.OpRef{ID: l.op, Key: l.head.key})
			if limit > 0 && len(refs) == limit {
				return refs, nil
			}
		}
		if !more {
			return refs, nil
		}
	}
}

// opLine is a line of the log.
type opLine struct {
	op   store.OpID
	head headKey
}

// lines returns a page of lines after an op.
func (o *ops) lines(ctx context.Context, after store.OpID) (lines []opLine, more bool, err error) {
	read := librados.NewRead()
	from := ""
	if !after.IsZero() {
		from = after.String()
	}
	step := read.OmapGetVals(from, "", listPage)
	if _, err := o.d.heads.Operate(ctx, oidOps, read, 0); errors.Is(err, syscall.ENOENT) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	for _, p := range step.Pairs {
		op, ok := store.ParseOpID(p.Key)
		k, err := decodeLine(p.Value)
		if !ok || err != nil {
			return nil, false, fmt.Errorf("line %q: %w", p.Key, errCorrupt)
		}
		lines = append(lines, opLine{op, k})
	}
	return lines, step.More && len(lines) > 0, nil
}

// cameTrue returns the lines of ops that have an outcome. Those that have none
// after a day are barred, and their lines go. last becomes the last op that was
// looked at.
func (o *ops) cameTrue(ctx context.Context, lines []opLine, last *store.OpID) ([]opLine, error) {
	known := make([]*outcome, len(lines))
	errs := make([]error, len(lines))
	room := make(chan struct{}, forgetters)
	var wg sync.WaitGroup
	for i, l := range lines {
		*last = l.op
		room <- struct{}{}
		wg.Go(func() {
			h, err := o.d.readHead(ctx, l.head, headRead{omap: []string{keyOutcome + l.op.String()}})
			if err == nil {
				known[i], err = h.outcomeOf(l.op)
			}
			errs[i] = err
			<-room
		})
	}
	wg.Wait()
	var list []opLine
	for i, l := range lines {
		switch {
		case known[i] != nil:
			list = append(list, l)
		case errs[i] == nil && time.Since(opTime(l.op)) > barAge:
			if _, err := o.settle(ctx, store.OpRef{ID: l.op}); errors.Is(err, store.ErrNoSuchOp) {
				o.drop(l.op)
			}
		}
	}
	return list, errors.Join(errs...)
}

// forgetters is how many ops are forgotten, or looked at, beside each other.
const forgetters = 16

// Forget implements store.Outcomes. It is durable on return.
func (o *ops) Forget(ctx context.Context, refs ...store.OpRef) error {
	errs := make([]error, len(refs))
	room := make(chan struct{}, forgetters)
	var wg sync.WaitGroup
	for i, ref := range refs {
		room <- struct{}{}
		wg.Go(func() {
			errs[i] = o.forget(ctx, ref)
			<-room
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget outcomes: %w", err)
	}
	return nil
}

// forget forgets an op. One of this process is known not to be in the omap of its
// head, but if another op followed; that may happen until its line is gone.
func (o *ops) forget(ctx context.Context, ref store.OpRef) error {
	own := o.own(ref.ID)
	if own == nil || own.moves > 0 {
		if err := o.forgetInHead(ctx, ref, own); err != nil {
			return err
		}
	}
	if err := o.submit(ctx, &opCall{op: ref.ID}); err != nil {
		return err
	}
	if last := o.forgotten(ref.ID); own != nil && last != nil && last.moves > own.moves {
		return o.forgetInHead(ctx, ref, last)
	}
	return nil
}

// forgetInHead removes what the omap of a head has of an op. A change that is to
// put it there meanwhile meets another version of the head.
func (o *ops) forgetInHead(ctx context.Context, ref store.OpRef, own *liveOp) error {
	k, err := o.line(ctx, ref.ID)
	if err != nil {
		return err
	}
	if k == nil && own != nil {
		k = &own.head
	}
	if k == nil { // there may be a bar
		r, err := o.d.lookup(ctx, ref.Bucket)
		if err != nil || r == nil {
			return err
		}
		k = &headKey{r.bid, ref.Key}
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapRm(keyOutcome+ref.ID.String(), keyBar+ref.ID.String())
	_, err = o.d.heads.Operate(ctx, k.oid(), op, 0)
	return ignoreAbsent(err)
}
