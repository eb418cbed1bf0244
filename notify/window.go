package notify

import (
	"bytes"
	"container/heap"
	"slices"
	"time"

	"herald/queue"
)

// window is the part of a queue that a worker holds in memory: a bounded
// number of entries, in order, with the next entry of each key either ready,
// delayed, or on its way. They are the queue's oldest, but for those of keys
// that would fill it: see heldBack. It does no I/O.
type window struct {
	maxItems int
	maxBytes int           // see share
	ttl      time.Duration // of entries; 0: none

	items   []*item           // in the queue's order; done ones are cut off the front
	unseen  int               // entries beside items: see heldBack.known
	chains  map[string]*chain // by key
	ready   []*item           // never sent; first in, first out
	again   []*item           // ready to be sent again; likewise
	turn    int               // see next
	delayed delayHeap
	bytes   int
	failed  int       // chains whose first entry has failed
	behind  int       // entries behind those
	held    *heldBack // nil: all entries up to the last that was listed are here, or done
}

// chain is the entries of one key, in order; only the first may be sent.
type chain struct {
	items  []*item
	failed bool // the first one has failed before
	held   bool // later ones are held back until these are done
}

type itemState uint8

const (
	itemBehind  itemState = iota // another one of its key comes first
	itemReady                    // in window.ready
	itemDelayed                  // in window.delayed
	itemFlying                   // being pushed, or given up
	itemDone                     // delivered or given up
	itemGone                     // no more in the window
)

// item is one entry in a window.
type item struct {
	marker    queue.Marker
	order     string    // entries with an equal one are of one key
	raw       []byte    // the record is made of it when it is sent
	bad       bool      // raw is no entry
	own       bool      // raw is part of nothing larger
	unseen    bool      // not in window.items
	since     time.Time // its age counts from here
	attempts  int
	lastErr   string
	notBefore time.Time
	state     itemState
}

// size is about how much memory it takes.
func (it *item) size() int { return itemSize + len(it.raw) + len(it.order) }

// keep has it hold no more memory than its size: what is listed may be part of
// a page. Not while its push reads it.
func (it *item) keep() {
	if !it.own && it.state != itemFlying {
		it.raw, it.own = bytes.Clone(it.raw), true
	}
}

// itemSize is about what an item takes beside its entry: its own fields, and its
// place in the window.
const itemSize = 512

// maxWindowBytes bounds a window beside the number of its entries.
const maxWindowBytes = 4 << 20

// usualItem is what an item is taken to need before there are any, in bytes.
const usualItem = 1024

func newWindow(maxItems int) *window {
	return &window{maxItems: maxItems, maxBytes: maxWindowBytes, chains: make(map[string]*chain)}
}

func (w *window) len() int { return len(w.items) + w.unseen }

// capacity is about how many entries it may have, as large as they are.
func (w *window) capacity() int {
	each := usualItem
	if n := w.len(); n > 0 {
		each = max(w.bytes/n, 1)
	}
	return max(min(w.maxItems, w.maxBytes/each), min(w.maxItems, minWindow))
}

// minWindow is how many entries every window may have.
const minWindow = 4

// room is how many more entries fit.
func (w *window) room() int {
	if w.bytes >= w.maxBytes && w.len() >= minWindow {
		return 0
	}
	return max(w.capacity()-w.len(), 0)
}

// roomy tells whether so much fits that listing is worth it.
func (w *window) roomy() bool {
	part := 4
	if w.held != nil {
		if w.held.full {
			return false
		}
		part = 8
	}
	return w.room() >= max(1, w.capacity()/part)
}

// empty is when nothing waits.
func (w *window) empty() bool { return w.len() == 0 && (w.held == nil || len(w.held.keys) == 0) }

// add appends an entry.
func (w *window) add(it *item, now time.Time) {
	w.items = append(w.items, it)
	w.bytes += it.size()
	if w.held != nil {
		it.keep()
		w.held.known[it.marker] = it
	}
	c := w.chains[it.order]
	if c == nil {
		c = &chain{}
		w.chains[it.order] = c
	}
	c.items = append(c.items, it)
	switch {
	case len(c.items) == 1:
		w.schedule(it, now)
		w.lead(c)
	case c.failed:
		w.behind++
		it.keep()
	}
}

// lead counts a chain that has another first entry.
func (w *window) lead(c *chain) {
	if c.items[0].attempts > 0 && !c.failed {
		c.failed = true
		w.failed++
		w.behind += len(c.items) - 1
		for _, it := range c.items { // they may wait for long
			it.keep()
		}
	}
}

// unlead counts it no more.
func (w *window) unlead(c *chain) {
	if c.failed {
		c.failed = false
		w.failed--
		w.behind -= len(c.items) - 1
	}
}

// schedule puts the first entry of a key where it belongs.
func (w *window) schedule(it *item, now time.Time) {
	if it.notBefore.After(now) {
		it.state = itemDelayed
		heap.Push(&w.delayed, it)
		return
	}
	w.release(it)
}

// release makes an entry ready.
func (w *window) release(it *item) {
	it.state = itemReady
	if it.attempts > 0 {
		w.again = append(w.again, it)
	} else {
		w.ready = append(w.ready, it)
	}
}

// retryShare: of that many entries that are sent, one was sent before, if both
// kinds wait. So neither waits for the other where an endpoint that refuses many
// is asked slowly.
const retryShare = 4

