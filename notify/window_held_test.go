package notify

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/queue"

	"pgregory.net/rapid"
)

// modelQueue is a queue and the worker that empties it into a window.
type modelQueue struct {
	t         *rapid.T
	w         *window
	now       time.Time
	alive     bool
	cursor    queue.Marker
	more      bool
	live      []*modelEntry // in order
	by        map[queue.Marker]*modelEntry
	flying    []*item
	acked     []*item
	delivered map[string]int
	listed    int
}

type modelEntry struct {
	marker    queue.Marker
	key       string
	n         int // of its key, from 1
	attempts  int
	notBefore time.Time
	delivered bool
}

func newModelQueue(t *rapid.T, w *window) *modelQueue {
	return &modelQueue{t: t, w: w, now: time.Unix(1000, 0), more: true, by: make(map[queue.Marker]*modelEntry), delivered: make(map[string]int)}
}

func (q *modelQueue) commit(key string, count map[string]int) {
	count[key]++
	e := &modelEntry{marker: queue.Marker(fmt.Sprintf("%08d", len(q.by)+1)), key: key, n: count[key]}
	q.live, q.by[e.marker], q.more = append(q.live, e), e, true
}

// fill is a worker's: a page of at most that many.
func (q *modelQueue) fill(page int) {
	q.w.shed(q.alive, q.now)
	if q.w.passDue(q.now) {
		q.w.begin(q.cursor, q.now)
		q.cursor, q.more = "", true
	}
	if !q.more || q.w.room() <= 0 || !q.w.roomy() && q.w.len() > 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(q.live, q.cursor, func(e *modelEntry, m queue.Marker) int {
		if e.marker <= m {
			return -1
		}
		return 1
	})
	end := min(len(q.live), i+page)
	q.more = end < len(q.live)
	for _, e := range q.live[i:end] {
		q.listed++
		it := &item{marker: e.marker, order: e.key, raw: make([]byte, 10), attempts: e.attempts, notBefore: e.notBefore}
		if !q.w.offer(it, q.now, q.alive) {
			q.more = true
			break
		}
		q.cursor = e.marker
	}
	q.cursor, q.more = q.w.passed(time.Millisecond, q.cursor, q.more, q.now)
}

// send takes what may go.
func (q *modelQueue) send() bool {
	it := q.w.next(q.now)
	if it == nil {
		return false
	}
	e := q.by[it.marker]
	if e.delivered || e.n != q.delivered[e.key]+1 {
		q.t.Fatalf("key %s: %d is sent after %d", e.key, e.n, q.delivered[e.key])
	}
	for _, f := range q.flying {
		if f.order == it.order {
			q.t.Fatalf("two of key %s at once", it.order)
		}
	}
	q.flying = append(q.flying, it)
	return true
}

func (q *modelQueue) land(i int, ok bool, pause time.Duration) {
	it := q.flying[i]
	q.flying = slices.Delete(q.flying, i, i+1)
	e := q.by[it.marker]
	if ok {
		e.delivered = true
		q.delivered[e.key] = e.n
		q.w.finish(it, q.now)
		q.acked = append(q.acked, it)
		return
	}
	it.attempts++
	e.attempts, e.notBefore = it.attempts, q.now.Add(pause)
	q.w.retry(it, e.notBefore, q.now)
}

// ack is a worker's flush.
func (q *modelQueue) ack(single bool) {
	upTo := q.w.cut()
	q.acked = slices.DeleteFunc(q.acked, func(it *item) bool { return it.state == itemGone })
	gone := make(map[queue.Marker]bool)
	if single && len(q.acked) > 0 {
		for _, it := range q.acked {
			gone[it.marker] = true
		}
		q.w.drop(q.acked)
		q.acked = nil
	}
	q.live = slices.DeleteFunc(q.live, func(e *modelEntry) bool {
		if e.marker > upTo && !gone[e.marker] {
			return false
		}
		if !e.delivered {
			q.t.Fatalf("%s (%s %d) is acked, and was not delivered", e.marker, e.key, e.n)
		}
		return true
	})
	q.check()
}

