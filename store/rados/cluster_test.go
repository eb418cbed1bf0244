//go:build rados

package rados

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatal("it did not come to that within a minute")
}
