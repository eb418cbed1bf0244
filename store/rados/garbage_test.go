//go:build rados

package rados

import (
	"bytes"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// TestSweepHead_WhileItIsRead: a sweep, an hour after an object was overwritten,
// leaves the bytes that a slow client of this gateway still reads.
func TestSweepHead_WhileItIsRead(t *testing.T) {
	s := newSick(t)
	data := body20(2 * tailSize)
	s.put("slow", data, store.CommitOptions{})
	r, err := s.b.Open(t.Context(), "slow", "")
	s.must(err)
	s.put("slow", "little", store.CommitOptions{})
	s.must(eachPair(t.Context(), s.d.heads, s.b.head("slow").oid(), "", keyGarbage, func(p librados.Pair) bool {
		n, _, err := decodeNote(p.Value)
		s.must(err)
		s.note("slow", p.Key, encodeNote(n, time.Now().Add(-time.Hour)))
		return true
	}))
	if done, err := s.d.sweepHead(t.Context(), s.b.bid, "slow"); done || err != nil {
		t.Errorf("sweepHead = %t, %v while it is read", done, err)
	}
	var got bytes.Buffer
	if _, err := r.WriteRangeTo(&got, 0, r.Info().Size); err != nil || got.String() != data {
		t.Errorf("read %d bytes of %d, %v", got.Len(), len(data), err)
	}
	s.must(r.Close())
	s.d.quiet(t)
	if done, err := s.d.sweepHead(t.Context(), s.b.bid, "slow"); !done || err != nil {
		t.Errorf("sweepHead = %t, %v when it is read", done, err)
	}
}

// TestClose_WhileAnotherReads: a gateway that ends in good order leaves the bytes
// that it replaced a moment ago to those who read them by another.
func TestClose_WhileAnotherReads(t *testing.T) {
	p := newPlace(t)
	a, b := p.open(t, Options{}), p.open(t, Options{})
	defer func() { _ = b.Close() }()
	if err := a.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	atA, err := a.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	atB, err := b.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	data := body20(2 * tailSize)
	if _, err := storetest.PutObject(t.Context(), atA, "k", data, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := atB.Open(t.Context(), "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := storetest.PutObject(t.Context(), atA, "k", "little", store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := r.WriteRangeTo(&got, 0, r.Info().Size); err != nil || got.String() != data {
		t.Errorf("read %d bytes of %d, %v", got.Len(), len(data), err)
	}
}
