package notify

import (
	"context"
	"fmt"
	"testing"
	"time"

	"herald/queue/outbox"
	"herald/store"
)

// TestWhenFull_Outbox fills a queue on a server, and the outbox before it, of a
// topic that has the oldest events go: no change is refused, and not many more
// events go than there is no room for.
func TestWhenFull_Outbox(t *testing.T) {
	const puts, capacity = 400, 16 << 10
	o, err := outbox.New(t.Context(), openQueues(t), openQueues(t), outbox.Options{ID: "o", Place: "here", Sync: func() error { time.Sleep(20 * time.Millisecond); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() }) // it cannot fail
	opt := quick()
	opt.Shards, opt.QueueCapacity = 1, capacity
	r := newRig(t, opt)
	r.queues = o
	r.open(opt)
	r.notify(rule("n", r.topic("t", deadEndpoint(), "persistent", "true", ArgWhenFull, "drop-oldest"), Filter{}))
	if err := r.s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range puts {
		key := fmt.Sprintf("k%03d", i)
		p, err := r.reserve(ObjectCreatedPut, key, store.Attrs{})
		if err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		if _, err := p.Do(t.Context(), r.store.put("b", key, "e", nil)); err != nil {
			t.Fatal(err)
		}
	}
	r.s.background.finish(catchUpTimeout)
	q, err := o.Open(t.Context(), ShardName(":t", 0))
	if err != nil {
		t.Fatal(err)
	}
	st, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dropped := int64(r.counter("herald_notify_dropped_total"))
	if each := st.Bytes / max(st.Entries, 1); dropped+st.Entries != puts || st.Bytes < st.Capacity-12*each {
		t.Errorf("%d events dropped, %d left with %d bytes of %d", dropped, st.Entries, st.Bytes, st.Capacity)
	}
}
