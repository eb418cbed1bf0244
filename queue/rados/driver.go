//go:build rados

package rados

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// Names of objects and attributes.
const (
	prefixQueue = "queue." // and the queue's name
	prefixLock  = "lock."  // and the lock's
	prefixGroup = "group." // and the group's
	oidQueues   = "queues" // its omap has the names of the queues, and their incarnations
	oidClock    = "clock"

	xattrRecord = "herald.queue"
	xattrID     = "herald.id"    // the record's incarnation, which never changes
	xattrFence  = "herald.fence" // the newest of a lock on the object
)

// Driver holds queues in a namespace of a pool.
type Driver struct {
	opts   Options
	id     uint64 // of this driver, among those that ever were
	conn   *librados.Conn
	io     *librados.IO
	clock  *clock
	locker *locker
	closed chan struct{}

	sampling atomic.Bool

	mu     sync.Mutex // guards what follows
	ended  bool
	queues map[string]*Queue
	wg     sync.WaitGroup // of calls, and of what they left running
}

var _ queue.Driver = (*Driver)(nil)

// Open connects to a cluster.
func Open(ctx context.Context, opts Options) (*Driver, error) {
	opts = opts.withDefaults()
	if opts.Pool == "" {
		return nil, errors.New("open queues: no pool is named")
	}
	conn, err := librados.Connect(ctx, librados.Config{
		ConfFile: opts.ConfFile, User: strings.TrimPrefix(opts.User, "client."), OpTimeout: opts.OpTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("open queues: %w", err)
	}
	d := &Driver{
		opts: opts, conn: conn, id: randomID(), clock: &clock{now: opts.Now},
		closed: make(chan struct{}), queues: make(map[string]*Queue),
	}
	d.locker = newLocker(d)
	if d.io, err = conn.IO(opts.Pool, opts.Namespace); err == nil {
		err = d.sampleClock(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open queues in %s/%s: %w", opts.Pool, opts.Namespace, err), conn.Close())
	}
	return d, nil
}

func randomID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return binary.LittleEndian.Uint64(b[:])
}

// enter keeps the driver open until leave.
func (d *Driver) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return ErrClosed
	}
	d.wg.Add(1)
	return nil
}

func (d *Driver) leave() { d.wg.Done() }

// Locker returns the cluster's locks.
func (d *Driver) Locker() queue.Locker { return d.locker }

// Close waits for what runs.
func (d *Driver) Close() error {
	d.mu.Lock()
	ended := d.ended
	d.ended = true
	if !ended {
		close(d.closed)
	}
	d.mu.Unlock()
	d.wg.Wait()
	if ended {
		return nil
	}
	return d.conn.Close()
}

// operate does an operation until its outcome is known, or ctx ends. One that
// got no answer is sent again as it is: whether it can take effect twice is
// for the caller to see to. sent tells how often it was sent.
func (d *Driver) operate(ctx context.Context, oid string, op librados.Op, flags librados.Flags) (sent int, err error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		sent++
		_, err := d.io.Operate(ctx, oid, op, flags)
		if d.changes(op, flags) && d.opts.lose() {
			err = syscall.ETIMEDOUT
		}
		if !errors.Is(err, syscall.ETIMEDOUT) {
			return sent, err
		}
		d.opts.Logger.Warn("the cluster does not answer; trying again", "object", oid, "err", err)
		select {
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		case <-d.closed:
			return sent, ErrClosed
		case <-time.After(pause):
		}
	}
}

// changes tells whether an operation changes something.
func (d *Driver) changes(op librados.Op, flags librados.Flags) bool {
	_, write := op.(*librados.WriteOp)
	return write || flags&librados.ReturnVec != 0
}

// sampleClock asks an OSD for its time: a lock with a duration tells when it
// ends.
func (d *Driver) sampleClock(ctx context.Context) error {
	const duration = time.Minute
	call := lockCall{name: "clock", kind: lockShared, cookie: fmt.Sprintf("%016x", d.id)}
	for try := 0; ; try++ {
		before := time.Now()
		op := librados.NewWrite()
		op.Exec(classLock, methodLock, call.encodeLock(duration, lockMayRenew))
		if _, err := d.operate(ctx, oidClock, op, 0); err != nil {
			return fmt.Errorf("ask for the time: %w", err)
		}
		took := time.Since(before)
		holders, err := d.holders(ctx, oidClock, call.name)
		if err != nil {
			return fmt.Errorf("ask for the time: %w", err)
		}
		i := slices.IndexFunc(holders, func(h holder) bool { return h.cookie == call.cookie })
		if i >= 0 && (took < steady/2 || try >= 5) {
			d.clock.sample(holders[i].expires.Add(-duration), before.Add(took/2))
			return nil
		}
	}
}

