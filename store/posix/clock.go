package posix

import (
	"sync/atomic"
	"time"
)

// clock gives sequence numbers: nanoseconds since 1970, or the last one plus
// one when the clock stands or goes back.
type clock struct{ last atomic.Uint64 }

// next returns a number above all given before and above after.
func (c *clock) next(after uint64) uint64 {
	for {
		last := c.last.Load()
		seq := max(uint64(time.Now().UnixNano()), last+1, after+1)
		if c.last.CompareAndSwap(last, seq) {
			return seq
		}
	}
}

// seen makes sure that numbers up to seq are not given again.
func (c *clock) seen(seq uint64) {
	for last := c.last.Load(); seq > last; last = c.last.Load() {
		if c.last.CompareAndSwap(last, seq) {
			return
		}
	}
}
