//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// Locker returns locks. That of a topic's queue (queue.OwnerLock and "TENANT:TOPIC") is the
// one that radosgw takes, on the queue's object: who holds it is the only one,
// of gateways and radosgws, to deliver from it. All others are our own.
func (r *RGW) Locker() queue.Locker { return rgwLocker{r, r.own.Locker()} }

type rgwLocker struct {
	r *RGW
	queue.Locker
}

// rgwLease is a queue's lock held for a time.
type rgwLease struct {
	r      *RGW
	object string
	id     rgwID
	call   lockCall
	fence  uint64
	ttl    time.Duration

	latest *rgwHandle // that its owner acquired; guarded by the driver's mu

	mu      sync.Mutex // guards what follows
	expires time.Time
	ended   bool
	kept    time.Time // when keep was last done
}

// rgwHandle is one Acquire of a lease.
type rgwHandle struct{ *rgwLease }

// Acquire takes a lock.
func (l rgwLocker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	queueName, isQueue := strings.CutPrefix(name, queue.OwnerLock)
	if _, _, ok := rgwObjects(queueName); !isQueue || !ok {
		return l.Locker.Acquire(ctx, name, owner, ttl)
	}
	if err := l.r.own.enter(); err != nil {
		return nil, err
	}
	defer l.r.own.leave()
	q, err := l.r.open(ctx, queueName)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	lease, err := l.r.acquire(ctx, q, owner, ttl)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return lease, nil
}

// acquire takes the lock of a queue: its owner gets the lease that it has. The
// linearization point is the operation that locks and sets the fence.
func (r *RGW) acquire(ctx context.Context, q *rgwQueue, owner string, ttl time.Duration) (*rgwHandle, error) {
	r.mu.Lock()
	held := r.leases[q.object]
	r.mu.Unlock()
	if held != nil && ownerOf(held.call.cookie) == owner && held.id == q.id {
		err := held.renew(ctx, ttl)
		if err != nil && !errors.Is(err, queue.ErrLeaseLost) {
			return nil, err
		}
		if h := r.again(held); err == nil && h != nil {
			return h, nil
		}
	}
	for {
		last, holders, err := q.lockState(ctx)
		if err != nil {
			return nil, err
		}
		lease := &rgwLease{r: r, object: q.object, id: q.id, ttl: ttl, fence: last + 1, expires: r.own.opts.Now().Add(ttl)}
		if last == 0 {
			// Those of a queue grow although another of the name was there before.
			lease.fence = uint64(r.own.stamp() / 1e3)
		}
		if len(holders) > 0 {
			if ownerOf(holders[0].cookie) != owner {
				return nil, queue.ErrLocked
			}
			// The owner's own: taken by another connection, or not answered.
			lease.fence = last
			if err := q.breakLock(ctx, holders[0]); err != nil {
				return nil, err
			}
		}
		lease.call = q.lockCall(newCookie(owner, lease.fence))
		switch err := q.lock(ctx, lease, last); {
		case errors.Is(err, librados.ErrMismatch):
			continue
		case errors.Is(err, syscall.EBUSY):
			return nil, queue.ErrLocked
		case err != nil:
			return nil, err
		}
		r.mu.Lock()
		r.leases[q.object] = lease
		r.mu.Unlock()
		if h := r.again(lease); h != nil {
			return h, nil
		}
	}
}

// again returns a new handle of a lease, or nil when it has ended meanwhile.
func (r *RGW) again(l *rgwLease) *rgwHandle {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leases[l.object] != l {
		return nil
	}
	l.latest = &rgwHandle{l}
	return l.latest
}

// lockCall is what calls for the lock of the queue's owner have in common.
func (q *rgwQueue) lockCall(cookie string) lockCall {
	return lockCall{name: rgwLockName(q.object), kind: lockExclusive, cookie: cookie}
}

// lock takes a free lock, and sets its fence, in one operation.
func (q *rgwQueue) lock(ctx context.Context, lease *rgwLease, last uint64) error {
	op := q.write()
	if last == 0 {
		op.CmpXattr(attrRGWFence, librados.Equal, nil)
	} else {
		op.CmpXattr(attrRGWFence, librados.Equal, fenceText(last))
	}
	op.Exec(classLock, methodLock, lease.call.encodeLock(lease.ttl, lockMayRenew))
	op.SetXattr(attrRGWFence, fenceText(lease.fence))
	_, err := q.operate(ctx, op, 0)
	return err
}

