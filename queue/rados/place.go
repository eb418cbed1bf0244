//go:build rados

package rados

import "sort"

// place is where in the ring a frame is, and what is needed of it when its
// entries are acked.
type place struct {
	number, first, before uint64 // as in the frame
	time                  int64
	at, end               uint64   // where it is, and where the next is
	lengths               []uint32 // of the entries' data
}

func placeOf(f *frame, at, size uint64) *place {
	p := &place{number: f.number, first: f.first, before: f.before, time: f.time, at: at, end: at + size}
	p.lengths = make([]uint32, len(f.data))
	for i, data := range f.data {
		p.lengths[i] = uint32(len(data))
	}
	return p
}

// next is the sequence number after its last entry.
func (p *place) next() uint64 { return p.first + uint64(len(p.lengths)) }

// cost is what an entry takes of the capacity.
func (p *place) cost(seq uint64) uint64 { return cost(int64(p.lengths[seq-p.first]), 1) }

// totalBefore is the bytes of all entries ever that are before one.
func (p *place) totalBefore(seq uint64) uint64 {
	sum := p.before
	for s := p.first; s < seq; s++ {
		sum += p.cost(s)
	}
	return sum
}

// places remembers where frames are: those that were listed, until they are
// acked. What it has forgotten can be read again.
type places struct {
	list    []*place // in order, perhaps with gaps
	entries int      // in them all
}

// maxPlaces is how many entries are remembered, four bytes each.
const maxPlaces = 64 << 10

// find returns the frame that has an entry, or nil.
func (ps *places) find(seq uint64) *place {
	i := sort.Search(len(ps.list), func(i int) bool { return ps.list[i].next() > seq })
	if i < len(ps.list) && ps.list[i].first <= seq {
		return ps.list[i]
	}
	return nil
}

// before returns the last frame that ends at or before an entry, or nil.
func (ps *places) before(seq uint64) *place {
	i := sort.Search(len(ps.list), func(i int) bool { return ps.list[i].next() > seq })
	if i == 0 {
		return nil
	}
	return ps.list[i-1]
}

// add remembers a frame.
func (ps *places) add(p *place) {
	i := sort.Search(len(ps.list), func(i int) bool { return ps.list[i].first >= p.first })
	if i < len(ps.list) && ps.list[i].first == p.first {
		return
	}
	if ps.entries+len(p.lengths) > maxPlaces && i == len(ps.list) && i > 0 {
		ps.list, ps.entries, i = nil, 0, 0
	}
	ps.list = append(ps.list, nil)
	copy(ps.list[i+1:], ps.list[i:])
	ps.list[i] = p
	ps.entries += len(p.lengths)
}

// forget drops frames of which all entries are before one, but for the last.
func (ps *places) forget(seq uint64) {
	n := 0
	for n+1 < len(ps.list) && ps.list[n].next() <= seq {
		ps.entries -= len(ps.list[n].lengths)
		n++
	}
	if n > 0 {
		clear(ps.list[:n])
		ps.list = ps.list[n:]
	}
}
