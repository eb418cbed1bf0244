package notify

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/google/go-cmp/cmp"
)

func TestPersistent_Delivers(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL+"/x?y=1", "persistent", "true", "OpaqueData", "me")
	r.notify(rule("n1", topic, Filter{}))
	r.run()
	for i := range 20 {
		r.put(fmt.Sprint("k", i%5), fmt.Sprint("e", i))
	}
	r.remove("k1")
	eventually(t, "all events", func() bool { return len(sink.got()) >= 21 })
	if d := cmp.Diff([]string{"ObjectCreated:Put e1", "ObjectCreated:Put e6", "ObjectCreated:Put e11", "ObjectCreated:Put e16", "ObjectRemoved:Delete e16"}, sink.ofKey("k1")); d != "" {
		t.Error(d)
	}
	got := sink.got()[0]
	if got.OpaqueData != "me" || got.S3.ConfigurationID != "n1" || got.ResponseElements.HostID != "host" || got.UserIdentity.PrincipalID != "user" {
		t.Errorf("record = %+v", got)
	}
	eventually(t, "acks", func() bool { return r.stats("t") == TopicStats{} })
	r.store.mu.Lock()
	left := len(r.store.outcomes)
	r.store.mu.Unlock()
	if left != 0 {
		t.Errorf("%d outcomes were not forgotten", left)
	}
	if r.counter("pubsub_push_ok") != 21 || r.counter("pubsub_event_triggered") != 21 || r.counter("pubsub_event_lost") != 0 {
		t.Error("metrics do not add up")
	}
}

func TestPersistent_FailedOpHasNoEvent(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	r.run()
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if st := r.stats("t"); st.Reservations != 1 {
		t.Errorf("stats = %+v, want a reservation", st)
	}
	_, err = p.Do(r.ctx, func(context.Context, store.OpID) (store.Outcome, error) {
		return store.Outcome{}, store.ErrPreconditionFailed
	})
	if !errors.Is(err, store.ErrPreconditionFailed) {
		t.Errorf("Do = %v", err)
	}
	p.Abort()
	if p, err = r.reserve(ObjectCreatedPut, "k", store.Attrs{}); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	r.remove("absent") // changes nothing
	if st := r.stats("t"); st != (TopicStats{}) {
		t.Errorf("stats = %+v, want none", st)
	}
	r.put("k", "e")
	eventually(t, "one event", func() bool { return len(sink.got()) == 1 })
}

func TestReserve_Full(t *testing.T) {
	opt := quick()
	opt.Shards, opt.QueueCapacity = 1, 8000
	r := newRig(t, opt)
	sink := newSink(t, func(Record) int { return 503 })
	small := r.topic("small", sink.URL, "persistent", "true")
	r.s.topics.capacity = 1 << 20
	large := r.topic("large", sink.URL, "persistent", "true")
	r.notify(rule("n", large, Filter{}), rule("m", small, Filter{}))
	r.run()
	n := 0
	for ; ; n++ {
		p, err := r.reserve(ObjectCreatedPut, fmt.Sprint("k", n), store.Attrs{})
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil || n > 100 {
			t.Fatal(n, err)
		}
		if _, err := p.Do(r.ctx, r.store.put("b", fmt.Sprint("k", n), "e", nil)); err != nil {
			t.Fatal(err)
		}
	}
	// All or nothing: no reservation stays in the large one.
	if st := r.stats("large"); st.Reservations != 0 || st.Entries != int64(n) {
		t.Errorf("stats of the other topic = %+v, want %d entries", st, n)
	}
	sink.set(nil)
	eventually(t, "drained", func() bool { return r.stats("small").Entries == 0 && r.stats("large").Entries == 0 })
	r.put("k", "again")
	eventually(t, "events of both", func() bool { return len(sink.got()) >= 2*(n+1) })
}

func TestReserve_RaceOfTopics(t *testing.T) {
	r := newRig(t, quick())
	topic := r.topic("t", deadEndpoint(), "persistent", "true")
	r.notify(rule("n", topic, Filter{}))
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.s.Topics().Delete(r.ctx, "", "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(r.ctx, r.store.put("b", "k", "e", nil)); err != nil {
		t.Errorf("Do without its topic = %v", err)
	}
	r.put("k", "f") // rules that point nowhere are skipped
	if names, err := r.queues.List(r.ctx, ""); err != nil || len(names) != 0 {
		t.Errorf("queues left: %v, %v", names, err)
	}
}

