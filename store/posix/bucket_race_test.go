package posix

import (
	"context"
	"errors"
	"testing"
	"time"

	"herald/store"
)

// Who opens a bucket at the moment of its removal must neither wait for ever
// nor end it a second time.
func TestDeleteBucket_WhileOpened(t *testing.T) {
	d := newTestStore(t, Options{Relaxed: true}).open(t)
	ctx, stop := context.WithCancel(context.Background())
	for range 4 {
		d.done.Go(func() {
			for ctx.Err() == nil {
				if _, err := d.OpenBucket(ctx, "bucket"); err != nil && !errors.Is(err, store.ErrNoSuchBucket) {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 200 {
			if err := errors.Join(d.CreateBucket(ctx, "bucket"), d.DeleteBucket(ctx, "bucket")); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Minute):
		t.Fatal("stuck")
	}
	stop()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
