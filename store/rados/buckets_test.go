//go:build rados

package rados

import (
	"errors"
	"sync"
	"testing"

	"herald/store"
)

// TestCreateBucket_AfterAnUnfinishedDeletion: who deleted a bucket died before he
// took its name away. It is no bucket any more.
func TestCreateBucket_AfterAnUnfinishedDeletion(t *testing.T) {
	s := newSick(t)
	r, err := s.d.lookup(t.Context(), "empty")
	s.must(err)
	s.must(openIndex(s.d.indexEnv(), r.bid).drop(t.Context()))
	s.must(s.d.CreateBucket(t.Context(), "empty"))
	b, err := s.d.OpenBucket(t.Context(), "empty")
	s.must(err)
	if _, err := b.List(t.Context(), store.ListOptions{Max: 1}); err != nil {
		t.Errorf("list the new one: %v", err)
	}
	s.d.wantWell(t, store.FsckOptions{})
}

// TestDeleteBucket_WhileAnotherMakesIt: a bucket is deleted by one gateway, and
// made again by another as soon as that goes. Each of them is told what it did.
func TestDeleteBucket_WhileAnotherMakesIt(t *testing.T) {
	a, b, _, _ := twoGateways(t)
	for range 50 {
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.DeleteBucket(t.Context(), "bucket"); err != nil {
				t.Errorf("DeleteBucket = %v", err)
			}
		})
		wg.Go(func() {
			err := store.ErrBucketAlreadyExists
			for errors.Is(err, store.ErrBucketAlreadyExists) {
				err = b.CreateBucket(t.Context(), "bucket")
			}
			if err != nil {
				t.Errorf("CreateBucket = %v", err)
			}
		})
		wg.Wait()
	}
}

// TestDeleteBucket_ByTwo: of two gateways that delete a bucket one does it. Where
// that one dies before the name is gone, who comes later does.
func TestDeleteBucket_ByTwo(t *testing.T) {
	a, b, _, _ := twoGateways(t)
	for range 30 {
		var errs [2]error
		var wg sync.WaitGroup
		for i, d := range []*Driver{a, b} {
			wg.Go(func() { errs[i] = d.DeleteBucket(t.Context(), "bucket") })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), store.ErrNoSuchBucket) {
			t.Fatalf("DeleteBucket = %v, want one to do it", errs)
		}
		if err := a.CreateBucket(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.lookup(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	if err := openIndex(a.indexEnv(), r.bid).drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteBucket(t.Context(), "bucket"); err != nil {
		t.Errorf("DeleteBucket after one that was broken off = %v", err)
	}
	if err := b.DeleteBucket(t.Context(), "bucket"); !errors.Is(err, store.ErrNoSuchBucket) {
		t.Errorf("DeleteBucket again = %v", err)
	}
}

// TestCreateBucket_MadeAndRefused: the cluster makes a bucket, and refuses that
// when it comes again.
func TestCreateBucket_MadeAndRefused(t *testing.T) {
	s := newSick(t)
	r := &bucketRecord{bid: newID(), created: 1}
	s.must(createIndex(t.Context(), s.d.indexEnv(), r.bid))
	for range 2 {
		if err := s.d.nameBucket(t.Context(), "again", r); err != nil {
			t.Errorf("nameBucket = %v", err)
		}
	}
	if err := s.d.nameBucket(t.Context(), "again", &bucketRecord{bid: newID()}); !errors.Is(err, store.ErrBucketAlreadyExists) {
		t.Errorf("nameBucket of another = %v", err)
	}
	s.d.quiet(t)
	b, err := s.d.OpenBucket(t.Context(), "again")
	s.must(err)
	if _, err := b.List(t.Context(), store.ListOptions{Max: 1}); err != nil {
		t.Errorf("list it: %v", err)
	}
}
