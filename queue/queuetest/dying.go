package queuetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
)

// lease is for how long a consumer of testDyingConsumers takes the queue.
const lease = 500 * time.Millisecond

// testDyingConsumers has 64 producers, and four consumers of which one at a
// time holds the queue's lease. Now and then the holder dies, or loses its
// lease without knowing, and another goes on.
func testDyingConsumers(t *testing.T, s *suite) {
	const producers, consumers, deaths = 64, 4, 10
	n := max(s.scale(200*producers)/producers, 5)
	c := &crew{s: s, total: n * producers, next: make(map[string]int)}
	c.batch = max(c.total/(8*deaths), 5)
	s.create("q", 20_000) // producers wait for room
	one, two := s.others("q")
	c.drivers = []queue.Driver{s.h.Driver(), s.h.Driver()}
	if sh, ok := s.h.(Sharer); ok {
		c.drivers[1] = sh.Second(t, 0)
	}
	var wg sync.WaitGroup
	for w := range producers {
		wg.Go(func() {
			q := []queue.Queue{one, two}[w%2]
			for i := range n {
				if err := putWhenRoom(s.ctx, q, fmt.Sprintf("%02d %04d", w, i)); err != nil {
					t.Errorf("put = %v", err)
					c.failed.Store(true)
					return
				}
			}
		})
	}
	for w := range consumers {
		wg.Go(func() {
			for life := 0; !c.done(); life++ {
				if err := c.live(c.drivers[w%2], fmt.Sprintf("consumer %d, life %d", w, life)); err != nil {
					t.Errorf("consumer %d: %v", w, err)
					c.failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d entries came, %d of them again; %d deaths, %d times fenced", c.total, c.again, c.deaths.Load(), c.fenced.Load())
	s.wantUse(one, 0, 0, 0, 0)
}

// crew is the consumers, and what they received together.
type crew struct {
	s              *suite
	drivers        []queue.Driver
	total, batch   int
	failed         atomic.Bool
	deaths, fenced atomic.Int32

	mu          sync.Mutex     // guards what follows
	next        map[string]int // of each producer
	seen, again int
	drained     bool
}

func (c *crew) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed.Load() || c.drained
}

// deliver takes an entry. Each producer's come in order, apart from repeats.
func (c *crew) deliver(data string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var w string
	var n int
	if _, err := fmt.Sscanf(data, "%s %d", &w, &n); err != nil {
		return fmt.Errorf("entry %q: %w", data, err)
	}
	switch {
	case n > c.next[w]:
		return fmt.Errorf("entry %q, want %s %04d first", data, w, c.next[w])
	case n < c.next[w]:
		c.again++
	default:
		c.next[w]++
		c.seen++
	}
	return nil
}

// live is a consumer's life: it waits for the lease, and works until it dies,
// is fenced, or all is done.
func (c *crew) live(d queue.Driver, owner string) error {
	held, err := d.Locker().Acquire(c.s.ctx, "consumer", owner, lease)
	if errors.Is(err, queue.ErrLocked) {
		pause()
		return nil
	}
	if err != nil {
		return err
	}
	q, err := d.Open(c.s.ctx, "q")
	for err == nil && !c.done() {
		err = c.work(q, held)
		if err == nil && held.Expires().Sub(c.s.h.Now()) < lease/2 {
			err = held.Renew(c.s.ctx)
		}
	}
	switch {
	case errors.Is(err, errDied):
		c.deaths.Add(1)
		c.s.h.Advance(lease + lease/2)
		return nil
	case errors.Is(err, queue.ErrFenced), errors.Is(err, queue.ErrLeaseLost):
		c.fenced.Add(1)
		return nil
	case err != nil:
		return err
	}
	return held.Release(c.s.ctx)
}

var errDied = errors.New("died")

// work delivers a batch and acks it, if it lives so long.
func (c *crew) work(q queue.Queue, held queue.Lease) error {
	entries, _, err := q.List(c.s.ctx, "", c.batch)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		c.idle()
		return nil
	}
	doom := rand.IntN(32) // 0, 1, 2, 3: dies here or there
	for i, e := range entries {
		if doom == 0 && i == len(entries)/2 {
			return errDied
		}
		if err := c.deliver(string(e.Data)); err != nil {
			return err
		}
	}
	ack := queue.Ack{Fence: held.Fence(), UpTo: last(entries).Marker}
	switch doom {
	case 1:
		return errDied
	case 2: // having acked the even ones
		ack.UpTo = ""
		for i := 0; i < len(entries); i += 2 {
			ack.Done = append(ack.Done, entries[i].Marker)
		}
		if err := q.Ack(c.s.ctx, ack); err != nil {
			return err
		}
		return errDied
	case 3: // its Ack comes after its lease, when another may be there
		c.s.h.Advance(lease + lease/2)
	case 4, 5, 6, 7:
		ack.UpTo, ack.Done = "", markersOf(entries)
	}
	return q.Ack(c.s.ctx, ack)
}

// idle notes that all has come, or waits a little.
func (c *crew) idle() {
	c.mu.Lock()
	c.drained = c.seen == c.total
	c.mu.Unlock()
	pause()
}
