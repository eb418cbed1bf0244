//go:build rados

package rados

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// RGW is a driver whose queues a radosgw fills and drains as well: the queues
// of topics ("TENANT:TOPIC" and "TENANT:TOPIC.N") are objects under radosgw's
// names, with one event in each entry. Entries must be in RGW's encoding: a
// radosgw stops at one that it cannot read. All other queues, which a radosgw
// must not see, and locks on anything but a topic's queue, are those of a
// Driver in a namespace beside radosgw's.
//
// What the class knows nothing of is kept beside the ring: intents, attempts,
// what is acked out of order. A radosgw that takes a queue over ignores it, and
// sends again what is only marked as gone.
//
// A reservation is held in the class, too, where radosgw ends it after 120 s.
// Nothing is lost by that: Renew, and at last Commit, take the room again.
type RGW struct {
	own   *Driver
	io    *librados.IO // radosgw's namespace
	names RGWNames

	mu     sync.Mutex // guards what follows
	queues map[string]*rgwQueue
	leases map[string]*rgwLease // that this driver holds, by object
}

// RGWNames says how RGW calls the queue of a topic.
type RGWNames int

const (
	// RGWNamesAuto goes by what the OSDs' class can do: RGWNamesTenant from
	// Squid (19) on.
	RGWNamesAuto RGWNames = iota
	// RGWNamesBare is "TOPIC", as 16.2.15 has it.
	RGWNamesBare
	// RGWNamesTenant is "TENANT:TOPIC", as current releases have it.
	RGWNamesTenant
)

// rgwDirectory is the object, in our own namespace, whose omap tells which of
// radosgw's queues are used: the queue's name, and that of its object.
const rgwDirectory = "rgw"

// ownNamespace is where what radosgw does not know is kept, beside it.
func ownNamespace(namespace string) string { return namespace + ".herald" }

var _ queue.Driver = (*RGW)(nil)

// OpenRGW connects to a cluster. Pool and Namespace are those of radosgw's
// queues (default RGWPool and RGWNamespace). names says what a queue is called
// that is made here; one that is there already, under either name, is used as
// it is.
func OpenRGW(ctx context.Context, opts Options, names RGWNames) (*RGW, error) {
	if opts.Pool == "" {
		opts.Pool = RGWPool
	}
	if opts.Namespace == "" {
		opts.Namespace = RGWNamespace
	}
	namespace := opts.Namespace
	opts.Namespace = ownNamespace(namespace)
	own, err := Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	io, err := own.conn.IO(opts.Pool, namespace)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open queues in %s/%s: %w", opts.Pool, namespace, err), own.Close())
	}
	return &RGW{own: own, io: io, names: names, queues: make(map[string]*rgwQueue), leases: make(map[string]*rgwLease)}, nil
}

// Close waits for what runs.
func (r *RGW) Close() error { return r.own.Close() }

// operate does an operation on one of radosgw's objects until its outcome is
// known, or ctx ends. lost tells that it was sent more than once.
func (r *RGW) operate(ctx context.Context, oid string, op librados.Op, flags librados.Flags) (lost bool, err error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		_, err := r.io.Operate(ctx, oid, op, flags)
		if r.own.changes(op, flags) && r.own.opts.lose() {
			err = syscall.ETIMEDOUT
		}
		if !errors.Is(err, syscall.ETIMEDOUT) {
			return lost, err
		}
		lost = true
		r.own.opts.Logger.Warn("the cluster does not answer; trying again", "object", oid, "err", err)
		select {
		case <-ctx.Done():
			return lost, context.Cause(ctx)
		case <-r.own.closed:
			return lost, ErrClosed
		case <-time.After(pause):
		}
	}
}

// lookup returns the object that is used for a queue, or "".
func (r *RGW) lookup(ctx context.Context, name string) (object string, err error) {
	op := librados.NewRead()
	step := op.OmapGetByKeys(name)
	_, err = r.own.operate(ctx, rgwDirectory, op, 0)
	if errors.Is(err, syscall.ENOENT) || err == nil && len(step.Pairs) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(step.Pairs[0].Value), nil
}

// readID reads the mark of a queue that we use. Errors: ENOENT when there is
// no such object, ENODATA when it is not used by us.
func (r *RGW) readID(ctx context.Context, object string) (rgwID, error) {
	op := librados.NewRead()
	op.AssertExists()
	step := op.GetXattr(attrRGWID)
	if _, err := r.operate(ctx, object, op, 0); err != nil {
		return rgwID{}, err
	}
	if err := step.Err(); err != nil {
		return rgwID{}, err
	}
	return decodeRGWID(step.Data)
}

