package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/store"

	"github.com/google/go-cmp/cmp"
)

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
