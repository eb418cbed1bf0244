//go:build rados

package rados

import (
	"fmt"
	"math"
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
	try := "" // is in the names
	small, big := func() { put("k"+try, 4096, store.OpID{}) }, func() { put("big"+try, tailSize+1, store.OpID{}) }
	for _, tt := range []struct {
		name   string
		before func() // makes what is there already at the first try
		do     func()
		most   uint64
	}{
		{"put small", nil, small, 4},
		{"put small over it, with an op", small, func() { put("k"+try, 4096, store.NewOpID()) }, 5},
		{"get small", small, func() { get("k" + try) }, 1},
		{"put two tails", nil, big, 6},
		{"get two tails", big, func() { get("big" + try) }, 6},
		{"copy two tails", func() { big(); get("big" + try) }, func() { large("big"+try, "copy"+try) }, 9},
		{"remove", small, func() { _, err = b.Remove(t.Context(), "k"+try, "", store.RemoveOptions{}) }, 4},
	} {
		least := uint64(math.MaxUint64) // of some: a sweep, or a look at what others may have changed, may come between
		for n := 0; n < 5 && least > tt.most; n++ {
			if try = ""; n > 0 {
				try = fmt.Sprint(" ", tt.name, n)
			}
			if n > 0 && tt.before != nil {
				tt.before()
			}
			d.quiet(t)
			before := d.Stats().Done
			tt.do()
			d.quiet(t)
			least = min(least, d.Stats().Done-before)
		}
		if least > tt.most {
			t.Errorf("%s: %d operations, want at most %d", tt.name, least, tt.most)
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
	for deadline := time.Now().Add(busyTime); time.Now().Before(deadline); {
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
