//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"herald/queue"
	librados "herald/rados"
)

var _ queue.Checker = (*Driver)(nil)

// errBusy is Check's when a queue changes faster than it can be read.
var errBusy = errors.New("the queue is used too much to be checked now")

// Check recounts what the record of a queue says. Kinds of findings:
// "reserved" (number and sizes of the reservations), "entries" and "bytes" (of
// those that are gone or parked, or in the ring), "marks" (of entries that are
// gone), "ids" (a reservation's number would be given out again), "ring" (frames
// that do not follow each other, or cannot be read; not repairable), "head" (the
// class's idea of the ring differs; not repairable), "class" (reservations of the
// class, which only something else can have made), and "directory" (the queue is
// not listed).
func (d *Driver) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	q, err := d.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	c := &check{d: d, q: q, repair: repair}
	for _, step := range []func(context.Context) error{c.figures, c.frames, c.class, c.directory} {
		if err := step(ctx); err != nil {
			return c.found, fmt.Errorf("check queue %s: %w", name, q.gone(err))
		}
	}
	return c.found, nil
}

// check is one Check under way.
type check struct {
	d      *Driver
	q      *Queue
	repair bool
	found  []queue.Finding
}

func (c *check) report(kind string, repaired bool, format string, args ...any) {
	c.found = append(c.found, queue.Finding{Queue: c.q.name, Kind: kind, Detail: fmt.Sprintf(format, args...), Repaired: repaired})
}

// compare reports a figure that is wrong, and sets it right.
func (c *check) compare(kind, what string, figure *uint64, want uint64) {
	if *figure != want {
		c.report(kind, c.repair, "%s: %d, counted %d", what, *figure, want)
		*figure = want
	}
}

// tries is how often a queue is read that changes meanwhile.
const tries = 100

// until does something until it need not be repeated.
func until(f func() (again bool, err error)) error {
	for range tries {
		if again, err := f(); err != nil || !again {
			return err
		}
	}
	return errBusy
}

// put replaces the record, and removes keys. It answers false when the record
// has changed.
func (c *check) put(ctx context.Context, raw []byte, rec *record, rm []string) (bool, error) {
	rec.sign(randomID(), 1) // not as the driver, which may be looking for a change of its own
	rec.acks++
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrRecord, librados.Equal, raw)
	op.SetXattr(xattrRecord, rec.encode())
	if len(rm) > 0 {
		op.OmapRm(rm...)
	}
	_, err := c.d.operate(ctx, c.q.oid, op, 0)
	if errors.Is(err, librados.ErrMismatch) {
		return false, nil
	}
	return err == nil, err
}

// figures recounts what is in the omap.
func (c *check) figures(ctx context.Context) error {
	before := len(c.found)
	return until(func() (bool, error) {
		c.found = c.found[:before]
		s, err := c.count(ctx)
		if err != nil || s == nil {
			return true, err
		}
		rec := s.rec.clone()
		c.compare("reserved", "reservations", &rec.reservations, s.want.reservations)
		c.compare("reserved", "bytes reserved", &rec.reserved, s.want.reserved)
		c.compare("reserved", "bytes of the ring reserved", &rec.room, s.want.room)
		c.compare("entries", "entries that are gone", &rec.gone, s.want.gone)
		c.compare("bytes", "bytes that are gone", &rec.goneBytes, s.want.goneBytes)
		c.compare("entries", "parked entries", &rec.parked, s.want.parked)
		c.compare("bytes", "bytes parked", &rec.parkBytes, s.want.parkBytes)
		if s.last >= rec.nextGroup {
			c.report("ids", c.repair, "reservations %d are open, and the next would be %d", s.last, rec.nextGroup)
			rec.nextGroup = s.last + 1
		}
		if len(s.orphans) > 0 {
			c.report("marks", c.repair, "%d marks of entries or reservations that are gone", len(s.orphans))
		}
		if len(c.found) == before || !c.repair {
			return false, nil
		}
		ok, err := c.put(ctx, s.raw, rec, s.orphans)
		return !ok, err
	})
}

