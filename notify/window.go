package notify

import (
	"container/heap"
	"time"

	"herald/queue"
)

// window is the part of a queue that a worker holds in memory: a bounded
// number of its oldest entries, in order, with the next entry of each key
// either ready, delayed, or on its way. It does no I/O.
type window struct {
	maxItems int
	maxBytes int

	items   []*item           // in the queue's order; done ones are cut off the front
	chains  map[string]*chain // by key
	ready   []*item           // first in, first out
	delayed delayHeap
	bytes   int
}

// chain is the entries of one key, in order; only the first may be sent.
type chain struct{ items []*item }

type itemState uint8

const (
	itemBehind  itemState = iota // another one of its key comes first
	itemReady                    // in window.ready
	itemDelayed                  // in window.delayed
	itemFlying                   // being pushed, or given up
	itemDone                     // delivered or given up
	itemGone                     // done, and cut off
)

// item is one entry in a window.
type item struct {
	marker    queue.Marker
	entry     entry
	raw       []byte
	since     time.Time // its age counts from here
	attempts  int
	lastErr   string
	notBefore time.Time
	state     itemState
}

// size is about how much memory it takes.
func (it *item) size() int { return len(it.raw) + len(it.entry.record) }

// maxWindowBytes bounds a window beside the number of its entries.
const maxWindowBytes = 4 << 20

func newWindow(maxItems int) *window {
	return &window{maxItems: maxItems, maxBytes: maxWindowBytes, chains: make(map[string]*chain)}
}

// room is how many more entries fit.
func (w *window) room() int {
	if w.bytes >= w.maxBytes {
		return 0
	}
	return w.maxItems - len(w.items)
}

// roomy tells whether so much fits that listing is worth it.
func (w *window) roomy() bool { return w.room() >= max(1, w.maxItems/4) }

func (w *window) empty() bool { return len(w.items) == 0 }

// add appends an entry.
func (w *window) add(it *item, now time.Time) {
	w.items = append(w.items, it)
	w.bytes += it.size()
	c := w.chains[it.entry.order]
	if c == nil {
		c = &chain{}
		w.chains[it.entry.order] = c
	}
	c.items = append(c.items, it)
	if len(c.items) == 1 {
		w.schedule(it, now)
	}
}

// schedule puts the first entry of a key where it belongs.
func (w *window) schedule(it *item, now time.Time) {
	if it.notBefore.After(now) {
		it.state = itemDelayed
		heap.Push(&w.delayed, it)
		return
	}
	it.state = itemReady
	w.ready = append(w.ready, it)
}

// next takes the next entry that may be sent; nil when there is none.
func (w *window) next(now time.Time) *item {
	for len(w.delayed) > 0 && (w.delayed[0].state != itemDelayed || !w.delayed[0].notBefore.After(now)) {
		it := heap.Pop(&w.delayed).(*item)
		if it.state == itemDelayed {
			it.state = itemReady
			w.ready = append(w.ready, it)
		}
	}
	for len(w.ready) > 0 {
		it := w.ready[0]
		w.ready[0] = nil
		w.ready = w.ready[1:]
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
	w.ready = append([]*item{it}, w.ready...)
}

// retry delays an entry that was taken.
func (w *window) retry(it *item, notBefore, now time.Time) {
	it.notBefore = notBefore
	w.schedule(it, now)
}

// finish ends an entry that was taken; the next one of its key may go.
func (w *window) finish(it *item, now time.Time) {
	it.state = itemDone
	c := w.chains[it.entry.order]
	c.items[0] = nil
	c.items = c.items[1:]
	if len(c.items) == 0 {
		delete(w.chains, it.entry.order)
		return
	}
	w.schedule(c.items[0], now)
}

// cut drops what is done at the front, and returns the last marker dropped.
func (w *window) cut() (upTo queue.Marker) {
	n := 0
	for n < len(w.items) && w.items[n].state == itemDone {
		it := w.items[n]
		it.state = itemGone
		upTo = it.marker
		w.bytes -= it.size()
		w.items[n] = nil
		n++
	}
	w.items = w.items[n:]
	return upTo
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
			it.state = itemReady
			it.notBefore = time.Time{}
			w.ready = append(w.ready, it)
		}
	}
	w.delayed = nil
}

// due is when the next delayed entry becomes ready; zero when none is delayed.
func (w *window) due() time.Time {
	if len(w.delayed) == 0 {
		return time.Time{}
	}
	return w.delayed[0].notBefore
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
