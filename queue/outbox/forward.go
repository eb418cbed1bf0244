package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"herald/queue"
)

// forward moves one batch, or ends a move that was begun. It returns how many
// entries were moved.
func (b *box) forward(ctx context.Context) (int, error) {
	if b.move == nil {
		entries, err := b.take(ctx)
		if err != nil || len(entries) == 0 {
			return 0, gone(err)
		}
		n, err := b.send(ctx, entries)
		return n, b.missed(ctx, err)
	}
	n, err := b.resume(ctx)
	return n, b.missed(ctx, err)
}

// gone turns the error of an outbox that was deleted into the end of work.
func gone(err error) error {
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil
	}
	return err
}

// missed looks at an error of the queue on the server. If that was deleted,
// what was moved to it is gone with it, and what was on its way is moved anew.
func (b *box) missed(ctx context.Context, err error) error {
	if !errors.Is(err, queue.ErrNoSuchQueue) {
		return err
	}
	b.far = nil
	if b.move == nil || b.move.committed {
		return err
	}
	return errors.Join(err, b.anew(ctx))
}

// anew ends a move whose entries are still here.
func (b *box) anew(ctx context.Context) error {
	if err := b.d.forget(ctx, b.move); err != nil {
		return err
	}
	b.move = nil
	return nil
}

// take returns the batch at the head.
func (b *box) take(ctx context.Context) ([]queue.Entry, error) {
	entries, more, err := b.local.List(ctx, "", b.d.opts.BatchEntries)
	b.more = more
	size := 0
	for i, e := range entries {
		if size += len(e.Data); size > b.d.opts.BatchBytes && i > 0 {
			b.more = true
			return entries[:i], err
		}
	}
	return entries, err
}

// send begins a move.
func (b *box) send(ctx context.Context, entries []queue.Entry) (int, error) {
	far, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	if !b.swept {
		if err := b.settle(ctx, far); err != nil {
			return 0, err
		}
	}
	m, err := b.reserve(ctx, far, entries)
	if err != nil {
		return 0, err
	}
	b.d.opts.Fault("outbox.reserved")
	b.move = m
	return b.note(ctx, far)
}

// note makes the record of a move. When that fails there may be one all the
// same, as after an error of the disk: the reservation must stay, since without
// it the next start would take the move for done.
func (b *box) note(ctx context.Context, far queue.Queue) (int, error) {
	if err := b.d.note(ctx, b.move); err != nil {
		return 0, fmt.Errorf("record of a move: %w", err)
	}
	b.d.opts.Fault("outbox.noted")
	return b.commit(ctx, far)
}

// reserve holds room for a batch, or for the part of it for which there is.
// Errors: queue.ErrFull.
func (b *box) reserve(ctx context.Context, far queue.Queue, entries []queue.Entry) (*move, error) {
	for {
		m := b.d.newMove(b.name, entries)
		data, size := m.data()
		var err error
		m.id, err = far.Reserve(ctx, m.Intent, size, len(data))
		switch {
		case err == nil:
			return m, nil
		case errors.Is(err, queue.ErrFull) && len(entries) > 1:
			entries = entries[:len(entries)/2]
			continue
		case !errors.Is(err, queue.ErrFull) && !errors.Is(err, queue.ErrNoSuchQueue):
			b.swept = false // it may have been made
		}
		return nil, err
	}
}

// commit is the point from where the entries are at the server.
func (b *box) commit(ctx context.Context, far queue.Queue) (int, error) {
	m := b.move
	data, _ := m.data()
	err := far.Commit(ctx, m.id, data)
	switch {
	case err == nil:
		m.committed = true
		b.d.opts.Fault("outbox.committed")
		return b.finish(ctx)
	case errors.Is(err, queue.ErrNoSuchReservation), errors.Is(err, queue.ErrTooLarge):
		// Only the server can have lost it. Too large: what is there is another
		// one, to be aborted.
		b.swept = false
		b.d.opts.Logger.Warn("reservation lost, events are moved again", "queue", b.name, "entries", m.Count)
		return 0, errors.Join(err, b.anew(ctx))
	case !errors.Is(err, queue.ErrNoSuchQueue):
		m.doubt = true
	}
	return 0, err
}

// finish removes what is at the server. None of it is flushed: all of it comes
// before the record of the next move.
func (b *box) finish(ctx context.Context) (int, error) {
	m := b.move
	if err := b.local.Ack(ctx, queue.Ack{UpTo: m.UpTo}); err != nil {
		return 0, err
	}
	b.d.opts.Fault("outbox.acked")
	if err := b.d.moves.Abort(ctx, m.record); err != nil {
		return 0, err
	}
	b.move = nil
	return m.Count, nil
}

// resume goes on with a move that has a record.
func (b *box) resume(ctx context.Context) (int, error) {
	if b.move.committed {
		return b.finish(ctx)
	}
	far, err := b.open(ctx)
	if err != nil || b.move == nil {
		return 1, err
	}
	if !b.move.noted {
		return b.note(ctx, far)
	}
	if b.move.doubt {
		if err := b.settle(ctx, far); err != nil || b.move == nil {
			return 1, err
		}
		if b.move.committed {
			return b.finish(ctx)
		}
	}
	return b.commit(ctx, far)
}

// maxReservations bounds those of a queue that are looked at.
const maxReservations = 1 << 20

// settle finds out what became of the move that is in doubt, if one is, and
// aborts reservations of which there is no record.
func (b *box) settle(ctx context.Context, far queue.Queue) error {
	list, err := far.Reservations(ctx, everything(), maxReservations)
	if err != nil {
		return err
	}
	m, found := b.move, false
	for _, r := range list {
		switch {
		case !b.d.ours(r.Intent):
		case m != nil && bytes.Equal(r.Intent, m.Intent):
			found, m.id = true, r.ID
		default:
			if err := far.Abort(ctx, r.ID); err != nil {
				return err
			}
		}
	}
	b.swept = true
	switch {
	case m == nil:
		return nil
	case !found && (m.Place != b.d.opts.Place || len(list) == maxReservations):
		return b.anew(ctx) // whether it was committed cannot be told
	case !found:
		m.committed = true
		return nil
	}
	if m.entries, err = b.noted(ctx); err != nil {
		return err
	}
	if len(m.entries) != m.Count || m.entries[m.Count-1].Marker != m.UpTo {
		b.swept = false // and the reservation is aborted next time
		return b.anew(ctx)
	}
	m.doubt = false
	return nil
}

// noted returns the entries of a move of which only the record is known.
func (b *box) noted(ctx context.Context) ([]queue.Entry, error) {
	entries, more, err := b.local.List(ctx, "", b.move.Count)
	for err == nil && more && len(entries) < b.move.Count {
		var next []queue.Entry
		next, more, err = b.local.List(ctx, entries[len(entries)-1].Marker, b.move.Count-len(entries))
		entries = append(entries, next...)
	}
	return entries, err
}
