//go:build rados

package rados

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
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

// held tells whether somebody holds a key.
func (r *readers) held(k headKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open[k]) > 0
}

// after runs f when all that hold a key now have released it.
func (r *readers) after(k headKey, f func()) {
	r.mu.Lock()
	g := &removal{holds: len(r.open[k]), run: f}
	free := g.holds == 0 // else the last of them runs f
	for h := range r.open[k] {
		h.after = append(h.after, g)
	}
	r.mu.Unlock()
	if free {
		f()
	}
}

// How much that is no longer used is kept at most for the readers of other
// gateways, whom nobody knows here.
const (
	trashItems  = 10_000
	trashBytes  = 512 << 20
	trashAtOnce = 16 // keys whose garbage is removed beside each other
)

// trash are tails that nothing uses any more, the oldest first. They are kept
// for a while, as another gateway may still be reading them. Their heads have
// notes of them, so that they are not lost with this process.
type trash struct {
	d    *Driver
	keep time.Duration

	mu      sync.Mutex // guards what follows
	items   []trashItem
	bytes   int64
	running bool
	full    chan struct{} // has an element when there is too much
}

type trashItem struct {
	k     headKey
	segs  []segment
	bytes int64
	due   time.Time
}

func newTrash(d *Driver, keep time.Duration) *trash {
	return &trash{d: d, keep: keep, full: make(chan struct{}, 1)}
}

// removeLater removes tails that nothing uses any more, and then the notes of
// them in the head.
func (d *Driver) removeLater(k headKey, garbage []segment) {
	if len(garbage) == 0 {
		return
	}
	d.readers.after(k, func() { d.trash.add(k, garbage) })
}

func (t *trash) add(k headKey, segs []segment) {
	item := trashItem{k: k, segs: segs, due: time.Now().Add(t.keep)}
	for _, s := range segs {
		item.bytes += s.size
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		if t.running = t.d.bg.start(t.run); !t.running {
			return // the driver is closed: the notes remain
		}
	}
	t.items = append(t.items, item)
	if t.bytes += item.bytes; t.bytes > trashBytes || len(t.items) > trashItems {
		select {
		case t.full <- struct{}{}:
		default:
		}
	}
}

// run removes what is due, until there is nothing.
func (t *trash) run(ctx context.Context) {
	room := make(chan struct{}, trashAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		item, ok := t.next()
		if !ok {
			return
		}
		room <- struct{}{}
		wg.Go(func() {
			err := t.d.collect(ctx, item.k, item.segs)
			if err != nil && ctx.Err() == nil { // what Close leaves, a sweep removes
				t.d.log.Warn("remove what is no longer used", "key", item.k.key, "err", err)
			}
			<-room
		})
	}
}

// next waits for the oldest item to be due and takes it. When the driver is
// being closed, what is not due is left to a sweep: its notes remain.
func (t *trash) next() (item trashItem, ok bool) {
	for {
		t.mu.Lock()
		if len(t.items) == 0 {
			t.running, t.items = false, nil
			t.mu.Unlock()
			return item, false
		}
		item = t.items[0]
		left := time.Until(item.due)
		if left <= 0 || t.bytes > trashBytes || len(t.items) > trashItems {
			t.items = t.items[1:]
			t.bytes -= item.bytes
			t.mu.Unlock()
			return item, true
		}
		t.mu.Unlock()
		if t.d.closing() {
			return item, false
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-t.full:
		case <-t.d.bg.closing:
		}
		timer.Stop()
	}
}

// noteAge is when whoever noted garbage in a head is taken for dead.
const noteAge = 10 * time.Minute

// garbageOf is what nothing uses any more when nothing uses these segments: the
// tails that are their own, and all (size 0) of those who hold references.
func garbageOf(segments []segment) (garbage []segment) {
	all := make(map[store.OpID]bool)
	for _, s := range segments {
		if !s.ref.IsZero() {
			all[s.ref] = true
		}
	}
	for _, s := range segments {
		if !all[s.holder()] {
			garbage = append(garbage, segment{tag: s.tag, size: s.size})
		}
	}
	for tag := range all {
		garbage = append(garbage, segment{tag: tag})
	}
	return garbage
}

// encodeNote is the value of g/TAG; size 0 stands for all that TAG has: tails
// whose number nobody knows, and references.
func encodeNote(size int64, at time.Time) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(size)), uint64(at.Unix()))
}

func decodeNote(b []byte) (size int64, at time.Time, err error) {
	d := decoder{b: b}
	size, at = d.size(), time.Unix(d.size(), 0)
	return size, at, d.end()
}

// collectNotes removes the tails that a head notes as used by nothing, whose
// gateway did not: left tells that there are notes which are too young, or of
// what somebody here may still read.
func (d *Driver) collectNotes(ctx context.Context, k headKey) (left bool, err error) {
	var garbage []segment
	err = eachPair(ctx, d.heads, k.oid(), "", keyGarbage, func(p librados.Pair) bool {
		tag, ok := store.ParseOpID(strings.TrimPrefix(p.Key, keyGarbage))
		size, at, err := decodeNote(p.Value)
		if !ok || err != nil || time.Since(at) < noteAge || d.readers.held(k) {
			left = true
			return true
		}
		garbage = append(garbage, segment{tag: tag, size: size})
		return true
	})
	if err != nil {
		return true, fmt.Errorf("read what %s/%q does not use: %w", k.bid, k.key, err)
	}
	if len(garbage) > 0 {
		err = d.collect(ctx, k, garbage)
	}
	return left, err
}

// removeGarbage removes what garbageOf or a note tells of.
func (d *Driver) removeGarbage(ctx context.Context, bid string, s segment) error {
	if s.size == 0 {
		return d.removeAll(ctx, bid, s.tag)
	}
	return d.removeTails(ctx, bid, s)
}

// collect removes tails and references, and the notes of them.
func (d *Driver) collect(ctx context.Context, k headKey, garbage []segment) error {
	op := librados.NewWrite()
	op.AssertExists()
	var notes []string
	for _, s := range garbage {
		if err := d.removeGarbage(ctx, k.bid, s); err != nil {
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
