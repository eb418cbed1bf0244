//go:build rados

package rados

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"herald/queue"
	librados "herald/rados"
)

// lockName is the name of the one lock that an object has, with the class.
const lockName = "herald"

// locker gives out leases by the class lock. Each lock is on an object of its
// own, or that of a queue.OwnerLock on the queue's. The OSD judges when it expires. A fence is an
// attribute of the object, and grows in the operation that takes the lock. The
// cookie of a lock has the fence and a token, so that a lease and a later one of
// the same owner are not the same holder. Its operations do not wait behind others for
// the connection: a lease must not end because there is much to do.
type locker struct {
	d *Driver

	mu   sync.Mutex // guards what follows
	held map[string]*lease
}

// lease is a lock that this driver took.
type lease struct {
	l     *locker
	name  string
	oid   string
	owner string
	fence uint64
	call  lockCall

	latest *handle // that its owner acquired; guarded by the locker's mu

	mu      sync.Mutex // guards what follows
	ttl     time.Duration
	expires time.Time
	lapsed  bool // the OSD did not take us for the holder any more
	lost    bool // another has the lock, or had it
}

// handle is one Acquire of a lease: its owner may acquire what it holds.
type handle struct{ *lease }

var (
	_ queue.Locker = (*locker)(nil)
	_ queue.Lease  = (*handle)(nil)
)

func newLocker(d *Driver) *locker { return &locker{d: d, held: make(map[string]*lease)} }

// newCookie returns one that no holder had.
func newCookie(owner string, fence uint64) string {
	return fmt.Sprintf("%s#%d.%016x", owner, fence, randomID())
}

// ownerOf returns whose a cookie is.
func ownerOf(cookie string) string {
	if i := strings.LastIndexByte(cookie, '#'); i >= 0 {
		return cookie[:i]
	}
	return cookie
}

// objects returns the object of a lock's own, and that of its queue, or "".
func (l *locker) objects(name string) (own, ofQueue string) {
	own = prefixLock + escape(name)
	if q, ok := strings.CutPrefix(name, queue.OwnerLock); ok && checkName(q) == nil {
		ofQueue = prefixQueue + q
	}
	return own, ofQueue
}

// escape makes a name one of an object, which cannot have a zero byte.
func escape(name string) string {
	return strings.NewReplacer("%", "%25", "\x00", "%00").Replace(name)
}

