//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herald/queue"
)

// listBytes is about how many bytes one List returns.
const listBytes = 4 << 20

// listing collects entries.
type listing struct {
	q       *Queue
	most    int
	entries []queue.Entry
	bytes   int
	more    bool
}

// full tells whether an entry would be too many, and then that there are more.
func (l *listing) full(size int) bool {
	if len(l.entries) >= l.most || l.bytes+size > listBytes && len(l.entries) > 0 {
		l.more = true
	}
	return l.more
}

func (l *listing) add(seq uint64, data []byte, stamp int64, m mark) {
	e := queue.Entry{Marker: markerOf(seq), Data: data, Enqueued: l.q.d.clock.timeOf(stamp), Attempts: m.attempts}
	if m.last != 0 {
		e.LastTry = l.q.d.clock.timeOf(m.last)
	}
	l.entries, l.bytes = append(l.entries, e), l.bytes+len(data)
}

// List returns entries. It reads the ring, of which the place of each entry
// that was listed lately is known, and what is noted of single entries.
func (q *Queue) List(ctx context.Context, after queue.Marker, most int) ([]queue.Entry, bool, error) {
	seq, err := parseMarker(after)
	if err != nil {
		return nil, false, err
	}
	if err := q.enter(); err != nil {
		return nil, false, err
	}
	defer q.d.leave()
	l := &listing{q: q, most: max(most, 0)}
	if err := q.list(ctx, l, seq); err != nil {
		return nil, false, fmt.Errorf("list queue %s: %w", q.name, q.gone(err))
	}
	return l.entries, l.more, nil
}

// enter keeps the driver open until its leave, if the queue is there.
func (q *Queue) enter() error {
	if err := q.d.enter(); err != nil {
		return err
	}
	if err := q.usable(); err != nil {
		q.d.leave()
		return err
	}
	return nil
}

// errParked says that entries were moved out of the ring before they were
// listed.
var errParked = errors.New("entries are parked")

func (q *Queue) list(ctx context.Context, l *listing, after uint64) error {
	for {
		var err error
		if after, err = q.listParked(ctx, l, after); err != nil || l.more {
			return err
		}
		if after, err = q.listRing(ctx, l, after); !errors.Is(err, errParked) {
			return err
		}
	}
}

// listRing lists entries of the ring, and returns the last that was looked at.
func (q *Queue) listRing(ctx context.Context, l *listing, after uint64) (uint64, error) {
	all := func(s *snapshot) error {
		if s.rec.parked > 0 && after+1 < s.rec.from {
			return errParked
		}
		return nil
	}
	err := q.eachFrame(ctx, after+1, q.budget(l.most), all, func(s *snapshot, fr *frame, _ *place) (uint64, error) {
		from := max(after+1, s.rec.from)
		for i, data := range fr.data {
			seq := fr.first + uint64(i)
			if seq < from {
				continue
			}
			if seq > s.marksTo {
				return seq, nil
			}
			if m := s.marks[seq]; !m.gone {
				if l.full(len(data)) {
					return 0, nil
				}
				l.add(seq, data, fr.time, m)
			}
			after = seq
		}
		return fr.end(), nil
	})
	return after, err
}

// budget is about how many bytes of the ring have one entry more than most.
func (q *Queue) budget(most int) uint64 {
	rec, _ := q.current()
	n := rec.nextSeq - rec.from
	if n == 0 {
		return minRead
	}
	each := (rec.tail - rec.live) / n
	return min(each+each/4+1, maxRead) * uint64(min(most, 1<<20)+1)
}

// Stats returns the queue's figures, from its record.
func (q *Queue) Stats(ctx context.Context) (queue.Stats, error) {
	if err := q.enter(); err != nil {
		return queue.Stats{}, err
	}
	defer q.d.leave()
	for {
		rec, _, err := q.readRecord(ctx)
		if err != nil {
			return queue.Stats{}, fmt.Errorf("read queue %s: %w", q.name, q.gone(err))
		}
		st := rec.stats()
		if st.Entries == 0 {
			return st, nil
		}
		l := &listing{q: q, most: 1}
		if p := q.placeOf(rec.from); p != nil && rec.parked == 0 {
			st.Oldest = q.d.clock.timeOf(p.time)
			return st, nil
		}
		if err := q.list(ctx, l, 0); err != nil {
			return queue.Stats{}, fmt.Errorf("read queue %s: %w", q.name, q.gone(err))
		}
		if len(l.entries) > 0 {
			st.Oldest = l.entries[0].Enqueued
			return st, nil
		}
	}
}

func (q *Queue) placeOf(seq uint64) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.places.find(seq)
}

// Wait returns when there is an entry after the marker. It looks when this
// driver commits something, and now and then for the commits of others.
func (q *Queue) Wait(ctx context.Context, after queue.Marker) error {
	seq, err := parseMarker(after)
	if err != nil {
		return err
	}
	if err := q.enter(); err != nil {
		return err
	}
	defer q.d.leave()
	timer := time.NewTimer(q.d.opts.PollInterval)
	defer timer.Stop()
	for {
		wake := q.waitChan()
		has, err := q.hasAfter(ctx, seq)
		if err != nil || has {
			return err
		}
		timer.Reset(q.d.opts.PollInterval)
		select {
		case <-wake:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.d.closed:
			return ErrClosed
		}
	}
}

// waitChan returns what is closed at the next commit of this driver.
func (q *Queue) waitChan() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return q.wake
}

// hasAfter tells whether there is an entry after one.
func (q *Queue) hasAfter(ctx context.Context, seq uint64) (bool, error) {
	if err := q.usable(); err != nil {
		return false, err
	}
	rec, _, err := q.readRecord(ctx)
	if err != nil {
		return false, fmt.Errorf("read queue %s: %w", q.name, q.gone(err))
	}
	if rec.entries() == 0 || seq >= rec.nextSeq-1 {
		return false, nil
	}
	l := &listing{q: q}
	err = q.list(ctx, l, seq)
	return l.more, err
}
