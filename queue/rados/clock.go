//go:build rados

package rados

import (
	"sync"
	"time"
)

// clock tells the cluster's time and translates it. The cluster's time is that
// of the OSD with the clock object, sampled now and then, and carried on by the
// monotonic clock of this process. Times of the caller are translated by the
// difference between the caller's clock and that, whatever it is. It is taken
// as unchanged while it varies by less than half a second, and as none at the
// beginning, so that times come back as they were given.
type clock struct {
	now func() time.Time // the caller's

	mu     sync.Mutex // guards what follows
	server time.Time  // at the sample
	at     time.Time  // the same moment, by time.Now
	diff   time.Duration
}

// steady is how far the difference may vary.
const steady = 500 * time.Millisecond

// sample notes the cluster's time at a moment of time.Now.
func (c *clock) sample(server, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server, c.at = server, at
}

// age tells how long ago the last sample was.
func (c *clock) age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.at)
}

// difference is how far the caller's clock is ahead of the cluster's.
func (c *clock) difference() time.Duration {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := now.Sub(c.server.Add(time.Since(c.at))); (d - c.diff).Abs() > steady {
		c.diff = d
	}
	return c.diff
}

// stamp is the cluster's time now, in nanoseconds since 1970.
func (c *clock) stamp() int64 { return c.now().Add(-c.difference()).UnixNano() }

// maxTime is the last that nanoseconds can tell; what is later is as late.
const maxTime = 1<<63 - 1

// stampOf translates a time of the caller.
func (c *clock) stampOf(t time.Time) int64 {
	t = t.Add(-c.difference())
	switch {
	case t.After(time.Unix(0, maxTime)):
		return maxTime
	case t.Before(time.Unix(0, 0)):
		return 0
	}
	return t.UnixNano()
}

// timeOf translates a stamp for the caller.
func (c *clock) timeOf(stamp int64) time.Time { return time.Unix(0, stamp).Add(c.difference()) }
