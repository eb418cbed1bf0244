package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/google/go-cmp/cmp"
)

// narrow are options of queues that are soon full.
func narrow() Options {
	opt := quick()
	opt.Shards, opt.QueueCapacity, opt.ResolveEvery = 1, 40_000, 50*time.Millisecond
	return opt
}

// bulky are attributes that no reservation foresees when they are not known.
func bulky() store.Attrs { return store.Attrs{"x-amz-meta-a": strings.Repeat("\x01", 9000)} }

// crowd reserves until the queue is full.
func (r *rig) crowd() (fillers []*Pending) {
	r.t.Helper()
	for i := 0; ; i++ {
		p, err := r.reserve(ObjectCreatedPut, fmt.Sprint("filler", i), store.Attrs{})
		if errors.Is(err, ErrFull) {
			return fillers
		}
		if err != nil {
			r.t.Fatal(err)
		}
		fillers = append(fillers, p)
	}
}

// When the events of a change find no room, later changes of its key wait:
// they are refused before anything happens, and order is kept.
func TestDo_LaterChangesWait(t *testing.T) {
	r := newRig(t, narrow())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	var ops []*Pending
	for range 3 {
		p, err := r.reserve(ObjectCreatedCopy, "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, p)
	}
	fillers := r.crowd()
	if _, err := ops[0].Do(r.ctx, r.store.put("b", "k", "1", bulky())); err != nil {
		t.Fatal(err)
	}
	_, err := ops[1].Do(r.ctx, func(context.Context, store.OpID) (store.Outcome, error) {
		t.Error("committed although the event before waits")
		return store.Outcome{}, nil
	})
	if !errors.Is(err, ErrFull) {
		t.Errorf("Do = %v, want ErrFull", err)
	}
	for _, p := range fillers {
		p.Abort()
	}
	if _, err := ops[2].Do(r.ctx, r.store.put("b", "k", "3", nil)); err != nil {
		t.Fatal(err)
	}
	r.run()
	eventually(t, "the events", func() bool { return len(sink.got()) == 2 })
	if d := cmp.Diff([]string{"ObjectCreated:Copy 1", "ObjectCreated:Copy 3"}, sink.ofKey("k")); d != "" {
		t.Error(d)
	}
	if len(r.s.late.by)+len(r.s.late.ids) != 0 {
		t.Errorf("%v left", r.s.late.by)
	}
	eventually(t, "no outcome left", func() bool { return r.store.kept() == 0 })
	eventually(t, "an empty queue", func() bool { return r.stats("t") == TopicStats{} })
}

// A queue too full for what a crash left must not keep delivery from starting.
func TestRecover_QueueFull(t *testing.T) {
	r := newRig(t, narrow())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	for i := range 2 { // the second one waits for the first
		p, err := r.reserve(ObjectCreatedCopy, "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.put("b", "k", fmt.Sprint(i), bulky())(r.ctx, p.facts.op); err != nil {
			t.Fatal(err)
		}
	}
	events := 2
	for list := r.crowd(); len(list) > 0; list = r.crowd() {
		for _, p := range list {
			events++
			if _, err := p.Do(r.ctx, r.store.put("b", p.facts.key, "e", store.Attrs{})); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.open(narrow())
	r.run()
	eventually(t, "the events", func() bool { return len(sink.got()) == events })
	if d := cmp.Diff([]string{"ObjectCreated:Copy 0", "ObjectCreated:Copy 1"}, sink.ofKey("k")); d != "" {
		t.Error(d)
	}
	eventually(t, "an empty queue", func() bool { return r.stats("t") == TopicStats{} })
}

// crammed is a driver whose medium has no room for anything, such as a pool.
type crammed struct {
	queue.Driver
	full *atomic.Bool
}

func (d crammed) Exclusive() bool { return true }

func (d crammed) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	return crammedQueue{q, d.full}, err
}

type crammedQueue struct {
	queue.Queue
	full *atomic.Bool
}

func (q crammedQueue) Reserve(ctx context.Context, intent []byte, size int64, n int) (queue.ID, error) {
	if q.full.Load() {
		return 0, queue.ErrFull
	}
	return q.Queue.Reserve(ctx, intent, size, n)
}

func (q crammedQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	if q.full.Load() {
		return fmt.Errorf("the pool is full: %w", queue.ErrFull)
	}
	return q.Queue.Commit(ctx, id, entries)
}

func (q crammedQueue) Wait(ctx context.Context, after queue.Marker) error {
	return q.Queue.(queue.Waiter).Wait(ctx, after)
}

// Nor must a pool that is full: what is asked for meanwhile is refused at once.
func TestRecover_PoolFull(t *testing.T) {
	r := newRig(t, narrow())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	for i := range 2 {
		p, err := r.reserve(ObjectCreatedCopy, "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.put("b", "k", fmt.Sprint(i), nil)(r.ctx, p.facts.op); err != nil {
			t.Fatal(err)
		}
	}
	var full atomic.Bool
	full.Store(true)
	r.queues = crammed{r.queues, &full}
	r.open(narrow())
	r.run()
	for _, key := range []string{"k", "other"} {
		if _, err := r.reserve(ObjectCreatedCopy, key, nil); !errors.Is(err, ErrFull) {
			t.Errorf("reserve for %q = %v, want ErrFull", key, err)
		}
	}
	full.Store(false)
	eventually(t, "the events", func() bool { return len(sink.got()) == 2 })
	if d := cmp.Diff([]string{"ObjectCreated:Copy 0", "ObjectCreated:Copy 1"}, sink.ofKey("k")); d != "" {
		t.Error(d)
	}
	eventually(t, "an empty queue", func() bool { return r.stats("t") == TopicStats{} })
}

// What a crash between the commit of an event and the forgetting of its
// outcome left is forgotten by the next start, and nothing else is.
func TestRecover_ForgetsOutcomes(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.put("b", "k", "open", nil)(r.ctx, p.facts.op); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := r.store.put("b", "k", fmt.Sprint(i), nil)(r.ctx, store.NewOpID()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.s.forgetLeft(r.ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.store.outcomes[p.facts.op]; !ok || len(r.store.outcomes) != 1 {
		t.Fatalf("outcomes left: %v", r.store.outcomes)
	}
	if _, err := r.store.put("b", "k", "last", nil)(r.ctx, store.NewOpID()); err != nil {
		t.Fatal(err)
	}
	r.open(quick())
	r.run()
	eventually(t, "the event", func() bool { return len(sink.got()) == 1 })
	if len(r.store.outcomes) != 0 {
		t.Errorf("outcomes left: %v", r.store.outcomes)
	}
}
