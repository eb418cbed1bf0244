package notify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"herald/queue"
)

// noDead are queues of which those of dead letters cannot be reached.
type noDead struct {
	queue.Driver
	well   atomic.Bool
	failed atomic.Int64 // calls
}

func (d *noDead) Exclusive() bool { return true }

func (d *noDead) Open(ctx context.Context, name string) (queue.Queue, error) {
	if HoldsDeadLetters(name) && !d.well.Load() {
		d.failed.Add(1)
		return nil, errors.New("cannot be reached")
	}
	return d.Driver.Open(ctx, name)
}

// judging is a pusher of many events, each of which is judged.
type judging struct {
	judge func(key string) Status

	mu  sync.Mutex // guards got
	got []string   // acked ones
}

func (*judging) Batch() int   { return 16 }
func (*judging) Close() error { return nil }

func (p *judging) Push(_ context.Context, events []Event) []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Result, len(events))
	for i, e := range events {
		if out[i].Status = p.judge(e.Object); out[i].Status == Acked {
			p.got = append(p.got, e.Object)
		} else {
			out[i].Err = errors.New("not taken")
		}
	}
	return out
}

func (p *judging) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.got))
}

// undeadRig delivers by one queue to p.
func undeadRig(t *testing.T, p *judging) (*rig, *noDead) {
	opt := quick()
	opt.Shards = 1
	r := newRig(t, opt)
	d := &noDead{Driver: r.queues}
	r.queues = d
	r.open(opt)
	r.s.open = func(Endpoint) (Pusher, error) { return p, nil }
	return r, d
}

// One of many events of a push is refused for good, and cannot be given up for
// a while: the others are not sent again.
func TestBatch_AckedBesideUndead(t *testing.T) {
	p := &judging{judge: func(key string) Status {
		if strings.HasPrefix(key, "bad") {
			return Rejected
		}
		return Acked
	}}
	r, d := undeadRig(t, p)
	topic := r.topic("t", deadEndpoint(), "persistent", "true")
	r.fillQueue(topic, []string{"bad", "a", "b", "c"})
	r.run()
	eventually(t, "a dead letter that cannot be written", func() bool { return d.failed.Load() > 1 })
	d.well.Store(true)
	eventually(t, "an empty queue", func() bool { return r.stats("t").Entries == 0 })
	if got := p.seen(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %v", got)
	}
}
