package notify

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"herald/queue"
	"herald/store"
)

// Simulated time begins at the same moment in each test, so that nothing here
// depends on how busy the machine is.

// three gateways with stores of their own, that share the queues of a topic.
func threeStores(t *testing.T, opt Options) *fleet {
	f := newFleet(t, opt)
	for _, name := range []string{"a", "b", "c"} {
		f.add(name, "store-"+name, nil, true).define("t")
	}
	return f
}

func TestMany_EvenShares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := threeStores(t, Options{})
		for _, m := range f.members {
			m.define("u")
			m.define("t")
			m.run()
		}
		time.Sleep(20 * time.Second)
		f.even("t", 11, 3)
		f.even("u", 11, 3)
		stop := f.load(f.members...)
		time.Sleep(time.Minute)
		stop()
		f.done("t")
		if n := f.endpoint.check(t, f.puts); n != 0 {
			t.Errorf("%d events came twice though nothing failed", n)
		}
		by := make(map[string]int)
		for _, d := range f.endpoint.all() {
			by[d.gateway]++
		}
		if len(by) != 3 {
			t.Errorf("deliveries by gateway: %v", by)
		}
		if n := f.members[0].counter("herald_notification_shards_owned"); n < 7 || n > 8 {
			t.Errorf("herald_notification_shards_owned = %v, want a third of 22", n)
		}
	})
}

// Two gateways on one store, of which the topic's record came a moment ago.
func TestMany_OneStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		objects := newModelStore()
		a := f.add("a", "s", objects, false)
		b := f.add("b", "s", objects, false)
		a.run()
		b.run()
		topic := a.define("t")
		b.notify(rule("n", topic, Filter{}))
		time.Sleep(15 * time.Second)
		f.even("t", 11, 2)
		stop := f.load(a, b)
		time.Sleep(30 * time.Second)
		stop()
		f.done("t")
		if n := f.endpoint.check(t, f.puts); n != 0 {
			t.Errorf("%d events came twice though nothing failed", n)
		}
		if err := a.s.Topics().Delete(t.Context(), "", "t"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if n := len(f.owned("t")); n != 0 {
			t.Errorf("%d gateways own queues of a topic that is gone", n)
		}
		if names, err := f.queues.List(t.Context(), ""); err != nil || len(names) != 0 {
			t.Errorf("queues left: %v, %v", names, err)
		}
	})
}

// A gateway that joins gets its part within a third of a lease, one that stops
// in order gives it up at once; no event comes twice.
func TestMany_JoinAndLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := threeStores(t, Options{})
		a, b, c := f.members[0], f.members[1], f.members[2]
		a.run()
		b.run()
		time.Sleep(15 * time.Second)
		f.even("t", 11, 2)
		stop := f.load(a, b, c)
		time.Sleep(10 * time.Second)
		c.run()
		time.Sleep(10 * time.Second) // 30 s / 3
		f.even("t", 11, 3)
		time.Sleep(10 * time.Second)
		a.stop()
		time.Sleep(3500 * time.Millisecond)
		f.even("t", 11, 2)
		time.Sleep(10 * time.Second)
		stop()
		f.done("t")
		if n := f.endpoint.check(t, f.puts); n != 0 {
			t.Errorf("%d events came twice though nothing failed", n)
		}
	})
}

// A gateway that cannot reach the queues any more, as one that died, is
// replaced within a lease, and has stopped pushing by then.
func TestMany_Death(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := threeStores(t, Options{})
		a, b, c := f.members[0], f.members[1], f.members[2]
		for _, m := range f.members {
			m.run()
		}
		time.Sleep(20 * time.Second)
		stop := f.load(b, c)
		time.Sleep(20 * time.Second)
		a.link.sever()
		died := time.Now()
		time.Sleep(23 * time.Second)
		for _, sh := range b.s.Shards(t.Context()) {
			if sh.Owner == a.s.Gateway() {
				t.Errorf("after 23 s queue %s is still thought to be the dead one's", sh.Queue)
			}
		}
		time.Sleep(9 * time.Second)
		if last := f.endpoint.lastBegun("a"); last.Sub(died) > 30*time.Second {
			t.Errorf("it pushed %v after it lost touch", last.Sub(died))
		}
		for range 10 { // from now on all queues are served
			before := time.Now()
			time.Sleep(time.Second)
			for _, d := range f.endpoint.all() {
				if d.gateway == "a" && d.at.After(before) {
					t.Fatalf("pushed by the dead one: %+v", d)
				}
			}
		}
		stop()
		f.done("t")
		counts := make(map[string]int)
		for _, m := range []*fleetMember{b, c} {
			for _, sh := range m.s.Shards(t.Context()) {
				if sh.Ours {
					counts[m.name]++
				}
			}
		}
		if counts["b"]+counts["c"] != 11 || counts["b"] < 5 || counts["c"] < 5 {
			t.Errorf("shares of those that live: %v", counts)
		}
		f.endpoint.check(t, f.puts)

		// An hour later it is back, and gets its share again.
		time.Sleep(time.Hour)
		a.link.heal()
		time.Sleep(15 * time.Second)
		f.even("t", 11, 3)
		stop = f.load(a, b, c)
		time.Sleep(10 * time.Second)
		stop()
		f.done("t")
		f.endpoint.check(t, f.puts)
	})
}

