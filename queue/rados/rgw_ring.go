//go:build rados

package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// rgwPage is a part of the ring, as of one moment.
type rgwPage struct {
	front, tail uint64
	list        []rgwPlaced
	marks       map[uint64]mark
}

// rgwSeen is the newest front and tail that are known; they only grow.
type rgwSeen struct {
	front, tail uint64
	raw         []byte // the front, as it is stored
}

// more tells whether entries follow those of the page.
func (p *rgwPage) more() bool { return len(p.list) > 0 && p.list[len(p.list)-1].end < p.tail }

const (
	// headPeek is how much of the object tells where the ring starts and ends.
	headPeek = 128
	// rgwPageSize is how many entries are listed at once; the class cannot be
	// told a number of bytes.
	rgwPageSize = 256
)

// errNoEntry: no entry starts at that place.
var errNoEntry = errors.New("no entry starts there")

// page lists at most count entries from a place on, or from the front when
// that is behind it; with count 0 it lists none.
//
// The class must never be asked for a place that is not in the ring: it
// compares offsets without laps, and when the place lies beyond the tail by its
// offset, the OSD searches without end, and serves nothing else of its
// placement group until it is restarted. So the operation that lists from a
// place that was seen in the ring compares the front first: as long as that
// stays, so does what is behind it.
func (q *rgwQueue) page(ctx context.Context, from uint64, count int) (*rgwPage, error) {
	for {
		start, front, err := q.startMarker(ctx, from)
		if err != nil {
			return nil, err
		}
		q.r.own.opts.fault("rgw.page")
		op := q.read()
		if start != "" {
			op.CmpExt(front, frontAt)
		}
		head := op.Read(0, headPeek)
		marks := op.OmapGetVals("", keyRGWMark, 1000)
		var list *librados.Step
		if count > 0 {
			list = op.Exec(classQueue, methodList, encodeList(uint64(count), start))
		}
		_, err = q.operate(ctx, op, 0)
		switch {
		case start != "" && errors.Is(err, librados.ErrMismatch): // entries were removed
			if _, err := q.page(ctx, 0, 0); err != nil {
				return nil, err
			}
			continue
		case start != "" && errors.Is(err, syscall.EINVAL):
			return nil, errNoEntry
		case err != nil:
			return nil, err
		}
		p, err := q.readHead(head.Data)
		if err != nil {
			return nil, err
		}
		if p.marks, err = q.marks(ctx, marks); err != nil || list == nil {
			return p, err
		}
		return p, q.readList(p, list.Data)
	}
}

// startMarker is what the class is told for a place, and the front of a ring
// in which that was; nothing for a place that was not in the ring.
func (q *rgwQueue) startMarker(ctx context.Context, from uint64) (start string, front []byte, err error) {
	if from == 0 {
		return "", nil, nil
	}
	for refreshed := false; ; refreshed = true {
		q.mu.Lock()
		ring, seen := q.ring, q.seen
		q.mu.Unlock()
		switch {
		case from < seen.front:
			return "", nil, nil
		case from < seen.tail:
			return ring.marker(from), seen.raw, nil
		case refreshed:
			return "", nil, nil
		}
		if _, err := q.page(ctx, 0, 0); err != nil {
			return "", nil, err
		}
	}
}

func (q *rgwQueue) ringSize() ring {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ring
}

