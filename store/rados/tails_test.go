//go:build rados

package rados

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	librados "herald/rados"
	"herald/store"
)

// brokenOff is a context that ends when it was waited for so many times.
type brokenOff struct {
	context.Context
	left atomic.Int64
	once sync.Once
	done chan struct{}
}

func newBrokenOff(ctx context.Context, after int) *brokenOff {
	c := &brokenOff{Context: ctx, done: make(chan struct{})}
	c.left.Store(int64(after))
	return c
}

func (c *brokenOff) Done() <-chan struct{} {
	if c.left.Add(-1) <= 0 {
		c.once.Do(func() { close(c.done) })
	}
	return c.done
}

func (c *brokenOff) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// TestRemoveTails_BrokenOff: who removes tails is broken off, at any moment, and
// another goes on, who does not know how many there were. None is left.
func TestRemoveTails_BrokenOff(t *testing.T) {
	d := newPlace(t).open(t, Options{})
	defer func() { _ = d.Close() }()
	const tails = 40
	for name, remove := range map[string]func(ctx context.Context, bid string, tag store.OpID) error{
		"known": func(ctx context.Context, bid string, tag store.OpID) error {
			return d.removeTails(ctx, bid, segment{tag: tag, size: tails * tailSize})
		},
		"unknown": d.removeAll,
	} {
		for after := 20; after <= 260; after += 60 {
			t.Run(fmt.Sprint(name, " ", after), func(t *testing.T) {
				bid, tag := newID(), newTag()
				for n := range int64(tails) {
					op := librados.NewWrite()
					op.WriteFull([]byte("a tail"))
					if _, err := d.data.Operate(t.Context(), tailOID(bid, tag, n), op, 0); err != nil {
						t.Fatal(err)
					}
				}
				if err := remove(newBrokenOff(t.Context(), after), bid, tag); err == nil {
					t.Log("it was not broken off")
				}
				if err := d.removeAll(t.Context(), bid, tag); err != nil {
					t.Fatal(err)
				}
				if _, left := d.objects(t, bid); len(left) > 0 {
					t.Errorf("%d of %d tails are left", len(left), tails)
				}
			})
		}
	}
}
