//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"herald/store"
)

// change is one change of one key.
type change struct {
	b   *bucket
	key string
	tag store.OpID // names it
	op  store.OpID // zero: no outcome is kept
	*begun
	want headRead
	// decide edits the head that was read. It may be called again, after
	// another changed the head. An edit that was not numbered changes
	// nothing.
	decide func(*edit) (outcome, error)

	announced   chan struct{} // closed when await need not wait
	announceErr error
	put         bool       // of a body: its key may be guessed to be new
	first       *head      // read before the key's lock was taken; nil: it was not
	ahead       *earlyHead // the same, which serves unless the key was changed since
	sent        *sentEdit  // the last one
}

// sentEdit is an edit that was sent to the head's OSD.
type sentEdit struct {
	*edit
	out store.Outcome
}

// installed returns the version that the edit made the current one, nil for none.
func (s *sentEdit) installed() *version {
	if s == nil || s.next.current == nil || s.next.current.seq != s.next.seq {
		return nil
	}
	return s.next.current
}

// traces are the keys of a head's omap that tell, besides what the head names, that
// the edit was made: the version that it made, or the note of its bytes.
func (s *sentEdit) traces() (keys []string) {
	if v := s.installed(); v != nil {
		keys = append(keys, keyVersion+v.id)
		if len(v.segments) > 0 {
			keys = append(keys, keyGarbage+v.segments[0].holder().String())
		}
	}
	return keys
}

// wasMade tells whether a head that was read later, with the traces, knows of the
// edit. It names its last changes; more may have followed.
func (s *sentEdit) wasMade(h *head) bool {
	if s == nil {
		return false
	}
	if slices.Contains(h.recent, changeOf(s.tag)) {
		return true
	}
	v := s.installed()
	if v == nil {
		return false
	}
	now, _, _, _ := h.find(v.id) // nil: it is not there
	if v.id != store.NullVersion && now != nil {
		return true // no other change makes that id
	}
	if len(v.segments) == 0 {
		return false // it has nothing that could get lost
	}
	holder := v.segments[0].holder()
	return now.has(holder) || h.omap[keyGarbage+holder.String()] != nil
}

// newTag returns a name for a change or an upload of bytes.
func newTag() store.OpID { return store.NewOpID() }

// run makes the change: it announces it in the index (and among the ops), if
// that was not begun before, and reads the head beside that, then does one
// guarded operation on the head. The index and what became garbage are seen to
// behind the answer.
//
// Errors: store.ErrNoSuchBucket, store.ErrOpBarred, store.ErrNoSpace,
// store.ErrUnknownOutcome, and those of decide.
func (c *change) run(ctx context.Context) (store.Outcome, *edit, error) {
	c.want.omap = append(c.want.omap, keyBar+c.tag.String())
	if !c.op.IsZero() {
		c.want.omap = append(c.want.omap, keyBar+c.op.String())
	}
	if c.early != nil && c.early.op == c.op {
		c.ahead = c.early.head
	}
	c.announce(ctx)
	if c.ready != nil { // others need not wait for it
		c.first, _ = c.b.d.readHead(ctx, c.b.head(c.key), c.want)
		_ = c.await() // locked asks again
	}
	e, out, err := c.locked(ctx)
	if err == nil && e.made {
		return out, e, nil
	}
	// A mark that may have been made is ended all the same.
	if err := c.await(); err != nil {
		return store.Outcome{}, nil, err
	}
	if errors.Is(err, store.ErrUnknownOutcome) {
		c.mark.settle()
		return store.Outcome{}, nil, err
	}
	c.cancel()
	c.b.d.ops.drop(c.op)
	if errors.Is(err, errMarkGone) { // the bucket's end may be why
		err = c.b.absent(ctx, err)
	}
	if err != nil {
		return store.Outcome{}, nil, err
	}
	return out, e, nil
}

// cancel ends the mark of a change that was not made.
func (c *change) cancel() {
	if !c.tail {
		c.mark.cancel()
	}
}

// announce writes the mark and the op's line, beside each other and beside
// what the caller does, and waits for what has to be ready.
func (c *change) announce(ctx context.Context) {
	if c.early != nil && c.early.op == c.op && c.ready == nil {
		c.announced = c.early.done // nothing is left to do
		return
	}
	c.announced = make(chan struct{})
	go func() {
		defer close(c.announced)
		c.announceErr = c.announceNow(ctx)
	}()
}

// await waits until the change is announced, and all is ready.
func (c *change) await() error {
	<-c.announced
	if c.early != nil {
		c.announceErr = c.early.wait(c.begun)
	}
	return c.announceErr
}