// Pushes in flight end with the lease, although the server does not answer to
// the renewal; what comes back later is fenced.
func TestMany_PauseBeyondLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1, Lease: 9 * time.Second, PushTimeout: time.Hour})
		a := f.add("a", "a", nil, true)
		a.define("t")
		b := f.add("b", "b", nil, true)
		b.define("t")
		a.run()
		time.Sleep(time.Second)
		f.endpoint.takes = time.Hour // it never answers
		if err := b.putOne("k", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if f.endpoint.lastBegun("a").IsZero() {
			t.Fatal("nothing was pushed")
		}
		a.link.sever()
		time.Sleep(10 * time.Second)
		if n := a.counter("pubsub_push_pending"); n != 0 {
			t.Errorf("%v pushes in flight after the lease", n)
		}
		f.endpoint.mu.Lock()
		f.endpoint.takes = 0
		f.endpoint.mu.Unlock()
		b.run()
		time.Sleep(5 * time.Second)
		if got := f.endpoint.all(); len(got) != 1 || got[0].gateway != "b" {
			t.Errorf("deliveries %+v, want one by b", got)
		}
		if a.counter("herald_notify_leases_lost_total") == 0 {
			t.Error("the lost lease is not counted")
		}
		a.link.heal()
		if err := b.putOne("k", "2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		f.done("t")
		f.endpoint.check(t, f.puts)
	})
}

// An owner whose acks come late, after another had the queue, changes nothing.
func TestMany_Fenced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1})
		a := f.add("a", "a", nil, true)
		topic := a.define("t")
		a.run()
		time.Sleep(time.Second)
		if err := a.putOne("k", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // a has the lease, and nothing to do
		q, err := f.queues.Open(t.Context(), topic.Dest.Queue)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Ack(t.Context(), queue.Ack{Fence: 1 << 40}); err != nil { // another owner
			t.Fatal(err)
		}
		if err := a.putOne("k", "2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if st, err := q.Stats(t.Context()); err != nil || st.Entries != 1 {
			t.Errorf("stats = %+v, %v, want the entry that could not be acked", st, err)
		}
		if n := a.counter("herald_notify_leases_lost_total"); n == 0 {
			t.Error("the session went on")
		}
	})
}

// From its first look at a queue on an owner is safe from those before it.
func TestMany_FenceShownFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1})
		a := f.add("a", "a", nil, true)
		a.define("t")
		a.run()
		time.Sleep(time.Second)
		f.endpoint.takes = time.Hour // so that nothing is acked
		if err := a.putOne("k", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		q, err := f.queues.Open(t.Context(), ":t")
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := q.List(t.Context(), "", 1)
		if err != nil || len(list) != 1 || f.endpoint.lastBegun("a").IsZero() {
			t.Fatalf("entries = %v, %v; pushed at %v", list, err, f.endpoint.lastBegun("a"))
		}
		if err := q.Ack(t.Context(), queue.Ack{UpTo: list[0].Marker, Fence: 1}); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("Ack of an owner of before = %v", err)
		}
		a.stop()
	})
}

// What is on its way when a queue moves is waited for longer than at the end
// of the process.
func TestMany_SlowEndpointMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		a := f.add("a", "a", nil, true)
		a.define("t")
		b := f.add("b", "b", nil, true)
		b.define("t")
		f.endpoint.takes = 8 * time.Second
		a.run()
		time.Sleep(12 * time.Second)
		stop := f.load(a)
		time.Sleep(time.Second)
		b.run()
		time.Sleep(2 * time.Second)
		stop()
		f.done("t")
		if n := f.endpoint.check(t, f.puts); n != 0 || f.endpoint.cancelled != 0 {
			t.Errorf("%d events came twice, %d pushes were cut, though nothing failed", n, f.endpoint.cancelled)
		}
	})
}

