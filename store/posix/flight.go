package posix

import (
	"errors"
	"sync"

	"herald/journal"
)

// flight knows the journal records that were appended and not yet applied, so
// that a checkpoint can tell how far the tree is.
type flight struct {
	j *journal.Journal

	mu   sync.Mutex // guards open, and keeps appending and opening a ticket together
	open map[*ticket]struct{}
}

// ticket is one record in flight.
type ticket struct{ lsn journal.LSN }

func newFlight(j *journal.Journal) *flight {
	return &flight{j: j, open: make(map[*ticket]struct{})}
}

// append writes a record (its parts one after the other) to the journal. The
// caller waits, applies it, and then calls done with the ticket. Without done
// (which is right only after an error that leaves the record to the next
// replay) no checkpoint gets beyond the record.
func (f *flight) append(parts ...[]byte) (*ticket, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	for {
		// Not the blocking Append: what makes room is a checkpoint, which
		// wants f.mu.
		f.mu.Lock()
		lsn, err := f.j.TryAppend(journal.StreamStore, parts...)
		if err == nil {
			t := &ticket{lsn: lsn}
			f.open[t] = struct{}{}
			f.mu.Unlock()
			return t, nil
		}
		f.mu.Unlock()
		if !errors.Is(err, journal.ErrRingFull) {
			return nil, err
		}
		if err := f.j.WaitRoom(size); err != nil {
			return nil, err
		}
	}
}

// wait returns when the record is durable. In relaxed mode, for which the
// journal is opened with NoSync, it is then in the journal's file, so that it
// survives the process.
func (f *flight) wait(t *ticket) error { return f.j.Wait(t.lsn) }

// done tells that a record was applied.
func (f *flight) done(t *ticket) {
	f.mu.Lock()
	delete(f.open, t)
	f.mu.Unlock()
}

// applied returns an LSN up to which all records of the store were applied.
func (f *flight) applied() journal.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	lsn := f.j.End()
	for t := range f.open {
		lsn = min(lsn, t.lsn-1)
	}
	return lsn
}
