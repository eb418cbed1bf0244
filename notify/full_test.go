package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"herald/store"
)

// TestWhenFull fills a queue that nobody empties.
func TestWhenFull(t *testing.T) {
	const puts = 60
	for _, policy := range []string{"", "reject", "drop-new", "drop-oldest"} {
		t.Run("policy "+policy, func(t *testing.T) {
			opt := quick()
			opt.Shards, opt.QueueCapacity = 1, 8<<10
			r := newRig(t, opt)
			attrs := []string{"persistent", "true"}
			if policy != "" {
				attrs = append(attrs, ArgWhenFull, policy)
			}
			r.notify(rule("n", r.topic("t", deadEndpoint(), attrs...), Filter{}))
			if err := r.s.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			refused := 0
			for i := range puts {
				p, err := r.reserve(ObjectCreatedPut, fmt.Sprint("k", i), store.Attrs{})
				if errors.Is(err, ErrFull) {
					refused++
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Do(t.Context(), r.store.put("b", fmt.Sprint("k", i), "e", nil)); err != nil {
					t.Fatal(err)
				}
			}
			dump, err := r.s.Dump(t.Context(), "", "t", 0)
			if err != nil || len(dump) == 0 {
				t.Fatalf("Dump() = %d entries, %v", len(dump), err)
			}
			var first struct{ Event Record }
			if err := json.Unmarshal(dump[0].Entry, &first); err != nil {
				t.Fatal(err)
			}
			dropped := puts - refused - len(dump)
			switch policy {
			case "drop-oldest":
				if want := fmt.Sprint("k", dropped); refused > 0 || dropped == 0 || first.Event.S3.Object.Key != want {
					t.Errorf("%d refused, %d dropped, the first that is left is %s, want %s", refused, dropped, first.Event.S3.Object.Key, want)
				}
			case "drop-new":
				if refused > 0 || dropped == 0 || first.Event.S3.Object.Key != "k0" {
					t.Errorf("%d refused, %d dropped, the first is %s", refused, dropped, first.Event.S3.Object.Key)
				}
			default:
				if refused == 0 || dropped != 0 {
					t.Errorf("%d refused, %d dropped", refused, dropped)
				}
			}
			if got := r.counter("herald_notify_dropped_total"); got != float64(dropped) {
				t.Errorf("herald_notify_dropped_total = %v, want %d", got, dropped)
			}
			if got := r.counter("pubsub_event_lost"); got != float64(dropped) {
				t.Errorf("pubsub_event_lost = %v, want %d", got, dropped)
			}
			if got := r.counter("herald_notify_queue_full_total"); got != float64(refused) {
				t.Errorf("herald_notify_queue_full_total = %v, want %d", got, refused)
			}
		})
	}
}
