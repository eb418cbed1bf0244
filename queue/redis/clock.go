package redis

import (
	"sync"
	"time"
)

// clock translates between this process's clock and that of a server, by their
// difference. Clocks that agree within slack are taken for one, and a
// difference is kept until it is wrong by more than that: so that a time that
// is stored and read again is the same to the microsecond.
type clock struct {
	mu       sync.Mutex // guards what follows
	offset   time.Duration
	measured bool
}

// slack is how much two clocks may differ unnoticed, beside the time that a
// call takes.
const slack = 250 * time.Millisecond

// observe learns from a call that was sent and answered at these times of this
// process's clock, and made at this time of the server's.
func (c *clock) observe(sent, answered time.Time, server int64) {
	took := max(answered.Sub(sent), 0) // monotonic
	mid := time.UnixMicro(server).Sub(sent.Round(0).Add(took / 2))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measured = true
	if (mid - c.offset).Abs() > slack+took/2 {
		c.offset = mid.Round(slack)
	}
}

// known is whether a call was observed.
func (c *clock) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.measured
}

// toServer returns a time of this process's clock in microseconds of the
// server's. The zero time is 0.
func (c *clock) toServer(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.Add(c.offset).UnixMicro()
}

// fromServer is the inverse of toServer.
func (c *clock) fromServer(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.UnixMicro(micros).Add(-c.offset)
}