// counted is what the omap has, at one moment.
type counted struct {
	rec     *record
	raw     []byte
	want    record // the figures that are counted
	last    uint64 // group of reservations
	states  map[uint64][]byte
	parked  map[uint64]bool
	orphans []string // keys
}

// count reads the omap. It answers nil when that changed meanwhile.
func (c *check) count(ctx context.Context) (*counted, error) {
	s := &counted{states: make(map[uint64][]byte), parked: make(map[uint64]bool)}
	for _, family := range []struct {
		prefix string
		note   func(n uint64, p librados.Pair) error
	}{{keyState, s.state}, {keyGroup, s.group}, {keyParked, s.park}, {keyMark, s.mark}} {
		for after, more := "", true; more; {
			op := librados.NewRead()
			op.AssertExists()
			record, page := op.GetXattr(xattrRecord), op.OmapGetVals(after, family.prefix, 1000)
			if _, err := c.d.operate(ctx, c.q.oid, op, 0); err != nil {
				return nil, err
			}
			rec, err := c.q.learn(record.Data)
			if err != nil {
				return nil, err
			}
			if s.rec != nil && s.rec.version != rec.version {
				return nil, nil
			}
			s.rec, s.raw, more = rec, record.Data, page.More && len(page.Pairs) > 0
			for _, p := range page.Pairs {
				n, err := parseKey(family.prefix, p.Key)
				if err == nil {
					err = family.note(n, p)
				}
				if err != nil {
					return nil, err
				}
				after = p.Key
			}
		}
	}
	for number := range s.states {
		s.orphans = append(s.orphans, key(keyState, number))
	}
	return s, nil
}

func (s *counted) state(number uint64, p librados.Pair) error {
	s.states[number] = p.Value
	return nil
}

func (s *counted) group(number uint64, p librados.Pair) error {
	g, err := groupOf(p.Value, s.states[number])
	if err != nil {
		return fmt.Errorf("reservations %d: %w", number, err)
	}
	delete(s.states, number)
	s.last = max(s.last, number)
	for i := range g.members {
		if m := g.open(i); m != nil {
			s.want.reservations++
			s.want.reserved += cost(m.size, m.entries)
			s.want.room += room(m.size, m.entries)
		}
	}
	return nil
}

func (s *counted) park(seq uint64, p librados.Pair) error {
	e, err := decodeParked(p.Value)
	if err != nil {
		return fmt.Errorf("entry %d: %w", seq, err)
	}
	s.parked[seq] = true
	s.want.parked++
	s.want.parkBytes += cost(int64(len(e.data)), 1)
	return nil
}

func (s *counted) mark(seq uint64, p librados.Pair) error {
	m, err := decodeMark(p.Value)
	if err != nil {
		return fmt.Errorf("entry %d: %w", seq, err)
	}
	switch {
	case seq < s.rec.from && !s.parked[seq] || seq >= s.rec.nextSeq:
		s.orphans = append(s.orphans, p.Key)
	case m.gone:
		s.want.gone++
		s.want.goneBytes += m.cost
	}
	return nil
}

// frames reads the ring through.
func (c *check) frames(ctx context.Context) error {
	return until(func() (bool, error) {
		var last *place
		var wrong error
		from, err := c.newest(ctx)
		if err != nil {
			return false, err
		}
		err = c.q.eachFrame(ctx, from, maxRead, nil, func(s *snapshot, fr *frame, p *place) (uint64, error) {
			if last == nil {
				wrong = firstFrame(s.rec, p)
			} else if p.number != last.number+1 || p.first != last.next() || p.before != last.totalBefore(last.next()) {
				wrong = fmt.Errorf("frame %d at entry %d follows frame %d, that ends before %d", p.number, p.first, last.number, last.next())
			}
			if last = p; wrong != nil {
				return 0, nil
			}
			return fr.end(), nil
		})
		if err == nil && wrong == nil && last != nil {
			return c.lastFrame(ctx, last)
		}
		if errors.Is(err, errMagic) || errors.Is(err, errFrame) || errors.Is(err, errShort) || errors.Is(err, errVersion) {
			wrong, err = err, nil
		}
		if wrong != nil {
			c.report("ring", false, "%v", wrong)
		}
		return false, err
	})
}