// Acquire takes a lock.
func (l *locker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	if err := l.d.enter(); err != nil {
		return nil, err
	}
	defer l.d.leave()
	l.mu.Lock()
	held := l.held[name]
	l.mu.Unlock()
	if held != nil && held.owner == owner {
		switch err := held.extend(ctx, ttl); {
		case err == nil:
			if again := l.again(held); again != nil {
				return again, nil
			}
		case !errors.Is(err, queue.ErrLeaseLost):
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
	}
	h, err := l.take(ctx, name, owner, ttl)
	if err != nil {
		if errors.Is(err, queue.ErrLocked) {
			return nil, err
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = h
	h.latest = &handle{h}
	return h.latest, nil
}

// again returns a new handle of a lease, or nil when it was released meanwhile.
func (l *locker) again(h *lease) *handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[h.name] != h {
		return nil
	}
	h.latest = &handle{h}
	return h.latest
}

// lockState is what is known of a lock.
type lockState struct {
	oid     string
	exists  bool   // its object does
	fence   []byte // as stored
	holders []holder
}

func (l *locker) state(ctx context.Context, oid string) (s lockState, err error) {
	s.oid = oid
	op := librados.NewRead()
	op.AssertExists()
	fence, info := op.GetXattr(xattrFence), op.Exec(classLock, methodLockInfo, lockCall{name: lockName}.encodeInfo())
	if _, err := l.d.operate(ctx, oid, op, librados.Urgent); errors.Is(err, syscall.ENOENT) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	s.exists, s.fence = true, fence.Data
	s.holders, err = decodeLockInfo(info.Data)
	return s, err
}

// last returns the fence of the last holder, or 0.
func (s *lockState) last() uint64 {
	if len(s.fence) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(s.fence)
}

// next returns the fence of the next holder: one more than the last. The
// first is the time, so that those of a queue grow although another queue of
// that name was there before.
func (s *lockState) next(now int64) uint64 {
	if last := s.last(); last > 0 {
		return last + 1
	}
	return uint64(max(now, 1e3) / 1e3)
}

// find returns the state of a lock: on the object of the queue, if there is
// one, else on an object of its own, where it may still be held when a queue
// has come.
func (l *locker) find(ctx context.Context, name, owner string) (lockState, error) {
	own, ofQueue := l.objects(name)
	if ofQueue == "" {
		return l.state(ctx, own)
	}
	q, err := l.state(ctx, ofQueue)
	if err != nil || len(q.holders) > 0 {
		return q, err
	}
	s, err := l.state(ctx, own)
	if err != nil || !q.exists || len(s.holders) > 0 && ownerOf(s.holders[0].cookie) != owner {
		return s, err
	}
	return q, nil
}

// take makes its owner the holder of a lock.
func (l *locker) take(ctx context.Context, name, owner string, ttl time.Duration) (*lease, error) {
	for {
		s, err := l.find(ctx, name, owner)
		if err != nil {
			return nil, err
		}
		expires := l.d.opts.Now().Add(ttl)
		h := &lease{l: l, name: name, oid: s.oid, owner: owner, fence: s.next(l.d.stamp()), ttl: ttl, expires: expires}
		if len(s.holders) > 0 {
			if ownerOf(s.holders[0].cookie) != owner {
				return nil, queue.ErrLocked
			}
			// The owner's own: taken by another connection, or not answered.
			h.fence = s.last()
			if err := l.breakLock(ctx, s.oid, s.holders[0]); err != nil {
				return nil, err
			}
		}
		h.call = lockCall{name: lockName, kind: lockExclusive, cookie: newCookie(owner, h.fence)}
		err = l.lock(ctx, h, &s)
		switch {
		case err == nil:
			if ok, err := l.rightPlace(ctx, h); ok || err != nil {
				return h, err
			}
		case errors.Is(err, syscall.EBUSY):
			return nil, queue.ErrLocked
		case !errors.Is(err, librados.ErrMismatch) && !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENOENT):
			return nil, err
		}
	}
}

// rightPlace gives a queue's lock back that was taken beside the queue when
// that has come meanwhile.
func (l *locker) rightPlace(ctx context.Context, h *lease) (bool, error) {
	_, ofQueue := l.objects(h.name)
	if ofQueue == "" || h.oid == ofQueue {
		return true, nil
	}
	s, err := l.state(ctx, ofQueue)
	if err == nil && !s.exists {
		return true, nil
	}
	return false, errors.Join(err, h.unlock(ctx))
}

// lock takes a free lock, and counts its fence, in one operation.
func (l *locker) lock(ctx context.Context, h *lease, s *lockState) error {
	op := librados.NewWrite()
	if s.exists {
		op.AssertExists()
		op.CmpXattr(xattrFence, librados.Equal, s.fence)
	} else {
		op.Create(true)
	}
	op.Exec(classLock, methodLock, h.call.encodeLock(h.ttl, 0))
	op.SetXattr(xattrFence, binary.BigEndian.AppendUint64(nil, h.fence))
	_, err := l.d.operate(ctx, h.oid, op, librados.Urgent)
	return err
}

// breakLock ends a holder's lock. One that has ended is no error.
func (l *locker) breakLock(ctx context.Context, oid string, h holder) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classLock, methodBreakLock, lockCall{name: lockName}.encodeBreak(h))
	if _, err := l.d.operate(ctx, oid, op, librados.Urgent); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// Fence returns the fencing number.
func (h *lease) Fence() uint64 { return h.fence }

// Renew extends the lease. It is lost when the OSD does not take us for the
// holder any more.
func (h *lease) Renew(ctx context.Context) error {
	if err := h.l.d.enter(); err != nil {
		return err
	}
	defer h.l.d.leave()
	h.mu.Lock()
	ttl := h.ttl
	h.mu.Unlock()
	return h.extend(ctx, ttl)
}

func (h *lease) extend(ctx context.Context, ttl time.Duration) error {
	expires := h.l.d.opts.Now().Add(ttl)
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classLock, methodLock, h.call.encodeLock(ttl, lockMustRenew))
	_, err := h.l.d.operate(ctx, h.oid, op, librados.Urgent)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && !h.lost:
		h.ttl, h.expires = ttl, expires
		return nil
	case err == nil || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EBUSY):
		h.lapsed = true
		return queue.ErrLeaseLost
	}
	return fmt.Errorf("renew lock %s: %w", h.name, err)
}