// Create makes a queue, durably; one that radosgw made is used. A radosgw
// takes notice of a new one within 30 s.
func (r *RGW) Create(ctx context.Context, name string, capacity int64) error {
	tenanted, bare, ok := rgwObjects(name)
	if !ok {
		if len(name) > rgwMaxName {
			r.own.opts.Logger.Warn("radosgw cannot deliver from queues with such a long name: it is not shared", "queue", name)
		}
		return r.own.Create(ctx, name, capacity)
	}
	if capacity <= 0 {
		return fmt.Errorf("create queue %s: capacity %d: %w", name, capacity, queue.ErrInvalid)
	}
	if err := r.own.enter(); err != nil {
		return err
	}
	defer r.own.leave()
	if err := r.create(ctx, name, tenanted, bare, uint64(min(capacity, maxRing-1))); err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	return nil
}

func (r *RGW) create(ctx context.Context, name, tenanted, bare string, capacity uint64) error {
	used, err := r.lookup(ctx, name)
	if err != nil {
		return err
	}
	var id incarnation
	_, _ = rand.Read(id[:]) // it cannot fail
	for _, object := range []string{used, tenanted, bare} {
		if object == "" {
			continue
		}
		there, err := r.adopt(ctx, object, rgwID{incarnation: id})
		switch {
		case errors.Is(err, syscall.ENOENT):
			continue
		case err != nil:
			return err
		case used == object && there.incarnation != id:
			return queue.ErrQueueExists
		}
		return r.enlist(ctx, name, object, there.made)
	}
	if used == "" {
		if used, err = r.chooseName(ctx, tenanted, bare); err != nil {
			return err
		}
	}
	if err := r.makeQueue(ctx, used, rgwID{id, true}, capacity); err != nil {
		return err
	}
	return r.enlist(ctx, name, used, true)
}

// makeQueue makes the object of a queue. Its linearization point is the
// operation that creates the object.
func (r *RGW) makeQueue(ctx context.Context, object string, id rgwID, capacity uint64) error {
	op := librados.NewWrite()
	op.Create(true)
	op.Exec(classQueue, methodInit, encodeInit(capacity+1)) // see makeRoom
	op.SetXattr(attrRGWID, id.encode())
	_, err := r.operate(ctx, object, op, 0)
	if errors.Is(err, syscall.EEXIST) { // made just now: by radosgw, another gateway, or us, when the answer was lost
		_, err = r.adopt(ctx, object, rgwID{incarnation: id.incarnation})
	} else if err == nil {
		err = r.repair(ctx, object)
	}
	return err
}

// adopt marks the object of a queue as one that we use, unless it is. It
// returns the mark that it has.
func (r *RGW) adopt(ctx context.Context, object string, id rgwID) (rgwID, error) {
	for {
		there, err := r.readID(ctx, object)
		if !errors.Is(err, syscall.ENODATA) {
			return there, err
		}
		op := librados.NewWrite()
		op.AssertExists()
		op.CmpXattr(attrRGWID, librados.Equal, nil)
		op.Exec(classQueue, methodCapacity, nil) // it is a queue
		op.SetXattr(attrRGWID, id.encode())
		op.OmapRmRange(keyRGWFirst, keyRGWEnd)
		if _, err := r.operate(ctx, object, op, 0); err != nil && !errors.Is(err, librados.ErrMismatch) {
			return rgwID{}, err
		}
		if err := r.repair(ctx, object); err != nil {
			return rgwID{}, err
		}
	}
}

// enlist notes a queue where radosgw looks for queues, and then where we do.
func (r *RGW) enlist(ctx context.Context, name, object string, made bool) error {
	if made { // radosgw noted its own
		op := librados.NewWrite()
		op.OmapSet(librados.Pair{Key: object})
		if _, err := r.operate(ctx, rgwRegistry, op, 0); err != nil {
			return err
		}
	}
	op := librados.NewWrite()
	op.OmapSet(librados.Pair{Key: name, Value: []byte(object)})
	_, err := r.own.operate(ctx, rgwDirectory, op, 0)
	return err
}

