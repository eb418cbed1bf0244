package outbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"herald/queue"
)

// movesQueue is a local queue that never holds entries. A reservation in it is
// the record of a move. No topic's queue is named so: they have a colon.
const movesQueue = ".moves"

// move is a batch on its way, and as JSON its record.
type move struct {
	Queue  string       `json:"queue"`
	Place  string       `json:"place"`  // of the remote queue
	Intent []byte       `json:"intent"` // of its reservation there
	UpTo   queue.Marker `json:"upto"`   // the last entry's
	Count  int          `json:"count"`

	record    queue.ID // in movesQueue; 0: there is none yet
	id        queue.ID // of the reservation
	entries   []queue.Entry
	noted     bool // the record is durable
	doubt     bool // it may have been committed
	committed bool
}

// everything is later than any time stamp.
func everything() time.Time { return time.Now().Add(100 * 365 * 24 * time.Hour) }

// openMoves opens the records, and takes up those of moves that were not
// finished.
func (d *Driver) openMoves(ctx context.Context) error {
	err := d.local.Create(ctx, movesQueue, math.MaxInt64/2)
	if err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return err
	}
	if d.moves, err = d.local.Open(ctx, movesQueue); err != nil {
		return err
	}
	list, err := d.moves.Reservations(ctx, everything(), math.MaxInt)
	if err != nil {
		return err
	}
	for _, r := range list {
		m := &move{}
		if err := json.Unmarshal(r.Intent, m); err != nil {
			return fmt.Errorf("record of a move: %w", err)
		}
		m.record, m.noted, m.doubt = r.ID, true, true
		_, err := d.local.Open(ctx, m.Queue)
		switch {
		case errors.Is(err, queue.ErrNoSuchQueue): // deleted, or migrated
			err = d.moves.Abort(ctx, m.record)
		case err == nil:
			d.noted[m.Queue] = m
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Forget drops the records of moves, where the local queues are used without
// an outbox: what was on its way may be moved again later.
func Forget(ctx context.Context, local queue.Driver) error {
	if err := local.Delete(ctx, movesQueue); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		return fmt.Errorf("forget moves of the outbox: %w", err)
	}
	return nil
}

// newMove is a move that nobody knows of yet.
func (d *Driver) newMove(name string, entries []queue.Entry) *move {
	return &move{
		Queue: name, Place: d.opts.Place, Intent: []byte(queue.OutboxIntent + d.opts.ID + "/" + rand.Text()),
		UpTo: entries[len(entries)-1].Marker, Count: len(entries), entries: entries,
	}
}

// note makes the record durable, and with it the commits of the entries.
func (d *Driver) note(ctx context.Context, m *move) error {
	if m.record == 0 {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if m.record, err = d.moves.Reserve(ctx, text, 1, 1); err != nil {
			return err
		}
	}
	if err := d.opts.Sync(); err != nil {
		return err
	}
	m.noted = true
	return nil
}

// forget ends a record of a move that has to be made anew, durably.
func (d *Driver) forget(ctx context.Context, m *move) error {
	if err := d.moves.Abort(ctx, m.record); err != nil {
		return err
	}
	return d.opts.Sync()
}

// data returns the entries' data, and its size.
func (m *move) data() (data [][]byte, size int64) {
	data = make([][]byte, len(m.entries))
	for i, e := range m.entries {
		data[i] = e.Data
		size += int64(len(e.Data))
	}
	return data, max(size, 1)
}
