//go:build rados

package rados

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"herald/store"
	"herald/store/storetest"
)

// TestOpen_Guesses: what is read beside the head is the object's, or is not
// used, whatever became of the key since it was read last.
func TestOpen_Guesses(t *testing.T) {
	d := newPlace(t).open(t, Options{KeepReplaced: 1})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	put := func(data string) {
		t.Helper()
		if _, err := storetest.PutObject(t.Context(), b, "key", data, store.CommitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(want string) {
		t.Helper()
		if got, _, err := storetest.ReadObject(t.Context(), b, "key", ""); err != nil || string(got) != want {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	part := func(want string, off int64) {
		t.Helper()
		r, err := b.Open(t.Context(), "key", "")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := r.WriteRangeTo(&got, off, int64(len(want))); err != nil || got.String() != want {
			t.Errorf("read %d bytes at %d, %v", got.Len(), off, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	knows := func(want bool) {
		t.Helper()
		if _, ok := d.hints.get(b.(*bucket).head("key")); ok != want {
			t.Errorf("there is a hint: %v, want %v", ok, want)
		}
	}
	first, second := strings.Repeat("first", 1<<20), strings.Repeat("second", 1<<20)
	put(first)
	get(first)
	knows(true)
	d.quiet(t)                      // what the PUT left to do
	least := uint64(math.MaxUint64) // of some: what is done behind answers may come between
	for try := 0; try < 5 && least > 4; try++ {
		before := d.Stats().Done
		get(first)
		least = min(least, d.Stats().Done-before)
	}
	if least > 4 { // head, and 1, 3 and 1 MiB
		t.Errorf("%d operations", least)
	}
	put(second)
	get(second)
	d.quiet(t) // the tails of the first are gone
	get(second)
	part(second[7:100_000], 7)
	knows(false)
	part(second[:100_000], 0)
	knows(true)
	get(second)
	put("little")
	get("little")
	knows(false)
	put(first)
	get(first)
	if _, err := b.Remove(t.Context(), "key", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), "key", ""); err == nil {
		t.Error("a key that was removed is there")
	}
	knows(false)
}

func TestBuffers(t *testing.T) {
	var b buffers
	for _, n := range []int{1, maxInline, smallBuffer/4 + 1, smallBuffer, smallBuffer + 1, tailSize} {
		buf := b.get(n)
		if len(buf) != n {
			t.Errorf("a buffer of %d bytes has %d", n, len(buf))
		}
		b.put(buf[:0])
	}
	for range 2 * keepLarge {
		b.put(make([]byte, tailSize))
	}
	b.put(nil)
	if n := len(b.large.free); n != keepLarge {
		t.Errorf("%d buffers are kept", n)
	}
	b.trim() // since when nothing was needed
	b.trim()
	if n := len(b.large.free); n != 0 {
		t.Errorf("%d buffers are kept although nobody needed them", n)
	}
}
