//go:build rados

package rados

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"time"

	librados "herald/rados"
)

const (
	cacheFresh  = 400 * time.Millisecond // then one caller looks whether the object has changed
	cacheStale  = 800 * time.Millisecond // then everybody looks
	cacheValues = 10_000
	// tellTimeout bounds the wait for others to hear of a change: one that died
	// is a watcher for 30 s.
	tellTimeout = 300 * time.Millisecond
)

// omapCache keeps values of one object's omap, for less than a second: it
// knows the object's version, and asks for it again. That something is not
// there is not kept: who made it by one gateway may use it at once by another.
type omapCache struct {
	io  *librados.IO
	oid string

	mu      sync.Mutex // guards what follows
	checked time.Time  // when the version was known to be current
	asking  bool       // somebody looks whether it still is
	version uint64     // of the object; 0: it does not exist
	written uint64     // a version of our own writing: what is older is not kept
	forgot  int        // how often what was kept was forgotten; what was asked for before is not kept
	values  map[string][][]byte
}

// get returns the values of keys, nil for those that are not there. They are
// kept under the first key; the caller must not change them.
func (c *omapCache) get(ctx context.Context, keys ...string) ([][]byte, error) {
	if v, ok := c.known(keys[0]); ok {
		return v, nil
	}
	return c.fetch(ctx, keys)
}

// known returns what is cached, unless it is for the caller to ask again.
func (c *omapCache) known(key string) ([][]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	age := time.Since(c.checked)
	switch {
	case !ok || v[0] == nil || age > cacheStale:
		return nil, false
	case age > cacheFresh && !c.asking:
		c.asking = true
		return nil, false
	}
	return v, true
}

func (c *omapCache) fetch(ctx context.Context, keys []string) ([][]byte, error) {
	begin := time.Now()
	c.mu.Lock()
	forgot := c.forgot
	c.mu.Unlock()
	op := librados.NewRead()
	step := op.OmapGetByKeys(keys...)
	version, err := c.io.Operate(ctx, c.oid, op, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return nil, err
	}
	values := make([][]byte, len(keys))
	if err == nil {
		for i, key := range keys {
			for _, p := range step.Pairs {
				if p.Key == key {
					values[i] = p.Value
				}
			}
		}
	}
	if c.forgot == forgot {
		c.keep(keys[0], values, version, begin)
	}
	return values, nil
}

// keep remembers what was read. c.mu is held.
func (c *omapCache) keep(key string, values [][]byte, version uint64, at time.Time) {
	if version < c.written || version < c.version {
		return // read before a change that is known
	}
	if version > c.version || len(c.values) >= cacheValues || c.values == nil {
		c.values = make(map[string][][]byte)
	}
	c.version = version
	if at.After(c.checked) {
		c.checked = at
	}
	c.values[key] = values
}

// forget tells that what is kept may not be what the cluster has.
func (c *omapCache) forget() { c.wrote(0) }

// wrote tells of a change by ourselves, which made a version of the object.
func (c *omapCache) wrote(version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = max(c.written, version)
	c.forgot++
	c.values = nil
}

// changed is wrote for a change that other gateways should not miss: of
// something that they may have kept. It returns when they have heard of it, or
// soon: one that died is waited for until the cluster knows.
func (c *omapCache) changed(ctx context.Context, version uint64) {
	c.wrote(version)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	_ = c.io.Notify(ctx, c.oid) // they ask again by themselves within a second
}

// watch keeps the cache told of what others change, until the driver closes.
func (c *omapCache) watch(ctx context.Context, closing <-chan struct{}, log *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		w, err := c.begin(ctx)
		if err != nil {
			log.Debug("watch", "object", c.oid, "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		c.forget() // what was changed before nobody told us
		select {
		case <-w.Lost():
			log.Debug("a watch is lost", "object", c.oid)
		case <-ctx.Done():
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
		_ = w.Close(end) // the cluster forgets it in time
		cancel()
	}
}

// begin watches the object, which it makes if need be.
func (c *omapCache) begin(ctx context.Context) (*librados.Watch, error) {
	op := librados.NewWrite()
	op.Create(false)
	if _, err := c.io.Operate(ctx, c.oid, op, 0); err != nil {
		return nil, err
	}
	return c.io.Watch(ctx, c.oid, c.forget)
}
