package notify

import (
	"container/heap"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"time"

	"herald/queue"
)

// heldBack is what a window knows of entries that were listed and are not in it:
// those behind too many of their key, which else would fill it and have the
// other keys wait, and those of keys whose first entry failed when there are
// many such keys. The listing goes on past them, and they are listed again, in a
// pass over the queue from its beginning, when they are wanted.
//
// What holds at any time, of each key: if it is not among keys, all its entries
// up to the last that was listed are in the window, or done; if it is, those in
// the window come before those that are not. So an entry that is listed is
// passed over if its key is among keys, and else comes next.
type heldBack struct {
	keys map[uint64]int64 // by hash of the key: when its entries are wanted, in Unix nanoseconds
	due  int64            // the earliest of these
	full bool             // there are too many keys to go on

	known map[queue.Marker]*item // all in the window: they are listed again
	gap   int                    // of window.items: how many come before the first that was passed over; -1: all

	passing bool
	beyond  bool                // the pass is at entries that were not listed before
	owed    map[uint64]struct{} // in a pass: keys that it is for
	high    queue.Marker        // where the listing was when the pass began; "": nowhere
	spent   time.Duration       // on the pass
	next    time.Time           // no pass before
}

const (
	// never is when entries are wanted that others in the window come before.
	never = math.MaxInt64
	// heldKeys bounds held.keys, as a multiple of the window's entries.
	heldKeys = 8
	// passShare bounds what passes cost: a pause of that many times as long
	// follows each.
	passShare = 20
	// parkPause is the least time that a failed entry is left out for when there
	// are too many of them.
	parkPause = 100 * time.Millisecond
)

// keySeed is of hashes that are compared within this process. A key that has
// another's hash, which is unlikely, waits for it.
var keySeed = maphash.MakeSeed()

func hashKey(order string) uint64 { return maphash.String(keySeed, order) }

// hold begins to pass over entries.
func (w *window) hold() *heldBack {
	if w.held == nil {
		w.held = &heldBack{keys: make(map[uint64]int64), due: never, known: make(map[queue.Marker]*item, len(w.items)), gap: -1}
		for _, it := range w.items {
			it.keep()
			w.held.known[it.marker] = it
		}
	}
	return w.held
}

// add holds a key back until due. It is false when there are too many.
func (h *heldBack) add(order string, due int64, most int) bool {
	k := hashKey(order)
	if _, ok := h.keys[k]; !ok && len(h.keys) >= most {
		h.full = true
		return false
	}
	h.keys[k] = due
	h.due = min(h.due, due)
	delete(h.owed, k)
	return true
}

// want has a key's entries listed again.
func (h *heldBack) want(order string) {
	if k := hashKey(order); h.keys[k] == never {
		h.keys[k], h.due = 0, 0
	}
}

// hurry wants all that nothing in the window comes before.
func (h *heldBack) hurry() {
	for k, due := range h.keys {
		if due != never {
			h.keys[k], h.due = 0, 0
		}
	}
}

// most is how many keys may be held back.
func (w *window) mostHeld() int { return heldKeys * w.maxItems }

// offer gives the window an entry that was listed; false: it has no room. alive
// tells whether others may fare better than those that failed.
func (w *window) offer(it *item, now time.Time, alive bool) bool {
	h := w.held
	if h != nil {
		if in := h.known[it.marker]; in != nil {
			w.see(in)
			return true
		}
		k := hashKey(it.order)
		if _, ok := h.keys[k]; ok {
			w.pass()
			return true
		}
		if _, ok := h.owed[k]; !ok {
			h.beyond = true
		}
	}
	c := w.chains[it.order]
	due := int64(never)
	switch part := w.capacity() / 4; {
	case c != nil && (len(c.items) > part || c.failed && w.behind >= part):
	case c == nil && alive && it.attempts > 0 && w.failed >= 2*part:
		due = max(w.wanted(it), now.Add(parkPause).UnixNano())
	default:
		if w.room() <= 0 {
			return false
		}
		w.add(it, now)
		return true
	}
	if !w.hold().add(it.order, due, w.mostHeld()) {
		return false
	}
	if c != nil {
		c.held = true
	}
	w.pass()
	return true
}

// see puts an entry that is listed again where it belongs.
func (w *window) see(it *item) {
	if it.unseen {
		it.unseen = false
		w.unseen--
		w.items = append(w.items, it)
	}
}

// pass notes that an entry was passed over.
func (w *window) pass() {
	if w.held.gap < 0 {
		w.held.gap = len(w.items)
	}
}

// wanted is when a delayed entry can be sent, or given up.
func (w *window) wanted(it *item) int64 {
	at := it.notBefore
	if w.ttl > 0 {
		if end := it.since.Add(w.ttl); end.Before(at) {
			at = end
		}
	}
	return at.UnixNano()
}