// Release gives the lock back, unless its owner acquired it again since.
func (h *handle) Release(ctx context.Context) error {
	if err := h.l.d.enter(); err != nil {
		return err
	}
	defer h.l.d.leave()
	h.l.mu.Lock()
	latest := h.latest == h
	if latest && h.l.held[h.name] == h.lease {
		delete(h.l.held, h.name)
	}
	h.l.mu.Unlock()
	if !latest {
		return nil
	}
	h.mu.Lock()
	h.expires = h.l.d.opts.Now()
	h.mu.Unlock()
	return h.unlock(ctx)
}

func (h *lease) unlock(ctx context.Context) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.Exec(classLock, methodUnlock, h.call.encodeUnlock())
	if _, err := h.l.d.operate(ctx, h.oid, op, librados.Urgent); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("release lock %s: %w", h.name, err)
	}
	return nil
}

// Expires tells when the lease ends. It is reckoned from before the call that
// took or renewed it, and so is never later than the OSD takes it to be.
func (h *lease) Expires() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expires
}

// guard keeps a change that acks under a lease from taking effect once the
// lease is another's.
type guard struct{ *lease }

// guards returns those of the leases that acks of a batch name by their fence.
func (q *Queue) guards(batch []*call) []guard {
	l := q.d.locker
	l.mu.Lock()
	h := l.held[queue.OwnerLock+q.name]
	l.mu.Unlock()
	if h == nil || h.oid != q.oid || !slices.ContainsFunc(batch, func(c *call) bool { return c.ack.fence == h.fence && c.staged == nil }) {
		return nil
	}
	return []guard{{h}}
}

// add has the operation fail unless the lease is held. When the lease has
// lapsed it is enough that nobody else took the lock since.
func (g guard) add(op *librados.WriteOp) {
	g.mu.Lock()
	lapsed := g.lapsed
	g.mu.Unlock()
	if lapsed {
		op.CmpXattr(xattrFence, librados.Equal, binary.BigEndian.AppendUint64(nil, g.fence))
		return
	}
	op.Exec(classLock, methodAssertLocked, g.call.encodeAssert())
}

// lapse notes that the OSD does not take us for the holder.
func (q *Queue) lapse(ctx context.Context, guards []guard) error {
	for _, g := range guards {
		g.mu.Lock()
		g.lapsed = true
		g.mu.Unlock()
	}
	return q.superseded(ctx, guards)
}

// superseded finds out which of the leases are lost to others.
func (q *Queue) superseded(ctx context.Context, guards []guard) error {
	for _, g := range guards {
		s, err := q.d.locker.state(ctx, q.oid)
		if err != nil {
			return err
		}
		g.mu.Lock()
		g.lost = g.lost || s.last() != g.fence
		g.mu.Unlock()
	}
	return nil
}

// superseded tells whether a fence is that of a lease that another has taken
// over.
func (l *locker) superseded(name string, fence uint64) bool {
	l.mu.Lock()
	h := l.held[name]
	l.mu.Unlock()
	if h == nil || h.fence != fence {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// Join enters owner into a group: a shared lock, of which the OSD forgets
// holders whose time is over.
func (l *locker) Join(ctx context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	if err := l.d.enter(); err != nil {
		return nil, err
	}
	defer l.d.leave()
	oid, call := prefixGroup+escape(group), lockCall{name: lockName, kind: lockShared, cookie: owner}
	op := librados.NewWrite()
	op.Exec(classLock, methodLock, call.encodeLock(ttl, lockMayRenew))
	if _, err := l.d.operate(ctx, oid, op, librados.Urgent); err != nil {
		return nil, fmt.Errorf("join group %s: %w", group, err)
	}
	holders, err := l.d.holders(ctx, oid, lockName)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", group, err)
	}
	members := []string{owner}
	for _, h := range holders {
		members = append(members, h.cookie)
	}
	slices.SortFunc(members, cmp.Compare)
	return slices.Compact(members), nil
}

// Leave takes owner out of a group, whichever connection it came by.
func (l *locker) Leave(ctx context.Context, group, owner string) error {
	if err := l.d.enter(); err != nil {
		return err
	}
	defer l.d.leave()
	oid := prefixGroup + escape(group)
	holders, err := l.d.holders(ctx, oid, lockName)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	for _, h := range holders {
		if err == nil && h.cookie == owner {
			err = l.breakLock(ctx, oid, h)
		}
	}
	if err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	return nil
}
