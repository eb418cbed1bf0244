//go:build rados

package rados

import (
	"bytes"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
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
