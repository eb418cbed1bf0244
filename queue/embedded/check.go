package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"herald/queue"
)

var _ queue.Checker = (*Driver)(nil)

// Check compares the figures of a queue with its entries and reservations, and
// reads its files through. Kinds of findings: "segment" (figures of a segment
// file), "reserved", "entries", "bytes", "tail" (figures of the queue), "ids"
// (a number that would be given out again), "attempts" (of entries that are
// gone), "order" (not repairable), and "damaged": an entry that cannot be read.
// Repair removes a damaged entry, for nothing behind it can be listed.
func (d *Driver) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	h, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	c := &check{q: h.(*Queue), repair: repair}
	for _, step := range []func(context.Context) error{c.segments, c.figures, c.attempts, c.frames} {
		if err := step(ctx); err != nil {
			return c.found, fmt.Errorf("check queue %s: %w", name, err)
		}
	}
	return c.found, nil
}

// check is one Check under way. It takes the queue's mutex for a segment at a
// time.
type check struct {
	q      *Queue
	repair bool
	found  []queue.Finding
}

func (c *check) report(kind string, repaired bool, format string, args ...any) {
	c.found = append(c.found, queue.Finding{Queue: c.q.name, Kind: kind, Detail: fmt.Sprintf(format, args...), Repaired: repaired})
}

// compare reports a figure that is wrong, and sets it right. q.mu is held.
func (c *check) compare(kind, what string, figure *int64, want int64) {
	if *figure == want {
		return
	}
	c.report(kind, c.repair, "%s is %d, counted %d", what, *figure, want)
	if c.repair {
		*figure, c.q.repaired = want, true
	}
}

// segments recounts each segment, which may be gone by then.
func (c *check) segments(ctx context.Context) error {
	q := c.q
	q.mu.Lock()
	segs := slices.Clone(q.log.segs)
	q.mu.Unlock()
	for _, s := range segs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.segment(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) segment(s *segment) error {
	q := c.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	if !slices.Contains(q.log.segs, s) {
		return nil
	}
	wasLoaded := s.loaded
	if err := s.load(); errors.Is(err, errCorrupt) {
		c.report("damaged", false, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	var live, size int64
	for i := range s.count {
		if !s.isGone(i) {
			live++
			size += s.cost(i)
		}
	}
	hadLive, hadBytes := s.live, s.liveBytes
	c.compare("segment", fmt.Sprintf("number of entries in %s", s.path), &s.live, live)
	c.compare("segment", fmt.Sprintf("size of entries in %s", s.path), &s.liveBytes, size)
	// The queue's figures are sums of these.
	q.log.entries += s.live - hadLive
	q.log.bytes += s.liveBytes - hadBytes
	if !wasLoaded {
		s.loaded, s.seqs, s.offs = false, nil, nil
	}
	if s.live == 0 {
		q.log.dropSegment(slices.Index(q.log.segs, s))
	}
	return nil
}

// figures compares the queue's figures with the sums of what they are of.
func (c *check) figures(context.Context) error {
	q := c.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	l := &q.log
	reserved, lastID := int64(0), uint64(0)
	for id, r := range q.reservations {
		reserved += r.cost()
		lastID = max(lastID, uint64(id))
	}
	c.compare("reserved", "bytes reserved", &q.reserved, reserved)
	if lastID >= q.nextID {
		c.report("ids", c.repair, "next reservation is %d, there is one of %d", q.nextID, lastID)
		if c.repair {
			q.nextID, q.repaired = lastID+1, true
		}
	}
	var entries, size int64
	for i := range l.tail {
		if it := &l.tail[i]; !it.gone {
			entries++
			size += entryCost(len(it.data))
		}
	}
	tailBytes := int64(l.tailBytes)
	c.compare("tail", "size of entries in memory", &tailBytes, size)
	l.tailBytes = int(tailBytes)
	for _, s := range l.segs {
		entries += s.live
		size += s.liveBytes
	}
	c.compare("entries", "number of entries", &l.entries, entries)
	c.compare("bytes", "size of entries", &l.bytes, size)
	c.order()
	return nil
}

// order checks that sequence numbers grow. q.mu is held.
func (c *check) order() {
	l := &c.q.log
	last := uint64(0)
	for _, s := range l.segs {
		if s.first <= last || s.last < s.first {
			c.report("order", false, "%s has entries %d to %d, after %d", s.path, s.first, s.last, last)
		}
		last = s.last
	}
	for i := range l.tail {
		if l.tail[i].seq <= last {
			c.report("order", false, "entry %d in memory comes after %d", l.tail[i].seq, last)
		}
		last = l.tail[i].seq
	}
	if l.nextSeq <= last {
		c.report("order", false, "next entry is %d, there is one of %d", l.nextSeq, last)
	}
}

// attempts looks for attempts of entries that are gone.
func (c *check) attempts(ctx context.Context) error {
	q := c.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return err
	}
	for seq := range q.log.attempts {
		there, err := q.log.has(seq)
		if errors.Is(err, errCorrupt) {
			continue // reported with its segment
		}
		if err != nil {
			return err
		}
		if there {
			continue
		}
		c.report("attempts", c.repair, "attempts of entry %d, which is gone", seq)
		if c.repair {
			delete(q.log.attempts, seq)
			q.repaired = true
		}
	}
	return nil
}

// has tells whether an entry is there.
func (l *entryLog) has(seq uint64) (bool, error) {
	if i := l.tailIndex(seq); i >= 0 {
		return !l.tail[i].gone, nil
	}
	_, i, err := l.find(seq)
	return i >= 0, err
}

// frames reads all entries as List would.
func (c *check) frames(ctx context.Context) error {
	q := c.q
	for seq, more := uint64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var refs []ref
		var err error
		refs, more, err = q.plan(seq, 1024)
		if errors.Is(err, errCorrupt) {
			return nil // reported with its segment
		}
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return nil
		}
		if _, err = read(refs); err == nil {
			seq = refs[len(refs)-1].seq
			continue
		}
		if q.isStale(refs) {
			more = true // and read again
			continue
		}
		if err := c.singly(ctx, refs); err != nil {
			return err
		}
		seq = refs[len(refs)-1].seq
	}
	return nil
}

func (q *Queue) isStale(refs []ref) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return stale(refs)
}

// singly finds the entries that cannot be read.
func (c *check) singly(ctx context.Context, refs []ref) error {
	for i := range refs {
		_, err := read(refs[i : i+1])
		if err == nil || c.q.isStale(refs[i:i+1]) {
			continue
		}
		if c.repair {
			if err := c.q.Ack(ctx, queue.Ack{Done: []queue.Marker{markerOf(refs[i].seq)}}); err != nil {
				return err
			}
		}
		c.report("damaged", c.repair, "entry %d: %v", refs[i].seq, err)
	}
	return nil
}
