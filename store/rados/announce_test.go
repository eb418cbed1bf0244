//go:build rados

package rados

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"herald/store"
	"herald/store/storetest"
)

// createEarly begins an object with an op, and waits until all is ready but the
// body.
func createEarly(t *testing.T, b store.Bucket, key string, op store.OpID) store.Writer {
	t.Helper()
	w, err := b.Create(t.Context(), key, store.CreateHint{Size: 1, Op: op})
	if err != nil {
		t.Fatal(err)
	}
	a := w.(*writer).early
	<-a.done
	<-a.head.done
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestCommit_HeadReadEarly: with an op only the head's operation is left when
// the body is there; unless the key was changed since, which this gateway knows
// of its own changes and finds out of another's.
func TestCommit_HeadReadEarly(t *testing.T) {
	a, _, atA, atB := twoGateways(t)
	put := func(b store.Bucket) func(key string) error {
		return func(key string) error {
			_, err := storetest.PutObject(t.Context(), b, key, "other", store.CommitOptions{})
			return err
		}
	}
	remove := func(key string) error {
		_, err := atA.Remove(t.Context(), key, "", store.RemoveOptions{})
		return err
	}
	for _, tt := range []struct {
		name       string
		meanwhile  func(key string) error
		cond       store.Conditions
		operations uint64
		prior      bool
		err        error
	}{
		{name: "new", operations: 1},
		{name: "changed here", meanwhile: put(atA), operations: 2, prior: true},
		{name: "changed elsewhere", meanwhile: put(atB), operations: 3, prior: true},
		{name: "made elsewhere", meanwhile: put(atB), cond: store.Conditions{IfNoneMatch: "*"}, operations: 2, err: store.ErrPreconditionFailed},
		{name: "made and removed here", meanwhile: func(key string) error { return errors.Join(put(atA)(key), remove(key)) },
			cond: store.Conditions{IfNoneMatch: "*"}, operations: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			least := uint64(math.MaxUint64) // of some: what is done behind answers may come between
			for try := 0; try < 5 && least != tt.operations; try++ {
				key, op := fmt.Sprint(tt.name, try), store.NewOpID()
				w := createEarly(t, atA, key, op)
				if tt.meanwhile != nil {
					if err := tt.meanwhile(key); err != nil {
						t.Fatal(err)
					}
				}
				a.quiet(t)
				before := a.Stats().Done
				out, err := w.Commit(t.Context(), store.CommitOptions{ETag: "e", Op: op, Cond: tt.cond})
				least = min(least, a.Stats().Done-before)
				if !errors.Is(err, tt.err) || (out.Prior != nil) != tt.prior {
					t.Fatalf("Commit = %+v, %v, want prior %t and %v", out, err, tt.prior, tt.err)
				}
			}
			if least != tt.operations {
				t.Errorf("%d operations, want %d", least, tt.operations)
			}
		})
	}
}

// TestCommit_BarredAfterItsHeadWasRead: an op that another gateway gives up
// meanwhile does not come true, whether or not there is a head.
func TestCommit_BarredAfterItsHeadWasRead(t *testing.T) {
	_, b, atA, _ := twoGateways(t)
	if _, err := storetest.PutObject(t.Context(), atA, "there", "data", store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"there", "absent"} {
		op, other := store.NewOpID(), store.NewOpID()
		w, unread := createEarly(t, atA, key, op), createEarly(t, atA, key, op)
		for _, id := range []store.OpID{op, other} {
			ref := store.OpRef{ID: id, Bucket: "bucket", Key: key}
			if _, err := b.Outcomes().Settle(t.Context(), ref); !errors.Is(err, store.ErrNoSuchOp) {
				t.Fatalf("Settle = %v", err)
			}
		}
		if _, err := w.Commit(t.Context(), store.CommitOptions{ETag: "e", Op: op}); !errors.Is(err, store.ErrOpBarred) {
			t.Errorf("%s: Commit = %v, want ErrOpBarred", key, err)
		}
		if _, err := unread.Commit(t.Context(), store.CommitOptions{ETag: "e", Op: other}); !errors.Is(err, store.ErrOpBarred) {
			t.Errorf("%s: Commit of another op = %v, want ErrOpBarred", key, err)
		}
	}
}
