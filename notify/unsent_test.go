package notify

import (
	"context"
	"slices"
	"testing"

	"herald/queue"
)

// moving is a queue with an outbox whose entries are moved as soon as somebody
// has looked at either.
type moving struct {
	queue.Queue
	unsent, there []queue.Entry
}

func (q *moving) move() { q.there, q.unsent = append(q.there, q.unsent...), nil }

func (q *moving) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	defer q.move()
	if after != "" {
		return nil, false, nil
	}
	return q.there, false, nil
}

func (q *moving) Unsent(ctx context.Context, max int) ([]queue.Entry, error) {
	defer q.move()
	return q.unsent[:min(max, len(q.unsent))], nil
}

// TestEachWaiting_Moved sees what is moved to the server meanwhile once.
func TestEachWaiting_Moved(t *testing.T) {
	entry := func(s string) queue.Entry { return queue.Entry{Marker: queue.Marker(s), Data: []byte(s)} }
	q := &moving{there: []queue.Entry{entry("1")}, unsent: []queue.Entry{entry("2"), entry("3")}}
	for _, when := range []string{"while they are moved", "afterwards"} {
		var got []string
		err := eachWaiting(t.Context(), q, 10, func(e queue.Entry) (bool, error) {
			got = append(got, string(e.Data))
			return true, nil
		})
		if err != nil || !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
}