// breakLock ends a holder's lock. One that has ended is no error.
func (q *rgwQueue) breakLock(ctx context.Context, h holder) error {
	op := q.write()
	op.Exec(classLock, methodBreakLock, q.lockCall(h.cookie).encodeBreak(h))
	if _, err := q.operate(ctx, op, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// lockState reads the newest fence of a queue, and who has its lock.
func (q *rgwQueue) lockState(ctx context.Context) (fence uint64, holders []holder, err error) {
	op := q.read()
	step, info := op.GetXattr(attrRGWFence), op.Exec(classLock, methodLockInfo, q.lockCall("").encodeInfo())
	if _, err := q.operate(ctx, op, 0); err != nil {
		return 0, nil, err
	}
	if err := step.Err(); err != nil && !errors.Is(err, syscall.ENODATA) {
		return 0, nil, err
	}
	if fence, err = parseFence(step.Data); err != nil {
		return 0, nil, err
	}
	holders, err = decodeLockInfo(info.Data)
	return fence, holders, err
}

// assertLease lets an operation of the lease with that fence fail with EBUSY
// when radosgw, or another gateway, has the lock by now.
func (r *RGW) assertLease(op *librados.WriteOp, object string, fence uint64) {
	r.mu.Lock()
	lease := r.leases[object]
	r.mu.Unlock()
	if lease != nil && lease.fence == fence {
		op.Exec(classLock, methodAssertLocked, lease.call.encodeAssert())
	}
}

// Fence grows with each new holder among our gateways.
func (l *rgwLease) Fence() uint64 { return l.fence }

// Expires is when the lease ends unless it is renewed.
func (l *rgwLease) Expires() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expires
}

// Renew extends the lease, and does for the queue what its owner does.
func (l *rgwLease) Renew(ctx context.Context) error {
	if err := l.r.own.enter(); err != nil {
		return err
	}
	defer l.r.own.leave()
	if err := l.renew(ctx, l.ttl); err != nil {
		return err
	}
	l.mu.Lock()
	due := time.Since(l.kept) >= rgwExpireEvery
	if due {
		l.kept = time.Now()
	}
	l.mu.Unlock()
	if due {
		if err := l.keep(ctx, rgwStale); err != nil {
			l.r.own.opts.Logger.Warn("look after a queue", "object", l.object, "err", err)
		}
	}
	return nil
}

func (l *rgwLease) renew(ctx context.Context, ttl time.Duration) error {
	l.mu.Lock()
	ended := l.ended
	l.mu.Unlock()
	if ended {
		return queue.ErrLeaseLost
	}
	until := l.r.own.opts.Now().Add(ttl)
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(attrRGWID, librados.Equal, l.id.encode())
	op.Exec(classLock, methodLock, l.call.encodeLock(ttl, lockMustRenew))
	_, err := l.r.operate(ctx, l.object, op, 0)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EBUSY), errors.Is(err, librados.ErrMismatch):
		l.end()
		return queue.ErrLeaseLost
	case err != nil:
		return err
	}
	l.mu.Lock()
	l.expires = until
	l.mu.Unlock()
	return nil
}

// end forgets the lease.
func (l *rgwLease) end() {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.forget()
}

// forget is end with the driver's mu held.
func (l *rgwLease) forget() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	if l.r.leases[l.object] == l {
		delete(l.r.leases, l.object)
	}
}

// endLatest is end, and true, unless there is a later handle.
func (l *rgwHandle) endLatest() bool {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.latest != l {
		return false
	}
	l.forget()
	return true
}

// Release gives the lock back, unless its owner acquired it again since: a
// radosgw may take it within 30 s.
func (l *rgwHandle) Release(ctx context.Context) error {
	if err := l.r.own.enter(); err != nil {
		return err
	}
	defer l.r.own.leave()
	if !l.endLatest() {
		return nil
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classLock, methodUnlock, l.call.encodeUnlock())
	if _, err := l.r.operate(ctx, l.object, op, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("unlock %s: %w", l.call.name, err)
	}
	return nil
}
