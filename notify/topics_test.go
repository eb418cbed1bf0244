package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

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

// A topic made anew under a name finds nothing of what waited for the last one
// of that name, whose deletion a crash interrupted.
func TestTopics_NothingLeft(t *testing.T) {
	r := newRig(t, quick())
	r.notify(rule("n", r.topic("t", deadEndpoint(), "persistent", "true"), Filter{}))
	for _, name := range []string{":t.dead", ":t2", ":t%2E7"} {
		if err := r.queues.Create(r.ctx, name, 1000); err != nil {
			t.Fatal(err)
		}
	}
	r.put("k", "old")
	_, version, err := r.store.Get(r.ctx, topicRecord("", "t"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.s.topics.begin(r.ctx, "", "t", &queueNote{Queue: ":t", Shards: 3, Delete: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Delete(r.ctx, topicRecord("", "t"), version); err != nil { // and no further
		t.Fatal(err)
	}
	sink := newSink(t, nil)
	r.topic("t", sink.URL, "persistent", "true")
	names, err := r.queues.List(r.ctx, ":t")
	if err != nil || !slices.Equal(names, []string{":t", ":t%2E7", ":t.1", ":t.2", ":t2"}) {
		t.Errorf("queues = %v, %v", names, err)
	}
	r.run()
	r.put("k", "new")
	eventually(t, "the event", func() bool { return len(sink.got()) > 0 })
	if got := sink.ofKey("k"); !slices.Equal(got, []string{"ObjectCreated:Put new"}) {
		t.Errorf("events %v", got)
	}
}

// A gateway that is stopped while it deletes a topic, for longer than it holds
// the guard, does not delete the queues of a topic that was made meanwhile.
func TestTopics_StoppedDeleter(t *testing.T) {
	r := newRig(t, quick())
	r.topic("t", deadEndpoint(), "persistent", "true")
	other := newRig(t, quick())
	other.store, other.queues = r.store, r.queues
	other.open(quick())

	work, unlock, err := r.s.topics.lock(r.ctx, "", "t")
	if err != nil {
		t.Fatal(err)
	}
	note := queueNote{Queue: ":t", Shards: 3, Delete: true}
	if err := r.s.topics.begin(work, "", "t", &note); err != nil {
		t.Fatal(err)
	}
	_, version, err := r.store.Get(r.ctx, topicRecord("", "t"))
	if err == nil {
		err = r.store.Delete(work, topicRecord("", "t"), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	// It stops here: its lease ends, and none of its timers runs.
	h := work.(leaseContext).h
	h.mu.Lock()
	h.renewal.Stop()
	h.expiry.Stop()
	h.until = time.Now()
	h.mu.Unlock()
	if err := h.lease.Release(r.ctx); err != nil {
		t.Fatal(err)
	}
	other.topic("t", deadEndpoint(), "persistent", "true")
	if err := r.s.topics.carryOut(work, "", "t", &note); !errors.Is(err, errLeaseOver) {
		t.Errorf("carryOut = %v, want %v", err, errLeaseOver)
	}
	unlock()
	names, err := r.queues.List(r.ctx, ":t")
	if err != nil || !slices.Equal(names, []string{":t", ":t.1", ":t.2"}) {
		t.Errorf("queues of the new topic = %v, %v", names, err)
	}
}

// Names with dots (which the gateway can be told to allow) share no queue with
// other topics.
func TestTopics_Dots(t *testing.T) {
	r := newRig(t, quick())
	a := r.topic("t", deadEndpoint(), "persistent", "true")
	b := *a
	b.Name, b.ARN, b.Dest.Queue = "t.1", TopicARN("default", "", "t.1"), ""
	if _, err := r.s.Topics().Create(r.ctx, &b, nil); err != nil {
		t.Fatal(err)
	}
	names, err := r.queues.List(r.ctx, "")
	if err != nil || len(names) != 6 {
		t.Errorf("queues = %v, %v", names, err)
	}
	for _, tenant := range []string{"", "a.b"} {
		for _, name := range []string{"t", "t.1", "t.dead"} {
			q := queueOf(tenant, name)
			if gotTenant, got, ok := topicOfQueue(q); !ok || gotTenant != tenant || got != name {
				t.Errorf("topicOfQueue(%q) = %q, %q", q, gotTenant, got)
			}
			if got := baseQueue(q); got != q {
				t.Errorf("baseQueue(%q) = %q", q, got)
			}
		}
	}
}
