//go:build rados

package rados

import (
	"context"
	"errors"
	"strings"
	"testing"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// TestCreate_MarksAreEnded has objects announced while their bytes come:
// whatever becomes of the writer, no mark is left, and no line of an op that was
// to be.
func TestCreate_MarksAreEnded(t *testing.T) {
	d := newPlace(t).open(t, Options{KeepReplaced: 1})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	opened, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	b := opened.(*bucket)
	large := strings.Repeat("x", maxInline+1)
	for name, use := range map[string]func(ctx context.Context, w store.Writer) error{
		"aborted at once": func(_ context.Context, w store.Writer) error { return w.Abort() },
		"aborted": func(_ context.Context, w store.Writer) error {
			_, err := w.Write([]byte(large))
			return errors.Join(err, w.Abort())
		},
		"less than was said": func(ctx context.Context, w store.Writer) error {
			_, err := w.Write([]byte("little"))
			if err != nil {
				return err
			}
			_, err = w.Commit(ctx, store.CommitOptions{})
			return err
		},
		"as was said": func(ctx context.Context, w store.Writer) error {
			_, err := w.Write([]byte(large))
			if err != nil {
				return err
			}
			_, err = w.Commit(ctx, store.CommitOptions{})
			return err
		},
		"refused": func(ctx context.Context, w store.Writer) error {
			_, err := w.Commit(ctx, store.CommitOptions{Cond: store.Conditions{IfMatch: "none"}})
			if err == nil {
				return errors.New("a condition that is not met was")
			}
			return w.Abort()
		},
	} {
		for _, size := range []int64{maxInline + 1, 6} {
			ctx, cancel := context.WithCancel(t.Context())
			w, err := b.Create(ctx, name, store.CreateHint{Size: size, Op: store.NewOpID()})
			if err == nil {
				err = use(ctx, w)
			}
			if cancel(); err != nil {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
	d.quiet(t)
	if lines, _, err := d.ops.lines(t.Context(), store.OpID{}); err != nil || len(lines) != 0 {
		t.Errorf("lines %v are left, %v", lines, err)
	}
	shards, _, err := b.x.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shards {
		err := eachPair(t.Context(), d.heads, s.oid, "", spaceMarks, func(p librados.Pair) bool {
			t.Errorf("mark %q is left", p.Key)
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}
	if got, _, err := storetest.ReadObject(t.Context(), b, "less than was said", ""); err != nil || string(got) != "little" {
		t.Errorf("read %q, %v", got, err)
	}
	if got, _, err := storetest.ReadObject(t.Context(), b, "as was said", ""); err != nil || string(got) != large {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}
