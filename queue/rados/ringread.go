//go:build rados

package rados

import (
	"context"
	"fmt"
	"math"

	librados "herald/rados"
)

// snapshot is a part of the ring, with the record and the marks of the same
// moment.
type snapshot struct {
	rec     *record
	at      uint64 // place of the first byte
	b       []byte
	marks   map[uint64]mark
	marksTo uint64 // the last entry of which all that is noted is in marks
}

// readRing reads up to n bytes of the ring from a place on, and what is noted
// of entries after one. It is a plain read: one from a place that is no longer
// in the ring harms nothing, and shows in the record.
func (q *Queue) readRing(ctx context.Context, at, n, after uint64) (*snapshot, error) {
	rec, _ := q.current()
	first, second := rec.ring.spans(at, min(n, uint64(rec.ring)))
	op := librados.NewRead()
	op.AssertExists()
	record := op.GetXattr(xattrRecord)
	reads := []*librados.Step{op.Read(first.off, first.n)}
	if second.n > 0 {
		reads = append(reads, op.Read(second.off, second.n))
	}
	page := op.OmapGetVals(key(keyMark, after), keyMark, 1000)
	if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
		return nil, err
	}
	s := &snapshot{at: at, b: reads[0].Data}
	if len(reads) > 1 && uint64(len(s.b)) == first.n {
		s.b = append(s.b, reads[1].Data...)
	}
	var err error
	if s.rec, err = q.learn(record.Data); err != nil {
		return nil, err
	}
	s.marks, s.marksTo, err = readMarks(page)
	return s, err
}

// readMarks decodes a page of marks, and returns the last entry of which all
// that is noted is in it.
func readMarks(page *librados.Step) (marks map[uint64]mark, to uint64, err error) {
	marks, to = make(map[uint64]mark, len(page.Pairs)), math.MaxUint64
	for _, p := range page.Pairs {
		seq, err := parseKey(keyMark, p.Key)
		if err != nil {
			return nil, 0, err
		}
		if marks[seq], err = decodeMark(p.Value); err != nil {
			return nil, 0, fmt.Errorf("entry %d: %w", seq, err)
		}
		if page.More {
			to = seq
		}
	}
	return marks, to, nil
}

// start returns where in the ring to look for an entry: its frame, when that
// is known, or one before it.
func (q *Queue) start(seq uint64) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := q.rec.live
	seq = max(seq, q.rec.from)
	if p := q.places.find(seq); p != nil {
		return max(at, p.at)
	}
	if p := q.places.before(seq); p != nil {
		return max(at, p.end)
	}
	return at
}

// minRead and maxRead bound how much of the ring is read at once.
const (
	minRead = 16 << 10
	maxRead = 4<<20 + 64<<10
)

// eachFrame calls f with the frames from the one of an entry on, and the
// snapshot in which each was found, until it answers false or there are no
// more. budget is about how many bytes will be wanted. seen is called with each
// snapshot; an error of it, and of f, ends the loop.
func (q *Queue) eachFrame(ctx context.Context, seq, budget uint64, seen func(*snapshot) error, f func(s *snapshot, fr *frame, p *place) (next uint64, err error)) error {
	at := q.start(seq)
	for n := q.bounded(budget, at); ; {
		s, err := q.readRing(ctx, at, n, seq-1)
		if err == nil && seen != nil {
			err = seen(s)
		}
		if err != nil {
			return err
		}
		if at < s.rec.live {
			at = s.rec.live // what was there is gone
			continue
		}
		read := n
		n = q.bounded(budget, at)
		for at < s.rec.tail {
			data, size, err := nextEntry(s.b)
			if err == nil && data == nil && at == s.at && read >= max(size, entryHeader) {
				err = errShort
			}
			if err != nil {
				return q.damaged(at, err)
			}
			if data == nil {
				n = max(n, size)
				break
			}
			fr, err := decodeFrame(data)
			if err != nil {
				return q.damaged(at, err)
			}
			p := placeOf(fr, at, size)
			q.remember(p)
			next, err := f(s, fr, p)
			if err != nil || next == 0 {
				return err
			}
			if seq = next; next < p.next() {
				break // again, with what is noted after it
			}
			at, s.b = at+size, s.b[size:]
		}
		if at >= s.rec.tail {
			return nil
		}
	}
}

// bounded is how much of the ring to read from a place on, when about budget
// bytes are wanted: what is known to be there, and a little more. Behind it are
// bytes of the lap before.
func (q *Queue) bounded(budget, at uint64) uint64 {
	rec, _ := q.current()
	known := uint64(minRead)
	if rec.tail > at {
		known += rec.tail - at
	}
	return min(max(min(budget, known), minRead), maxRead)
}

func (q *Queue) damaged(at uint64, err error) error {
	rec, _ := q.current()
	return fmt.Errorf("ring at %s: %w", rec.ring.marker(at), err)
}

func (q *Queue) remember(p *place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.next() > q.rec.from {
		q.places.add(p)
	}
}

// locate reads the ring up to an entry's frame, which is remembered.
func (q *Queue) locate(ctx context.Context, seq uint64) error {
	return q.eachFrame(ctx, seq, maxRead, nil, func(_ *snapshot, fr *frame, p *place) (uint64, error) {
		if fr.end() > seq {
			return 0, nil
		}
		return fr.end(), nil
	})
}
