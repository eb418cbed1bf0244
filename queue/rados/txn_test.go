//go:build rados

package rados

import (
	"errors"
	"testing"

	"herald/queue"
)

// TestTxn_CommitThenReserve: what is committed takes room from reservations of
// the same change.
func TestTxn_CommitThenReserve(t *testing.T) {
	const size = 1000
	for _, entries := range []uint64{1, 2} {
		first := newTxn(newRecord(incarnation{}, entries*cost(size, 1), 1), facts{places: &places{}}, 1)
		held := request{kind: kindReserve, size: size, entries: 1}
		if err := first.apply(&held); err != nil {
			t.Fatal(err)
		}
		first.seal()
		known := facts{groups: map[uint64]*group{first.number: first.made}, own: map[uint64]bool{first.number: true}, places: &places{}}
		second := newTxn(first.rec, known, 2)
		if err := second.apply(&request{kind: kindCommit, id: held.id, data: [][]byte{make([]byte, size)}}); err != nil {
			t.Fatal(err)
		}
		err := second.apply(&request{kind: kindReserve, size: size, entries: 1})
		if full := entries == 1; errors.Is(err, queue.ErrFull) != full || err != nil && !full {
			t.Errorf("reservation in a queue for %d entries, after the commit of one: %v", entries, err)
		}
		second.seal()
		if got := second.rec.bytes() + second.rec.reserved; got > second.rec.capacity {
			t.Errorf("the queue has %d bytes, and holds %d", got, second.rec.capacity)
		}
	}
}
