package posix

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"herald/store"
	"herald/tests/powerloss"
)

// TestUpload_FullDisk: on a full disk parts are refused, what was uploaded
// before stays, and an abort makes room again.
func TestUpload_FullDisk(t *testing.T) {
	fs := powerloss.Mount(t, 96)
	s := newTestStore(t, Options{Reserve: 4 << 20})
	s.dir = filepath.Join(fs.Dir, "store")
	d := s.open(t)
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("0123456789abcdef", 1<<16)
	for round := range 3 {
		id := store.NewOpID().String()
		if err := b.CreateUpload(t.Context(), store.Upload{Key: "k", ID: id}); err != nil {
			t.Fatal(err)
		}
		hint := []int64{int64(len(data)), -1, 0}[round]
		n, err := 0, error(nil)
		for err == nil && n < 200 {
			n++
			err = putPart(b, "k", id, n, data, hint)
		}
		if !errors.Is(err, store.ErrNoSpace) || n < 3 {
			t.Fatalf("part %d = %v, want ErrNoSpace", n, err)
		}
		_, parts, _, err := b.ListParts(t.Context(), "k", id, 0, 1000)
		if err != nil || len(parts) != n-1 {
			t.Fatalf("ListParts = %d parts, %v, want %d", len(parts), err, n-1)
		}
		if round == 2 {
			named := []store.CompletedPart{{Number: 1, ETag: etagOf(data)}, {Number: 2, ETag: etagOf(data)}}
			if _, err := b.Complete(t.Context(), "k", id, named, store.CommitOptions{ETag: "x"}); !errors.Is(err, store.ErrNoSpace) {
				t.Fatalf("Complete = %v, want ErrNoSpace", err)
			}
			if _, parts, _, err := b.ListParts(t.Context(), "k", id, 0, 1000); err != nil || len(parts) != n-1 {
				t.Fatalf("ListParts after Complete = %d parts, %v", len(parts), err)
			}
		}
		if err := b.AbortUpload(t.Context(), "k", id); err != nil {
			t.Fatalf("AbortUpload = %v", err)
		}
		for i := range 2 {
			key := fmt.Sprint(round, i)
			if err := putObject(b, key, data, store.CommitOptions{}); err != nil {
				t.Fatalf("put after the abort = %v", err)
			}
			if readWhole(t, b, key) != data {
				t.Fatal("the object differs")
			}
		}
	}
}
