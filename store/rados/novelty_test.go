//go:build rados

package rados

import (
	"errors"
	"fmt"
	"testing"

	"herald/store"
	"herald/store/storetest"
)

// TestCommit_KeyTakenForNew: where the last PUTs were of new keys, the head of
// the next is not read; and a key that is not new is treated as it should be.
func TestCommit_KeyTakenForNew(t *testing.T) {
	a, b, at, _ := twoGateways(t)
	put := func(key, data string, opts store.CommitOptions) (store.Outcome, error) {
		return storetest.PutObject(t.Context(), at, key, data, opts)
	}
	novel := &at.(*bucket).x.novel
	keys := 0
	expectNew := func(t *testing.T) {
		t.Helper()
		for ; !novel.expected(); keys++ {
			if keys > 1000 {
				t.Fatal("PUTs of new keys are never expected")
			}
			if _, err := put(fmt.Sprint("new", keys), "data", store.CommitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if novel.expected() {
		t.Fatal("the first PUT is taken for one of a new key")
	}
	expectNew(t)
	if keys != novelAfter {
		t.Errorf("expected after %d PUTs, want %d", keys, novelAfter)
	}
	for try := 1; ; try++ { // what is done behind answers may come between
		a.quiet(t)
		before := a.Stats().Done
		if _, err := put(fmt.Sprint("counted", try), "data", store.CommitOptions{Op: store.NewOpID()}); err != nil {
			t.Fatal(err)
		}
		n := a.Stats().Done - before
		if n <= 3 { // mark, line, head
			break
		}
		if try == 5 {
			t.Fatalf("%d operations before the answer, want 3", n)
		}
	}

	barred := store.NewOpID()
	for _, tt := range []struct {
		name  string
		there bool // an object; else a key that was removed
		opts  store.CommitOptions
		prior bool
		err   error
	}{
		{name: "overwritten", there: true, prior: true},
		{name: "of an op", there: true, opts: store.CommitOptions{Op: store.NewOpID()}, prior: true},
		{name: "versioned", there: true, opts: store.CommitOptions{Versioning: store.Enabled}, prior: true},
		{name: "only if absent", there: true, opts: store.CommitOptions{Cond: store.Conditions{IfNoneMatch: "*"}}, err: store.ErrPreconditionFailed},
		{name: "only if the same", there: true, opts: store.CommitOptions{Cond: store.Conditions{IfMatch: storetest.ETagOf("before")}}, prior: true},
		{name: "only if another", there: true, opts: store.CommitOptions{Cond: store.Conditions{IfMatch: storetest.ETagOf("x")}}, err: store.ErrPreconditionFailed},
		{name: "removed"},
		{name: "removed, only if absent", opts: store.CommitOptions{Cond: store.Conditions{IfNoneMatch: "*"}}},
		{name: "removed, only if the same", opts: store.CommitOptions{Cond: store.Conditions{IfMatch: storetest.ETagOf("before")}}, err: store.ErrNoSuchKey},
		{name: "barred", there: true, opts: store.CommitOptions{Op: barred}, err: store.ErrOpBarred},
	} {
		t.Run(tt.name, func(t *testing.T) {
			last, err := put(tt.name, "before", store.CommitOptions{Versioning: tt.opts.Versioning})
			if err == nil && !tt.there {
				last, err = at.Remove(t.Context(), tt.name, "", store.RemoveOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.opts.Op == barred {
				ref := store.OpRef{ID: barred, Bucket: "bucket", Key: tt.name}
				if _, err := b.Outcomes().Settle(t.Context(), ref); !errors.Is(err, store.ErrNoSuchOp) {
					t.Fatalf("Settle = %v", err)
				}
			}
			expectNew(t)
			out, err := put(tt.name, "after", tt.opts)
			if !errors.Is(err, tt.err) || (out.Prior != nil) != tt.prior {
				t.Fatalf("Commit = %+v, %v, want prior %t and %v", out, err, tt.prior, tt.err)
			}
			if err == nil && out.Seq <= last.Seq {
				t.Errorf("Seq = %d after %d", out.Seq, last.Seq)
			}
			if novel.expected() {
				t.Error("the next PUT is taken for one of a new key again")
			}
			if tt.opts.Versioning == store.Enabled {
				if data, _, err := storetest.ReadObject(t.Context(), at, tt.name, last.Info.VersionID); err != nil || data != "before" {
					t.Errorf("the version before = %q, %v", data, err)
				}
			}
		})
	}
}
