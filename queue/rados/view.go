//go:build rados

package rados

import (
	"context"
	"fmt"
	"maps"

	librados "herald/rados"
)

// loadView reads what is noted of single entries.
func (q *Queue) loadView(ctx context.Context) error {
	for {
		v := &view{marks: map[uint64]mark{}, parked: map[uint64]uint64{}}
		same, err := q.loadPages(ctx, v)
		if err != nil {
			return err
		}
		if same {
			q.view = v
			return nil
		}
	}
}

// loadPages answers false when the queue changed meanwhile.
func (q *Queue) loadPages(ctx context.Context, v *view) (bool, error) {
	first := true
	for after := ""; ; {
		op := librados.NewRead()
		op.AssertExists()
		record, page := op.GetXattr(xattrRecord), op.OmapGetVals(after, keyMark, 1024)
		if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
			return false, err
		}
		rec, err := q.learn(record.Data)
		if err != nil {
			return false, err
		}
		if !first && rec.acks != v.acks {
			return false, nil
		}
		first, v.acks = false, rec.acks
		for _, p := range page.Pairs {
			seq, err := parseKey(keyMark, p.Key)
			if err != nil {
				return false, err
			}
			if v.marks[seq], err = decodeMark(p.Value); err != nil {
				return false, fmt.Errorf("entry %d: %w", seq, err)
			}
			after = p.Key
		}
		if !page.More || len(page.Pairs) == 0 {
			return q.loadParked(ctx, v)
		}
	}
}

// noteView brings the view up to date after a change.
func (q *Queue) noteView(t *txn) {
	if q.view == nil || t.view.marks == nil {
		return
	}
	for seq, m := range t.marks {
		if m == nil {
			delete(q.view.marks, seq)
		} else {
			q.view.marks[seq] = *m
		}
	}
	for seq := range t.unpark {
		delete(q.view.parked, seq)
	}
	maps.Copy(q.view.parked, t.park)
	q.view.acks = t.rec.acks
}

// loadParked reads what the parked entries take of the capacity. It answers
// false when the queue changed meanwhile.
func (q *Queue) loadParked(ctx context.Context, v *view) (bool, error) {
	if rec, _ := q.current(); rec.parked == 0 && rec.acks == v.acks {
		return true, nil
	}
	for after := ""; ; {
		op := librados.NewRead()
		op.AssertExists()
		record, page := op.GetXattr(xattrRecord), op.OmapGetVals(after, keyParked, 1000)
		if _, err := q.d.operate(ctx, q.oid, op, 0); err != nil {
			return false, err
		}
		rec, err := q.learn(record.Data)
		if err != nil || rec.acks != v.acks {
			return false, err
		}
		for _, p := range page.Pairs {
			seq, err := parseKey(keyParked, p.Key)
			if err != nil {
				return false, err
			}
			e, err := decodeParked(p.Value)
			if err != nil {
				return false, fmt.Errorf("entry %d: %w", seq, err)
			}
			v.parked[seq] = cost(int64(len(e.data)), 1)
			after = p.Key
		}
		if !page.More || len(page.Pairs) == 0 {
			return true, nil
		}
	}
}