// holders returns who holds a lock.
func (d *Driver) holders(ctx context.Context, oid, name string) ([]holder, error) {
	op := librados.NewRead()
	step := op.Exec(classLock, methodLockInfo, lockCall{name: name}.encodeInfo())
	if _, err := d.operate(ctx, oid, op, 0); err != nil {
		return nil, err
	}
	return decodeLockInfo(step.Data)
}

// clockAge is after what time the clock is sampled again.
const clockAge = time.Minute

// stamp is the cluster's time. The caller has entered.
func (d *Driver) stamp() int64 {
	if d.clock.age() > clockAge && d.sampling.CompareAndSwap(false, true) {
		d.wg.Go(func() {
			defer d.sampling.Store(false)
			ctx, cancel := context.WithTimeout(context.Background(), d.opts.OpTimeout)
			defer cancel()
			if err := d.sampleClock(ctx); err != nil {
				d.opts.Logger.Warn("sample the cluster's clock", "err", err)
			}
		})
	}
	return d.clock.stamp()
}

// checkName tells whether a queue may have that name.
func checkName(name string) error {
	if name == "" || len(name) > MaxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("queue %q: %w", name, ErrInvalidName)
	}
	return nil
}

// Create makes a queue, durably.
func (d *Driver) Create(ctx context.Context, name string, capacity int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	if capacity <= 0 {
		return fmt.Errorf("create queue %s: capacity %d: %w", name, capacity, queue.ErrInvalid)
	}
	if capacity > MaxCapacity {
		d.opts.Logger.Warn("a queue cannot be that large", "queue", name, "asked", capacity, "capacity", MaxCapacity)
		capacity = MaxCapacity
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	var id incarnation
	_, _ = rand.Read(id[:]) // it cannot fail
	if err := d.createObject(ctx, name, newRecord(id, uint64(capacity), d.stamp())); err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	return nil
}

// createObject makes the queue's object, then its entry in the directory.
func (d *Driver) createObject(ctx context.Context, name string, rec *record) error {
	op := librados.NewWrite()
	op.Create(true)
	op.Exec(classQueue, methodInit, encodeInit(uint64(rec.ring)))
	op.SetXattr(xattrRecord, rec.encode())
	op.SetXattr(xattrID, rec.incarnation[:])
	_, err := d.operate(ctx, prefixQueue+name, op, 0)
	exists := errors.Is(err, syscall.EEXIST)
	if err != nil && !exists {
		return err
	}
	id := rec.incarnation
	if exists {
		there, err := d.readRecord(ctx, name)
		if errors.Is(err, queue.ErrNoSuchQueue) {
			return queue.ErrQueueExists // it was deleted just now
		}
		if err != nil {
			return err
		}
		exists, id = there.incarnation != id, there.incarnation // ours, when an answer was lost
	}
	d.opts.fault("created")
	enter := librados.NewWrite()
	enter.OmapSet(librados.Pair{Key: name, Value: id[:]})
	if _, err := d.operate(ctx, oidQueues, enter, 0); err != nil {
		return err
	}
	if exists {
		return queue.ErrQueueExists
	}
	return nil
}

// readRecord reads the record of a queue.
func (d *Driver) readRecord(ctx context.Context, name string) (*record, error) {
	op := librados.NewRead()
	op.AssertExists()
	step := op.GetXattr(xattrRecord)
	if _, err := d.operate(ctx, prefixQueue+name, op, 0); err != nil {
		return nil, noQueue(err)
	}
	if err := step.Err(); err != nil {
		return nil, fmt.Errorf("object %s%s: %w", prefixQueue, name, ErrNotQueue)
	}
	return decodeRecord(step.Data)
}

// noQueue makes ErrNoSuchQueue of the error that there is no object.
func noQueue(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return queue.ErrNoSuchQueue
	}
	return err
}

