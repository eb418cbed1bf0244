package notify

import "sync/atomic"

// shares share memory out among the windows of all queues that have entries. A
// queue whose endpoint takes nothing needs few of them: others have aliveShares
// times as much.
type shares struct {
	most        int64 // bytes, of all
	alive, dead atomic.Int64
}

// shareKind is what a window counts as.
type shareKind uint8

const (
	shareNone shareKind = iota // it is empty
	shareAlive
	shareDead
)

const (
	aliveShares = 8
	// minShare is what every window may have, in bytes.
	minShare = 8 << 10
)

// of is what a window may have, in bytes.
func (s *shares) of(alive bool) int {
	share, kinds := int64(1), aliveShares*max(s.alive.Load(), 0)+max(s.dead.Load(), 0)
	if alive {
		share = aliveShares
	}
	return int(min(max(s.most*share/max(kinds, share), minShare), maxWindowBytes))
}

// move has a window count as another kind.
func (s *shares) move(from, to shareKind) {
	for kind, n := range map[shareKind]int64{from: -1, to: 1} {
		switch kind {
		case shareAlive:
			s.alive.Add(n)
		case shareDead:
			s.dead.Add(n)
		}
	}
}
