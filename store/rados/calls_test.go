//go:build rados

package rados

import (
	"strings"
	"testing"
	"time"

	"herald/store"
	"herald/store/storetest"
)

// TestCalls counts what requests ask of the cluster: a small object comes by
// one operation, and goes by the announcement and the head's state beside each
// other, then the head, and the index behind it. To copy a large one takes one
// for the list and two for the reference more, however large it is; and one for
// the bytes that the last reader wanted first.
func TestCalls(t *testing.T) {
	d := newPlace(t).open(t, Options{})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, size int, op store.OpID) {
		t.Helper()
		opts := store.CommitOptions{Op: op}
		if _, err := storetest.PutObject(t.Context(), b, key, strings.Repeat("x", size), opts); err != nil {
			t.Fatal(err)
		}
	}
	get := func(key string) {
		t.Helper()
		if _, _, err := storetest.ReadObject(t.Context(), b, key, ""); err != nil {
			t.Fatal(err)
		}
	}
	large := func(from, to string) {
		t.Helper()
		if err := copyObject(t.Context(), b, from, b, to, store.CommitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put("warm", 1, store.OpID{}) // reads the layout of the index
	blocking := d.Stats().Blocking
	for _, tt := range []struct {
		name string
		do   func()
		most uint64
	}{
		{"put small", func() { put("k", 4096, store.OpID{}) }, 4},
		{"put small over it, with an op", func() { put("k", 4096, store.NewOpID()) }, 5},
		{"get small", func() { get("k") }, 1},
		{"put two tails", func() { put("big", tailSize+1, store.OpID{}) }, 6},
		{"get two tails", func() { get("big") }, 6},
		{"copy two tails", func() { large("big", "copy") }, 9},
		{"remove", func() { _, err = b.Remove(t.Context(), "k", "", store.RemoveOptions{}) }, 4},
	} {
		d.quiet(t)
		before := d.Stats().Done
		tt.do()
		d.quiet(t)
		if n := d.Stats().Done - before; n > tt.most {
			t.Errorf("%s: %d operations, want at most %d", tt.name, n, tt.most)
		}
	}
	if err != nil {
		t.Error(err)
	}
	if n := d.Stats().Blocking - blocking; n != 0 {
		t.Errorf("%d calls blocked a thread", n)
	}
}

// quiet waits until nothing runs behind requests but what always does: the
// sweeps, which wait for seconds, and the watches of root and of records.
func (d *Driver) quiet(t *testing.T) {
	t.Helper()
	for range 3000 {
		d.bg.mu.Lock()
		n := d.bg.running
		d.bg.mu.Unlock()
		if n <= 3 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("something runs behind requests")
}
