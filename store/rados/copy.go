//go:build rados

package rados

import (
	"context"
	"errors"
	"io"
	"slices"

	"herald/store"
)

// How many segments a copy may take over. Heads are read whole, so objects made
// of many parts, each a copy of many segments, must not be.
const (
	maxShared     = 10_000 // of an object
	maxPartShared = 32     // of a part
)

// wholeSegments returns the segments that are just the bytes of a range.
func (r *reader) wholeSegments(off, length int64) []segment {
	for i, s := range r.segs {
		if off == 0 {
			for n := i; n < len(r.segs) && length >= r.segs[n].size; n++ {
				if length -= r.segs[n].size; length == 0 {
					return r.segs[i : n+1]
				}
			}
			return nil
		}
		if off -= s.size; off < 0 {
			return nil
		}
	}
	return nil
}

// sharable returns the segments of a copy by a holder, if it can refer to the
// tails of what it copies; nil if it must copy bytes: there are few, or they are
// only a part of what is in the tails.
func (r *reader) sharable(d *Driver, h tailsName, off, length int64, most int) []segment {
	if r.d != d || length <= maxInline {
		return nil
	}
	whole := r.wholeSegments(off, length)
	if len(whole) == 0 || len(whole) > most {
		return nil
	}
	segs := slices.Clone(whole)
	for i := range segs {
		s := &segs[i]
		s.ref = h.tag
		if s.bid = s.in(r.bid); s.bid == h.bid {
			s.bid = ""
		}
	}
	return segs
}

// listOf is what a holder notes before it takes references to segments.
func listOf(h tailsName, segs []segment) *refList {
	list := &refList{}
	seen := make(map[store.OpID]bool)
	for _, s := range segs {
		if !seen[s.tag] { // one reference does for all that h has of it
			seen[s.tag] = true
			list.tails = append(list.tails, segment{bid: s.in(h.bid), tag: s.tag, size: s.size})
		}
	}
	return list
}

// share takes references to the tails of segments, after it has noted which.
// The holder itself was announced before, so that whoever finds it dead releases
// what is noted; after an error the caller does. It answers false if others hold
// too many, and then holds none. Errors: errTailsGone.
func (d *Driver) share(ctx context.Context, h tailsName, segs []segment) (bool, error) {
	list := listOf(h, segs)
	if err := d.writeRefList(ctx, h, list); err != nil {
		return false, err
	}
	if err := d.opts.Fault("copy.noted"); err != nil {
		return false, err
	}
	err := each(list.tails, func(s segment) error { return d.take(ctx, tailsName{s.bid, s.tag}, h) })
	if errors.Is(err, errTooShared) {
		return false, d.releaseAll(ctx, h, list)
	}
	if err == nil {
		err = d.opts.Fault("copy.taken")
	}
	return err == nil, err
}

// mix notes that a holder writes tails of its own besides.
func (d *Driver) mix(ctx context.Context, h tailsName) error {
	list, err := d.readRefList(ctx, h)
	if err != nil {
		return err
	}
	if list == nil { // somebody took the holder for dead
		return errMarkGone
	}
	list.mixed = true
	return d.writeRefList(ctx, h, list)
}

// sharer is a writer that can refer to the tails of others.
type sharer interface {
	io.Writer
	// share answers false if nothing was done.
	share(src *reader, off, length int64) (bool, error)
}

// readFrom implements ReadFrom of both writers.
func readFrom(w sharer, r io.Reader) (int64, error) {
	if s, ok := r.(*io.SectionReader); ok {
		outer, off, n := s.Outer()
		if src, ok := outer.(*reader); ok && off >= 0 && n >= 0 && off+n <= src.info.Size {
			if done, err := w.share(src, off, n); done || err != nil {
				return n, err
			}
			return src.WriteRangeTo(struct{ io.Writer }{w}, off, n)
		}
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, maxInline))
}

// shareSource implements store.Sharer of both writers.
func shareSource(w sharer, src store.Reader, off, length int64) (bool, error) {
	r, ok := src.(*reader)
	if !ok || off < 0 || length < 0 || off+length > r.info.Size {
		return false, nil
	}
	return w.share(r, off, length)
}

// Share implements store.Sharer.
func (w *writer) Share(src store.Reader, off, length int64) (bool, error) {
	return shareSource(w, src, off, length)
}

// Share implements store.Sharer.
func (w *partWriter) Share(src store.Reader, off, length int64) (bool, error) {
	return shareSource(w, src, off, length)
}

var (
	_ store.Sharer = (*writer)(nil)
	_ store.Sharer = (*partWriter)(nil)
)

// share implements sharer.
func (w *writer) share(src *reader, off, length int64) (bool, error) {
	if w.ended || w.err != nil || w.tails != nil || len(w.buf) > 0 || w.shared != nil {
		return false, nil
	}
	h := tailsName{w.b.bid, w.tag}
	segs := src.sharable(w.b.d, h, off, length, maxShared)
	if segs == nil {
		return false, nil
	}
	if w.err = w.announce(w.ctx); w.err != nil {
		return false, w.err
	}
	w.shared = segs
	done, err := w.b.d.share(w.ctx, h, segs)
	if w.err = w.b.failed("copy to", w.key, err); w.err == nil && !done {
		w.shared = nil
	}
	return done, w.err
}

// share implements sharer.
func (w *partWriter) share(src *reader, off, length int64) (bool, error) {
	if w.ended || w.err != nil || w.tails != nil || len(w.buf) > 0 || w.shared != nil {
		return false, nil
	}
	h := tailsName{w.b.bid, w.tag}
	segs := src.sharable(w.b.d, h, off, length, maxPartShared)
	if segs == nil {
		return false, nil
	}
	if w.err = w.failed(w.announce(w.ctx)); w.err != nil {
		return false, w.err
	}
	w.shared = segs
	done, err := w.b.d.share(w.ctx, h, segs)
	if w.err = w.failed(err); w.err == nil && !done {
		w.shared = nil
	}
	return done, w.err
}
