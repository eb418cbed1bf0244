package redis

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
	"herald/tests/redistest"
)

// afterPage is a hook that calls f after each page of reservations.
type afterPage struct{ f func() }

func (afterPage) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (afterPage) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (h afterPage) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		err := next(ctx, cmds)
		if slices.ContainsFunc(cmds, func(c goredis.Cmder) bool {
			return slices.Contains(c.Args(), any(reservationsScript.sha)) && c.Err() == nil
		}) {
			h.f()
		}
		return err
	}
}

// TestReservations_EndMeanwhile ends the last reservation of a page, or renews
// it, before the next page is read: all others are listed. Who looks for a
// reservation takes one that is not listed for one that has ended.
func TestReservations_EndMeanwhile(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	for _, tt := range []struct {
		name string
		end  func(id queue.ID) error
	}{
		{"ended", func(id queue.ID) error { return q.Abort(t.Context(), id) }},
		{"renewed", func(id queue.ID) error { return q.Renew(t.Context(), id) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ids []queue.ID
			for i := range 2*reservations + 10 {
				id, err := q.Reserve(t.Context(), fmt.Appendf(nil, "i%d", i), 1, 1)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			all, err := q.Reservations(t.Context(), time.Now().Add(time.Hour), len(ids))
			if err != nil || len(all) != len(ids) {
				t.Fatalf("Reservations = %d, %v, want %d", len(all), err, len(ids))
			}
			second := h.Second(t, 0)
			pages := 0
			second.(*Driver).client.(*goredis.Client).AddHook(afterPage{func() {
				if pages++; pages == 1 {
					if err := tt.end(all[reservations-1].ID); err != nil {
						t.Error(err)
					}
				}
			}})
			other, err := second.Open(t.Context(), "q")
			if err != nil {
				t.Fatal(err)
			}
			got, err := other.Reservations(t.Context(), time.Now().Add(time.Hour), 10*len(ids))
			if err != nil || pages < 3 {
				t.Fatalf("Reservations = %v, %d pages", err, pages)
			}
			for i, r := range all {
				if !slices.ContainsFunc(got, func(g queue.Reservation) bool { return g.ID == r.ID }) {
					t.Errorf("reservation %d of %d is not listed", i, len(all))
				}
			}
			for _, id := range ids {
				if err := q.Abort(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
