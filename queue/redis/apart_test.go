package redis

import (
	"strings"
	"testing"
	"time"

	"herald/tests/redistest"
)

// TestReservation_IntentApart has a reservation as it was made when intents were
// kept apart: it is listed with its intent, and goes with it.
func TestReservation_IntentApart(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	ctx := t.Context()
	id, err := q.Reserve(ctx, []byte("the intent"), 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	keys := q.(*Queue).keys
	reserved, intents := keys[1], keys[2]
	value := s.Do("HGET", reserved, idString(id)).(string)
	if !strings.HasSuffix(value, "the intent") {
		t.Fatalf("value = %q", value)
	}
	s.Do("HSET", reserved, idString(id), value[:reservedHead])
	s.Do("HSET", intents, idString(id), "the intent")
	list, err := q.Reservations(ctx, time.Now().Add(time.Hour), 10)
	if err != nil || len(list) != 1 || string(list[0].Intent) != "the intent" || list[0].Size != 100 || list[0].Entries != 2 {
		t.Fatalf("Reservations = %v, %v", list, err)
	}
	if err := q.Commit(ctx, id, [][]byte{[]byte("entry")}); err != nil {
		t.Fatal(err)
	}
	if n := s.Do("EXISTS", reserved, intents); n != int64(0) {
		t.Errorf("%v keys are left", n)
	}
	if found, err := h.d.Check(ctx, "q", false); err != nil || len(found) > 0 {
		t.Errorf("Check = %v, %v", found, err)
	}
}
