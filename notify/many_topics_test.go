package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/store"
)

// Deleting a topic deletes its queues for all who share the name; the others'
// publishers make them again.
func TestMany_DeletedByAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		a := f.add("a", "store-a", nil, true)
		a.define("t")
		b := f.add("b", "store-b", nil, true)
		b.define("t")
		a.run()
		b.run()
		time.Sleep(15 * time.Second)
		// One is between its reservation and its change, one between its
		// change and its event.
		p, err := b.reserve(ObjectCreatedPut, "open", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := b.reserve(ObjectCreatedPut, "doing", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]string{"open": {"e"}, "doing": {"e"}}
		_, err = q.Do(t.Context(), func(ctx context.Context, op store.OpID) (store.Outcome, error) {
			out, err := b.store.put("b", "doing", "e", nil)(ctx, op)
			return out, errors.Join(err, a.s.Topics().Delete(ctx, "", "t"))
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			key := fmt.Sprint("k", i)
			want[key] = []string{"e"}
			if err := b.putOne(key, "e"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Do(t.Context(), b.store.put("b", "open", "e", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		f.endpoint.check(t, want)
		f.done("t")
		if n := f.owned("t"); n["b"] != 11 {
			t.Errorf("shares: %v", n)
		}
	})
}

// What an interrupted deletion left is not deleted from under those who use it.
func TestMany_SweepSparesStrangers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 3})
		b := f.add("b", "store-b", nil, true)
		b.define("t")
		b.run()
		a := f.add("a", "store-a", nil, true)
		for _, name := range []string{"t", "mine"} {
			a.define(name)
			if err := a.s.topics.begin(t.Context(), "", name, &queueNote{Queue: ":" + name, Shards: 3, Delete: true}); err != nil {
				t.Fatal(err)
			}
			_, version, err := a.store.Get(t.Context(), topicRecord("", name))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.store.Delete(t.Context(), topicRecord("", name), version); err != nil { // and no further
				t.Fatal(err)
			}
		}
		a.openAs("store-a", true)
		a.run()
		time.Sleep(time.Minute)
		names, err := f.queues.List(t.Context(), "")
		if err != nil || !slices.Equal(names, []string{":t", ":t.1", ":t.2"}) {
			t.Errorf("queues = %v, %v, want those that the other store serves", names, err)
		}
		if notes, err := a.s.topics.unfinished(t.Context()); err != nil || len(notes) != 0 {
			t.Errorf("notes left: %v, %v", notes, err)
		}
	})
}

// A record that cannot be read stops nothing but its own topic.
func TestMany_BadTopicRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 2})
		a := f.add("a", "a", nil, true)
		a.define("t")
		if _, err := a.store.Put(t.Context(), topicRecord("", "s"), []byte("{"), 0); err != nil {
			t.Fatal(err)
		}
		a.run()
		time.Sleep(2 * time.Second)
		if err := a.putOne("k", "e"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		f.endpoint.check(t, f.puts)
		if n := a.counter("herald_notify_bad_topics_total"); n != 1 {
			t.Errorf("counted %v times", n)
		}
	})
}

// An idle queue costs no renewal of a lease.
func TestMany_IdleCost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := threeStores(t, Options{})
		for _, m := range f.members {
			m.run()
		}
		time.Sleep(10 * time.Second)
		stop := f.load(f.members...)
		time.Sleep(10 * time.Second)
		stop()
		f.done("t")
		time.Sleep(time.Minute)
		f.members[0].link.counts()
		time.Sleep(10 * time.Minute)
		calls := f.members[0].link.counts()
		t.Logf("calls of one of three gateways with a topic of 11 idle queues in ten minutes: %v", calls)
		if n := calls["acquire"] + calls["extend"] + calls["ack"] + calls["list"] + calls["wait"]; n != 0 {
			t.Errorf("%d calls for queues where nothing happens", n)
		}
		// A Join a second for the gateways and one in ten for the topic.
		if n := calls["join"]; n > 700 {
			t.Errorf("%d joins in 600 seconds", n)
		}
		stop = f.load(f.members[1])
		time.Sleep(200 * time.Millisecond)
		stop()
		time.Sleep(time.Second) // at once, all the same
		f.endpoint.check(t, f.puts)
	})
}