// check compares the window's counts with what is there.
func (q *modelQueue) check() {
	w := q.w
	bytes, failed, behind, n, unseen := 0, 0, 0, 0, 0
	for order, c := range w.chains {
		for i, it := range c.items {
			if it.order != order || it.state == itemGone || it.state == itemDone || (it.state == itemBehind) != (i > 0) {
				q.t.Fatalf("chain of %s: %d is %+v", order, i, it)
			}
		}
		if c.failed != (c.items[0].attempts > 0) {
			q.t.Fatalf("chain of %s: failed is %v", order, c.failed)
		}
		if c.failed {
			failed++
			behind += len(c.items) - 1
		}
		n += len(c.items)
	}
	all := slices.Clone(w.items)
	if w.held != nil {
		for _, it := range w.held.known {
			if it.unseen {
				unseen++
				all = append(all, it)
			}
		}
		if len(w.held.known) != len(all) {
			q.t.Fatalf("%d are known of %d", len(w.held.known), len(all))
		}
		if len(w.held.keys) > w.mostHeld() {
			q.t.Fatalf("%d keys are held back", len(w.held.keys))
		}
	}
	for _, it := range all {
		bytes += it.size()
	}
	if w.bytes != bytes || w.failed != failed || w.behind != behind || w.unseen != unseen || n > len(all) || len(all) > w.maxItems {
		q.t.Fatalf("window counts %d bytes, %d failed, %d behind, %d unseen; there are %d, %d, %d, %d, and %d of %d", w.bytes, w.failed, w.behind, w.unseen, bytes, failed, behind, unseen, n, len(all))
	}
}

// Whatever fails, is held back, parked or shrunk: per key in order, nothing is
// acked that was not delivered, and in the end all is.
func TestWindow_HeldModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newModelQueue(t, newWindow(rapid.SampledFrom([]int{4, 8, 16, 64}).Draw(t, "window")))
		count := make(map[string]int)
		keys := rapid.IntRange(1, 40).Draw(t, "keys")
		key := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprint(min(rapid.IntRange(0, keys-1).Draw(t, "key"), rapid.IntRange(0, keys-1).Draw(t, "or")))
		})
		poison := rapid.IntRange(0, keys).Draw(t, "poisoned") // keys below
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				for k := range rapid.IntRange(1, 20).Draw(t, "commits") {
					_ = k
					q.commit(key.Draw(t, "of"), count)
				}
			case 2, 3:
				q.alive = rapid.Bool().Draw(t, "alive")
				q.fill(rapid.IntRange(1, 100).Draw(t, "page"))
			case 4:
				for rapid.IntRange(0, 9).Draw(t, "more") > 0 && q.send() {
				}
			case 5:
				for len(q.flying) > 0 && rapid.IntRange(0, 9).Draw(t, "lands") > 0 {
					i := rapid.IntRange(0, len(q.flying)-1).Draw(t, "which")
					var k int
					_, _ = fmt.Sscan(q.flying[i].order, &k)
					q.land(i, k >= poison, time.Duration(rapid.IntRange(0, 9).Draw(t, "pause"))*time.Second)
				}
			case 6:
				q.ack(rapid.Bool().Draw(t, "single"))
			case 7:
				q.now = q.now.Add(3 * time.Second)
				switch rapid.IntRange(0, 9).Draw(t, "event") {
				case 0:
					q.w.hurry()
				case 1:
					q.w.shrink(rapid.IntRange(0, 4000).Draw(t, "most"))
					q.cursor, q.more = "", true
				}
			}
			q.check()
		}
		for round := 0; len(q.live) > 0; round++ {
			if round > 10000 {
				t.Fatalf("%d entries stay; window %+v, %+v", len(q.live), q.w, q.w.held)
			}
			q.alive = true
			q.fill(50)
			for q.send() {
			}
			for len(q.flying) > 0 {
				q.land(0, true, 0)
			}
			q.ack(true)
			q.now = q.now.Add(time.Second)
		}
		for k, n := range count {
			if q.delivered[k] != n {
				t.Fatalf("key %s: %d of %d", k, q.delivered[k], n)
			}
		}
		q.fill(50) // is back to normal
		if !q.w.empty() || q.w.bytes != 0 || len(q.w.chains) != 0 {
			t.Fatalf("window %+v, %+v", q.w, q.w.held)
		}
	})
}

