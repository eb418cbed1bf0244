// Package outbox makes one queue.Driver of two: what is reserved and committed
// goes to queues that are durable with the store (queue/embedded), the outbox,
// and is moved from there in batches to the queues of the same names on a
// server, in order and once. docs/adr/0014-outbox.md tells how.
//
// It keeps the contract of package queue but for this: List shows entries a
// moment after Commit returned, or when the server is back; capacities are
// those of both queues together; an entry's Enqueued is when it came to the
// server.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"herald/queue"
)

// Options for New. ID, Place and Sync are required.
type Options struct {
	// ID names the outbox among those that fill the same queues. It must not
	// change while something waits.
	ID string
	// Place names where the remote queues are.
	Place string
	// Sync makes everything durable that was done to the local queues.
	Sync func() error
	// Direct tells which queues have no outbox. Nil: all have one.
	Direct func(name string) bool
	// Allow, when set, may refuse reservations.
	Allow func() error
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
	// BatchEntries and BatchBytes bound what is moved at once. Default 500
	// and 1 MiB.
	BatchEntries, BatchBytes int
	// Gather bounds the pause between batches, gatherEach for each entry that
	// was moved. Default 100 ms.
	Gather time.Duration
	// Fault, when set, is called at named points (FaultPoints), for crash
	// tests.
	Fault func(point string)
}

func (o Options) withDefaults() Options {
	o.BatchEntries = cmp.Or(o.BatchEntries, 500)
	o.BatchBytes = cmp.Or(o.BatchBytes, 1<<20)
	o.Gather = cmp.Or(o.Gather, 100*time.Millisecond)
	if o.Direct == nil {
		o.Direct = func(string) bool { return false }
	}
	if o.Allow == nil {
		o.Allow = func() error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	return o
}

// FaultPoints are the names that Options.Fault is called with: a batch has room
// on the server; its record is durable; it is on the server; it is gone here.
func FaultPoints() []string {
	return []string{"outbox.reserved", "outbox.noted", "outbox.committed", "outbox.acked"}
}

// Driver is the outbox and what it fills. It closes neither.
type Driver struct {
	local, remote queue.Driver
	opts          Options
	moves         queue.Queue // reservations in it are the records of moves
	aliases       aliases

	ctx  context.Context // of forwarders
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards what follows; taken after box.mu
	boxes   map[string]*box
	noted   map[string]*move // found by New, by queue
	started bool
	closed  bool
}

var (
	_ queue.Driver  = (*Driver)(nil)
	_ queue.Checker = (*Driver)(nil)
)

// Hidden tells which local queues are the outbox's own.
func Hidden(name string) bool { return name == movesQueue }

// New returns a driver over two. Nothing is moved before Start.
func New(ctx context.Context, local, remote queue.Driver, opts Options) (*Driver, error) {
	if opts.ID == "" || opts.Place == "" || opts.Sync == nil {
		return nil, errors.New("outbox: ID, Place and Sync are required")
	}
	d := &Driver{local: local, remote: remote, opts: opts.withDefaults(), boxes: make(map[string]*box), noted: make(map[string]*move)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	if err := d.openMoves(ctx); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	return d, nil
}

// Start begins to forward, what waits already included.
func (d *Driver) Start(ctx context.Context) error {
	d.mu.Lock()
	d.started = true
	d.mu.Unlock()
	names, err := d.localNames(ctx, "")
	if err != nil {
		return fmt.Errorf("start outbox: %w", err)
	}
	for _, name := range names {
		b, err := d.box(ctx, name)
		if errors.Is(err, queue.ErrNoSuchQueue) {
			continue
		}
		if err != nil {
			return fmt.Errorf("start outbox: %w", err)
		}
		b.kick()
	}
	return nil
}

// Drain waits until all that was committed before is at the server, or ctx is
// done.
func (d *Driver) Drain(ctx context.Context) error {
	d.mu.Lock()
	boxes := make([]*box, 0, len(d.boxes))
	for _, b := range d.boxes {
		boxes = append(boxes, b)
	}
	d.mu.Unlock()
	for _, b := range boxes {
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close ends forwarding. What waits is moved after the next start.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.wg.Wait()
	return nil
}

// spawn is false when nothing may run.
func (d *Driver) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started || d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

// box returns the outbox of a queue. Errors: queue.ErrNoSuchQueue.
func (d *Driver) box(ctx context.Context, name string) (*box, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.boxes[name]; b != nil {
		return b, nil
	}
	q, err := d.local.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	b := newBox(d, name, q, d.noted[name])
	delete(d.noted, name)
	d.boxes[name] = b
	return b, nil
}

// makeBox is box for a queue that may have none yet. capacity is asked only
// then.
func (d *Driver) makeBox(ctx context.Context, name string, capacity func() (int64, error)) (*box, error) {
	b, err := d.box(ctx, name)
	if !errors.Is(err, queue.ErrNoSuchQueue) {
		return b, err
	}
	n, err := capacity()
	if err != nil {
		return nil, err
	}
	if err := d.local.Create(ctx, name, n); err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return nil, fmt.Errorf("create outbox %s: %w", name, err)
	}
	return d.box(ctx, name)
}

// Create makes a queue on the server, and its outbox.
func (d *Driver) Create(ctx context.Context, name string, capacity int64) error {
	if Hidden(name) {
		return fmt.Errorf("create queue %q: %w", name, queue.ErrInvalid)
	}
	err := d.remote.Create(ctx, name, capacity)
	if d.opts.Direct(name) || err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return err
	}
	if _, e := d.makeBox(ctx, name, func() (int64, error) { return capacity, nil }); e != nil {
		return e
	}
	return err
}

// Delete removes a queue on the server, then its outbox.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if Hidden(name) {
		return queue.ErrNoSuchQueue
	}
	b, err := d.haltedBox(ctx, name)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return d.remote.Delete(ctx, name)
	}
	if err != nil {
		return err
	}
	defer b.changing.Unlock()
	if err := d.remote.Delete(ctx, name); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		b.goOn()
		return err
	}
	return d.deleteBox(ctx, b)
}

