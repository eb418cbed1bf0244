package notify

import (
	"errors"
	"fmt"
	"testing"
)

func TestPushInOrder(t *testing.T) {
	var events []Event
	for i := range 1000 {
		events = append(events, Event{Key: fmt.Sprint(i % 300), ID: fmt.Sprint(i)})
	}
	fail := map[int]Status{5: Retry, 306: Rejected}
	var sent []int
	results := pushInOrder(events, func(wave []int, results []Result) {
		keys := map[string]bool{}
		for _, i := range wave {
			if keys[events[i].Key] {
				t.Errorf("a wave has key %s twice", events[i].Key)
			}
			keys[events[i].Key] = true
			sent = append(sent, i)
			if s := fail[i]; s != Acked {
				results[i] = Result{s, errors.New("no")}
			}
		}
		if len(wave) > maxWave {
			t.Errorf("a wave of %d, want at most %d", len(wave), maxWave)
		}
	})
	last := map[string]int{}
	for _, i := range sent {
		if before, ok := last[events[i].Key]; ok && before > i {
			t.Errorf("event %d was sent after %d of the same key", i, before)
		}
		last[events[i].Key] = i
	}
	for i, r := range results {
		want := Acked
		switch {
		case i%300 == 5: // behind a failure
			want = Retry
		case i == 306: // those behind what was rejected are sent
			want = Rejected
		}
		if r.Status != want || (r.Err == nil) != (want == Acked) {
			t.Errorf("event %d: %v (%v), want %v", i, r.Status, r.Err, want)
		}
	}
}
