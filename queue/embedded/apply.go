package embedded

import (
	"herald/journal"
	"herald/queue"
)

// What a record does, the same when it is appended and when it is replayed.
// q.mu is held.

// applyReserve keeps a copy of r.
func (q *Queue) applyReserve(lsn journal.LSN, id queue.ID, r reservation) {
	q.lsn = lsn
	q.nextID = max(q.nextID, uint64(id)+1)
	var to *reservation
	if n := len(q.spare); n > 0 {
		to, q.spare = q.spare[n-1], q.spare[:n-1]
	} else {
		to = new(reservation)
	}
	r.intent = append(to.intent[:0], r.intent...)
	*to = r
	q.reservations[id] = to
	q.reserved += r.cost()
}

// Reservations that have ended are used again, some of them and the small ones.
const (
	spareReservations = 64
	spareIntent       = 1024
)

func (q *Queue) applyCommit(lsn journal.LSN, id queue.ID, t int64, entries [][]byte) {
	q.applyAbort(lsn, id)
	if len(entries) == 0 {
		return
	}
	q.log.add(t, entries)
	if q.log.tailBytes > q.log.tailMax {
		// Without space the tail stays in memory, and in the journal, until
		// a checkpoint has better luck.
		_ = q.log.spill()
	}
	q.wakeAll()
}

func (q *Queue) applyAbort(lsn journal.LSN, id queue.ID) {
	q.lsn = lsn
	if r, ok := q.reservations[id]; ok {
		q.reserved -= r.cost()
		delete(q.reservations, id)
		if len(q.spare) < spareReservations && cap(r.intent) <= spareIntent {
			q.spare = append(q.spare, r)
		}
	}
}

// ack is queue.Ack with its markers parsed.
type ack struct {
	upTo   uint64
	fence  uint64
	done   []uint64
	failed []failure
}

type failure struct {
	seq uint64
	attempt
}

func parseAck(in queue.Ack) (*ack, error) {
	a := &ack{fence: in.Fence}
	var err error
	if a.upTo, err = parseMarker(in.UpTo); err != nil {
		return nil, err
	}
	for _, m := range in.Done {
		seq, err := parseMarker(m)
		if err != nil {
			return nil, err
		}
		a.done = append(a.done, seq)
	}
	for _, f := range in.Failed {
		seq, err := parseMarker(f.Marker)
		if err != nil {
			return nil, err
		}
		at := attempt{n: max(f.Attempts, 0)}
		if !f.LastTry.IsZero() {
			at.last = f.LastTry.UnixNano()
		}
		a.failed = append(a.failed, failure{seq, at})
	}
	return a, nil
}

func (a *ack) encode(b []byte, queueID uint64) []byte {
	b = putNumbers(append(b, opAck), queueID, a.upTo, a.fence, uint64(len(a.done)))
	b = putNumbers(b, a.done...)
	b = putNumbers(b, uint64(len(a.failed)))
	for _, f := range a.failed {
		b = putNumbers(b, f.seq, uint64(f.n), uint64(f.last))
	}
	return b
}

func decodeAck(d *decoder) *ack {
	a := &ack{upTo: d.number(), fence: d.number()}
	for range d.count() {
		a.done = append(a.done, d.number())
	}
	for range d.count() {
		a.failed = append(a.failed, failure{d.number(), attempt{int(d.number()), int64(d.number())}})
	}
	return a
}

func (q *Queue) applyAck(lsn journal.LSN, a *ack) error {
	q.lsn = lsn
	q.fence = max(q.fence, a.fence)
	if a.upTo > 0 {
		if err := q.log.removeUpTo(a.upTo); err != nil {
			return err
		}
	}
	for _, seq := range a.done {
		if err := q.log.remove(seq); err != nil {
			return err
		}
	}
	for _, f := range a.failed {
		if err := q.log.noteAttempt(f.seq, f.attempt); err != nil {
			return err
		}
	}
	return nil
}
