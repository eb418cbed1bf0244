package outbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"
)

// handle is a queue in both places.
type handle struct {
	d      *Driver
	name   string
	box    atomic.Pointer[box] // nil: it has no outbox yet
	remote atomic.Pointer[farQueue]
}

// farQueue is a queue on the server.
type farQueue struct{ queue.Queue }

var (
	_ queue.Queue   = (*handle)(nil)
	_ queue.Waiter  = (*handle)(nil)
	_ queue.Starter = (*handle)(nil)
	_ queue.Sender  = (*handle)(nil)
)

// far returns the queue on the server.
func (h *handle) far(ctx context.Context) (queue.Queue, error) {
	if b := h.box.Load(); b != nil && b.deleted.Load() {
		return nil, queue.ErrNoSuchQueue // there may be another one of the name
	}
	if q := h.remote.Load(); q != nil {
		return q.Queue, nil
	}
	q, err := h.d.remote.Open(ctx, h.name)
	if err != nil {
		return nil, err
	}
	h.remote.Store(&farQueue{q})
	return q, nil
}

// lost forgets the queue on the server if there is another one, or none.
func (h *handle) lost(err error) error {
	if errors.Is(err, queue.ErrNoSuchQueue) {
		h.remote.Store(nil)
	}
	return err
}

// near returns the outbox, which is made if there is none.
func (h *handle) near(ctx context.Context) (*box, error) {
	if b := h.box.Load(); b != nil {
		return b, nil
	}
	b, err := h.d.makeBox(ctx, h.name, func() (int64, error) {
		q, err := h.far(ctx)
		if err != nil {
			return 0, err
		}
		st, err := q.Stats(ctx)
		return st.Capacity, h.lost(err)
	})
	if err == nil {
		h.box.Store(b)
	}
	return b, err
}

// peek returns the outbox, or nil if there is none.
func (h *handle) peek(ctx context.Context) (*box, error) {
	if b := h.box.Load(); b != nil {
		return b, nil
	}
	b, err := h.d.box(ctx, h.name)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, nil
	}
	if err == nil {
		h.box.Store(b)
	}
	return b, err
}

// Reserve holds room in the outbox.
func (h *handle) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	if err := h.d.opts.Allow(); err != nil {
		return 0, err
	}
	b, err := h.near(ctx)
	if err != nil {
		return 0, err
	}
	return b.local.Reserve(ctx, intent, size, entries)
}

// Renew keeps a reservation.
func (h *handle) Renew(ctx context.Context, id queue.ID) error {
	q, id, err := h.of(ctx, id)
	if err != nil {
		return err
	}
	return q.Renew(ctx, id)
}

// Commit appends entries to the outbox, durably.
func (h *handle) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if err := h.commit(ctx, id, entries); err != nil {
		return err
	}
	return h.d.opts.Sync()
}

// StartCommit is Commit that is durable with what is written to the store
// next.
func (h *handle) StartCommit(ctx context.Context, id queue.ID, entries [][]byte, done func(error)) {
	if isAlias(id) {
		go func() { done(h.commit(ctx, id, entries)) }() // ends with ctx
		return
	}
	done(h.commit(ctx, id, entries))
}

func (h *handle) commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if isAlias(id) {
		q, there, err := h.of(ctx, id)
		if err != nil {
			return err
		}
		err = q.Commit(ctx, there, entries)
		if err == nil {
			h.d.aliases.forget(id)
		}
		return h.lost(err)
	}
	b, err := h.near(ctx)
	if err != nil {
		return err
	}
	if err := b.local.Commit(ctx, id, entries); err != nil {
		return err
	}
	if len(entries) > 0 {
		b.kick()
	}
	return nil
}

// Abort ends a reservation.
func (h *handle) Abort(ctx context.Context, id queue.ID) error {
	q, there, err := h.of(ctx, id)
	if err != nil {
		return err
	}
	if err := q.Abort(ctx, there); err != nil {
		return err
	}
	h.d.aliases.forget(id)
	return nil
}

// of returns the queue that a reservation is in, and its id there.
func (h *handle) of(ctx context.Context, id queue.ID) (queue.Queue, queue.ID, error) {
	if isAlias(id) {
		q, err := h.far(ctx)
		return q, h.d.aliases.id(id), err
	}
	b, err := h.near(ctx)
	if err != nil {
		return nil, 0, err
	}
	return b.local, id, nil
}

