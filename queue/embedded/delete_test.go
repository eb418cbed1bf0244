package embedded

import (
	"testing"

	"herald/queue"
)

// TestDelete_DuringCheckpoint deletes a queue between the writing of the
// catalog, which has it, and that of its snapshot. The next start needs both,
// if the journal does not have the deletion.
func TestDelete_DuringCheckpoint(t *testing.T) {
	for name, before := range map[string]func(*testing.T, *harness, queue.Queue){
		"new": func(*testing.T, *harness, queue.Queue) {},
		"old": func(t *testing.T, h *harness, q queue.Queue) { h.checkpoint(t); put(t, q, "one") },
	} {
		for _, flushed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				h := newHarness(t, manual(), Options{})
				h.queue(t, "other")
				q := h.queue(t, "q")
				before(t, h, q)
				h.d.afterCatalog = func() {
					h.d.afterCatalog = nil
					put(t, q, "two")
					if err := h.d.Delete(t.Context(), "q"); err != nil {
						t.Error(err)
					}
				}
				h.checkpoint(t)
				if flushed {
					h.checkpoint(t)
				}
				h.Crash(t) // fails if the queues cannot be opened
				if names, err := h.d.List(t.Context(), ""); err != nil || len(names) != 1 {
					t.Errorf("List = %v, %v", names, err)
				}
				put(t, h.queue(t, "q"), "three")
				if got, _ := contents(t, h.queue(t, "q")); len(got) != 1 {
					t.Errorf("entries %v", got)
				}
			})
		}
	}
}
