package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"herald/queue"
	"herald/store"
)

// hear returns the next event of a stream; news of the stream are passed over,
// unless they end it or tell of missing events.
func hear(t *testing.T, c <-chan LiveEvent) LiveEvent {
	t.Helper()
	patience := time.After(2 * time.Minute)
	for {
		select {
		case e, ok := <-c:
			if !ok {
				t.Fatal("the stream ended")
			}
			if e.Record != nil || e.Notice != "" || e.Err != nil {
				return e
			}
		case <-patience:
			t.Fatal("nothing heard")
		}
	}
}

func listen(t *testing.T, s *Service, req ListenRequest) <-chan LiveEvent {
	t.Helper()
	c, err := s.Listen(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantHeard(t *testing.T, c <-chan LiveEvent, keys ...string) (last LiveEvent) {
	t.Helper()
	for _, k := range keys {
		if last = hear(t, c); last.Key != k || last.Err != nil || last.Notice != "" {
			t.Fatalf("heard %+v, want %s", last, k)
		}
	}
	return last
}

func TestListen(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	r.put("before", "e")
	if r.s.streams.wants(&facts{bucket: "b"}) || r.s.streams.n != 0 {
		t.Error("somebody listens")
	}
	ctx, cancel := context.WithCancel(t.Context())
	all, err := r.s.Listen(ctx, ListenRequest{Bucket: "b", BucketID: "b-id"})
	if err != nil {
		t.Fatal(err)
	}
	some := listen(t, r.s, ListenRequest{Prefix: "k", Suffix: "2", Events: ObjectRemovedAll, Owners: []string{"owner"}})
	others := []<-chan LiveEvent{
		listen(t, r.s, ListenRequest{Bucket: "c"}), listen(t, r.s, ListenRequest{Bucket: "b", BucketID: "another"}),
		listen(t, r.s, ListenRequest{Owners: []string{"somebody"}}),
	}
	for i := range 3 {
		r.put(fmt.Sprint("k", i), "e") // no rule needed
		r.remove(fmt.Sprint("k", i))
	}
	wantHeard(t, all, "k0", "k0", "k1", "k1", "k2", "k2")
	e := wantHeard(t, some, "k2")
	if !strings.Contains(string(e.Record), `"key":"k2"`) {
		t.Errorf("record = %s", e.Record)
	}
	for _, c := range others {
		select {
		case e := <-c:
			if e.Record != nil {
				t.Errorf("a stranger heard %+v", e)
			}
		default:
		}
	}
	cancel()
	eventually(t, "end", func() bool { return r.s.streams.readers.Load() == 4 })
	for range all { //nolint:revive // until it is closed
	}
}

// TestListen_Many: one user cannot take all streams.
func TestListen_Many(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	ctx, leave := context.WithCancel(t.Context())
	for range maxListenersOfOne {
		if _, err := r.s.Listen(ctx, ListenRequest{By: "bob"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.s.Listen(t.Context(), ListenRequest{By: "bob"}); !errors.Is(err, ErrTooManyListeners) {
		t.Errorf("one too many: %v", err)
	}
	listen(t, r.s, ListenRequest{By: "carol"})
	listen(t, r.s, ListenRequest{})
	leave()
	eventually(t, "bob has left", func() bool { return r.s.streams.readers.Load() == 2 })
	listen(t, r.s, ListenRequest{By: "bob"})
}

// TestListen_OldWishes: what was read of others' wishes before a listener came
// does not undo its own.
func TestListen_OldWishes(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	before := r.s.streams.wanted.Load()
	c := listen(t, r.s, ListenRequest{Bucket: "b"})
	r.s.streams.setWanted(before)
	r.put("k", "e")
	wantHeard(t, c, "k")
}

// TestListen_Resume: what happened while the listener was away comes, also over
// a restart of the gateway.
func TestListen_Resume(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	ctx, leave := context.WithCancel(t.Context())
	c, err := r.s.Listen(ctx, ListenRequest{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	r.put("a", "e")
	r.put("b", "e")
	first := wantHeard(t, c, "a")
	leave()
	r.put("c", "e")
	c = listen(t, r.s, ListenRequest{Bucket: "b", Resume: first.ID})
	last := wantHeard(t, c, "b", "c")

	r.put("d", "e")
	r.stop()
	r.open(quick())
	r.run()
	r.put("e", "e")
	wantHeard(t, listen(t, r.s, ListenRequest{Bucket: "b", Resume: last.ID}), "d", "e")
	wantHeard(t, listen(t, r.s, ListenRequest{Bucket: "b", Resume: first.ID}), "b", "c", "d", "e")
	if _, err := r.s.Listen(t.Context(), ListenRequest{Bucket: "b", Resume: "NEVER-7"}); !errors.Is(err, ErrEventGone) {
		t.Errorf("resume from nothing = %v", err)
	}
}

// TestListen_Killed: a listener hears that a gateway died.
func TestListen_Killed(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	c := listen(t, r.s, ListenRequest{Bucket: "b"})
	r.put("a", "e")
	last := wantHeard(t, c, "a")
	r.s.streams.newRun() // what it had not written is gone, and so is its end
	r.stop()
	r.open(quick())
	r.run()
	r.put("b", "e")
	c = listen(t, r.s, ListenRequest{Bucket: "b", Resume: last.ID})
	heard := map[string]bool{}
	for range 2 {
		e := hear(t, c)
		heard[e.Key+e.Notice] = true
	}
	if !heard["b"] || len(heard) != 2 {
		t.Errorf("heard %v", heard)
	}
}

// TestListen_Slow: who falls behind what is kept is told so.
func TestListen_Slow(t *testing.T) {
	r := newRig(t, quick())
	r.run()
	c := listen(t, r.s, ListenRequest{})
	for i := range 3000 { // more than the channel and a page have room for
		r.put(fmt.Sprint("k", i), "e")
	}
	eventually(t, "the log", func() bool {
		r.s.streams.mu.Lock()
		defer r.s.streams.mu.Unlock()
		return len(r.s.streams.buf) == 0
	})
	q, err := r.queues.Open(r.ctx, r.s.streams.logName())
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if err := r.s.streams.dropOldest(r.ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	var last LiveEvent
	for e := range c {
		last = e
	}
	if !errors.Is(last.Err, ErrListenerSlow) {
		t.Errorf("the last is %+v", last)
	}
}

// TestListen_Forgotten: when nobody listens for long, nothing is logged, and
// the log goes.
func TestListen_Forgotten(t *testing.T) { bubble(t, listenForgotten) }

func listenForgotten(t *testing.T) {
	opt := quick()
	opt.ListenKeep = 2 * time.Second
	r := newRig(t, opt)
	r.run()
	ctx, leave := context.WithCancel(t.Context())
	c, err := r.s.Listen(ctx, ListenRequest{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	r.put("a", "e")
	last := wantHeard(t, c, "a")
	leave()
	eventually(t, "the log goes", func() bool {
		_, err := r.queues.Open(r.ctx, r.s.streams.logName())
		return errors.Is(err, queue.ErrNoSuchQueue)
	})
	if r.s.streams.wants(&facts{bucket: "b"}) {
		t.Error("events are still wanted")
	}
	if _, err := r.s.Listen(t.Context(), ListenRequest{Bucket: "b", Resume: last.ID}); !errors.Is(err, ErrEventGone) {
		t.Errorf("resume = %v", err)
	}
	c = listen(t, r.s, ListenRequest{Bucket: "b"})
	r.put("z", "e")
	wantHeard(t, c, "z")
}

// sharedQueues are queues that several processes have open.
type sharedQueues struct{ queue.Driver }

// TestListen_TwoGateways: changes made through another gateway are heard.
func TestListen_TwoGateways(t *testing.T) {
	a := newRig(t, quick())
	b := &rig{t: t, ctx: t.Context(), store: a.store, queues: a.queues, bucket: a.bucket, stop: func() {}}
	for _, r := range []*rig{a, b} {
		s, err := New(Config{
			Records: r.store, Outcomes: modelOutcomes{r.store}, Queues: sharedQueues{r.queues}, StoreID: "0123456789abcdef", HostID: "host", Options: quick(),
		})
		if err != nil {
			t.Fatal(err)
		}
		r.s = s
		r.run()
		t.Cleanup(r.stop)
	}
	c, all := listen(t, a.s, ListenRequest{Bucket: "b"}), listen(t, b.s, ListenRequest{})
	b.put("of-b", "e")
	wantHeard(t, c, "of-b")
	a.put("of-a", "e")
	wantHeard(t, c, "of-a")
	wantHeard(t, all, "of-b", "of-a")
}

func TestLiveEvent_MinIO(t *testing.T) {
	f := facts{typ: ObjectCreatedPut, bucket: "b", owner: "o", key: "a b/ü+%.txt", principal: "p"}
	info := &store.Info{Key: f.key, Size: 3, ETag: "x", VersionID: store.NullVersion, Attrs: store.Attrs{"x-amz-meta-colour": "red"}}
	e := LiveEvent{Key: f.key, Record: appendRecord(nil, &f, "default", "", "", &store.Outcome{Changed: true, Info: info, Seq: 7})}
	got, err := e.MinIO()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		EventName string
		S3        struct {
			Object struct {
				Key          string
				UserMetadata map[string]string
			}
		}
	}
	if err := json.Unmarshal(got, &r); err != nil {
		t.Fatal(err)
	}
	if r.EventName != "s3:ObjectCreated:Put" || r.S3.Object.Key != "a+b%2F%C3%BC%2B%25.txt" || r.S3.Object.UserMetadata["X-Amz-Meta-Colour"] != "red" {
		t.Errorf("record = %s", got)
	}
}

func FuzzDecodeLogEntry(f *testing.F) {
	f.Add([]byte(`{"r":"RUN","n":1}`))
	f.Add([]byte(`{"r":"RUN","n":2,"t":"","b":"b","key":"aw==","e":1,"rec":{"eventName":"x"}}`))
	f.Add([]byte(`{"r":"","n":-1}`))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeLogEntry(data)
		if err != nil {
			return
		}
		if !ParseStreamID(e.id()) && len(e.id()) <= 64 {
			t.Errorf("id %q", e.id())
		}
		_, _ = (&LiveEvent{Key: string(e.Key), Record: e.Record}).MinIO()
	})
}