// chooseName decides on the name of an object that is to be made.
func (r *RGW) chooseName(ctx context.Context, tenanted, bare string) (string, error) {
	switch r.names {
	case RGWNamesBare:
		return bare, nil
	case RGWNamesTenant:
		return tenanted, nil
	}
	// The method came with the names.
	make, ask := librados.NewWrite(), librados.NewRead()
	make.Create(false)
	if _, err := r.operate(ctx, rgwRegistry, make, 0); err != nil {
		return "", err
	}
	ask.Exec(classQueue, methodRGWStats, nil)
	switch _, err := r.operate(ctx, rgwRegistry, ask, 0); {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return bare, nil
	case err == nil || errors.Is(err, syscall.EINVAL):
		return tenanted, nil
	default:
		return "", err
	}
}

// Open returns a handle. It asks the cluster.
func (r *RGW) Open(ctx context.Context, name string) (queue.Queue, error) {
	if _, _, ok := rgwObjects(name); !ok {
		return r.own.Open(ctx, name)
	}
	if err := r.own.enter(); err != nil {
		return nil, err
	}
	defer r.own.leave()
	q, err := r.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	return q, nil
}

func (r *RGW) open(ctx context.Context, name string) (*rgwQueue, error) {
	r.mu.Lock()
	q := r.queues[name]
	r.mu.Unlock()
	if q != nil {
		if there, err := r.readID(ctx, q.object); err == nil && there == q.id {
			return q, nil
		}
	}
	object, err := r.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if object == "" {
		return nil, queue.ErrNoSuchQueue
	}
	var id incarnation
	_, _ = rand.Read(id[:])                                    // it cannot fail
	there, err := r.adopt(ctx, object, rgwID{incarnation: id}) // radosgw may have made it anew
	if err != nil {
		return nil, noQueue(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.queues[name]; q != nil && q.object == object && q.id == there {
		return q, nil
	}
	q = newRGWQueue(r, name, object, there)
	r.queues[name] = q
	return q, nil
}

// Delete removes a queue that we made, durably; radosgw's own is only no
// longer used: its topic needs it.
func (r *RGW) Delete(ctx context.Context, name string) error {
	if _, _, ok := rgwObjects(name); !ok {
		return r.own.Delete(ctx, name)
	}
	if err := r.own.enter(); err != nil {
		return err
	}
	defer r.own.leave()
	if err := r.delete(ctx, name); err != nil {
		return fmt.Errorf("delete queue %s: %w", name, err)
	}
	return nil
}

func (r *RGW) delete(ctx context.Context, name string) error {
	object, err := r.lookup(ctx, name)
	if err != nil {
		return err
	}
	if object == "" {
		return queue.ErrNoSuchQueue
	}
	id, err := r.readID(ctx, object)
	gone := errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODATA)
	if err != nil && !gone {
		return err
	}
	if !gone {
		if err := r.letGo(ctx, object, id); err != nil {
			return err
		}
	}
	r.mu.Lock()
	delete(r.queues, name)
	r.mu.Unlock()
	op := librados.NewWrite()
	op.OmapRm(name)
	if _, err := r.own.operate(ctx, rgwDirectory, op, 0); err != nil {
		return err
	}
	if gone {
		return queue.ErrNoSuchQueue
	}
	return nil
}

// letGo removes an object that we made, or what we keep in radosgw's. Its
// linearization point is that operation. radosgw's list of queues follows.
func (r *RGW) letGo(ctx context.Context, object string, id rgwID) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(attrRGWID, librados.Equal, id.encode())
	if id.made {
		op.Remove()
	} else {
		op.RmXattr(attrRGWID)
		op.RmXattr(attrRGWFence)
		op.OmapRmRange(keyRGWFirst, keyRGWEnd)
	}
	_, err := r.operate(ctx, object, op, 0)
	if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, librados.ErrMismatch) || !id.made {
		return ignoreGone(err)
	}
	unlist := librados.NewWrite()
	unlist.OmapRm(object)
	_, err = r.operate(ctx, rgwRegistry, unlist, 0)
	return err
}

// ignoreGone makes nothing of the error that the object, or that mark on it,
// is no more.
func ignoreGone(err error) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, librados.ErrMismatch) {
		return nil
	}
	return err
}

// List returns the names of the queues that we use, in byte order.
func (r *RGW) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := r.own.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	if err := r.own.enter(); err != nil {
		return nil, err
	}
	defer r.own.leave()
	for after := ""; ; {
		op := librados.NewRead()
		step := op.OmapGetVals(after, prefix, 1000)
		if _, err := r.own.operate(ctx, rgwDirectory, op, 0); errors.Is(err, syscall.ENOENT) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		for _, p := range step.Pairs {
			names, after = append(names, p.Key), p.Key
		}
		if !step.More || len(step.Pairs) == 0 {
			break
		}
	}
	slices.Sort(names)
	return names, nil
}
