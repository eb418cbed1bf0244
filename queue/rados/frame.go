//go:build rados

package rados

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"herald/queue"
)

// frame is an entry of the class, in which the queue puts all that is
// committed at once.
type frame struct {
	number uint64 // frames before it, ever
	first  uint64 // sequence number of its first entry
	before uint64 // bytes of all entries before it, ever, with overhead
	time   int64  // of the commit, nanoseconds since 1970 by the cluster's clock
	data   [][]byte
}

const (
	frameVersion = 1
	// frameOverhead and itemOverhead are at most what a frame, and each entry
	// in it, takes in the ring beside the data.
	frameOverhead = entryHeader + 1 + 4 + 5*binary.MaxVarintLen64
	itemOverhead  = 5
)

var errFrame = errors.New("damaged frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// end is the sequence number after its last entry.
func (f *frame) end() uint64 { return f.first + uint64(len(f.data)) }

// encode writes the version, a checksum of what follows, the numbers, the
// entries' lengths and their data.
func (f *frame) encode() []byte {
	size := frameOverhead
	for _, p := range f.data {
		size += itemOverhead + len(p)
	}
	b := append(make([]byte, 0, size), frameVersion, 0, 0, 0, 0)
	for _, v := range []uint64{f.number, f.first, f.before, uint64(f.time), uint64(len(f.data))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, p := range f.data {
		b = binary.AppendUvarint(b, uint64(len(p)))
	}
	for _, p := range f.data {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b
}

// decodeFrame decodes a frame. The data stays in b.
func decodeFrame(b []byte) (*frame, error) {
	if len(b) < 5 {
		return nil, errFrame
	}
	if b[0] != frameVersion {
		return nil, fmt.Errorf("frame of version %d: %w", b[0], errVersion)
	}
	if crc32.Checksum(b[5:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return nil, errFrame
	}
	var f frame
	n := numbers{b: b[5:]}
	f.number, f.first, f.before, f.time = n.next(), n.next(), n.next(), int64(n.next())
	count := n.next()
	if count == 0 || count > uint64(len(n.b)) {
		return nil, errFrame
	}
	lengths := make([]uint64, count)
	sum := uint64(0)
	for i := range lengths {
		lengths[i] = n.next()
		if lengths[i] > uint64(len(b)) {
			return nil, errFrame
		}
		sum += lengths[i]
	}
	if n.failed || sum != uint64(len(n.b)) {
		return nil, errFrame
	}
	f.data = make([][]byte, count)
	for i, size := range lengths {
		f.data[i], n.b = n.b[:size:size], n.b[size:]
	}
	return &f, nil
}

// numbers reads unsigned numbers of variable length. After the first failure
// it reads zeros.
type numbers struct {
	b      []byte
	failed bool
}

func (n *numbers) next() uint64 {
	v, size := binary.Uvarint(n.b)
	if size <= 0 || n.failed {
		n.failed = true
		return 0
	}
	n.b = n.b[size:]
	return v
}

// cost is what entries take of a queue's capacity.
func cost(size int64, entries int) uint64 {
	return uint64(size) + uint64(entries)*queue.EntryOverhead
}

// room is at most what a commit of that size takes of the ring.
func room(size int64, entries int) uint64 {
	return uint64(size) + frameOverhead + uint64(entries)*itemOverhead
}
