package notify

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"herald/store"
)

// TestTarget_SlowUpload: a topic was changed while a body came in. The event goes
// to where the topic points now, and the way there stays open.
func TestTarget_SlowUpload(t *testing.T) {
	r := newRig(t, quick())
	before, now := newSink(t, nil), newSink(t, nil)
	r.notify(rule("n", r.topic("t", before.URL), Filter{}))
	r.run()
	slow, err := r.reserve(ObjectCreatedPut, "slow", store.Attrs{})
	if err != nil {
		t.Fatal(err)
	}
	r.topic("t", now.URL, "persistent", "true")
	r.put("a", "e")
	eventually(t, "the first event", func() bool { return len(now.ofKey("a")) == 1 })
	if _, err := slow.Do(r.ctx, r.store.put("b", "slow", "e", nil)); err != nil {
		t.Fatal(err)
	}
	r.put("b", "e")
	eventually(t, "the event after", func() bool { return len(now.ofKey("b")) == 1 })
	if len(now.ofKey("slow")) != 1 || len(before.got()) != 0 {
		t.Errorf("%d events of the slow upload came to the new endpoint, %d to the old one", len(now.ofKey("slow")), len(before.got()))
	}
}

// TestTarget_ClosedByAnother: a worker whose target was closed behind its back
// takes the one that is there now.
func TestTarget_ClosedByAnother(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	topic := r.topic("t", sink.URL, "persistent", "true")
	r.notify(rule("n", topic, Filter{}))
	r.run()
	r.put("k", "1")
	eventually(t, "the first event", func() bool { return len(sink.got()) == 1 })
	old := *topic // as somebody saw it who was slow
	old.Dest.PushEndpoint = deadEndpoint()
	r.s.targets.of(&old)
	r.put("k", "2")
	eventually(t, "the second event", func() bool { return len(sink.ofKey("k")) == 2 })
}

// TestTargets_KeepNew: a look at the topics that began before a topic was made
// does not close its way.
func TestTargets_KeepNew(t *testing.T) {
	r := newRig(t, quick())
	pushing, goOn := make(chan bool), make(chan bool)
	sink := newSink(t, func(Record) int {
		pushing <- true
		<-goOn
		return http.StatusOK
	})
	looked := time.Now()
	r.notify(rule("n", r.topic("t", sink.URL), Filter{}))
	done := make(chan bool)
	go func() {
		r.put("k", "e")
		close(done)
	}()
	<-pushing
	r.s.targets.keep(nil, looked)
	close(goOn)
	<-done
	if n := r.counter("pubsub_push_ok"); n != 1 {
		t.Errorf("%v pushes succeeded", n)
	}
	r.s.targets.keep(nil, time.Now())
	if r.s.targets.peek(TopicARN("default", "", "t")) != nil {
		t.Error("the target of a topic that is gone stays")
	}
}

// panicker is a pusher with a fault.
type panicker struct{}

func (panicker) Push(context.Context, []Event) []Result { panic("test") }
func (panicker) Close() error                           { return nil }

// TestSynchronous_Panic: a pusher's fault is a failed push, also within a
// request.
func TestSynchronous_Panic(t *testing.T) {
	r := newRig(t, quick())
	r.s.open = func(Endpoint) (Pusher, error) { return panicker{}, nil }
	r.notify(rule("n", r.topic("t", deadEndpoint()), Filter{}))
	r.put("k", "e")
	if r.counter("pubsub_push_failed") != 1 || r.counter("herald_notify_worker_panics_total") != 1 {
		t.Errorf("%v failed pushes, %v panics", r.counter("pubsub_push_failed"), r.counter("herald_notify_worker_panics_total"))
	}
	result, err := r.s.TestTopic(r.ctx, "", "t", "b", "n", "k")
	if err != nil || result.Status != "retry" || result.Error == "" {
		t.Errorf("TestTopic() = %+v, %v", result, err)
	}
}

// TestSynchronous_TopicChanged: a change of the topic closes the connections of
// the endpoint as it was, with what is on its way.
func TestSynchronous_TopicChanged(t *testing.T) {
	r := newRig(t, quick())
	sink := newSink(t, nil)
	arrived, hang := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-hang
	}))
	defer slow.Close()
	defer close(hang)
	r.notify(rule("n", r.topic("t", slow.URL), Filter{}))
	put := make(chan struct{})
	go func() {
		defer close(put)
		r.put("k", "e")
	}()
	<-arrived
	r.topic("t", sink.URL)
	r.put("other", "e") // the first to know
	<-put
	if got := sink.got(); len(got) != 2 {
		t.Errorf("%d events after the change, want 2", len(got))
	}
	if n := r.counter("pubsub_event_lost"); n != 0 {
		t.Errorf("%v events lost", n)
	}
}