// next takes the next entry that may be sent; nil when there is none.
func (w *window) next(now time.Time) *item {
	for len(w.delayed) > 0 && (w.delayed[0].state != itemDelayed || !w.delayed[0].notBefore.After(now)) {
		it := heap.Pop(&w.delayed).(*item)
		if it.state == itemDelayed {
			w.release(it)
		}
	}
	first, second := &w.ready, &w.again
	if w.turn%retryShare == retryShare-1 {
		first, second = second, first
	}
	it := takeReady(first)
	if it == nil {
		it = takeReady(second)
	}
	if it != nil {
		w.turn++
	}
	return it
}

func takeReady(list *[]*item) *item {
	for len(*list) > 0 {
		it := (*list)[0]
		(*list)[0] = nil
		*list = (*list)[1:]
		if it.state == itemReady {
			it.state = itemFlying
			return it
		}
	}
	return nil
}

// unget puts back what next gave, to come first.
func (w *window) unget(it *item) {
	it.state = itemReady
	if it.attempts > 0 {
		w.again = slices.Insert(w.again, 0, it)
	} else {
		w.ready = slices.Insert(w.ready, 0, it)
	}
	w.turn--
}

// retry delays an entry that was taken, and failed.
func (w *window) retry(it *item, notBefore, now time.Time) {
	it.notBefore = notBefore
	w.schedule(it, now)
	it.keep()
	w.lead(w.chains[it.order])
}

// finish ends an entry that was taken; the next one of its key may go.
func (w *window) finish(it *item, now time.Time) {
	it.state = itemDone
	c := w.chains[it.order]
	w.unlead(c)
	c.items[0] = nil
	c.items = c.items[1:]
	if len(c.items) > 0 {
		w.schedule(c.items[0], now)
		w.lead(c)
	} else {
		delete(w.chains, it.order)
		w.tidy()
	}
	if c.held && (len(c.items) == 0 || !c.failed && len(c.items) <= w.capacity()/16) {
		c.held = false
		w.held.want(it.order)
	}
}

// cut drops what is done at the front, and returns the last marker dropped: no
// entry before it is left to be delivered.
func (w *window) cut() (upTo queue.Marker) {
	n := 0
	for n < len(w.items) && w.items[n].state == itemDone && (w.held == nil || w.held.gap < 0 || n < w.held.gap) {
		it := w.items[n]
		upTo = it.marker
		w.leave(it)
		w.items[n] = nil
		n++
	}
	w.items = w.items[n:]
	if w.held != nil && w.held.gap > 0 {
		w.held.gap -= n
	}
	return upTo
}

// leave takes an entry out of all but items.
func (w *window) leave(it *item) {
	it.state = itemGone
	w.bytes -= it.size()
	if w.held != nil {
		delete(w.held.known, it.marker)
	}
	if it.unseen {
		it.unseen = false
		w.unseen--
	}
}

// drop takes out entries that are done wherever they stand: else one that is
// tried for ever would fill the window with those behind it.
func (w *window) drop(done []*item) {
	for _, it := range done {
		w.leave(it)
	}
	w.compact()
}

// compact takes out of items what is gone.
func (w *window) compact() {
	out := w.items[:0]
	gap := -1
	for i, it := range w.items {
		if w.held != nil && w.held.gap == i {
			gap = len(out)
		}
		if it.state != itemGone {
			out = append(out, it)
		}
	}
	if w.held != nil && w.held.gap >= len(w.items) {
		gap = len(out)
	}
	clear(w.items[len(out):])
	w.items = out
	if w.held != nil {
		w.held.gap = gap
	}
}

// takeExpired takes the waiting entries, first of their key, that stale says
// are too old; at most max.
func (w *window) takeExpired(stale func(*item) bool, max int) []*item {
	var out []*item
	for _, c := range w.chains {
		it := c.items[0]
		if (it.state == itemReady || it.state == itemDelayed) && stale(it) {
			it.state = itemFlying
			if out = append(out, it); len(out) == max {
				break
			}
		}
	}
	return out
}

// hurry makes all delayed entries ready: their endpoint was changed.
func (w *window) hurry() {
	for _, it := range w.delayed {
		if it.state == itemDelayed {
			it.notBefore = time.Time{}
			w.release(it)
		}
	}
	w.delayed = nil
	if w.held != nil {
		w.held.hurry()
	}
}

// due is when the next delayed entry becomes ready; zero when none is delayed.
func (w *window) due() time.Time {
	for len(w.delayed) > 0 && w.delayed[0].state != itemDelayed {
		heap.Pop(&w.delayed)
	}
	if len(w.delayed) == 0 {
		return time.Time{}
	}
	return w.delayed[0].notBefore
}

// tidy forgets delayed entries that left the window, or were given up, when they
// are many: they would stay in memory until their time comes.
func (w *window) tidy() {
	if len(w.delayed) > 2*len(w.chains)+minWindow {
		w.delayed = slices.DeleteFunc(w.delayed, func(it *item) bool { return it.state != itemDelayed })
		heap.Init(&w.delayed)
	}
}

// delayHeap orders items by notBefore.
type delayHeap []*item

func (h delayHeap) Len() int           { return len(h) }
func (h delayHeap) Less(i, j int) bool { return h[i].notBefore.Before(h[j].notBefore) }
func (h delayHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *delayHeap) Push(x any) { *h = append(*h, x.(*item)) }

// Pop implements heap.Interface.
func (h *delayHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}
