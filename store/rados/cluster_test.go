//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
	"herald/tests/cephtest"
)

// TestRandomChanges_OSDRestarts kills the OSD under the load of
// TestRandomChanges.
func TestRandomChanges_OSDRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of its own: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool := c.Pool(t)
	p := &testPlace{c.Conf, pool, pool, "ns"}
	p.randomChanges(t, func() {
		for range 3 {
			if err := c.RestartOSD(0); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRandomChanges_ErasureCoded has tails in a pool where there is no omap.
func TestRandomChanges_ErasureCoded(t *testing.T) {
	if testing.Short() {
		t.Skip("three OSDs: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{OSDs: 3})
	c.Ceph(t, "osd", "erasure-code-profile", "set", "two-and-one", "k=2", "m=1", "crush-failure-domain=osd")
	c.Ceph(t, "osd", "pool", "create", "coded", "8", "8", "erasure", "two-and-one")
	p := &testPlace{c.Conf, c.Pool(t), "coded", "ns"}
	p.randomChanges(t, func() {})
}

// TestPoolFull has the pools reach their quota: what needs room is refused
// with ErrNoSpace, what is there can be read and removed.
func TestPoolFull(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the monitor some seconds to notice that a pool is full")
	}
	c := cephtest.Start(t)
	pool := c.Pool(t)
	p := &testPlace{c.Conf, pool, pool, "ns"}
	d := p.open(t, Options{KeepReplaced: time.Millisecond})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, size int) error {
		_, err := storetest.PutObject(t.Context(), b, key, strings.Repeat("x", size), store.CommitOptions{})
		return err
	}
	if err := errors.Join(put("small", 1000), put("large", tailSize+1000)); err != nil {
		t.Fatal(err)
	}
	id, parts := beginUpload(t, b.(*bucket), "upload", "part", strings.Repeat("x", tailSize+1))
	c.Ceph(t, "osd", "pool", "set-quota", pool, "max_bytes", "1")
	keys := []string{"small", "large"}
	eventually(t, func() bool { // to overwrite takes no room
		key := fmt.Sprint("more", len(keys))
		err := put(key, 1000)
		if err == nil {
			keys = append(keys, key)
		}
		return errors.Is(err, store.ErrNoSpace)
	})
	if err := put("more", tailSize+1); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a large put in the full pool = %v", err)
	}
	if _, _, err := storetest.ReadObject(t.Context(), b, "large", ""); err != nil {
		t.Errorf("read in the full pool = %v", err)
	}
	uploads := b.(store.Uploads)
	if err := putPart(t.Context(), uploads, "upload", id, 3, "more"); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a part in the full pool = %v", err)
	}
	if _, err := uploads.Complete(t.Context(), "upload", id, parts, store.CommitOptions{}); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Complete in the full pool = %v", err)
	}
	if err := uploads.AbortUpload(t.Context(), "upload", id); err != nil {
		t.Errorf("AbortUpload in the full pool = %v", err)
	}
	d.quiet(t)
	d.wantEnded(t, b.(*bucket), false)
	for _, key := range keys {
		if _, err := b.Remove(t.Context(), key, "", store.RemoveOptions{}); err != nil {
			t.Errorf("Remove(%s) in the full pool = %v", key, err)
		}
	}
	page, err := b.List(t.Context(), store.ListOptions{Max: 10})
	if err != nil || len(page.Entries) != 0 {
		t.Errorf("listing after the removals: %+v, %v", page, err)
	}
	c.Ceph(t, "osd", "pool", "set-quota", pool, "max_bytes", "0")
	eventually(t, func() bool { return put("again", tailSize+1) == nil })
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(busyTime); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("it did not come to that within %v", busyTime)
}

// TestThreads has thousands of requests wait for an OSD that is down: they wait
// as goroutines, and all of them succeed when it is back.
func TestThreads(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of its own: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool := c.Pool(t)
	d := (&testPlace{c.Conf, pool, pool, "ns"}).open(t, Options{})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string) error {
		_, err := storetest.PutObject(t.Context(), b, key, strings.Repeat("x", 4096), store.CommitOptions{})
		return err
	}
	if err := put("k"); err != nil {
		t.Fatal(err)
	}
	blocking := d.Stats().Blocking
	c.KillOSD(t, 0)
	const requests = 5000
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			var err error
			switch key := fmt.Sprint("k", i); i % 5 {
			case 0:
				err = put(key)
			case 1, 2:
				_, _, err = storetest.ReadObject(t.Context(), b, "k", "")
			case 3:
				_, err = b.Remove(t.Context(), key, "", store.RemoveOptions{})
			default:
				_, err = b.List(t.Context(), store.ListOptions{Max: 10})
			}
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	eventually(t, func() bool { s := d.Stats(); return s.InFlight+s.Waiting >= requests*3/5 })
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) >= 100 {
		t.Errorf("%d threads (%v), want fewer than 100", len(tasks), err)
	}
	s := d.Stats()
	t.Logf("%d threads; %d operations in flight, %d wait", len(tasks), s.InFlight, s.Waiting)
	c.StartOSD(t, 0)
	wg.Wait()
	if n := d.Stats().Blocking - blocking; n != 0 {
		t.Errorf("%d calls blocked a thread", n)
	}
}

// TestOSDDown has the OSD stay away: requests fail within their time, in a way
// that tells clients to come again, and nothing hangs or is wrong afterwards.
func TestOSDDown(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of its own: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool := c.Pool(t)
	p := &testPlace{c.Conf, pool, pool, "ns"}
	d := p.open(t, Options{Config: librados.Config{OpTimeout: 5 * time.Second}})
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, size int) error {
		_, err := storetest.PutObject(t.Context(), b, key, strings.Repeat("x", size), store.CommitOptions{})
		return err
	}
	if err := put("k0", tailSize+1); err != nil {
		t.Fatal(err)
	}
	c.KillOSD(t, 0)
	var wg sync.WaitGroup
	for name, do := range map[string]func() error{
		"put":       func() error { return put("k1", 10) },
		"put large": func() error { return put("k2", 2*tailSize) },
		"get": func() error {
			_, _, err := storetest.ReadObject(t.Context(), b, "k0", "")
			return err
		},
		"remove": func() error {
			_, err := b.Remove(t.Context(), "k0", "", store.RemoveOptions{})
			return err
		},
		"list": func() error {
			_, err := b.List(t.Context(), store.ListOptions{Max: 1})
			return err
		},
		"check": func() error { return d.Check(t.Context()) },
	} {
		wg.Go(func() {
			if err := do(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s = %v, want a deadline that passed", name, err)
			}
		})
	}
	wg.Wait()
	c.StartOSD(t, 0)
	eventually(t, func() bool { return put("k3", tailSize+1) == nil })
	if _, _, err := storetest.ReadObject(t.Context(), b, "k0", ""); err != nil {
		t.Errorf("what could not be removed is not there: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
