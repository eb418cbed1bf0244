package queue

import (
	"context"
	"time"
)

// OwnerLock and the name of a queue are the name of the lock that whoever
// delivers the queue holds. A driver may keep it with the queue.
const OwnerLock = "queue/"

// Locker gives out leases. A lease is not proof: its holder may have paused
// beyond it. Whoever acts on one passes its fencing number along, and repeats
// nothing that must happen only once.
type Locker interface {
	// Acquire takes the lock of that name for owner (unique per process), or
	// answers ErrLocked at once. An owner that holds it already gets it again,
	// with the same fence.
	Acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error)
	// Join enters owner into a group for ttl, or lets it stay that much
	// longer, and returns who is in it now, in byte order, owner among them.
	// Gateways learn from it between whom the work is to be shared.
	Join(ctx context.Context, group, owner string, ttl time.Duration) (members []string, err error)
	// Leave takes owner out of a group. One that is not in it is no error.
	Leave(ctx context.Context, group, owner string) error
}

// Lease is a lock held for a time.
type Lease interface {
	// Fence grows with each new holder of the lock, across restarts.
	Fence() uint64
	// Renew extends the lease to its full time from now.
	// Errors: ErrLeaseLost.
	Renew(ctx context.Context) error
	// Release gives the lock back, unless its owner has acquired it again
	// since: that lease stays. A lost lease is no error.
	Release(ctx context.Context) error
	// Expires is when the lease ends unless it is renewed, by this process's
	// monotonic clock.
	Expires() time.Time
}