// A pass that ends early, because what it is for was taken out of the window
// meanwhile, has not seen all: what it left is not acked with what comes next.
func TestWindow_PassCutShort(t *testing.T) {
	w, now, n := newWindow(64), time.Unix(1000, 0), 0
	offer := func(key string) queue.Marker {
		n++
		m := queue.Marker(fmt.Sprintf("%03d", n))
		if !w.offer(&item{marker: m, order: key, raw: make([]byte, 10)}, now, false) {
			t.Fatalf("no room for %s", key)
		}
		return m
	}
	first, second := offer("w"), offer("v")
	for range 18 { // the last is held back
		offer("k")
	}
	for i := range 24 {
		offer(fmt.Sprint("f", i%6))
	}
	for range 13 {
		var k *item
		for it := w.next(now); it != nil; it = w.next(now) {
			if it.order == "k" {
				k = it
			}
		}
		w.finish(k, now)
		w.drop([]*item{k})
	}
	var high queue.Marker
	for i := range 28 {
		high = offer(fmt.Sprint("o", i))
	}
	if !w.passDue(now) {
		t.Fatal("no pass is due")
	}
	w.begin(high, now)
	flying := make(map[string]*item)
	for _, c := range w.chains {
		it := c.items[0]
		if it.state == itemReady {
			it.state = itemFlying
		}
		flying[it.order] = it
	}
	page := func(m queue.Marker) queue.Marker {
		w.offer(&item{marker: m, order: w.held.known[m].order}, now, false)
		at, _ := w.passed(time.Millisecond, m, true, now)
		return at
	}
	page(first)
	for _, key := range []string{"k", "f0", "f1", "f2", "f3", "f4", "f5"} {
		it := flying[key]
		it.attempts++
		w.retry(it, now.Add(time.Hour), now)
	}
	w.shed(false, now)
	if at := page(second); at != high {
		t.Fatalf("the pass goes on at %s", at)
	}
	w.finish(flying["w"], now)
	w.finish(flying["v"], now)
	last := offer("z")
	for it := w.next(now); it != nil; it = w.next(now) {
		if it.marker == last {
			w.finish(it, now)
		}
	}
	if upTo := w.cut(); upTo != second {
		t.Errorf("all up to %s is acked, want %s", upTo, second)
	}
}

// held is what delayed entries hold in memory, in bytes.
func (w *window) heldByDelayed() (n int) {
	for _, it := range w.delayed {
		n += it.size()
	}
	return n
}

// Entries that wait long and are taken out of the window leave nothing behind.
func TestWindow_DelayedMemory(t *testing.T) {
	now := time.Unix(1000, 0)
	fail := func(w *window, i int, pause time.Duration) {
		w.offer(&item{marker: queue.Marker(fmt.Sprintf("%06d", i)), order: fmt.Sprint(i), raw: make([]byte, 500)}, now, true)
		if it := w.next(now); it != nil {
			it.attempts++
			w.retry(it, now.Add(pause), now)
		}
	}
	t.Run("parked", func(t *testing.T) {
		w := newWindow(64)
		w.maxBytes = 64 << 10
		for i := range 500 {
			fail(w, i, time.Hour)
			w.shed(true, now)
		}
		if n := w.heldByDelayed(); n > 3*w.maxBytes {
			t.Errorf("%d bytes are held, of %d", n, w.maxBytes)
		}
	})
	t.Run("expired", func(t *testing.T) {
		w := newWindow(64)
		fail(w, 0, time.Minute)
		for i := range 5000 {
			fail(w, i+1, time.Hour)
			for _, it := range w.takeExpired(func(it *item) bool { return it.order != "0" }, 10) {
				w.finish(it, now)
				w.drop([]*item{it})
			}
		}
		if n := w.heldByDelayed(); n > 100<<10 {
			t.Errorf("%d bytes are held by entries that were given up", n)
		}
	})
}

// Entries that wait behind one that fails do not hold the pages that they were
// listed with.
func TestWindow_BehindHoldNoPage(t *testing.T) {
	w, now := newWindow(64), time.Unix(1000, 0)
	for i := range 10 {
		page := make([]byte, 1<<20)
		w.offer(&item{marker: queue.Marker(fmt.Sprint(i)), order: "k", raw: page[:100]}, now, true)
		if i == 5 {
			it := w.next(now)
			it.attempts++
			w.retry(it, now.Add(time.Hour), now)
		}
	}
	for i, it := range w.chains["k"].items {
		if cap(it.raw) > 200 {
			t.Errorf("entry %d holds %d bytes", i, cap(it.raw))
		}
	}
}