func TestPersistent_LargeEntry(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("n", topic, Filter{}))
	r.run()
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	// Opaque data that nobody could know when room was reserved.
	opaque := strings.Repeat("x", 100_000)
	if _, err := r.s.Topics().SetAttribute(r.ctx, "", "t", AttrOpaqueData, opaque, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(r.ctx, r.store.put("b", "k", "e", nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event", func() bool { return len(sink.got()) == 1 })
	if got := sink.got()[0].OpaqueData; got != opaque {
		t.Errorf("opaque data of %d bytes", len(got))
	}
	eventually(t, "no reservation", func() bool { return r.stats("t") == TopicStats{} })
}

func TestPersistent_Filters(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("n", topic, Filter{Metadata: FilterRules{[]FilterRule{{"x-amz-meta-a", "1"}}}}))
	r.run()
	for i, attrs := range []store.Attrs{{"x-amz-meta-a": "1"}, {"x-amz-meta-a": "2"}} {
		key := fmt.Sprint("k", i)
		p, err := r.reserve(ObjectCreatedPut, key, attrs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Do(r.ctx, r.store.put("b", key, "e", attrs)); err != nil {
			t.Fatal(err)
		}
		// What a delete removes is known only afterwards.
		r.remove(key)
	}
	eventually(t, "two events", func() bool { return len(sink.got()) == 2 })
	eventually(t, "nothing left", func() bool { return r.stats("t") == TopicStats{} })
	if d := cmp.Diff([]string{"ObjectCreated:Put e", "ObjectRemoved:Delete e"}, sink.ofKey("k0")); d != "" {
		t.Error(d)
	}
	if md := sink.got()[1].S3.Object.Metadata; len(md) != 1 || md[0].Key != "x-amz-meta-a" {
		t.Errorf("metadata of the delete = %v", md)
	}
}

func TestTwoRulesOneTopic(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("n1", topic, Filter{}), rule("n2", topic, Filter{}))
	r.run()
	r.put("k", "e")
	eventually(t, "two events", func() bool { return len(sink.got()) == 2 })
	ids := []string{sink.got()[0].S3.ConfigurationID, sink.got()[1].S3.ConfigurationID}
	if slices.Sort(ids); !slices.Equal(ids, []string{"n1", "n2"}) {
		t.Errorf("events of %v", ids)
	}
}

func TestSynchronous(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	good := r.topic("good", sink.URL)
	bad := r.topic("bad", deadEndpoint())
	odd := r.topic("odd", "gopher://x")
	none := r.topic("none", "")
	r.notify(rule("a", bad, Filter{}), rule("b", good, Filter{}), rule("c", odd, Filter{}), rule("d", none, Filter{}))
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Do(r.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		if !op.IsZero() {
			t.Error("an op id though no topic is persistent")
		}
		return r.store.put("b", "k", "e", nil)(ctx, op)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := sink.got(); len(got) != 1 { // before Do returned
		t.Fatalf("%d events, want 1", len(got))
	}
	if r.counter("pubsub_push_failed") != 2 {
		t.Errorf("failed pushes = %v, want 2", r.counter("pubsub_push_failed"))
	}
}

func TestSynchronous_BlackHole(t *testing.T) {
	opt := quick()
	opt.PushTimeout = 100 * time.Millisecond
	r := newRig(t, opt)
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-hang:
		case <-req.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(hang)
	r.notify(rule("a", r.topic("t", srv.URL), Filter{}))
	start := time.Now()
	r.put("k", "e")
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("the request took %v", d)
	}
}

func TestHTTP_Details(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	auth := strings.Replace(sink.URL, "http://", "http://user:pass@", 1)
	r.notify(rule("n", r.topic("t", auth+"/p", "cloudevents", "true"), Filter{}))
	r.put("a b/ü", "e")
	if len(sink.got()) != 1 {
		t.Fatal("no event")
	}
	rec, h := sink.got()[0], sink.headers[0]
	want := map[string]string{
		"Content-Type": "application/json", "ce-specversion": "1.0", "ce-type": "com.amazonaws.ObjectCreated:Put",
		"ce-time": rec.EventTime, "ce-id": "req.host", "ce-source": "ceph:s3.default.b", "ce-subject": "a%20b/%C3%BC",
		"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass")),
	}
	for k, v := range want {
		if got := h.Get(k); got != v {
			t.Errorf("header %s = %q, want %q", k, got, v)
		}
	}
	if h.Get("Content-Length") != fmt.Sprint(len(sink.bodies[0])) && !strings.HasPrefix(sink.bodies[0], `{"Records":[{"eventVersion":"2.2"`) {
		t.Errorf("body = %s", sink.bodies[0])
	}
}