// haltedBox returns the outbox of a queue, halted. Errors: queue.ErrNoSuchQueue.
func (d *Driver) haltedBox(ctx context.Context, name string) (*box, error) {
	for {
		b, err := d.box(ctx, name)
		if err != nil {
			return nil, err
		}
		b.halt()
		if !b.deleted.Load() {
			return b, nil
		}
		b.changing.Unlock() // another call was first; there may be another outbox by now
	}
}

// deleteBox removes an outbox that is halted. Errors: queue.ErrNoSuchQueue.
func (d *Driver) deleteBox(ctx context.Context, b *box) error {
	if b.move != nil {
		if err := d.forget(ctx, b.move); err != nil {
			b.goOn()
			return err
		}
	}
	err := d.local.Delete(ctx, b.name)
	if err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		b.goOn()
		return fmt.Errorf("delete outbox %s: %w", b.name, err)
	}
	b.deleted.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.boxes[b.name] == b {
		delete(d.boxes, b.name)
	}
	return err
}

// Open returns a handle. The server is not asked for a queue with an outbox.
func (d *Driver) Open(ctx context.Context, name string) (queue.Queue, error) {
	if Hidden(name) {
		return nil, queue.ErrNoSuchQueue
	}
	if d.opts.Direct(name) {
		return d.remote.Open(ctx, name)
	}
	h := &handle{d: d, name: name}
	b, err := d.box(ctx, name)
	switch {
	case err == nil:
		h.box.Store(b)
	case !errors.Is(err, queue.ErrNoSuchQueue):
		return nil, err
	default: // from before there was an outbox, or somebody else's
		if _, err := h.far(ctx); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// List returns the names of queues in either place.
func (d *Driver) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := d.remote.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	here, err := d.localNames(ctx, prefix)
	if err != nil {
		return nil, err
	}
	names = append(names, here...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// localNames returns the queues that have an outbox.
func (d *Driver) localNames(ctx context.Context, prefix string) ([]string, error) {
	names, err := d.local.List(ctx, prefix)
	return slices.DeleteFunc(names, Hidden), err
}

// Locker is the server's.
func (d *Driver) Locker() queue.Locker { return d.remote.Locker() }

// Check examines a queue in both places.
func (d *Driver) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	far, ok := d.remote.(queue.Checker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	found, err := far.Check(ctx, name, repair)
	near, ok := d.local.(queue.Checker)
	if err != nil || !ok {
		return found, err
	}
	more, err := near.Check(ctx, name, repair)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return found, nil
	}
	for i := range more {
		more[i].Detail = "in the outbox: " + more[i].Detail
	}
	return append(found, more...), err
}

// Waiting returns what waits in all outboxes.
func (d *Driver) Waiting(ctx context.Context) (queue.Stats, error) {
	var sum queue.Stats
	names, err := d.localNames(ctx, "")
	for _, name := range names {
		q, err := d.local.Open(ctx, name)
		if errors.Is(err, queue.ErrNoSuchQueue) {
			continue
		}
		if err != nil {
			return sum, err
		}
		st, err := q.Stats(ctx)
		if err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return sum, err
		}
		add(&sum, st)
	}
	return sum, err
}

func add(sum *queue.Stats, st queue.Stats) {
	sum.Capacity += st.Capacity
	sum.Entries += st.Entries
	sum.Bytes += st.Bytes
	sum.Reservations += st.Reservations
	sum.Reserved += st.Reserved
	if !st.Oldest.IsZero() && (sum.Oldest.IsZero() || st.Oldest.Before(sum.Oldest)) {
		sum.Oldest = st.Oldest
	}
}

// isOutbox tells whether an intent is that of a move of any outbox.
func isOutbox(intent []byte) bool { return strings.HasPrefix(string(intent), queue.OutboxIntent) }

// ours tells whether an intent is that of a move of this outbox.
func (d *Driver) ours(intent []byte) bool {
	return strings.HasPrefix(string(intent), queue.OutboxIntent+d.opts.ID+"/")
}
