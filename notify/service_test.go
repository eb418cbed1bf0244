package notify

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

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
	if d := time.Since(start); d > 30*time.Second { // it would never answer
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

// What an endpoint says of itself is bounded and not repeated.
func TestHTTP_HugeAnswer(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 500 secret\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-Secret: " + strings.Repeat("x", 2*maxAnswerHeader) + "\r\nContent-Length: 0\r\n\r\n",
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, answer) // the pusher may hang up
			_ = conn.Close()
		}))
		p, err := openPusher(Endpoint{URL: srv.URL, ConnectTimeout: time.Second, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		res := p.Push(t.Context(), []Event{{Record: []byte("{}")}})
		if res[0].Status != Retry || res[0].Err == nil || strings.Contains(res[0].Err.Error(), "secret") {
			t.Errorf("answer %.30q: %+v", answer, res)
		}
		_ = p.Close()
		srv.Close()
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
