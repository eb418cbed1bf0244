package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
)

// Failures at random: every key's events arrive, in order.
func TestDispatcher_OrderUnderFailures(t *testing.T) {
	opt := quick()
	opt.MaxBackoff = 20 * time.Millisecond
	r := newRig(t, opt)
	var n atomic.Int64
	sink := newSink(t, func(Record) int {
		if n.Add(1)%3 == 0 {
			return 500
		}
		return 204
	})
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true", "retry_sleep_duration", "0"), Filter{}))
	r.run()
	const keys, each = 8, 30
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for i := range each {
				r.put(fmt.Sprint("k", k), fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	eventually(t, "all events", func() bool { return len(sink.got()) >= keys*each && r.stats("t").Entries == 0 })
	for k := range keys {
		got := sink.ofKey(fmt.Sprint("k", k))
		for i := range each {
			if i >= len(got) || got[i] != fmt.Sprint("ObjectCreated:Put ", i) {
				t.Fatalf("key %d: %v", k, got)
			}
		}
	}
}

// A dead endpoint of one topic does not hold up another, and what waits for it
// goes out once the topic is given a living one.
func TestDispatcher_EndpointChanged(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	dead := r.topic("dead", deadEndpoint(), "persistent", "true")
	good := r.topic("good", sink.URL, "persistent", "true")
	r.notify(rule("d", dead, Filter{}), rule("g", good, Filter{}))
	r.run()
	for i := range 10 {
		r.put(fmt.Sprint("k", i), "e")
	}
	eventually(t, "the good topic", func() bool { return len(sink.got()) == 10 })
	if st := r.stats("dead"); st.Entries != 10 {
		t.Errorf("stats of the dead topic = %+v", st)
	}
	dump, err := r.s.Dump(r.ctx, "", "dead", 0)
	if err != nil || len(dump) != 10 || !strings.Contains(string(dump[0].Entry), `"event":{"eventVersion"`) {
		t.Errorf("Dump = %v, %v", dump, err)
	}
	eventually(t, "bad health", func() bool {
		h, err := r.s.Health(r.ctx)
		return err == nil && len(h) == 2 && slices.ContainsFunc(h, func(h TopicHealth) bool { return h.Topic == dead.ARN && !h.Ready && h.Detail != "" })
	})
	before := dead.Dest.Queue
	again := r.topic("dead", sink.URL, "persistent", "true") // CreateTopic replaces
	if again.Dest.Queue != before || again.Owner != "owner" {
		t.Errorf("re-created topic = %+v", again)
	}
	eventually(t, "the other topic", func() bool { return len(sink.got()) == 20 && r.stats("dead").Entries == 0 })
}

func TestDispatcher_NotPersistentAnyMore(t *testing.T) {
	r := newRig(t, quick())
	r.notify(rule("d", r.topic("t", deadEndpoint(), "persistent", "true"), Filter{}))
	r.run()
	r.put("k", "e")
	if _, err := r.s.Topics().SetAttribute(r.ctx, "", "t", AttrPersistent, "false", nil); err != nil {
		t.Fatal(err)
	}
	if names, err := r.queues.List(r.ctx, ""); err != nil || len(names) != 0 {
		t.Errorf("queues left: %v, %v", names, err)
	}
	sink := newSink(t, nil)
	if _, err := r.s.Topics().SetAttribute(r.ctx, "", "t", AttrPushEndpoint, sink.URL, nil); err != nil {
		t.Fatal(err)
	}
	if topic, err := r.s.Topics().SetAttribute(r.ctx, "", "t", AttrPersistent, "true", nil); err != nil || topic.Dest.Queue == "" || topic.Dest.Shards != 3 {
		t.Fatalf("topic = %+v, %v", topic, err)
	}
	r.put("k", "f")
	eventually(t, "the event", func() bool { return len(sink.got()) == 1 })
}

func TestDeadLetters(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, func(rec Record) int {
		if rec.S3.Object.Key == "poison" {
			return 400
		}
		return 200
	})
	r.notify(rule("d", r.topic("t", sink.URL, "persistent", "true", "max_retries", "2"), Filter{}))
	r.run()
	r.put("poison", "1")
	r.put("poison", "2")
	r.put("fine", "3")
	eventually(t, "dead letters, and the event that is taken", func() bool {
		l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
		return err == nil && len(l) == 2 && len(sink.got()) == 1
	})
	letters, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
	if err != nil || letters[0].Reason != reasonRetries || letters[0].Attempts != 3 || !strings.Contains(letters[0].LastError, "400") || !strings.Contains(string(letters[0].Entry), `"eTag":"1"`) {
		t.Fatalf("dead letters = %+v, %v", letters, err)
	}
	if got := sink.seen.Load(); got != 7 {
		t.Errorf("%d requests, want 3 for each poisoned event and 1", got)
	}
	sink.set(nil)
	if n, err := r.s.Redrive(r.ctx, "", "t", letters[1].Marker); n != 1 || err != nil {
		t.Errorf("Redrive of one = %d, %v", n, err)
	}
	eventually(t, "the second", func() bool { return len(sink.got()) == 2 })
	if n, err := r.s.Redrive(r.ctx, "", "t"); n != 1 || err != nil {
		t.Errorf("Redrive of all = %d, %v", n, err)
	}
	eventually(t, "the first", func() bool { return len(sink.got()) == 3 })
	if l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0); len(l) != 0 || err != nil {
		t.Errorf("dead letters = %v, %v", l, err)
	}
	if n, err := r.s.PurgeDeadLetters(r.ctx, "", "t"); n != 0 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	if r.counter("herald_notify_dead_letters_total") != 2 {
		t.Error("dead letters are not counted")
	}
}

