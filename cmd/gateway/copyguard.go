package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"herald/queue"
)

// copyGuard keeps a copy of a store away from the queues of the original. A
// copy (of a directory, of a machine's disk) has the identity of the original,
// and would take what the original has reserved for its own, left behind by a
// dead process. Who serves a store holds a lock by its identity.
type copyGuard struct {
	name  string // of the lock
	owner string // another one for each copy; the same when a gateway is started again
	ttl   time.Duration
	log   *slog.Logger

	mu   sync.Mutex // guards what follows
	lost error      // why the lock is not held, as far as the server told; nil while it is
}

// errCopy is the answer while another copy is served.
var errCopy = errors.New("another gateway serves a copy of this store with these queues, or died less than a lease ago")

func newCopyGuard(storeID, data string, ttl time.Duration, log *slog.Logger) (*copyGuard, error) {
	info, err := os.Stat(filepath.Join(data, ".herald"))
	if err != nil {
		return nil, err
	}
	place, _ := os.Hostname()
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		place = strings.TrimSpace(string(boot)) // unlike names, it is not copied with a disk
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		place += fmt.Sprintf("-%d-%d", st.Dev, st.Ino)
	}
	return &copyGuard{name: "store/" + storeID, owner: place, ttl: ttl, log: log}, nil
}

// take takes the lock.
func (g *copyGuard) take(ctx context.Context, d queue.Driver) (queue.Lease, error) {
	lease, err := d.Locker().Acquire(ctx, g.name, g.owner, g.ttl)
	if errors.Is(err, queue.ErrLocked) {
		err = errCopy
	}
	return lease, err
}

// keep renews the lock until ctx ends, then gives it back. When it was lost, as
// in a process that was halted for long, it is taken again.
func (g *copyGuard) keep(ctx context.Context, d queue.Driver, lease queue.Lease) {
	tick := time.NewTicker(g.ttl / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = lease.Release(ctx) // else it runs out
			return
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, g.ttl/4)
		err := lease.Renew(try)
		if errors.Is(err, queue.ErrLeaseLost) {
			var again queue.Lease
			if again, err = g.take(try, d); err == nil {
				lease = again
			}
		}
		cancel()
		g.note(err)
	}
}

// note takes the result of a renewal. A server that does not answer says
// nothing about copies: what was known of them stays.
func (g *copyGuard) note(err error) {
	if err != nil && !errors.Is(err, errCopy) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && g.lost == nil {
		g.log.Error("queues are not used any more", "err", err)
	}
	g.lost = err
}

// check is errCopy while another copy is served.
func (g *copyGuard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}
