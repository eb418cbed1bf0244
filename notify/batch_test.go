package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// batchPusher notes what it is given, and refuses events of one key.
type batchPusher struct {
	mu    sync.Mutex // guards all below
	sizes []int
	got   []string
	twice bool // an event of a key while one was on its way, or in the same Push
	busy  map[string]bool
	bad   string
}

func (*batchPusher) Batch() int   { return 16 }
func (*batchPusher) Close() error { return nil }

func (p *batchPusher) Push(_ context.Context, events []Event) []Result {
	p.mu.Lock()
	p.sizes = append(p.sizes, len(events))
	for _, e := range events {
		p.twice = p.twice || p.busy[e.Key]
		p.busy[e.Key] = true
	}
	p.mu.Unlock()
	results := make([]Result, len(events))
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range events {
		p.busy[e.Key] = false
		if e.Object == p.bad {
			results[i] = Result{Retry, errors.New("refused")}
			continue
		}
		p.got = append(p.got, e.Object)
	}
	return results
}

func (p *batchPusher) allow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad = ""
}

func (p *batchPusher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

// TestBatch: an endpoint that takes many events at once gets them, of different
// keys, none again that it took, and a refusal concerns its key alone.
func TestBatch(t *testing.T) {
	const keys, each = 100, 3
	opt := quick()
	opt.Shards = 1
	r := newRig(t, opt)
	p := &batchPusher{busy: map[string]bool{}, bad: "k7"}
	r.s.open = func(Endpoint) (Pusher, error) { return p, nil }
	r.notify(rule("n", r.topic("t", deadEndpoint(), "persistent", "true"), Filter{}))
	if err := r.s.Recover(r.ctx); err != nil {
		t.Fatal(err)
	}
	for n := range each {
		for k := range keys {
			r.put(fmt.Sprint("k", k), fmt.Sprint(n))
		}
	}
	r.run()
	eventually(t, "all but the key that is refused", func() bool { return p.count() == (keys-1)*each })
	eventually(t, "acks behind the key that is refused", func() bool { return r.stats("t").Entries == each })
	p.allow()
	eventually(t, "the key that was refused", func() bool { return p.count() == keys*each })
	eventually(t, "acks", func() bool { return r.stats("t") == TopicStats{} })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.twice {
		t.Error("two events of one key were on their way at the same time")
	}
	if slices.Max(p.sizes) != 16 {
		t.Errorf("pushes had %v events, want up to 16", p.sizes)
	}
	if got := r.counter("herald_notify_delivery_seconds"); got != keys*each {
		t.Errorf("%v deliveries, want %d", got, keys*each)
	}
}

// TestWorker_AtOnce: the more queues a topic has, the fewer pushes of many
// events each of them has on their way.
func TestWorker_AtOnce(t *testing.T) {
	for _, tt := range []struct{ shards, events, want int }{
		{1, 256, 4}, {2, 256, 4}, {4, 256, 4}, {8, 256, 2}, {11, 256, 2}, {128, 256, 1},
		{1, 1, 128}, {11, 1, 11},
	} {
		w := &worker{limit: max(1, 128/tt.shards), topic: &Topic{Dest: Dest{Shards: tt.shards}}, target: &target{pusher: batchOf(tt.events)}}
		if got := w.atOnce(); got != tt.want {
			t.Errorf("atOnce of %d queues with %d events for each push = %d, want %d", tt.shards, tt.events, got, tt.want)
		}
	}
}

// batchOf takes so many events with one push.
type batchOf int

func (b batchOf) Batch() int                             { return int(b) }
func (b batchOf) Push(context.Context, []Event) []Result { return nil }
func (b batchOf) Close() error                           { return nil }
