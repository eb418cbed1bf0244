//go:build rados

package rados

import (
	"maps"
	"slices"
	"testing"
	"time"

	"herald/store"
)

// TestIndex_NotesGarbageInAnotherOrder: a change that leaves garbage ends before
// the one that it follows. Its head is swept all the same.
func TestIndex_NotesGarbageInAnotherOrder(t *testing.T) {
	f := newIndexes(t, 2)
	var marks []*mark
	var changes []*indexChange
	for i := range f.x {
		tag := store.NewOpID()
		m, err := f.x[i].begin(t.Context(), "k", tag)
		if err != nil {
			t.Fatal(err)
		}
		marks, changes = append(marks, m), append(changes, f.heads.change("k", 'p', tag))
	}
	changes[1].garbage = true // the bytes of the first
	marks[1].end(*changes[1])
	for len(slices.Concat(slices.Collect(maps.Values(f.omap(t, spaceMarks)))...)) > 1 {
		time.Sleep(time.Millisecond)
	}
	marks[0].end(*changes[0])
	f.settled(t)
	if notes := slices.Concat(slices.Collect(maps.Values(f.omap(t, spaceDead)))...); len(notes) == 0 {
		t.Error("no sweep will look at the head")
	}
}
