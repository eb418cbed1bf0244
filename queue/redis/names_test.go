package redis

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"herald/queue"
	"herald/tests/redistest"
)

// TestNames_Race makes and deletes one queue by many at once: afterwards it is
// in the list if it is there.
func TestNames_Race(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	drivers := []*Driver{h.d, h.Second(t, 0).(*Driver)}
	ctx := t.Context()
	for round := range 60 {
		var wg sync.WaitGroup
		for w := range 6 {
			d := drivers[w%2]
			wg.Go(func() {
				for range 4 {
					var err error
					if rand.N(2) == 0 {
						err = d.Create(ctx, "q", 1<<20)
					} else {
						err = d.Delete(ctx, "q")
					}
					if err != nil && !errors.Is(err, queue.ErrQueueExists) && !errors.Is(err, queue.ErrNoSuchQueue) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		_, err := h.d.Open(ctx, "q")
		names, listErr := h.d.List(ctx, "")
		if there := err == nil; listErr != nil || slices.Contains(names, "q") != there {
			t.Fatalf("round %d: Open = %v, but List = %q, %v", round, err, names, listErr)
		}
		if n := h.d.client.HLen(ctx, h.d.nameKeys()[1]).Val(); n != 0 {
			t.Fatalf("round %d: %d names are pending", round, n)
		}
	}
}

// TestNames_Check finds a name without a queue, and a queue without a name.
func TestNames_Check(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	mustCreate(t, h.d, "there")
	names := h.d.nameKeys()[0]
	s.Do("ZREM", names, "there")
	s.Do("ZADD", names, 0, "phantom")
	for _, name := range []string{"there", "phantom"} {
		found, err := h.d.Check(t.Context(), name, true)
		if err != nil || len(found) != 1 || found[0].Kind != "name" || !found[0].Repaired {
			t.Errorf("Check(%s) = %v, %v", name, found, err)
		}
	}
	if list, err := h.d.List(t.Context(), ""); err != nil || !slices.Equal(list, []string{"there"}) {
		t.Errorf("List = %q, %v", list, err)
	}
	for _, name := range []string{"phantom", "never"} {
		if found, err := h.d.Check(t.Context(), name, true); !errors.Is(err, queue.ErrNoSuchQueue) {
			t.Errorf("Check(%s) = %v, %v, want %v", name, found, err, queue.ErrNoSuchQueue)
		}
	}
}
