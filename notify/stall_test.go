package notify

import (
	"context"
	"strings"
	"testing"
	"time"

	"herald/queue"
)

// neverPusher takes events and never says what became of them.
type neverPusher struct{ closed chan struct{} }

func (p neverPusher) Push(ctx context.Context, events []Event) []Result {
	select {
	case <-ctx.Done():
	case <-p.closed:
	}
	out := make([]Result, len(events))
	for i := range out {
		out[i] = Result{Status: Retry, Err: context.Canceled}
	}
	return out
}

func (p neverPusher) Close() error {
	close(p.closed)
	return nil
}

// TestStuck: a topic whose events wait for long is named.
func TestStuck(t *testing.T) {
	opt := quick()
	opt.StuckAfter = 300 * time.Millisecond
	r := newRig(t, opt)
	r.s.open = func(e Endpoint) (Pusher, error) {
		if e.URL == deadEndpoint() {
			return neverPusher{make(chan struct{})}, nil
		}
		return openPusher(e)
	}
	topic := r.topic("t", deadEndpoint(), "persistent", "true")
	r.notify(rule("n", topic, Filter{}))
	r.run()
	r.put("k", "e")
	detail := func() string {
		list, err := r.s.Health(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Detail
	}
	eventually(t, "the topic is stuck", func() bool { return strings.Contains(detail(), "stuck") })
	if r.counter("herald_topic_stalled_seconds") <= 0 || r.counter("herald_topic_in_flight") != 1 {
		t.Error("metrics do not tell")
	}
	sink := newSink(t, nil)
	r.topic("t", sink.URL, "persistent", "true")
	eventually(t, "the topic is well", func() bool { return detail() == "" })
}

// TestStuck_DeliveredByAnother: what this gateway had and another one delivered
// does not count as waiting.
func TestStuck_DeliveredByAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1, Lease: 9 * time.Second})
		a := f.add("a", "a", nil, true)
		topic := a.define("t")
		f.endpoint.refuse = true
		a.run()
		time.Sleep(time.Second)
		if err := a.putOne("k", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		a.link.sever()
		time.Sleep(20 * time.Second)
		q, err := f.queues.Open(t.Context(), topic.Dest.Queue)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := q.List(t.Context(), "", 10)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d entries, %v", len(list), err)
		}
		if err := q.Ack(t.Context(), queue.Ack{UpTo: list[0].Marker}); err != nil {
			t.Fatal(err)
		}
		a.link.heal()
		time.Sleep(5 * time.Minute)
		if err := a.s.stuck(topic); err != nil {
			t.Errorf("an empty queue is %v", err)
		}
	})
}