// readHead reads where the ring starts and ends.
func (q *rgwQueue) readHead(b []byte) (*rgwPage, error) {
	h, err := decodeHead(b)
	if err == nil && (h.maxHead != headSize || h.end <= headSize || h.end > headSize+maxRing) {
		err = fmt.Errorf("ring from %d to %d: %w", h.maxHead, h.end, ErrNotQueue)
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", q.name, err)
	}
	r := ring(h.end - headSize)
	front, err := r.place(h.front)
	tail, errTail := r.place(h.tail)
	if err = errors.Join(err, errTail); err != nil || front > tail {
		return nil, fmt.Errorf("queue %s: ring from %v to %v: %w", q.name, h.front, h.tail, errors.Join(ErrNotQueue, err))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ring = r
	if q.seen.raw == nil || front > q.seen.front {
		q.seen.front, q.seen.raw = front, bytes.Clone(b[frontAt:frontAt+frontSize])
	}
	q.seen.tail = max(q.seen.tail, tail)
	q.index.drop(front)
	return &rgwPage{front: front, tail: tail}, nil
}

// readList reads what the class listed.
func (q *rgwQueue) readList(p *rgwPage, b []byte) error {
	l, err := decodeList(b)
	if err != nil {
		return fmt.Errorf("list %s: %w", q.name, err)
	}
	r := q.ringSize()
	markers := make([]string, 0, len(l.entries)+1)
	for _, e := range l.entries {
		markers = append(markers, e.marker)
	}
	places := make([]uint64, 0, len(markers)+1)
	for _, m := range append(markers, l.next) {
		pos, err := parsePosition(m)
		if err != nil {
			return fmt.Errorf("list %s: %w", q.name, err)
		}
		at, err := r.place(pos)
		if err != nil {
			return fmt.Errorf("list %s: %w", q.name, err)
		}
		places = append(places, at)
	}
	for i, e := range l.entries {
		p.list = append(p.list, rgwPlaced{places[i], places[i+1], e.data})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.index.add(p.list)
	return nil
}

// marks reads what is noted of single entries: the first of it, and the rest.
func (q *rgwQueue) marks(ctx context.Context, step *librados.Step) (map[uint64]mark, error) {
	marks := make(map[uint64]mark, len(step.Pairs))
	for {
		last := ""
		for _, p := range step.Pairs {
			last = p.Key
			at, err := parseKey(keyRGWMark, p.Key)
			m, errValue := decodeMark(p.Value)
			if err = errors.Join(err, errValue); err != nil {
				return nil, fmt.Errorf("queue %s: key %q: %w", q.name, p.Key, err)
			}
			marks[at] = m
		}
		if !step.More || last == "" {
			return marks, nil
		}
		op := q.read()
		step = op.OmapGetVals(last, keyRGWMark, 1000)
		if _, err := q.operate(ctx, op, 0); err != nil {
			return nil, err
		}
	}
}

// rgwMarker writes an entry's place as 16 hexadecimal digits.
func rgwMarker(at uint64) queue.Marker { return queue.Marker(fmt.Sprintf("%016x", at+1)) }

// parseRGWMarker returns a place and true, or false for before the first.
func parseRGWMarker(m queue.Marker) (at uint64, ok bool, err error) {
	if m == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(string(m), 16, 64)
	if err != nil || len(m) != 16 || n == 0 {
		return 0, false, fmt.Errorf("marker %q: %w", m, queue.ErrInvalid)
	}
	return n - 1, true, nil
}

// List returns entries after a marker.
func (q *rgwQueue) List(ctx context.Context, after queue.Marker, most int) (entries []queue.Entry, more bool, err error) {
	at, some, err := parseRGWMarker(after)
	if err != nil || most < 1 {
		return nil, false, err
	}
	if err := q.r.own.enter(); err != nil {
		return nil, false, err
	}
	defer q.r.own.leave()
	_ = q.r.own.stamp() // keeps the clock
	from, bytes := at, 0
	for {
		p, err := q.page(ctx, from, min(most-len(entries)+1, rgwPageSize))
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", q.name, err)
		}
		for _, e := range p.list {
			m := p.marks[e.at]
			if some && e.at <= at || m.gone {
				continue
			}
			if len(entries) >= most || len(entries) > 0 && bytes+len(e.data) > listBytes {
				return entries, true, nil
			}
			bytes += len(e.data)
			entries = append(entries, q.entry(e, m))
		}
		if !p.more() {
			return entries, false, nil
		}
		from = p.list[len(p.list)-1].end
	}
}

func (q *rgwQueue) entry(e rgwPlaced, m mark) queue.Entry {
	out := queue.Entry{Marker: rgwMarker(e.at), Data: e.data, Enqueued: q.enqueued(e.data), Attempts: m.attempts}
	if m.last != 0 {
		out.LastTry = q.r.own.clock.timeOf(m.last)
	}
	return out
}

// enqueued is when an entry's event came about, by the clock of the gateway
// that wrote it. The ring does not say when an entry was committed.
func (q *rgwQueue) enqueued(data []byte) time.Time {
	if t, ok := rgwEntryTime(data); ok {
		return t
	}
	return q.r.own.opts.Now()
}

// Stats returns the queue's figures; radosgw's reservations are not in them.
// Entries are counted by listing them, each once in this driver's life:
// before release 19 the class does not count.
func (q *rgwQueue) Stats(ctx context.Context) (queue.Stats, error) {
	if err := q.r.own.enter(); err != nil {
		return queue.Stats{}, err
	}
	defer q.r.own.leave()
	st, err := q.stats(ctx)
	if err != nil {
		return st, fmt.Errorf("stats of %s: %w", q.name, err)
	}
	return st, nil
}

func (q *rgwQueue) stats(ctx context.Context) (st queue.Stats, err error) {
	first, err := q.page(ctx, 0, 1)
	if err != nil {
		return st, err
	}
	err = q.eachIntent(ctx, func(_ queue.ID, res rgwHeld) {
		st.Reservations++
		st.Reserved += int64(cost(res.size, res.entries))
	})
	if err != nil {
		return st, err
	}
	st.Capacity = int64(q.ringSize()) - 1 // see makeRoom
	st.Bytes = int64(first.tail - first.front)
	if st.Entries, err = q.count(ctx, first); err != nil {
		return st, err
	}
	for at, m := range first.marks {
		if m.gone && at >= first.front && at < first.tail {
			st.Entries--
			st.Bytes -= int64(m.cost)
		}
	}
	entries, _, err := q.List(ctx, "", 1)
	if err == nil && len(entries) > 0 {
		st.Oldest = entries[0].Enqueued
	}
	return st, err
}

// count tells how many entries are in the ring.
func (q *rgwQueue) count(ctx context.Context, first *rgwPage) (int64, error) {
	if first.front == first.tail {
		return 0, nil
	}
	q.mu.Lock()
	if len(q.index.at) == 0 || q.index.at[0] != first.front {
		q.index = rgwIndex{}
		q.index.add(first.list)
	}
	q.mu.Unlock()
	for {
		q.mu.Lock()
		n, end := len(q.index.at), q.index.end
		q.mu.Unlock()
		if end >= first.tail || n == 0 {
			return int64(n), nil
		}
		if _, err := q.page(ctx, end, rgwPageSize); err != nil {
			return 0, err
		}
	}
}

// Wait returns when there is an entry after a marker. Commits of others are
// looked for now and then.
func (q *rgwQueue) Wait(ctx context.Context, after queue.Marker) error {
	at, some, err := parseRGWMarker(after)
	if err != nil {
		return err
	}
	for {
		q.mu.Lock()
		wake := q.wake
		q.mu.Unlock()
		if err := q.r.own.enter(); err != nil {
			return err
		}
		p, err := q.page(ctx, 0, 0)
		q.r.own.leave()
		if err != nil {
			return err
		}
		if p.tail > p.front && (!some || p.tail > at) {
			entries, _, err := q.List(ctx, after, 1)
			if err != nil || len(entries) > 0 {
				return err
			}
		}
		timer := time.NewTimer(q.r.own.opts.PollInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-q.r.own.closed:
			timer.Stop()
			return ErrClosed
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}
