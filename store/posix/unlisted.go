package posix

import "sync"

// unlisted are a bucket's changes that its files may show already and the index
// does not yet. A listing waits for those that began before it: else it could
// miss what a read found before it was asked for.
type unlisted struct {
	mu    sync.Mutex // guards what follows
	cond  *sync.Cond // on mu: first went up; nil before the first wait
	first uint64     // the number of the oldest that has not ended
	ended []bool     // of that one and those that began after it
}

// begin notes a change; end must follow it.
func (u *unlisted) begin() (n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = append(u.ended, false)
	return u.first + uint64(len(u.ended)) - 1
}

func (u *unlisted) end(n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended[n-u.first] = true
	if n > u.first {
		return
	}
	for len(u.ended) > 0 && u.ended[0] {
		u.ended = u.ended[1:]
		u.first++
	}
	if u.cond != nil {
		u.cond.Broadcast()
	}
}

// wait waits until all that had begun have ended: the time of some system
// calls, as no change waits for anything between.
func (u *unlisted) wait() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cond == nil {
		u.cond = sync.NewCond(&u.mu)
	}
	for last := u.first + uint64(len(u.ended)); u.first < last; {
		u.cond.Wait()
	}
}