// The lease is looked at before each push.
func TestMany_NoPushAfterLease(t *testing.T) {
	f := newFleet(t, quick())
	m := f.add("a", "a", nil, true)
	topic := m.define("t")
	in := goldenIntent()
	data := in.entries("default", topic, &store.Outcome{Changed: true, Seq: 1, Info: &store.Info{}})[0]
	e, err := decodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorker(m.s, topic, ":t")
	w.topic, w.target, w.win, w.results = topic, m.s.targets.of(topic), newWindow(4), make(chan pushed, 1)
	w.win.add(&item{marker: "1", order: e.order, raw: data, since: time.Now()}, time.Now())
	var cause error
	w.hold = &holding{ // its timers have not run yet
		until: time.Now().Add(-time.Hour), renewal: time.NewTimer(time.Hour), expiry: time.NewTimer(time.Hour),
		end: func(err error) { cause = err },
	}
	if _, err := w.step(t.Context(), t.Context()); !errors.Is(err, errLeaseOver) || !errors.Is(cause, errLeaseOver) || w.inflight != 0 {
		t.Errorf("step = %v, cause %v, %d pushes", err, cause, w.inflight)
	}
}

// Each store settles its own reservations, at once if it is its only gateway.
func TestMany_ForeignIntents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 2})
		a := f.add("a", "store-a", nil, true)
		a.define("t")
		b := f.add("b", "store-b", nil, true)
		b.define("t")
		// Both die in the middle of an op: the one happened, the other did not.
		for i, m := range []*fleetMember{a, b} {
			for j := range 2 {
				p, err := m.reserve(ObjectCreatedPut, fmt.Sprint("k", i), store.Attrs{})
				if err != nil {
					t.Fatal(err)
				}
				if j == 1 {
					continue
				}
				if _, err := m.store.put("b", p.facts.key, "e", nil)(t.Context(), p.facts.op); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.openAs("store-a", true)
		a.run()
		time.Sleep(5 * time.Second)
		f.endpoint.check(t, map[string][]string{"k0": {"e"}})
		if st := a.stats("t"); st.Reservations != 2 || st.Entries != 0 {
			t.Errorf("stats = %+v, want the reservations of the other store", st)
		}
		if n := a.counter("herald_notify_foreign_reservations"); n != 2 {
			t.Errorf("herald_notify_foreign_reservations = %v", n)
		}
		time.Sleep(10 * time.Minute) // also when they are stale
		if st := a.stats("t"); st.Reservations != 2 {
			t.Errorf("stats = %+v, want the reservations of the other store", st)
		}
		b.openAs("store-b", true)
		b.run()
		time.Sleep(5 * time.Second)
		f.endpoint.check(t, map[string][]string{"k0": {"e"}, "k1": {"e"}})
		f.done("t")
	})
}

// Reservations of outboxes are left alone: who made one ends it.
func TestMany_OutboxIntents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1})
		a := f.add("a", "store-a", nil, true)
		a.define("t")
		names, err := f.queues.List(t.Context(), "")
		if err != nil || len(names) != 1 {
			t.Fatalf("queues = %v, %v", names, err)
		}
		q, err := f.queues.Open(t.Context(), names[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Reserve(t.Context(), []byte(queue.OutboxIntent+"store-b/1"), 10, 1); err != nil {
			t.Fatal(err)
		}
		a.openAs("store-a", true)
		a.run()
		time.Sleep(3 * time.Hour) // what cannot be read is buried after one
		if st := a.stats("t"); st.Reservations != 1 || st.Entries != 0 {
			t.Errorf("stats = %+v, want the reservation of the outbox", st)
		}
		if n := a.counter("herald_notify_foreign_reservations"); n != 1 {
			t.Errorf("herald_notify_foreign_reservations = %v", n)
		}
	})
}

// With several gateways on a store only what is stale is settled.
func TestMany_SharedStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 2})
		objects := newModelStore()
		a := f.add("a", "s", objects, false)
		topic := a.define("t")
		b := f.add("b", "s", objects, false)
		b.notify(rule("n", topic, Filter{}))
		// a dies with one op done and another one not.
		for i := range 2 {
			p, err := a.reserve(ObjectCreatedPut, fmt.Sprint("k", i), store.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if _, err := objects.put("b", "k0", "e", nil)(t.Context(), p.facts.op); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.run()
		p, err := b.reserve(ObjectCreatedPut, "long", store.Attrs{}) // takes long
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		if st := b.stats("t"); st.Reservations != 3 {
			t.Errorf("stats = %+v, want those of a, not stale yet", st)
		}
		time.Sleep(60 * time.Second)
		f.endpoint.check(t, map[string][]string{"k0": {"e"}})
		if st := b.stats("t"); st.Reservations != 1 {
			t.Errorf("stats = %+v, want the one that is renewed", st)
		}
		if _, err := p.Do(t.Context(), objects.put("b", "long", "e", nil)); err != nil {
			t.Fatal(err)
		}
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k0": {"e"}, "long": {"e"}})
		objects.mu.Lock()
		defer objects.mu.Unlock()
		if len(objects.outcomes) != 0 || len(objects.barred) != 1 {
			t.Errorf("%d outcomes and %d bars left, want the bar of what may still run", len(objects.outcomes), len(objects.barred))
		}
	})
}
