//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// maxInline is how long the bytes of a null version may be to be in the head.
const maxInline = 64 << 10

// Extended attributes of a head.
const (
	xattrState = "head"
	xattrAttrs = "attrs"
	xattrFence = "fence" // written only to make the object newer
)

// head is a head as it was read.
type head struct {
	headKey
	guard uint64 // the object's version; 0: there is no object
	state
	attrs  []byte            // of the current version, encoded
	data   []byte            // the null version's bytes, when they were asked for; of d.buffers
	omap   map[string][]byte // of what was asked for
	newest *librados.Pair    // the first noncurrent version, when it was asked for
}

// headRead says what of a head is read besides its state and attributes.
type headRead struct {
	data   bool
	omap   []string // keys
	newest bool
}

// noHead is a head that is not there: a zero state.
func noHead(k headKey) *head { return &head{headKey: k, state: state{key: k.key}} }

// readHead reads a head, in one operation. It gives noHead when there is none.
func (d *Driver) readHead(ctx context.Context, k headKey, want headRead) (*head, error) {
	op := librados.NewRead()
	xattrs := op.Xattrs()
	var data, keys, newest *librados.Step
	if want.data {
		data = op.ReadInto(0, d.buffers.get(maxInline))
	}
	if len(want.omap) > 0 {
		keys = op.OmapGetByKeys(want.omap...)
	}
	if want.newest {
		newest = op.OmapGetVals("", keyVersion, 1)
	}
	h := noHead(k)
	guard, err := d.heads.Operate(ctx, k.oid(), op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	h.guard = guard
	if data != nil {
		h.data = data.Data
	}
	if keys != nil {
		h.omap = make(map[string][]byte, len(keys.Pairs))
		for _, p := range keys.Pairs {
			h.omap[p.Key] = p.Value
		}
	}
	if newest != nil && len(newest.Pairs) > 0 {
		h.newest = &newest.Pairs[0]
	}
	return h, h.parse(xattrs.Pairs)
}

func (h *head) parse(xattrs []librados.Pair) error {
	for _, p := range xattrs {
		switch p.Key {
		case xattrAttrs:
			h.attrs = p.Value
		case xattrState:
			s, err := decodeState(p.Value)
			if err == nil && s.key != h.headKey.key {
				err = fmt.Errorf("it is that of key %q", s.key)
			}
			if err != nil {
				return fmt.Errorf("head of %s/%q: %w", h.bid, h.headKey.key, err)
			}
			h.state = *s
		}
	}
	return nil
}

// find returns the version that an id names ("": the current one), and its
// attributes. A noncurrent one must have been asked for.
// Errors: store.ErrNoSuchKey, store.ErrNoSuchVersion, *store.DeleteMarkerError.
func (h *head) find(id string) (v *version, attrs []byte, latest bool, err error) {
	switch {
	case id == "" && h.current == nil:
		return nil, nil, false, store.ErrNoSuchKey
	case id == "" || h.current != nil && h.current.id == id:
		v, attrs, latest = h.current, h.attrs, true
	default:
		b, ok := h.omap[keyVersion+id]
		if !ok {
			return nil, nil, false, store.ErrNoSuchVersion
		}
		if v, attrs, err = decodeNoncurrent(b); err != nil {
			return nil, nil, false, fmt.Errorf("version %s of %s/%q: %w", id, h.bid, h.state.key, err)
		}
	}
	if v.marker {
		return v, attrs, latest, &store.DeleteMarkerError{Info: v.info(h.state.key, latest, nil)}
	}
	return v, attrs, latest, nil
}

// happened tells whether the head knows that a change was made, or would know
// it had it been made after prior was read.
func (h *head) happened(tag store.OpID, op store.OpID, prior *head) (yes, sure bool) {
	if slices.Contains(h.recent, changeOf(tag)) {
		return true, true
	}
	if !op.IsZero() && (h.op == op || h.omap[keyOutcome+op.String()] != nil) {
		return true, true
	}
	if len(h.recent) < maxRecent {
		return false, true
	}
	n := len(prior.recent)
	return false, n > 0 && slices.Contains(h.recent, prior.recent[n-1])
}

// writeHead does the operation that takes a head from the state that was read
// to the next one. It is the linearization point of every change. again tells
// that the head was changed meanwhile, and nothing was done.
// Errors: store.ErrNoSpace, store.ErrUnknownOutcome.
func (d *Driver) writeHead(ctx context.Context, e *edit) (again bool, err error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if err = d.opts.Fault("head.write"); err == nil {
		_, err = d.heads.Operate(ctx, e.oid(), e.operation(), 0)
	}
	if err == nil {
		err = d.opts.Fault("head.written")
	}
	switch {
	case err == nil:
		return false, nil
	case conflict(err):
		return true, nil
	case !unsure(err):
		return false, storeError("write head", err)
	}
	return d.resolve(ctx, e, err)
}

// resolve finds out what became of a head's operation whose answer was lost,
// and sees to it that it does not happen later.
func (d *Driver) resolve(ctx context.Context, e *edit, cause error) (again bool, err error) {
	want := headRead{}
	if !e.op.IsZero() {
		want.omap = []string{keyOutcome + e.op.String()}
	}
	for ; ctx.Err() == nil; wait(ctx, 100*time.Millisecond) {
		h, err := d.readHead(ctx, e.headKey, want)
		if err != nil {
			continue
		}
		yes, sure := h.happened(e.tag, e.op, e.head)
		switch {
		case yes:
			return false, nil
		case h.guard == e.guard:
			if err := d.fence(ctx, h); err == nil {
				return true, nil
			}
		case sure:
			return true, nil
		default:
			return false, fmt.Errorf("write head: %w: %w", store.ErrUnknownOutcome, cause)
		}
	}
	return false, fmt.Errorf("write head: %w: %w", store.ErrUnknownOutcome, cause)
}

// fence makes a head newer, so that operations that compare its version fail.
func (d *Driver) fence(ctx context.Context, h *head) error {
	op := librados.NewWrite()
	if h.guard == 0 {
		op.Create(true)
	} else {
		op.AssertVersion(h.guard)
	}
	op.SetXattr(xattrFence, nil)
	_, err := d.heads.Operate(ctx, h.oid(), op, 0)
	return err
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
