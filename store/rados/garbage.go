//go:build rados

package rados

import (
	"context"
	"errors"
	"sync"
	"syscall"

	librados "herald/rados"
)

// readers keep the tails of what was opened: what is removed or overwritten
// meanwhile goes when those are closed that were open then.
type readers struct {
	mu   sync.Mutex // guards m, and the fields of each hold
	open map[headKey]map[*hold]struct{}
}

// hold is one reader's.
type hold struct {
	k     headKey
	after []*removal // that wait for it
}

// removal is garbage that waits for readers.
type removal struct {
	holds int
	run   func()
}

func newReaders() *readers { return &readers{open: make(map[headKey]map[*hold]struct{})} }

// hold must be called before a head is read whose tails will be.
func (r *readers) hold(k headKey) *hold {
	h := &hold{k: k}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[k] == nil {
		r.open[k] = make(map[*hold]struct{})
	}
	r.open[k][h] = struct{}{}
	return h
}

// release ends a hold. It may be called again.
func (r *readers) release(h *hold) {
	for _, f := range r.end(h) {
		f()
	}
}

func (r *readers) end(h *hold) (free []func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open[h.k], h)
	if len(r.open[h.k]) == 0 {
		delete(r.open, h.k)
	}
	for _, g := range h.after {
		if g.holds--; g.holds == 0 {
			free = append(free, g.run)
		}
	}
	h.after = nil
	return free
}

// after runs f when all that hold a key now have released it.
func (r *readers) after(k headKey, f func()) {
	r.mu.Lock()
	g := &removal{holds: len(r.open[k]), run: f}
	for h := range r.open[k] {
		h.after = append(h.after, g)
	}
	r.mu.Unlock()
	if g.holds == 0 {
		f()
	}
}

// removeLater removes tails that nothing uses any more, and then the notes of
// them in the head.
func (d *Driver) removeLater(k headKey, garbage []segment) {
	if len(garbage) == 0 {
		return
	}
	d.readers.after(k, func() {
		d.bg.start(func(ctx context.Context) {
			if err := d.collect(ctx, k, garbage); err != nil {
				d.log.Warn("remove what is no longer used", "key", k.key, "err", err)
			}
		})
	})
}

// collect removes tails and the notes of them.
func (d *Driver) collect(ctx context.Context, k headKey, garbage []segment) error {
	op := librados.NewWrite()
	op.AssertExists()
	var notes []string
	for _, s := range garbage {
		if err := d.removeTails(ctx, k.bid, s); err != nil {
			return err
		}
		notes = append(notes, keyGarbage+s.tag.String())
	}
	op.OmapRm(notes...)
	_, err := d.heads.Operate(ctx, k.oid(), op, librados.FullForce)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}
