package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"herald/queue"
)

// locker gives out leases that end by the server's clock. By this process's
// they end earlier: they count from before the call was sent.
type locker Driver

// lease is what its holder has.
type lease struct {
	d     *Driver
	name  string
	owner string
	fence uint64
	token string // of the Acquire
	ttl   time.Duration

	mu      sync.Mutex // guards expires
	expires time.Time
}

var (
	_ queue.Locker = (*locker)(nil)
	_ queue.Lease  = (*lease)(nil)
)

// millis is a lease's time for the server, at least 1.
func millis(ttl time.Duration) int64 { return max(1, ttl.Milliseconds()) }

// Acquire takes a lock when the script has run.
func (l *locker) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (queue.Lease, error) {
	d := (*Driver)(l)
	token := newToken()
	c := &call{script: acquireScript, keys: d.lockKeys(name), args: []any{owner, millis(ttl), token}}
	reply, _, err := d.do(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("acquire lock %s: %w", name, err)
	}
	fence, ok := reply.(int64)
	switch {
	case !ok:
		return nil, fmt.Errorf("acquire lock %s: %w: %T", name, errReply, reply)
	case fence == 0:
		return nil, fmt.Errorf("acquire lock %s: %w", name, queue.ErrLocked)
	}
	return &lease{d: d, name: name, owner: owner, fence: uint64(fence), token: token, ttl: ttl, expires: c.sent.Add(ttl)}, nil
}

// Fence returns the fencing number.
func (h *lease) Fence() uint64 { return h.fence }

// Expires tells when the lease ends.
func (h *lease) Expires() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expires
}

// Renew extends the lease when the script has run. A lease that ends before an
// answer comes is lost.
func (h *lease) Renew(ctx context.Context) error {
	left := max(h.Expires().Sub(h.d.opts.Now()), h.ttl/3)
	try, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	c, err := h.call(try, millis(h.ttl))
	if err != nil {
		if ctx.Err() == nil && try.Err() != nil {
			err = fmt.Errorf("%w: %w", queue.ErrLeaseLost, err)
		}
		return fmt.Errorf("renew lock %s: %w", h.name, err)
	}
	if c.reply != int64(1) {
		return fmt.Errorf("renew lock %s: %w", h.name, queue.ErrLeaseLost)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expires = c.sent.Add(h.ttl)
	return nil
}

// Release ends the lease when the script has run, unless its owner acquired it
// again since.
func (h *lease) Release(ctx context.Context) error {
	if _, err := h.call(ctx, 0); err != nil {
		return fmt.Errorf("release lock %s: %w", h.name, err)
	}
	return nil
}

func (h *lease) call(ctx context.Context, ttl int64) (*call, error) {
	c := &call{script: renewScript, keys: h.d.lockKeys(h.name)[:1], args: []any{h.owner, strconv.FormatUint(h.fence, 10), ttl, h.token}}
	_, _, err := h.d.do(ctx, c)
	return c, err
}

// Join enters owner into a group when the script has run.
func (l *locker) Join(ctx context.Context, group, owner string, ttl time.Duration) ([]string, error) {
	members, err := l.group(ctx, group, owner, millis(ttl))
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", group, err)
	}
	return members, nil
}

// Leave takes owner out of a group when the script has run.
func (l *locker) Leave(ctx context.Context, group, owner string) error {
	if _, err := l.group(ctx, group, owner, 0); err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	return nil
}

func (l *locker) group(ctx context.Context, group, owner string, ttl int64) ([]string, error) {
	d := (*Driver)(l)
	reply, _, err := d.do(ctx, &call{script: groupScript, keys: d.groupKeys(group), args: []any{owner, ttl}})
	if err != nil {
		return nil, err
	}
	members, err := texts(reply)
	slices.Sort(members)
	return members, err
}