// Open returns a handle. It asks the cluster only for queues that this driver
// has no handle of yet.
func (d *Driver) Open(ctx context.Context, name string) (queue.Queue, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	return d.open(ctx, name)
}

func (d *Driver) open(ctx context.Context, name string) (*Queue, error) {
	if checkName(name) != nil {
		return nil, queue.ErrNoSuchQueue
	}
	d.mu.Lock()
	q := d.queues[name]
	d.mu.Unlock()
	if q != nil {
		return q, nil
	}
	rec, err := d.readRecord(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if q := d.queues[name]; q != nil && q.incarnation == rec.incarnation {
		return q, nil
	}
	q = newQueue(d, name, rec)
	d.queues[name] = q
	return q, nil
}

// forget drops the handle of a queue that is gone.
func (d *Driver) forget(q *Queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[q.name] == q {
		delete(d.queues, q.name)
	}
}

// Delete removes a queue, durably: its object with all that is in it, then its
// entry in the directory.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if checkName(name) != nil {
		return queue.ErrNoSuchQueue
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	d.mu.Lock()
	q := d.queues[name]
	d.mu.Unlock()
	gone, err := d.remove(ctx, name)
	if err != nil && !gone {
		return fmt.Errorf("delete queue %s: %w", name, err)
	}
	d.opts.fault("removed")
	if q != nil {
		q.end()
	}
	if err := d.unlist(ctx, name); err != nil {
		return fmt.Errorf("delete queue %s: %w", name, err)
	}
	if gone {
		return queue.ErrNoSuchQueue
	}
	return nil
}

// remove removes a queue's object. gone: it was not this call that did. The
// operation names what it found there: repeated, or late, it must not remove a
// queue that has come in its place.
func (d *Driver) remove(ctx context.Context, name string) (gone bool, err error) {
	read := librados.NewRead()
	read.AssertExists()
	record, id := read.GetXattr(xattrRecord), read.GetXattr(xattrID)
	switch _, err := d.operate(ctx, prefixQueue+name, read, 0); {
	case errors.Is(err, syscall.ENOENT):
		return true, nil
	case err != nil:
		return false, err
	case record.Err() != nil || id.Err() != nil:
		return false, fmt.Errorf("object %s%s: %w", prefixQueue, name, ErrNotQueue)
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrID, librados.Equal, id.Data)
	op.Remove()
	sent, err := d.operate(ctx, prefixQueue+name, op, 0)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, librados.ErrMismatch) {
		return sent == 1, nil // else it was this call that removed it
	}
	return false, err
}

// unlist removes a queue that is gone from the directory, unless another has
// come in its place.
func (d *Driver) unlist(ctx context.Context, name string) error {
	read := librados.NewRead()
	step := read.OmapGetByKeys(name)
	if _, err := d.operate(ctx, oidQueues, read, 0); errors.Is(err, syscall.ENOENT) || err == nil && len(step.Pairs) == 0 {
		return nil
	} else if err != nil {
		return err
	}
	listed := step.Pairs[0].Value
	switch rec, err := d.readRecord(ctx, name); {
	case err == nil && bytes.Equal(rec.incarnation[:], listed):
		return nil
	case err != nil && !errors.Is(err, queue.ErrNoSuchQueue):
		return err
	}
	op := librados.NewWrite()
	op.OmapCmp(name, librados.Equal, listed)
	op.OmapRm(name)
	if _, err := d.operate(ctx, oidQueues, op, 0); err != nil && !errors.Is(err, librados.ErrMismatch) {
		return err
	}
	return nil
}

// List returns the names with the prefix, in byte order.
func (d *Driver) List(ctx context.Context, prefix string) ([]string, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	var names []string
	for after := ""; ; {
		op := librados.NewRead()
		step := op.OmapGetVals(after, prefix, 1000)
		if _, err := d.operate(ctx, oidQueues, op, 0); errors.Is(err, syscall.ENOENT) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		for _, p := range step.Pairs {
			names = append(names, p.Key)
		}
		if !step.More || len(step.Pairs) == 0 {
			return names, nil
		}
		after = names[len(names)-1]
	}
}