// List returns what is at the server.
func (h *handle) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	q, err := h.far(ctx)
	if err != nil {
		return nil, false, err
	}
	entries, more, err := q.List(ctx, after, max)
	return entries, more, h.lost(err)
}

// Ack is of entries at the server.
func (h *handle) Ack(ctx context.Context, ack queue.Ack) error {
	q, err := h.far(ctx)
	if err != nil {
		return err
	}
	if err := q.Ack(ctx, ack); err != nil {
		return h.lost(err)
	}
	if b := h.box.Load(); b != nil && (ack.UpTo != "" || len(ack.Done) > 0) {
		b.hurry()
	}
	return nil
}

// pollEvery is the pause between looks at a queue that cannot be waited for.
const pollEvery = 100 * time.Millisecond

// Wait waits for an entry at the server.
func (h *handle) Wait(ctx context.Context, after queue.Marker) error {
	q, err := h.far(ctx)
	if err != nil {
		return err
	}
	if w, ok := q.(queue.Waiter); ok {
		return h.lost(w.Wait(ctx, after))
	}
	for {
		entries, _, err := q.List(ctx, after, 1)
		if err != nil || len(entries) > 0 {
			return h.lost(err)
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// Reservations returns those in the outbox, and those at the server but for
// the ones of outboxes: who made them did not have one.
func (h *handle) Reservations(ctx context.Context, before time.Time, max int) ([]queue.Reservation, error) {
	b, err := h.peek(ctx)
	if err != nil {
		return nil, err
	}
	var list []queue.Reservation
	q, err := h.far(ctx)
	if err == nil {
		list, err = q.Reservations(ctx, before, max)
	}
	if err = h.lost(err); err != nil && !b.stands(err) {
		return nil, err
	}
	var out []queue.Reservation
	for _, r := range list {
		if !isOutbox(r.Intent) {
			r.ID = h.d.aliases.alias(h.name, r.ID)
			out = append(out, r)
		}
	}
	if b == nil {
		return out, nil
	}
	here, err := b.local.Reservations(ctx, before, max)
	out = append(out, here...) // those at the server are older than all of these
	return out[:min(len(out), max)], err
}

// Stats returns the sums of both queues' figures. What is moved meanwhile is
// counted twice rather than not at all: who sees no entries may rely on it.
func (h *handle) Stats(ctx context.Context) (queue.Stats, error) {
	var here queue.Stats
	b, err := h.peek(ctx)
	if err == nil && b != nil {
		here, err = b.local.Stats(ctx)
	}
	if err != nil {
		return queue.Stats{}, err
	}
	var st queue.Stats
	q, err := h.far(ctx)
	if err == nil {
		st, err = q.Stats(ctx)
	}
	if err = h.lost(err); err != nil && !b.stands(err) {
		return st, err
	}
	add(&st, here)
	return st, nil
}

// Unsent returns what waits in the outbox.
func (h *handle) Unsent(ctx context.Context, max int) ([]queue.Entry, error) {
	b, err := h.peek(ctx)
	if b == nil && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, _, err := b.local.List(ctx, "", max)
	return entries, err
}

// aliases are the names of reservations at the server, among those of the
// outbox.
type aliases struct {
	mu    sync.Mutex // guards all below
	last  queue.ID
	of    map[place]queue.ID
	place map[queue.ID]place
}

type place struct {
	queue string
	id    queue.ID
}

// aliasBit is not set in ids of the outbox, which count from its queue's
// number, shifted by 32.
const aliasBit = 1 << 63

func isAlias(id queue.ID) bool { return id&aliasBit != 0 }

// alias returns the same name for the same reservation.
func (a *aliases) alias(name string, id queue.ID) queue.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := place{name, id}
	if old, ok := a.of[at]; ok {
		return old
	}
	if a.of == nil {
		a.of, a.place = make(map[place]queue.ID), make(map[queue.ID]place)
	}
	a.last++
	a.of[at], a.place[a.last|aliasBit] = a.last|aliasBit, at
	return a.last | aliasBit
}

func (a *aliases) id(alias queue.ID) queue.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.place[alias].id
}

// forget takes note that a reservation has ended.
func (a *aliases) forget(alias queue.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.place[alias]; ok {
		delete(a.of, at)
		delete(a.place, alias)
	}
}