func TestDeadLetters_TimeToLive(t *testing.T) {
	r := newRig(t, quick())
	r.notify(rule("d", r.topic("t", deadEndpoint(), "persistent", "true", "time_to_live", "1"), Filter{}))
	if err := r.s.Recover(r.ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		r.put(fmt.Sprint("k", i%30), fmt.Sprint(i))
	}
	if st := r.stats("t"); st.Entries != 300 {
		t.Errorf("stats = %+v, want 300 entries", st)
	}
	r.run() // not before: they live for a second
	eventually(t, "expiry", func() bool { return r.stats("t").Entries == 0 })
	l, err := r.s.DeadLetters(r.ctx, "", "t", "", 500)
	if err != nil || len(l) != 300 || l[0].Reason != reasonTTL {
		t.Errorf("%d dead letters, %v", len(l), err)
	}
	if n, err := r.s.PurgeDeadLetters(r.ctx, "", "t"); n != 300 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
}

func TestDeadLetters_Bounded(t *testing.T) {
	opt := quick()
	opt.DeadLetterCapacity = 20_000
	r := newRig(t, opt)
	topic := r.topic("t", deadEndpoint(), "persistent", "true")
	for i := range 100 {
		if err := r.s.dead.bury(r.ctx, topic.Dest.Queue, deadLetter{Reason: "x", Queue: fmt.Sprint(i), Raw: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
	if err != nil || len(l) == 0 || len(l) > 20 || l[len(l)-1].Queue != "99" {
		t.Errorf("%d dead letters, %v", len(l), err)
	}
	dropped, lost := r.counter("herald_notify_dead_letters_dropped_total"), r.counter("pubsub_event_lost")
	if int(dropped)+len(l) != 100 || lost != dropped {
		t.Errorf("%v dropped, %v counted as lost, %d kept", dropped, lost, len(l))
	}
	if err := r.s.dead.bury(r.ctx, topic.Dest.Queue, deadLetter{Raw: make([]byte, 20_000)}); err != nil {
		t.Fatal(err)
	}
	if lost := r.counter("pubsub_event_lost"); lost != 101 { // those that had to go, and itself
		t.Errorf("%v counted as lost", lost)
	}
}

func TestDispatcher_Undecodable(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("d", topic, Filter{}))
	q, err := r.queues.Open(r.ctx, topic.Dest.Queue)
	if err != nil {
		t.Fatal(err)
	}
	id, err := q.Reserve(r.ctx, []byte(IntentNone), 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Commit(r.ctx, id, [][]byte{[]byte("rubbish")}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Reserve(r.ctx, []byte("an intent from the future"), 100, 1); err != nil {
		t.Fatal(err)
	}
	r.run()
	eventually(t, "dead letters", func() bool {
		l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
		return err == nil && len(l) == 2
	})
	l, _ := r.s.DeadLetters(r.ctx, "", "t", "", 0)
	if l[0].Reason != reasonUndecodable || string(l[0].Raw) != "an intent from the future" || string(l[1].Raw) != "rubbish" {
		t.Errorf("dead letters = %+v", l)
	}
	if n, err := r.s.Redrive(r.ctx, "", "t"); n != 0 || err != nil {
		t.Errorf("Redrive of what cannot be read = %d, %v", n, err)
	}
	eventually(t, "an ack of what is a dead letter now", func() bool { return r.stats("t") == TopicStats{} })
}

func TestDispatcher_PanicIsContained(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	r.notify(rule("d", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	var once atomic.Bool
	r.s.opt.Fault = func(point string) {
		if point == "notify.pushed" && !once.Swap(true) {
			panic("test")
		}
	}
	r.run()
	r.put("k", "e")
	eventually(t, "second delivery and ack", func() bool { return len(sink.got()) == 2 && r.stats("t").Entries == 0 })
	if r.counter("herald_notify_worker_panics_total") != 1 {
		t.Error("the panic is not counted")
	}
}

// What an interrupted change of a topic left is brought to its end. Queues of
// which nothing is noted are left alone: they may be others'.
func TestTopics_Sweep(t *testing.T) {
	r := newRig(t, quick())
	for _, n := range []string{":other", ":other.1", ":other.dead"} {
		if err := r.queues.Create(r.ctx, n, 1000); err != nil {
			t.Fatal(err)
		}
	}
	topics := r.s.Topics()
	for _, name := range []string{"gone", "half", "kept"} {
		r.topic(name, deadEndpoint(), "persistent", "true")
	}
	if err := r.s.topics.makeDead(r.ctx, ":gone", 1000); err != nil {
		t.Fatal(err)
	}
	// "gone" lost its record but not its queues, "half" has a record and not
	// all queues, "kept" was to be deleted, but its record says that it was not.
	for _, name := range []string{"gone", "half", "kept"} {
		note := queueNote{Queue: ":" + name, Shards: 3, Delete: name != "half"}
		if err := topics.begin(r.ctx, "", name, &note); err != nil {
			t.Fatal(err)
		}
	}
	_, version, err := r.store.Get(r.ctx, topicRecord("", "gone"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Delete(r.ctx, topicRecord("", "gone"), version); err != nil {
		t.Fatal(err)
	}
	if err := r.queues.Delete(r.ctx, ":half.2"); err != nil {
		t.Fatal(err)
	}
	seen, err := topics.sweep(r.ctx, nil)
	if err != nil || len(seen) != 3 {
		t.Fatalf("sweep = %v, %v", seen, err)
	}
	if names, err := r.queues.List(r.ctx, ":gone"); err != nil || len(names) != 4 {
		t.Errorf("deleted what another gateway may be at: %v, %v", names, err)
	}
	if _, err := topics.sweep(r.ctx, seen); err != nil {
		t.Fatal(err)
	}
	names, err := r.queues.List(r.ctx, "")
	if err != nil || !slices.Equal(names, []string{":half", ":half.1", ":half.2", ":kept", ":kept.1", ":kept.2", ":other", ":other.1", ":other.dead"}) {
		t.Errorf("queues = %v, %v", names, err)
	}
	if notes, err := topics.unfinished(r.ctx); err != nil || len(notes) != 0 {
		t.Errorf("notes left: %v, %v", notes, err)
	}
	if err := topics.Delete(r.ctx, "", "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.queues.Open(r.ctx, ":kept.1"); !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Errorf("Open = %v", err)
	}
}