// newest reads the record, and returns the first entry of the ring.
func (c *check) newest(ctx context.Context) (uint64, error) {
	rec, _, err := c.q.readRecord(ctx)
	if err != nil {
		return 0, err
	}
	return rec.from, nil
}

// firstFrame compares the record with the first frame of the ring.
func firstFrame(rec *record, p *place) error {
	if rec.live == p.at && (rec.from < p.first || rec.from >= p.next() || rec.liveFrame != p.number) {
		return fmt.Errorf("frame %d has entries %d up to %d, and should have %d", p.number, p.first, p.next()-1, rec.from)
	}
	return nil
}

// lastFrame compares the record with the last frame, and the bytes of all
// frames with those that the record counts.
func (c *check) lastFrame(ctx context.Context, p *place) (again bool, err error) {
	rec, raw, err := c.q.readRecord(ctx)
	if err != nil {
		return false, err
	}
	if rec.tail != p.end {
		return true, nil // another frame has come
	}
	first := c.q.placeOf(rec.from)
	if rec.from == rec.nextSeq {
		first = p
	}
	if first == nil {
		return true, nil
	}
	before := len(c.found)
	fixed := rec.clone()
	c.compare("ring", "frames", &fixed.frames, p.number+1)
	c.compare("ring", "next entry", &fixed.nextSeq, p.next())
	c.compare("bytes", "bytes of all entries ever", &fixed.total, p.totalBefore(p.next()))
	c.compare("bytes", "bytes before the first entry", &fixed.fromTotal, first.totalBefore(rec.from))
	if len(c.found) == before || !c.repair {
		return false, nil
	}
	if ok, err := c.put(ctx, raw, fixed, nil); ok || err != nil {
		return false, err
	}
	c.found = c.found[:before]
	return true, nil
}

// class compares the record with the class's head, and that with itself.
func (c *check) class(ctx context.Context) error {
	before := len(c.found)
	return until(func() (bool, error) {
		c.found = c.found[:before]
		op := librados.NewRead()
		op.AssertExists()
		record, head := op.GetXattr(xattrRecord), op.Read(0, headSize)
		if _, err := c.d.operate(ctx, c.q.oid, op, 0); err != nil {
			return false, err
		}
		rec, err := c.q.learn(record.Data)
		if err != nil {
			return false, err
		}
		h, err := decodeHead(head.Data)
		if err != nil {
			c.report("head", false, "%v", err)
			return false, nil
		}
		front, errFront := rec.ring.place(h.front)
		tail, errTail := rec.ring.place(h.tail)
		if errFront != nil || errTail != nil || front != rec.front || tail != rec.tail || h.end != headSize+uint64(rec.ring) {
			c.report("head", false, "the class has the ring from %v to %v of %d, and not from %d to %d of %d",
				h.front, h.tail, h.end, rec.front, rec.tail, rec.ring)
		}
		if len(h.reservations) > 0 {
			c.report("class", c.repair, "the class has %d reservations, which nobody needs", len(h.reservations))
		}
		if len(h.reservations) == 0 || !c.repair {
			return false, nil
		}
		expire := librados.NewWrite()
		expire.AssertExists()
		expire.Exec(classQueue, methodRGWExpire, expireBefore(math.MaxUint32*int64(time.Second)))
		_, err = c.d.operate(ctx, c.q.oid, expire, 0)
		return false, err
	})
}

// directory looks whether the queue is listed.
func (c *check) directory(ctx context.Context) error {
	op := librados.NewRead()
	op.AssertExists()
	step := op.OmapGetByKeys(c.q.name)
	if _, err := c.d.operate(ctx, oidQueues, op, 0); err != nil && !errors.Is(noQueue(err), queue.ErrNoSuchQueue) {
		return err
	}
	if len(step.Pairs) > 0 && string(step.Pairs[0].Value) == string(c.q.incarnation[:]) {
		return nil
	}
	c.report("directory", c.repair, "the queue is not listed")
	if !c.repair {
		return nil
	}
	enter := librados.NewWrite()
	enter.OmapSet(librados.Pair{Key: c.q.name, Value: c.q.incarnation[:]})
	_, err := c.d.operate(ctx, oidQueues, enter, 0)
	return err
}