func (c *change) announceNow(ctx context.Context) error {
	d := c.b.d
	if c.early != nil {
		if err := c.early.wait(c.begun); err != nil {
			return err
		}
	}
	logged := func() error { return nil }
	if c.line != c.op {
		d.ops.drop(c.line) // it was to be another
		logged = d.ops.start(ctx, c.op, c.b.head(c.key))
	}
	var err error
	if c.mark == nil {
		begins, cancel := d.begins(ctx)
		c.mark, err = c.b.x.begin(begins, c.key, c.tag)
		cancel()
	}
	if err == nil && c.ready != nil {
		err = c.ready(ctx)
	}
	logErr := logged()
	if err != nil || logErr != nil {
		if c.mark != nil {
			c.cancel()
		}
		if logErr == nil {
			d.ops.drop(c.op)
		}
	}
	return cmp.Or(err, logErr)
}

// begins is the context of an announcement: the index tries for as long as the
// cluster does not answer.
func (d *Driver) begins(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.opts.Config.OpTimeout)
}

// locked makes the change under the key's lock.
func (c *change) locked(ctx context.Context) (*edit, store.Outcome, error) {
	d, k := c.b.d, c.b.head(c.key)
	unlock, err := d.locks.lock(ctx, k)
	if err != nil {
		return nil, store.Outcome{}, err
	}
	defer unlock()
	for try := 0; ; try++ {
		h, guessed := c.first, false
		if h == nil && try == 0 {
			h = c.ahead.take(d)
			guessed = h == nil && c.put && c.b.x.novel.expected()
		}
		if guessed {
			h = noHead(k)
		}
		if c.first = nil; h == nil {
			want := c.want
			want.omap = append(slices.Clip(want.omap), c.sent.traces()...)
			h, err = d.readHead(ctx, k, want)
		}
		if c.put && !guessed && err == nil {
			c.b.x.novel.note(h.guard == 0)
		}
		if try == 0 {
			if err := c.await(); err != nil {
				return nil, store.Outcome{}, err
			}
		}
		if err != nil && c.sent != nil { // what attempt would look for
			err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
		}
		if err != nil {
			return nil, store.Outcome{}, err
		}
		e, out, again, err := c.attempt(ctx, h)
		if guessed && (again || err != nil && c.sent == nil) { // it may have been refused for what is not so
			c.b.x.novel.note(false)
			continue
		}
		if err != nil || !again {
			return e, out, err
		}
		if try > 0 {
			wait(ctx, time.Duration(min(try, 10))*time.Millisecond)
		}
	}
}

// attempt changes the head, unless it is no longer what was read. A change that
// the head knows was made, whatever was answered when it was sent: to make it
// twice, or to take it for failed, would be the end of its bytes.
func (c *change) attempt(ctx context.Context, h *head) (e *edit, out store.Outcome, again bool, err error) {
	d := c.b.d
	if c.sent.wasMade(h) {
		d.log.Warn("a change of a key was made, and refused when it came again", "bucket", c.b.name, "key", c.key, "tag", c.tag)
		c.made()
		return c.sent.edit, c.sent.out, false, nil
	}
	if h.omap[keyBar+c.tag.String()] != nil {
		return nil, out, false, errMarkGone
	}
	if !c.op.IsZero() && h.omap[keyBar+c.op.String()] != nil {
		return nil, out, false, store.ErrOpBarred
	}
	e = newEdit(h, c.tag, c.op)
	o, err := c.decide(e)
	if err != nil {
		return nil, out, false, err
	}
	out = o.public(c.key)
	if o.info != nil && o.info == e.next.current && !o.info.marker {
		o.attrs = e.newAttrs // who put them has them
	}
	if !e.made {
		return e, out, false, nil
	}
	former, err := d.ops.former(ctx, e)
	if err != nil {
		return nil, out, false, err
	}
	if former != nil {
		o.after, out.After = e.state.op, e.state.op
	}
	e.finish(&o, former)
	if c.mark.stale() {
		if err := c.mark.renew(ctx); err != nil {
			return nil, out, false, err
		}
	}
	c.sent = &sentEdit{e, out}
	again, err = d.writeHead(ctx, e)
	d.changed.of(e.headKey).Add(1)
	if err != nil || again {
		return nil, out, again, err
	}
	c.made()
	return e, out, false, nil
}

// made sees to what follows when the edit that was sent was made.
func (c *change) made() {
	d, e := c.b.d, c.sent.edit
	c.mark.end(e.indexed())
	d.removeLater(c.b.head(c.key), e.garbage)
}

// failed adds to an error what was to be done; the contract's own pass as they
// are.
func (b *bucket) failed(what, key string, err error) error {
	for _, own := range []error{
		store.ErrNoSuchBucket, store.ErrOpBarred, store.ErrPreconditionFailed, store.ErrNoSuchKey, store.ErrNoSuchVersion, store.ErrDeleteMarker,
		store.ErrNoSuchUpload, store.ErrInvalidPart,
	} {
		if errors.Is(err, own) {
			return err
		}
	}
	return storeError(fmt.Sprintf("%s %s/%s", what, b.name, key), err)
}
