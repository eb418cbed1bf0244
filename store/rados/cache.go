//go:build rados

package rados

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	librados "herald/rados"
)

const (
	cacheFresh  = 400 * time.Millisecond // then one caller looks whether the object has changed
	cacheStale  = 800 * time.Millisecond // then everybody looks
	cacheValues = 10_000
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
	c.keep(keys[0], values, version, begin)
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

// forget tells that what is kept is not what the cluster has.
func (c *omapCache) forget() { c.wrote(0) }

// wrote tells of a change by ourselves, which made a version of the object.
func (c *omapCache) wrote(version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = max(c.written, version)
	c.values = nil
}
