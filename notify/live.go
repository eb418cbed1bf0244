package notify

import (
	"context"
	"errors"
	"sync"
	"time"

	"herald/queue"
)

// liveSet holds the reservations of this process's unfinished changes: they
// are renewed, and the resolver keeps off them.
type liveSet struct {
	mu  sync.Mutex // guards all below, and held.renewed and held.lost
	set map[*held]struct{}
}

// held is one reservation of a change.
type held struct {
	in     *intent
	topic  *Topic // as it was when the reservation was made
	record string // of the topic; "": the intent tells
	name   string // of the queue
	queue  queue.Queue
	id     queue.ID
	code   []byte // the intent's encoding
	err    error  // why it was not made, or not ended

	renewed time.Time
	lost    bool // somebody else ended it
	tried   bool // to commit it
	ended   bool // with its entries in the queue
}

func (l *liveSet) add(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set == nil {
		l.set = make(map[*held]struct{})
	}
	h.renewed = time.Now()
	h.lost = false
	l.set[h] = struct{}{}
}

func (l *liveSet) remove(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.set, h)
}

// ids returns the reservations in a queue.
func (l *liveSet) ids(name string) map[queue.ID]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make(map[queue.ID]bool)
	for h := range l.set {
		if h.name == name {
			ids[h.id] = true
		}
	}
	return ids
}

// due returns the reservations that were not renewed for that long.
func (l *liveSet) due(age time.Duration) []*held {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*held
	for h := range l.set {
		if !h.lost && now.Sub(h.renewed) >= age {
			out = append(out, h)
		}
	}
	return out
}

// fresh tells whether a reservation is surely still there: by the monotonic
// clock and by the wall's, as the one does not count the sleep of a machine.
func (l *liveSet) fresh(h *held, age time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !h.lost && !passed(h.renewed.Add(age))
}

// renew renews one reservation. Errors: those of queue.Queue.Renew, after
// which it counts as lost if it is gone.
func (l *liveSet) renew(ctx context.Context, h *held) error {
	before := time.Now()
	err := h.queue.Renew(ctx, h.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		h.renewed = before
	case errors.Is(err, queue.ErrNoSuchReservation), errors.Is(err, queue.ErrNoSuchQueue):
		h.lost = true
	}
	return err
}

// renewLoop renews what is held, until ctx is done.
func (s *Service) renewLoop(ctx context.Context) {
	age := s.opt.StaleAge / 3
	for sleep(ctx, age/4) == nil {
		due := s.live.due(age)
		parallel(len(due), s.atOnce(), func(i int) {
			if ctx.Err() != nil {
				return
			}
			if err := s.live.renew(ctx, due[i]); err != nil {
				s.log.Warn("renew reservation", "queue", due[i].name, "err", err)
			}
		})
	}
}