// shed makes room where entries that cannot be sent take it: those behind
// failed ones, and if alive, failed ones that wait for another try, also for
// those that were left out before.
func (w *window) shed(alive bool, now time.Time) {
	part := w.capacity() / 4
	seats := 2 * part
	if w.passDue(now) {
		seats = part
	} else if w.roomy() {
		return
	}
	parks := alive && w.failed > seats
	if w.behind <= part && !parks {
		return
	}
	if w.behind > part {
		each := 1 + part/w.failed
		for _, c := range w.chains {
			if c.failed && len(c.items) > each && w.evict(c, each, never) {
				c.held = true
			}
		}
	}
	for i := len(w.delayed) - 1; parks && i >= 0 && w.failed > seats; i-- {
		if it := w.delayed[i]; it.state == itemDelayed && it.attempts > 0 {
			w.evict(w.chains[it.order], 0, w.wanted(it))
		}
	}
	w.evicted()
	w.tidy()
}

// evict takes a key's entries but the first n out of the window, to be listed
// again at due; false if that cannot be.
func (w *window) evict(c *chain, n int, due int64) bool {
	if !w.hold().add(c.items[0].order, due, w.mostHeld()) {
		return false
	}
	w.truncate(c, n)
	return true
}

// truncate takes a key's entries but the first n out of the window.
func (w *window) truncate(c *chain, n int) {
	if n == 0 {
		w.unlead(c)
		delete(w.chains, c.items[0].order)
	} else if c.failed {
		w.behind -= len(c.items) - n
	}
	for _, it := range c.items[n:] {
		w.leave(it)
	}
	clear(c.items[n:])
	c.items = c.items[:n]
}

// evicted ends what evict began.
func (w *window) evicted() {
	for i, it := range w.items {
		if it.state == itemGone {
			if w.held.gap < 0 || i < w.held.gap {
				w.held.gap = i
			}
			w.compact()
			return
		}
	}
}

// passAt is when a pass is due; zero when none is.
func (w *window) passAt() time.Time {
	h := w.held
	if h == nil || h.passing || h.due == never {
		return time.Time{}
	}
	if at := time.Unix(0, h.due); at.After(h.next) {
		return at
	}
	return h.next
}

// passDue tells whether a pass should begin.
func (w *window) passDue(now time.Time) bool {
	at := w.passAt()
	return !at.IsZero() && !at.After(now)
}

// begin begins a pass: the queue is listed from its beginning. at is where its
// listing is.
func (w *window) begin(at queue.Marker, now time.Time) {
	h, old := w.held, w.held.keys
	h.keys, h.owed, h.due = make(map[uint64]int64, len(old)), make(map[uint64]struct{}), never
	for k, due := range old {
		if due <= now.UnixNano() {
			h.owed[k] = struct{}{}
			continue
		}
		h.keys[k] = due
		h.due = min(h.due, due)
	}
	h.high = at
	w.restart()
}

// restart has all that is in the window be listed again.
func (w *window) restart() {
	h := w.held
	h.passing, h.beyond, h.full, h.gap, h.spent = true, false, false, -1, 0
	w.items, w.unseen = nil, len(h.known)
	for _, it := range h.known {
		it.unseen = true
	}
}

// passed is told after each page of a pass what it cost, where the listing is
// and whether there is more. It returns where to go on.
func (w *window) passed(cost time.Duration, at queue.Marker, more bool, now time.Time) (queue.Marker, bool) {
	h := w.held
	if h == nil {
		return at, more
	}
	if h.passing {
		h.spent += cost
		switch {
		case !more, h.beyond:
			h.passing = false
		case len(h.owed) == 0 && h.high != "": // what is in between was looked at before
			at, h.passing = h.high, false
			w.pass() // but is not in items
		}
		if !h.passing {
			clear(h.owed)
			h.next = now.Add(passShare * h.spent)
		}
	}
	if len(h.keys) == 0 && len(h.owed) == 0 && w.unseen == 0 {
		w.held = nil
	}
	return at, more
}

// shrink takes entries out until the window has at most that many bytes, where
// it can, and has the queue be listed from its beginning.
func (w *window) shrink(most int) {
	h := w.hold()
	for n := 1; n >= 0; n-- { // first those behind others
		for _, c := range w.chains {
			if w.bytes <= most || w.len() <= minWindow {
				break
			}
			if first := c.items[0].state; n == 1 || first == itemReady || first == itemDelayed {
				w.truncate(c, n)
			}
		}
	}
	for _, c := range w.chains {
		c.held = false
	}
	h.keys, h.owed, h.due, h.high = make(map[uint64]int64), nil, never, ""
	known, chains := make(map[queue.Marker]*item, len(h.known)), make(map[string]*chain, len(w.chains)) // those are as large as they were
	maps.Copy(known, h.known)
	maps.Copy(chains, w.chains)
	h.known, w.chains = known, chains
	w.restart()
	w.ready, w.again, w.delayed = nil, nil, slices.DeleteFunc(w.delayed, func(it *item) bool { return it.state != itemDelayed })
	heap.Init(&w.delayed)
	for _, c := range w.chains {
		c.items = slices.Clone(c.items)
		if c.items[0].state == itemReady {
			w.release(c.items[0])
		}
	}
}
