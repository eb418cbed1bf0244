package outbox

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/redis"
	"herald/tests/redistest"
)

// slowDelete is a driver whose deletions wait for somebody to let them go on.
type slowDelete struct {
	queue.Driver
	begun, goOn chan struct{}
}

func (d slowDelete) Delete(ctx context.Context, name string) error {
	d.begun <- struct{}{}
	<-d.goOn
	return d.Driver.Delete(ctx, name)
}

// TestDeleteTwice deletes a queue twice at the same time, and makes it again
// between the end of the first deletion and that of the second: whatever is
// deleted, one that is made afterwards can be used.
func TestDeleteTwice(t *testing.T) {
	s := redistest.Start(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	h := newHarnessOn(t, "twice:", Options{}, func(namespace string) (queue.Driver, error) {
		d, err := redis.Open(context.Background(), s.URL(), redis.Options{Namespace: namespace, RequireAOF: true})
		return slowDelete{d, begun, goOn}, err
	})
	ctx := t.Context()
	if err := h.d.Create(ctx, "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- h.d.Delete(ctx, "t:q") }()
	<-begun
	go func() { second <- h.d.Delete(ctx, "t:q") }()
	waitForBox(t, h.d, "t:q")
	goOn <- struct{}{}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := h.d.Create(ctx, "t:q", 1<<20); err != nil {
		t.Fatal(err)
	}
	goOn <- struct{}{}
	if err := <-second; err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		t.Fatal(err)
	}
	if err := h.d.Create(ctx, "t:q", 1<<20); err != nil && !errors.Is(err, queue.ErrQueueExists) {
		t.Fatal(err)
	}
	q := open(t, h.d, "t:q")
	put(t, q, "new")
	drain(t, h.d)
	if got := list(t, open(t, h.d, "t:q")); !slices.Equal(got, []string{"new"}) {
		t.Errorf("entries = %v", got)
	}
}

// waitForBox gives a second deletion the time to find the outbox of the first.
func waitForBox(t *testing.T, d *Driver, name string) {
	t.Helper()
	for range 100 {
		if _, err := d.box(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}
