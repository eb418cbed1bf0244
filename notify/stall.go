package notify

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// stalls tells since when the workers of this process have had entries and got
// rid of none of them.
type stalls struct{ since sync.Map } // queue -> *atomic.Int64, Unix nanoseconds; 0: not

// of returns a worker's own.
func (s *stalls) of(queue string) *atomic.Int64 {
	v, _ := s.since.LoadOrStore(queue, new(atomic.Int64))
	return v.(*atomic.Int64)
}

// topic is for how long the worst of a topic's queues has been stuck.
func (s *stalls) topic(t *Topic, now time.Time) time.Duration {
	var worst time.Duration
	for i := range t.Dest.Shards {
		if v, ok := s.since.Load(ShardName(t.Dest.Queue, i)); ok {
			if since := v.(*atomic.Int64).Load(); since != 0 {
				worst = max(worst, now.Sub(time.Unix(0, since)))
			}
		}
	}
	return worst
}

// drop forgets a queue whose worker ended.
func (s *stalls) drop(queue string) { s.since.Delete(queue) }

// stuck is nil, or tells that a topic's events wait for long though some should
// have gone.
func (s *Service) stuck(t *Topic) error {
	if t.Dest.Queue == "" {
		return nil
	}
	d := s.stalled.topic(t, time.Now())
	if d < s.opt.StuckAfter {
		return nil
	}
	return fmt.Errorf("stuck: events wait, and none was delivered for %s", d.Round(time.Second))
}

// watch notes whether the worker makes progress: of what it has, something
// went, or there is nothing.
func (w *worker) watch(progress bool) {
	switch {
	case w.win.empty():
		w.stall.Store(0)
	case progress || w.stall.Load() == 0:
		w.stall.Store(time.Now().UnixNano())
	}
}
