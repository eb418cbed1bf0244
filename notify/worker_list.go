package notify

import (
	"context"
	"fmt"
	"time"

	"herald/queue"
)

// fill lists entries into the window's room, unless that is too small to be
// worth it.
func (w *worker) fill(ctx, work context.Context) error {
	alive := !w.target.dead()
	if err := w.arrange(work, alive); err != nil {
		return err
	}
	room := w.win.room()
	if !w.more || room <= 0 || !w.win.roomy() && w.win.len() > 0 {
		return nil
	}
	if w.win.held != nil { // many may be passed over
		room = max(room, min(4*w.win.capacity(), w.s.opt.Window))
	}
	began := time.Now()
	list, more, err := w.q.List(ctx, w.cursor, room)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	w.more, w.found = more, len(list) > 0
	if w.found {
		w.restAt = time.Time{}
	}
	now := time.Now()
	for i := range list {
		if !w.win.offer(w.itemOf(&list[i]), now, alive) {
			w.more = true
			break
		}
		w.cursor = list[i].Marker
	}
	w.cursor, w.more = w.win.passed(time.Since(began), w.cursor, w.more, time.Now())
	w.count(alive)
	return nil
}

// arrange keeps the window within its share of memory, and full of what can be
// sent.
func (w *worker) arrange(work context.Context, alive bool) error {
	w.win.ttl, _ = w.limits()
	w.count(alive)
	w.win.maxBytes = w.s.shares.of(alive)
	now := time.Now()
	shrink := w.win.bytes > w.win.maxBytes+w.win.maxBytes/4 && w.win.len() > minWindow
	if !shrink {
		w.win.shed(alive, now)
		if !w.win.passDue(now) {
			return nil
		}
	}
	if len(w.failed) > 0 { // else their attempts would not be listed
		if err := w.ack(work, queue.Ack{Failed: w.failed}); err != nil {
			return err
		}
		w.failed = nil
	}
	if shrink {
		w.win.shrink(w.win.maxBytes)
	} else {
		w.win.begin(w.cursor, now)
	}
	w.cursor, w.more = "", true
	return nil
}

// itemOf is an entry as windows have it.
func (w *worker) itemOf(e *queue.Entry) *item {
	it := &item{marker: e.Marker, raw: e.Data, since: e.Enqueued, attempts: e.Attempts}
	head, err := decodeHead(e.Data)
	it.order = head.order
	if err != nil {
		// An order of its own: it must not hold up any key.
		it.bad, it.order = true, "\x00"+string(e.Marker)
		it.lastErr = errUndecodable.Error()
	} else if e.Attempts > 0 {
		it.notBefore = e.LastTry.Add(w.pause(e.Attempts))
	}
	if it.since.IsZero() { // not by this clock, but by which it is not known
		it.since = head.created
	}
	return it
}

// count claims what the window is, or is about to become: many that begin at
// once would else each read as much as one alone may.
func (w *worker) count(alive bool) {
	switch {
	case w.win.len() == 0 && !w.more:
		w.claim(shareNone)
	case alive:
		w.claim(shareAlive)
	default:
		w.claim(shareDead)
	}
}

// claim counts the window among those that memory is shared out to.
func (w *worker) claim(kind shareKind) {
	if kind != w.share {
		w.s.shares.move(w.share, kind)
		w.share = kind
	}
}
