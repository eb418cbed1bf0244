package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"herald/notify"
	"herald/queue"
)

// Bounds of a migration.
const (
	// moveEntries and moveBytes bound what is moved at once.
	moveEntries = 256
	moveBytes   = 1 << 20
	// moveReservations bounds the open reservations that are looked at at once.
	moveReservations = 100_000
	// moveLock keeps two migrations apart, for moveLease at a time. One that
	// was killed is gone on with at once: its lock is that of its store.
	moveLock  = "herald-migrate"
	moveLease = 30 * time.Second
	// progressEvery is the pause between lines about the progress.
	progressEvery = 5 * time.Second
)

// migration moves all queues of one driver to another.
//
// Entries go in order, batch by batch: reserved and committed in the target,
// durably, and only then acked in the source. So a migration that was killed
// at any point is done by another one: what the head of a queue in the source
// and its copy in the target have in common was moved already, and is only
// acked. Two entries that are equal byte for byte are taken for the same one:
// an event is never equal to another, since it has an id.
//
// An open reservation is made in the target with the same intent, then ended
// in the source; the next migration finds it in the target by its intent.
//
// While a queue is moved the migration holds the lock of its owner, in both
// places: neither a gateway that has come meanwhile, nor a radosgw where it
// shares the queues, takes anything out.
type migration struct {
	from, to queue.Driver
	format   notify.EntryFormat              // of events in the target
	settle   func(ctx context.Context) error // see Place; may be nil
	keep     bool                            // leave the empty queues in the source
	force    bool                            // also while gateways use them
	store    string                          // identity of the store that it runs on, which only one process has open
	adopt    bool                            // intents that name no store are of this one
	progress io.Writer

	sum    summary
	told   time.Time
	leases []queue.Lease
}

// summary is what a migration did.
type summary struct {
	From         string `json:"from"`
	To           string `json:"to"`
	Queues       int    `json:"queues"`
	Entries      int64  `json:"entries"`       // moved
	AlreadyThere int64  `json:"already_there"` // by a migration that was interrupted
	Bytes        int64  `json:"bytes"`         // of the entries moved
	Reservations int64  `json:"reservations"`  // moved
	Unreadable   int64  `json:"unreadable"`    // entries that were moved as they are, since they are none that can be written in the target's format
}

func (m *migration) run(ctx context.Context) (summary, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return m.sum, err
	}
	defer unlock()
	if m.settle != nil {
		if err := m.settle(ctx); err != nil {
			return m.sum, err
		}
	}
	names, err := m.from.List(ctx, "")
	if err != nil {
		return m.sum, err
	}
	m.told = time.Now()
	for _, name := range names {
		switch err := m.moveQueue(ctx, name); {
		case err == nil:
			m.sum.Queues++
		case !errors.Is(err, errDeletedHalf):
			return m.sum, fmt.Errorf("queue %s: %w (do the same again to go on; nothing is lost)", name, err)
		}
	}
	return m.sum, nil
}

// owner is the migration's name in locks and groups.
func (m *migration) owner() string { return "migrate-" + m.store + notify.ProbeSuffix }

