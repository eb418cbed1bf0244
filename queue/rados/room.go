//go:build rados

package rados

import (
	"context"
	"fmt"

	librados "herald/rados"
)

// freeRing gives back what is free at the start of the ring when that has
// become much, which under load no change does beside what else it does.
func (q *Queue) freeRing(ctx context.Context) error {
	rec, raw := q.current()
	dead := rec.live - rec.front
	if dead == 0 || dead < uint64(rec.ring)/8 && rec.used()+rec.room < uint64(rec.ring)/2 {
		return nil
	}
	t := newTxn(rec, facts{places: &q.places}, q.d.stamp())
	t.trim()
	_, err := q.execute(ctx, t, raw, nil)
	return err
}

// Entries that stay while those behind them go keep the ring from being freed.
// When it is full for that, they are parked: moved to the omap.
const (
	parkScan  = 8 << 20 // bytes of the ring that are looked at
	parkBytes = 1 << 20 // that are moved at once
)

// compact frees some of the ring, if some of it is gone. It answers false
// when there is nothing to be gained.
func (q *Queue) compact(ctx context.Context) (bool, error) {
	if q.view == nil {
		if err := q.loadView(ctx); err != nil {
			return false, err
		}
	}
	rec, raw := q.current()
	if q.view.acks != rec.acks {
		q.view = nil
		return true, nil // look again
	}
	t := newTxn(rec, facts{view: *q.view, places: &q.places}, q.d.stamp())
	if rec.live > rec.front {
		t.trim()
	} else {
		frames, err := q.parkable(ctx, t)
		if err != nil || len(frames) == 0 {
			return false, err
		}
		q.mu.Lock() // for the places
		err = t.parkFrames(frames)
		q.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
	_, err := q.execute(ctx, t, raw, nil)
	return true, err
}

// parkable returns the first frames of the ring, if parking them frees twice
// of what it takes.
func (q *Queue) parkable(ctx context.Context, t *txn) ([]*frame, error) {
	var frames []*frame
	best := 0
	freed, moved := uint64(0), uint64(0)
	err := q.eachFrame(ctx, t.rec.from, maxRead, nil, func(s *snapshot, fr *frame, p *place) (uint64, error) {
		if s.rec.acks != t.rec.acks {
			best = 0
			return 0, nil
		}
		for i, data := range fr.data {
			if t.isLive(fr.first + uint64(i)) {
				moved += cost(int64(len(data)), 1)
			}
		}
		freed += p.end - p.at
		if moved > parkBytes || freed > parkScan {
			return 0, nil
		}
		if frames = append(frames, fr); freed >= 2*moved {
			best = len(frames)
		}
		return fr.end(), nil
	})
	return frames[:best], err
}

// listParked lists parked entries, and returns the last entry of which
// nothing more is to be listed.
func (q *Queue) listParked(ctx context.Context, l *listing, after uint64) (uint64, error) {
	for {
		rec, _ := q.current()
		if rec.parked == 0 || after+1 >= rec.from {
			return after, nil
		}
		op := librados.NewRead()
		op.AssertExists()
		record, page := op.GetXattr(xattrRecord), op.OmapGetVals(key(keyParked, after), keyParked, 100)
		marks := op.OmapGetVals(key(keyMark, after), keyMark, 1000)
		if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
			return 0, err
		}
		rec, err := q.learn(record.Data)
		if err != nil {
			return 0, err
		}
		noted, to, err := readMarks(marks)
		if err != nil {
			return 0, err
		}
		for _, p := range page.Pairs {
			seq, err := parseKey(keyParked, p.Key)
			if err != nil {
				return 0, err
			}
			e, err := decodeParked(p.Value)
			if err != nil {
				return 0, fmt.Errorf("entry %d: %w", seq, err)
			}
			if seq > to {
				after = to
				break
			}
			if l.full(len(e.data)) {
				return after, nil
			}
			l.add(seq, e.data, e.time, noted[seq])
			after = seq
		}
		if n := len(page.Pairs); n == 0 || !page.More && page.Pairs[n-1].Key == key(keyParked, after) {
			return max(after, rec.from-1), nil
		}
	}
}
