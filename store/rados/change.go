//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"herald/store"
)

// change is one change of one key.
type change struct {
	b    *bucket
	key  string
	tag  store.OpID // names it
	op   store.OpID // zero: no outcome is kept
	mark *mark      // nil: it was not announced yet
	tail bool       // mark is that of tails: the caller cancels it when the change fails
	want headRead
	// decide edits the head that was read. It may be called again, after
	// another changed the head. An edit that was not numbered changes
	// nothing.
	decide func(*edit) (outcome, error)

	announced chan error // the answer, twice; c.mark is set before
	sent      *sentEdit  // the last one
}

// sentEdit is an edit that was sent to the head's OSD.
type sentEdit struct {
	*edit
	out    store.Outcome
	former *outcome
}

// newTag returns a name for a change or an upload of bytes.
func newTag() store.OpID { return store.NewOpID() }

// run makes the change: it announces it in the index (and among the ops) and
// reads the head beside that, then does one guarded operation on the head. The
// index and what became garbage are seen to behind the answer.
//
// Errors: store.ErrNoSuchBucket, store.ErrOpBarred, store.ErrNoSpace,
// store.ErrUnknownOutcome, and those of decide.
func (c *change) run(ctx context.Context) (store.Outcome, *edit, error) {
	c.announce(ctx)
	e, out, err := c.locked(ctx)
	if err == nil && e.made {
		return out, e, nil
	}
	// A mark that may have been made is ended all the same.
	if announceErr := <-c.announced; announceErr != nil {
		return store.Outcome{}, nil, announceErr
	}
	if errors.Is(err, store.ErrUnknownOutcome) {
		c.mark.settle()
		return store.Outcome{}, nil, err
	}
	c.cancel()
	c.b.d.ops.drop(c.op)
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
// what the caller does.
func (c *change) announce(ctx context.Context) {
	d := c.b.d
	c.announced = make(chan error, 2) // one answer for each that asks
	go func() {
		ctx, cancel := d.begins(ctx)
		defer cancel()
		logged := make(chan error, 1)
		if c.op.IsZero() {
			logged <- nil
		} else {
			go func() { logged <- d.ops.begin(ctx, c.op, c.b.head(c.key)) }()
		}
		var err error
		if c.mark == nil {
			c.mark, err = c.b.x.begin(ctx, c.key, c.tag)
		}
		if logErr := <-logged; err == nil && logErr != nil {
			c.cancel()
			err = logErr
		} else if err != nil && logErr == nil {
			d.ops.drop(c.op)
		}
		c.announced <- err
		c.announced <- err
	}()
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
	c.want.omap = append(c.want.omap, keyBar+c.tag.String())
	if !c.op.IsZero() {
		c.want.omap = append(c.want.omap, keyBar+c.op.String())
	}
	for try := 0; ; try++ {
		h, err := d.readHead(ctx, k, c.want)
		if try == 0 {
			if err := <-c.announced; err != nil {
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
	if c.sent != nil && slices.Contains(h.recent, changeOf(c.tag)) {
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
	c.sent = &sentEdit{e, out, former}
	if again, err = d.writeHead(ctx, e); err != nil || again {
		return nil, out, again, err
	}
	c.made()
	return e, out, false, nil
}

// made sees to what follows when the edit that was sent was made.
func (c *change) made() {
	d, e := c.b.d, c.sent.edit
	d.ops.moved(c.sent.former, e)
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
