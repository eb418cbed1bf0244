//go:build rados

package rados

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"herald/store"
)

// TestTailTable: tails come in any order; the table needs what it says for each
// TAG, however many tails it has.
func TestTailTable(t *testing.T) {
	tags := 300_000
	if testing.Short() {
		tags /= 5
	}
	type tail struct{ tag, n int }
	var tails []tail
	for i := range tags {
		for n := range 1 + i%4 {
			tails = append(tails, tail{i, n})
		}
	}
	rand.Shuffle(len(tails), func(i, j int) { tails[i], tails[j] = tails[j], tails[i] })
	names := make([]store.OpID, tags)
	for i := range names {
		names[i] = store.NewOpID()
	}
	table := newTailTable()
	for _, l := range tails {
		table.add(uint32(l.tag%3), names[l.tag], int64(l.n))
	}
	table.addRefs(0, names[0])
	table.sort()
	total, room := 0, 0
	for i := range table.parts {
		total, room = total+len(table.parts[i]), room+cap(table.parts[i])
	}
	if size := unsafe.Sizeof(tailRun{}); total != tags || size != 32 || room > 2*tags {
		t.Errorf("%d runs of %d bytes, room for %d, for %d tags", total, size, room, tags)
	}
	for i := range tags {
		table.use(uint32(i%3), names[i], uint32(1+i%4), i > 0)
	}
	table.use(2, names[0], allTails, true) // of another bucket
	if loose := table.loose(); len(loose) != 1 || loose[0].tag != names[0] || !loose[0].list {
		t.Errorf("%d are not accounted for, want the list of the first", len(loose))
	}
	table.use(0, names[0], 0, true)
	table.use(1, names[1], allTails, false)
	if loose := table.loose(); len(loose) != 0 {
		t.Errorf("%+v are not accounted for", loose)
	}
}
