//go:build rados

package rados

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestBatcher_CallsThatWaitBecomeOneBatch(t *testing.T) {
	bg := newBackground()
	var batches [][]int
	first, release := make(chan struct{}), make(chan struct{})
	b := newBatcher(bg, 3, func(_ context.Context, batch []int) {
		if batches = append(batches, batch); len(batches) == 1 {
			close(first)
			<-release
		}
	})
	b.add(0)
	<-first
	for i := 1; i < 6; i++ {
		b.add(i)
	}
	close(release)
	bg.close(time.Minute)
	if want := [][]int{{0}, {1, 2, 3}, {4, 5}}; !slices.EqualFunc(batches, want, slices.Equal[[]int]) {
		t.Errorf("batches = %v, want %v", batches, want)
	}
	if b.add(7) || bg.start(func(context.Context) {}) {
		t.Error("something was started after close")
	}
}

// TestBatcher_Later has calls that nobody waits for go with the next that
// somebody does, or alone, in time and at the end.
func TestBatcher_Later(t *testing.T) {
	bg := newBackground()
	batches := make(chan []int, 10)
	b := newBatcher(bg, 3, func(_ context.Context, batch []int) { batches <- batch })
	want := func(what string, want ...int) {
		t.Helper()
		select {
		case batch := <-batches:
			if !slices.Equal(batch, want) {
				t.Errorf("%s: batch = %v, want %v", what, batch, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: no batch", what)
		}
	}
	b.addLater(0)
	want("alone", 0)
	for i := range 4 {
		b.put(i, time.Now().Add(time.Hour))
	}
	b.add(4)
	want("with another", 0, 1, 2)
	want("the rest", 3, 4)
	b.put(5, time.Now().Add(time.Hour))
	bg.close(time.Minute)
	want("at the end", 5)
	if b.addLater(6) {
		t.Error("a call was taken after close")
	}
}

func TestBackground_CancelsAfterTheGrace(t *testing.T) {
	bg := newBackground()
	bg.start(func(ctx context.Context) { <-ctx.Done() })
	bg.close(time.Millisecond)
	bg.close(time.Millisecond)
}