// lock makes sure that nobody else moves or uses the queues.
func (m *migration) lock(ctx context.Context) (unlock func(), err error) {
	owner := m.owner()
	unlock = func() {
		for _, l := range m.leases {
			_ = l.Release(context.WithoutCancel(ctx)) // else it expires
		}
	}
	for _, d := range []queue.Driver{m.from, m.to} {
		lease, err := d.Locker().Acquire(ctx, moveLock, owner, moveLease)
		if err == nil {
			m.leases = append(m.leases, lease)
			err = m.checkIdle(ctx, d, owner)
		} else if errors.Is(err, queue.ErrLocked) {
			err = &exitError{exitBusy, "another migration of these queues runs, or died a moment ago"}
		}
		if err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

// checkIdle refuses queues from which gateways deliver.
func (m *migration) checkIdle(ctx context.Context, d queue.Driver, owner string) error {
	if m.force {
		return nil
	}
	members, err := d.Locker().Join(ctx, notify.GatewaysGroup, owner, time.Second)
	if err != nil {
		return err
	}
	if err := d.Locker().Leave(ctx, notify.GatewaysGroup, owner); err != nil {
		return err
	}
	if others := slices.DeleteFunc(members, func(o string) bool { return strings.HasSuffix(o, notify.ProbeSuffix) }); len(others) > 0 {
		return &exitError{exitBusy, fmt.Sprintf("%d gateways use these queues (%s); stop them first, or wait a lease if they are dead; --force moves all the same",
			len(others), strings.Join(others, ", "))}
	}
	return nil
}

// tick renews the locks and tells of the progress, now and then.
func (m *migration) tick(ctx context.Context, name string) error {
	for _, l := range m.leases {
		if time.Until(l.Expires()) > moveLease*2/3 {
			continue
		}
		if err := l.Renew(ctx); err != nil {
			return fmt.Errorf("renew the lock: %w", err)
		}
	}
	if time.Since(m.told) >= progressEvery {
		m.told = time.Now()
		fmt.Fprintf(m.progress, "%d events, %d bytes moved, now of %s\n", m.sum.Entries, m.sum.Bytes, name)
	}
	return nil
}

// queueMove is the move of one queue.
type queueMove struct {
	*migration
	name     string
	src, dst queue.Queue
	// there are the entries that the target had at the beginning, while they
	// may be those at the head of the source.
	there map[[sha256.Size]byte]queue.Marker
	last  queue.Marker // the newest entry in the target
	fence uint64       // of the lock in the source; 0 when it was forced
}

// errDeletedHalf: there was no more than the name of a queue.
var errDeletedHalf = errors.New("the queue was deleted, but for its name")

func (m *migration) moveQueue(ctx context.Context, name string) error {
	q := &queueMove{migration: m, name: name}
	var err error
	if q.src, err = m.from.Open(ctx, name); errors.Is(err, queue.ErrNoSuchQueue) {
		// Whoever deleted it, perhaps a migration, died before its name went.
		if err := m.from.Delete(ctx, name); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return err
		}
		return errDeletedHalf
	}
	if err != nil {
		return err
	}
	st, err := q.src.Stats(ctx)
	if err != nil {
		return err
	}
	if err := m.to.Create(ctx, name, st.Capacity); err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return err
	}
	if q.dst, err = m.to.Open(ctx, name); err != nil {
		return err
	}
	unlock, err := q.lockQueue(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, step := range []func(context.Context) error{q.abortUnfinished, q.look, q.moveEntries, q.moveReservations} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if m.keep || m.force { // a gateway that uses it may put something in at any moment
		return nil
	}
	return q.remove(ctx)
}

// lockQueue takes the lock of the queue's owner in the target and in the source.
func (q *queueMove) lockQueue(ctx context.Context) (unlock func(), err error) {
	before := len(q.leases)
	unlock = func() {
		for _, l := range q.leases[before:] {
			_ = l.Release(context.WithoutCancel(ctx)) // else it expires; it went with its queue
		}
		q.leases = q.leases[:before]
	}
	for _, d := range []queue.Driver{q.to, q.from} {
		q.fence = 0
		lease, err := d.Locker().Acquire(ctx, queue.OwnerLock+q.name, q.owner(), moveLease)
		switch {
		case errors.Is(err, queue.ErrLocked) && q.force:
		case errors.Is(err, queue.ErrLocked):
			unlock()
			return nil, &exitError{exitBusy, fmt.Sprintf("a gateway, or a radosgw that shares the queues, delivers queue %s; stop it first, "+
				"or wait until its lock has run out if it is dead (a radosgw's: 90 s); --force moves all the same", q.name)}
		case err != nil:
			unlock()
			return nil, err
		default:
			q.leases = append(q.leases, lease)
			q.fence = lease.Fence()
		}
	}
	return unlock, nil
}

// remove deletes the source, which is empty, unless a gateway began to use it
// meanwhile.
func (q *queueMove) remove(ctx context.Context) error {
	if err := q.checkIdle(ctx, q.from, q.owner()); err != nil {
		return err
	}
	entries, _, err := q.src.List(ctx, "", 1)
	if err != nil {
		return err
	}
	open, err := q.open(ctx)
	if err != nil {
		return err
	}
	if len(entries)+len(open) > 0 {
		return &exitError{exitBusy, "something came into the queue while it was moved; does a gateway use it?"}
	}
	return q.from.Delete(ctx, q.name)
}

// open returns the source's reservations but for those of a radosgw and of
// outboxes, which end them themselves.
func (q *queueMove) open(ctx context.Context) ([]queue.Reservation, error) {
	list, err := q.src.Reservations(ctx, everything(), moveReservations)
	return slices.DeleteFunc(list, func(r queue.Reservation) bool {
		return len(r.Intent) == 0 || strings.HasPrefix(string(r.Intent), queue.OutboxIntent)
	}), err
}

// everything is a time after that of all reservations.
func everything() time.Time { return time.Now().Add(365 * 24 * time.Hour) }

// abortUnfinished ends the reservations that a killed migration left.
func (q *queueMove) abortUnfinished(ctx context.Context) error {
	list, err := q.dst.Reservations(ctx, everything(), moveReservations)
	if err != nil {
		return err
	}
	for _, r := range list {
		if string(r.Intent) != notify.IntentNone {
			continue
		}
		if err := q.dst.Abort(ctx, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// look learns what the target has.
func (q *queueMove) look(ctx context.Context) error {
	q.there = make(map[[sha256.Size]byte]queue.Marker)
	return q.each(ctx, func(e queue.Entry) { q.there[sha256.Sum256(e.Data)] = e.Marker })
}

// each calls f with the entries of the target after the last one seen.
func (q *queueMove) each(ctx context.Context, f func(queue.Entry)) error {
	for {
		list, more, err := q.dst.List(ctx, q.last, moveEntries)
		if err != nil {
			return err
		}
		for _, e := range list {
			f(e)
			q.last = e.Marker
		}
		if !more || len(list) == 0 {
			return nil
		}
	}
}

// moveEntries empties the source.
func (q *queueMove) moveEntries(ctx context.Context) error {
	for {
		list, _, err := q.src.List(ctx, "", moveEntries)
		if err != nil || len(list) == 0 {
			return err
		}
		q.recode(list)
		n, markers := q.alreadyThere(list)
		if n > 0 {
			q.sum.AlreadyThere += int64(n)
		} else {
			q.there = nil // what follows is not there
			n = batch(list)
			if markers, err = q.copy(ctx, list[:n]); err != nil {
				return err
			}
		}
		if err := q.finish(ctx, list[:n], markers); err != nil {
			return err
		}
		if err := q.tick(ctx, q.name); err != nil {
			return err
		}
	}
}

// recode turns events into the target's format. Dead letters have one of their
// own, which is the same everywhere.
func (q *queueMove) recode(list []queue.Entry) {
	if q.format == notify.EntriesOwn || strings.HasSuffix(q.name, ".dead") {
		return
	}
	for i := range list {
		data, err := notify.Recode(list[i].Data, q.format)
		if err != nil {
			q.sum.Unreadable++
			continue
		}
		list[i].Data = data
	}
}

// alreadyThere is how many entries, from the first on, are in the target, and
// their markers in it.
func (q *queueMove) alreadyThere(list []queue.Entry) (n int, markers []queue.Marker) {
	for _, e := range list {
		m, ok := q.there[sha256.Sum256(e.Data)]
		if !ok {
			break
		}
		markers = append(markers, m)
	}
	return len(markers), markers
}

// batch is how many entries, from the first on, are moved at once.
func batch(list []queue.Entry) int {
	size := 0
	for i, e := range list {
		if size += len(e.Data); size > moveBytes && i > 0 {
			return i
		}
	}
	return len(list)
}

// copy writes entries to the target, durably, and returns their markers there.
func (q *queueMove) copy(ctx context.Context, list []queue.Entry) ([]queue.Marker, error) {
	data, size := make([][]byte, len(list)), 0
	for i, e := range list {
		data[i] = e.Data
		size += len(e.Data)
	}
	id, err := q.dst.Reserve(ctx, []byte(notify.IntentNone), int64(max(size, 1)), len(data))
	if errors.Is(err, queue.ErrFull) {
		return nil, &exitError{exitNoSpace, "there is no room in the target: its queue is smaller, or holds something else"}
	}
	if err != nil {
		return nil, err
	}
	if err := q.dst.Commit(ctx, id, data); err != nil {
		return nil, err
	}
	// Read back, to see that it is there, and where.
	markers := make([]queue.Marker, 0, len(list))
	err = q.each(ctx, func(e queue.Entry) {
		if i := len(markers); i < len(list) && string(e.Data) == string(list[i].Data) {
			markers = append(markers, e.Marker)
		}
	})
	if err == nil && len(markers) < len(list) {
		err = errors.New("what was written to the target is not there; does a gateway run on it?")
	}
	q.sum.Entries += int64(len(list))
	q.sum.Bytes += int64(size)
	return markers, err
}

// finish notes the attempts of entries that are in the target, and removes the
// entries from the source.
func (q *queueMove) finish(ctx context.Context, list []queue.Entry, markers []queue.Marker) error {
	var failed []queue.Attempt
	for i, e := range list {
		if e.Attempts > 0 {
			failed = append(failed, queue.Attempt{Marker: markers[i], Attempts: e.Attempts, LastTry: e.LastTry})
		}
	}
	if len(failed) > 0 {
		if err := q.dst.Ack(ctx, queue.Ack{Failed: failed}); err != nil {
			return err
		}
	}
	return q.src.Ack(ctx, queue.Ack{UpTo: list[len(list)-1].Marker, Fence: q.fence})
}

// moveReservations moves the open reservations.
func (q *queueMove) moveReservations(ctx context.Context) error {
	there := make(map[string]bool)
	list, err := q.dst.Reservations(ctx, everything(), moveReservations)
	if err != nil {
		return err
	}
	for _, r := range list {
		there[string(r.Intent)] = true
	}
	for {
		list, err := q.open(ctx)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, r := range list {
			if err := q.moveReservation(ctx, r, there); err != nil {
				return err
			}
			if err := q.tick(ctx, q.name); err != nil {
				return err
			}
		}
	}
}

func (q *queueMove) moveReservation(ctx context.Context, r queue.Reservation, there map[string]bool) error {
	intent := r.Intent
	if q.adopt {
		intent = notify.AdoptIntent(intent, q.store)
	}
	if !there[string(intent)] && string(intent) != notify.IntentNone {
		if _, err := q.dst.Reserve(ctx, intent, r.Size, r.Entries); err != nil {
			return err
		}
		there[string(intent)] = true
		q.sum.Reservations++
	}
	return q.src.Abort(ctx, r.ID)
}
