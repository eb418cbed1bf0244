//go:build rados

package rados_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"herald/rados"
	"herald/tests/cephtest"
)

// watched makes an object and a watch of it, which counts.
func watched(t *testing.T, io *rados.IO, oid string) (*rados.Watch, *atomic.Int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	op := rados.NewWrite()
	op.Create(false)
	if _, err := io.Operate(ctx, oid, op, 0); err != nil {
		t.Fatal(err)
	}
	count := new(atomic.Int64)
	w, err := io.Watch(ctx, oid, func() { count.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	return w, count
}

// TestWatch: watchers of several connections have been called when Notify
// returns, and are not when they have left.
func TestWatch(t *testing.T) {
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	conn, a := dial(t, rados.Config{ConfFile: c.Conf}, pool, namespace)
	_, b := dial(t, rados.Config{ConfFile: c.Conf}, pool, namespace)
	_, first := watched(t, a, "o")
	second, other := watched(t, b, "o")
	_, elsewhere := watched(t, b, "p")
	late := int64(0) // notifications that somebody did not answer in time, as after a pause of the machine
	notify := func(watchers ...*atomic.Int64) {
		t.Helper()
		for end := time.Now().Add(patience); ; late++ {
			before := make([]int64, len(watchers))
			for i, w := range watchers {
				before[i] = w.Load()
			}
			err := a.Notify(t.Context(), "o")
			if errors.Is(err, syscall.ETIMEDOUT) && time.Now().Before(end) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range watchers {
				if w.Load() == before[i] {
					t.Errorf("Notify returned before watcher %d of %d was called", i+1, len(watchers))
				}
			}
			return
		}
	}
	for range 20 {
		notify(first, other)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
	left := other.Load()
	notify(first)
	for watcher, n := range map[string]struct{ got, least, most int64 }{
		"the first": {first.Load(), 21, 21 + late}, "the second": {left, 20, 20 + late},
		"the second, which left,": {other.Load(), left, left}, "of another object": {elsewhere.Load(), 0, 0},
	} {
		if n.got < n.least || n.got > n.most {
			t.Errorf("watcher %s was called %d times, want %d to %d", watcher, n.got, n.least, n.most)
		}
	}
	if err := a.Notify(t.Context(), "none"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Notify of no object = %v", err)
	}
	if _, err := a.Watch(t.Context(), "none", func() {}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Watch of no object = %v", err)
	}
	if n := conn.Stats().Blocking; n > 1 {
		t.Errorf("%d calls blocked a thread", n)
	}
}

// TestWatch_Restart: a watch outlives the OSD, or tells that it did not. A call
// that does not end does not hold Close.
func TestWatch_Restart(t *testing.T) {
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool, namespace := c.Namespace(t)
	_, a := dial(t, rados.Config{ConfFile: c.Conf}, pool, namespace)
	w, count := watched(t, a, "o")
	_, away := dial(t, rados.Config{ConfFile: c.Conf}, pool, namespace)
	c.KillOSD(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := away.Watch(ctx, "o", func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Watch without an OSD = %v", err)
	}
	c.StartOSD(t, 0)
	deadline := time.Now().Add(patience)
	for count.Load() == 0 && time.Now().Before(deadline) {
		select {
		case <-w.Lost():
			return
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*rados.NotifyTimeout)
		_ = a.Notify(ctx, "o") // until the OSD and the watch are back
		cancel()
	}
	if count.Load() == 0 {
		t.Error("the watch was neither called nor lost")
	}
}
