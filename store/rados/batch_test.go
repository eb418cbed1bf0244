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

func TestBackground_CancelsAfterTheGrace(t *testing.T) {
	bg := newBackground()
	bg.start(func(ctx context.Context) { <-ctx.Done() })
	bg.close(time.Millisecond)
	bg.close(time.Millisecond)
}