func TestHTTP_NoRedirect(t *testing.T) {
	sink := newSink(t, nil)
	srv := httptest.NewServer(http.RedirectHandler(sink.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	p, err := openPusher(Endpoint{URL: srv.URL + "/?token=secret", ConnectTimeout: time.Second, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	res := p.Push(t.Context(), []Event{{Record: []byte("{}")}})
	if res[0].Status != Retry || sink.seen.Load() != 0 {
		t.Errorf("a redirect was followed: %+v", res)
	}
	srv.Close()
	if res = p.Push(t.Context(), []Event{{Record: []byte("{}")}}); res[0].Err == nil || strings.Contains(res[0].Err.Error(), "secret") {
		t.Errorf("error shows the URL: %v", res[0].Err)
	}
}

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
	eventually(t, "dead letters", func() bool {
		l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
		return err == nil && len(l) == 2
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
	r.run()
	for i := range 300 {
		r.put(fmt.Sprint("k", i%30), fmt.Sprint(i))
	}
	if st := r.stats("t"); st.Entries != 300 {
		t.Errorf("stats = %+v, want 300 entries", st)
	}
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
	if dropped := r.counter("herald_notify_dead_letters_dropped_total"); int(dropped)+len(l) != 100 {
		t.Errorf("%v dropped, %d kept", dropped, len(l))
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
	id, err := q.Reserve(r.ctx, []byte{intentNone}, 100, 1)
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
	if st := r.stats("t"); st != (TopicStats{}) {
		t.Errorf("stats = %+v", st)
	}
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

func TestResolver_AfterCrash(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	a := r.topic("a", sink.URL, "persistent", "true")
	b := r.topic("b", sink.URL, "persistent", "true")
	r.notify(rule("na", a, Filter{}), rule("nb", b, Filter{}))
	// Ops that the gateway did not live to finish: their outcome is known to
	// the store only.
	for i := range 3 {
		p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			continue // never happened
		}
		if _, err := r.store.put("b", "k", fmt.Sprint("e", i), nil)(r.ctx, p.facts.op); err != nil {
			t.Fatal(err)
		}
	}
	if st := r.stats("a"); st.Reservations != 3 || st.Entries != 0 {
		t.Fatalf("stats = %+v", st)
	}
	r.open(quick())
	r.run()
	eventually(t, "events", func() bool { return len(sink.got()) == 4 })
	for _, id := range []string{"na", "nb"} {
		var got []string
		for _, rec := range sink.got() {
			if rec.S3.ConfigurationID == id {
				got = append(got, rec.S3.Object.ETag)
			}
		}
		if !slices.Equal(got, []string{"e0", "e2"}) {
			t.Errorf("events of %s: %v", id, got)
		}
	}
	if n := len(r.store.outcomes) + len(r.store.barred); n != 0 {
		t.Errorf("%d outcomes and bars left", n)
	}
	eventually(t, "empty queues", func() bool { return r.stats("a") == TopicStats{} && r.stats("b") == TopicStats{} })
	if r.counter("herald_notify_resolved_total") != 6 {
		t.Errorf("%v decisions", r.counter("herald_notify_resolved_total"))
	}
}

// While the store cannot answer, nothing new gets ahead.
func TestResolver_StoreSilent(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.put("b", "k", "1", nil)(r.ctx, p.facts.op); err != nil {
		t.Fatal(err)
	}
	r.store.unsettle = errors.New("disk on fire")
	r.open(quick())
	if _, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{}); !errors.Is(err, r.store.unsettle) {
		t.Errorf("Reserve = %v, want the store's error", err)
	}
	r.run()
	r.store.mu.Lock()
	r.store.unsettle = nil
	r.store.mu.Unlock()
	r.put("k", "2")
	eventually(t, "both", func() bool { return len(sink.got()) == 2 })
	if d := cmp.Diff([]string{"ObjectCreated:Put 1", "ObjectCreated:Put 2"}, sink.ofKey("k")); d != "" {
		t.Error(d)
	}
}

func TestDo_UnknownOutcome(t *testing.T) {
	opt := quick()
	opt.StaleAge, opt.ResolveEvery = 200*time.Millisecond, 50*time.Millisecond
	r := newRig(t, opt)
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	r.run()
	for _, happened := range []bool{true, false} {
		p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Do(r.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
			if happened {
				if _, err := r.store.put("b", "k", "e", nil)(ctx, op); err != nil {
					t.Error(err)
				}
			}
			return store.Outcome{}, fmt.Errorf("flush: %w", store.ErrUnknownOutcome)
		})
		if !errors.Is(err, store.ErrUnknownOutcome) {
			t.Fatal(err)
		}
		p.Abort()
	}
	eventually(t, "the resolver", func() bool { return r.stats("t") == TopicStats{} && len(sink.got()) == 1 })
}

// An upload may take longer than a reservation lives.
func TestReserve_LongUpload(t *testing.T) {
	opt := quick()
	opt.StaleAge, opt.ResolveEvery = 150*time.Millisecond, 20*time.Millisecond
	r := newRig(t, opt)
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("n", topic, Filter{}))
	r.run()
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	made := time.Now()
	q, err := r.queues.Open(r.ctx, ShardName(topic.Dest.Queue, shardOf("b/k", 3)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "renewals", func() bool {
		list, err := q.Reservations(r.ctx, time.Now().Add(time.Hour), 10)
		return err == nil && len(list) == 1 && list[0].Time.Sub(made) > 3*opt.StaleAge
	})
	if _, err := p.Do(r.ctx, r.store.put("b", "k", "e", nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event", func() bool { return len(sink.got()) == 1 })
}

// A process that slept beyond the life of its reservation, which another has
// resolved meanwhile, makes a new one, under another op.
func TestReserve_Lost(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	r.notify(rule("n", r.topic("t", sink.URL, "persistent", "true"), Filter{}))
	p, err := r.reserve(ObjectCreatedPut, "k", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	first, h := p.facts.op, p.held[0]
	if _, err := r.store.Settle(r.ctx, p.facts.ref()); !errors.Is(err, store.ErrNoSuchOp) {
		t.Fatal(err)
	}
	if err := h.queue.Abort(r.ctx, h.id); err != nil {
		t.Fatal(err)
	}
	h.renewed = time.Now().Add(-time.Hour)
	r.run()
	_, err = p.Do(r.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		if op == first || op.IsZero() {
			t.Errorf("op %v after %v", op, first)
		}
		return r.store.put("b", "k", "e", nil)(ctx, op)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event", func() bool { return len(sink.got()) == 1 })
}

func TestListen(t *testing.T) {
	r := newRig(t, quick())
	ctx, cancel := context.WithCancel(t.Context())
	all := r.s.Listen(ctx, ListenRequest{Bucket: "b"})
	some := r.s.Listen(ctx, ListenRequest{Prefix: "k", Suffix: "2", Events: ObjectRemovedAll})
	other := r.s.Listen(ctx, ListenRequest{Bucket: "c"})
	for i := range 3 {
		r.put(fmt.Sprint("k", i), "e") // no rule needed
		r.remove(fmt.Sprint("k", i))
	}
	if len(all) != 6 || len(some) != 1 || len(other) != 0 {
		t.Errorf("heard %d, %d, %d, want 6, 1, 0", len(all), len(some), len(other))
	}
	if e := <-some; !strings.Contains(string(e.Record), `"key":"k2"`) {
		t.Errorf("record = %s", e.Record)
	}
	cancel()
	eventually(t, "end", func() bool { return !r.s.hub.live() })
	if _, ok := <-other; ok {
		t.Error("the channel is not closed")
	}
}

func TestListen_Slow(t *testing.T) {
	r := newRig(t, quick())
	c := r.s.Listen(t.Context(), ListenRequest{})
	for range listenBuffer + 10 {
		r.put("k", "e")
	}
	n := 0
	var last LiveEvent
	for e := range c {
		last = e
		n++
	}
	if n != listenBuffer+1 || !last.Dropped {
		t.Errorf("%d events, the last %+v", n, last)
	}
}

func TestTopics(t *testing.T) {
	r := newRig(t, quick())
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		r.topic(n, deadEndpoint())
	}
	other, err := NewTopic("default", "acme", "x", "acme$u", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.s.Topics().Create(r.ctx, other, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after, more := "", true; more; more = after != "" {
		page, next, err := r.s.Topics().List(r.ctx, "", after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range page {
			got = append(got, topic.Name)
		}
		after = next
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("List = %v", got)
	}
	if page, next, err := r.s.Topics().List(r.ctx, "acme", "", 0); err != nil || len(page) != 1 || next != "" || page[0].Tenant() != "acme" {
		t.Errorf("List(acme) = %v, %q, %v", page, next, err)
	}
	refuse := errors.New("no")
	if _, err := r.s.Topics().Create(r.ctx, other, func(cur, next *Topic) error {
		if cur == nil || cur.Owner != "acme$u" {
			t.Errorf("check got %+v", cur)
		}
		return refuse
	}); !errors.Is(err, refuse) {
		t.Errorf("Create = %v", err)
	}
	if err := r.s.Topics().Delete(r.ctx, "acme", "x"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"x", "", "sp ace", "a:b", strings.Repeat("n", 300)} {
		if _, err := r.s.Topics().Get(r.ctx, "acme", name); !errors.Is(err, ErrNoSuchTopic) {
			t.Errorf("Get(%q) = %v", name, err)
		}
		if err := r.s.Topics().Delete(r.ctx, "acme", name); !errors.Is(err, ErrNoSuchTopic) {
			t.Errorf("Delete(%q) = %v", name, err)
		}
	}
	if _, err := r.s.Topics().SetAttribute(r.ctx, "", "none", AttrOpaqueData, "x", nil); !errors.Is(err, ErrNoSuchTopic) {
		t.Errorf("SetAttribute = %v", err)
	}
	info := fmt.Sprintf(`{"name":"b","id":"1","attrs":{"notification":%q}}`, FormatRules([]Rule{{ID: "i", TopicARN: TopicARN("default", "", "a")}}))
	if _, err := r.store.Put(r.ctx, "bucket/b", []byte(info), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := r.s.Topics().SubscribedBuckets(r.ctx, TopicARN("default", "", "a")); err != nil || !slices.Equal(got, []string{"b"}) {
		t.Errorf("SubscribedBuckets = %v, %v", got, err)
	}
}

// Queues whose topic is gone are found and deleted, others are left alone.
func TestDispatcher_Sweep(t *testing.T) {
	r := newRig(t, quick())
	topic := r.topic("t", deadEndpoint(), "persistent", "true")
	for _, n := range []string{":gone", ":gone.1", ":gone.dead", deadQueue(topic.Dest.Queue)} {
		if err := r.queues.Create(r.ctx, n, 1000); err != nil {
			t.Fatal(err)
		}
	}
	d := newDispatcher(r.s)
	for range 2 {
		if err := d.sweep(r.ctx, []*Topic{topic}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := r.queues.List(r.ctx, "")
	if err != nil || !slices.Equal(names, []string{":t", ":t.1", ":t.2", ":t.dead"}) {
		t.Errorf("queues = %v, %v", names, err)
	}
	if err := r.s.Topics().Delete(r.ctx, "", "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.queues.Open(r.ctx, ":t.dead"); !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Errorf("Open = %v", err)
	}
}
