package notify

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"herald/store"
)

// What RGW and others suffered from, where no other test is about it.

// TestDo_OneTopicGone: of several topics one was deleted while a body came in;
// the others get their events (RGW's loop ended at the first failure).
func TestDo_OneTopicGone(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	var rules []Rule
	for i := range 3 {
		rules = append(rules, rule(fmt.Sprint("n", i), r.topic(fmt.Sprint("t", i), sink.URL, "persistent", "true"), Filter{}))
	}
	r.notify(rules...)
	r.run()
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.s.Topics().Delete(r.ctx, "", "t0"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(r.ctx, r.store.put("b", "k", "e", nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the events of the others", func() bool { return len(sink.got()) == 2 })
	var from []string
	for _, record := range sink.got() {
		from = append(from, record.S3.ConfigurationID)
	}
	slices.Sort(from)
	if !slices.Equal(from, []string{"n1", "n2"}) {
		t.Errorf("events of %v", from)
	}
}

// TestManyQueues: more queues than are listed at once are all delivered (RGW
// never came beyond the first 1024).
func TestManyQueues(t *testing.T) {
	const topics = 1100
	opt := quick()
	opt.Shards = 1
	opt.PushTimeout = 5 * time.Minute // on a slow machine so many at once take long, and none is to be sent twice
	r := newRig(t, opt)
	sink := newSink(t, nil)
	var rules []Rule
	for i := range topics {
		rules = append(rules, rule(fmt.Sprint("n", i), r.topic(fmt.Sprint("t", i), sink.URL, "persistent", "true"), Filter{}))
	}
	r.notify(rules...)
	r.run()
	r.put("k", "e")
	deadline := time.Now().Add(5 * time.Minute)
	for len(sink.got()) < topics && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(sink.got()); n != topics {
		t.Errorf("%d events came, want %d", n, topics)
	}
}

// TestDispatcher_Woken: an event of a quiet topic is on its way at once, not
// when somebody looks.
func TestDispatcher_Woken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{})
		f.endpoint.takes = 0
		for i := range 3 {
			time.Sleep(time.Minute)
			begin := time.Now()
			m.put("k", fmt.Sprint(i))
			synctest.Wait()
			if n, d := len(f.endpoint.all()), time.Since(begin); n != i+1 || d != 0 {
				t.Errorf("%d events after %v", n, d)
			}
		}
		m.stop()
	})
}

// TestDo_EntriesFail: that an event could not be queued behind its change is
// counted, and it comes later.
func TestDo_EntriesFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{})
		p, err := m.reserve(ObjectCreatedPut, "k", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Do(m.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
			out, err := m.store.put("b", "k", "1", nil)(ctx, op)
			m.link.sever()
			return out, err
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * enqueueTimeout)
		if m.counter("herald_notify_deferred_total") != 1 || m.counter("pubsub_store_fail") != 1 {
			t.Errorf("herald_notify_deferred_total = %v, pubsub_store_fail = %v", m.counter("herald_notify_deferred_total"), m.counter("pubsub_store_fail"))
		}
		m.link.heal()
		time.Sleep(5 * time.Minute)
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k": {"1"}})
		m.stop()
	})
}

// TestDispatcher_PoisonBehind: an event that the endpoint never takes holds up
// its own key, not what comes after it in its queue, however much that is.
func TestDispatcher_PoisonBehind(t *testing.T) {
	opt := quick()
	opt.Shards, opt.Window = 1, 16
	r := newRig(t, opt)
	sink := newSink(t, func(record Record) int {
		if record.S3.Object.Key == "bad" {
			return 500
		}
		return 200
	})
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	r.run()
	r.put("bad", "e")
	const n = 100
	for i := range n {
		r.put(fmt.Sprint("k", i), "e")
	}
	eventually(t, "all other events", func() bool { return len(sink.got()) == n })
	eventually(t, "their acks", func() bool { return r.stats("t").Entries == 1 })
	sink.set(nil)
	eventually(t, "the event that waited", func() bool { return len(sink.ofKey("bad")) == 1 && r.stats("t").Entries == 0 })
	if len(sink.got()) != n+1 {
		t.Errorf("%d events came, want %d", len(sink.got()), n+1)
	}
}
