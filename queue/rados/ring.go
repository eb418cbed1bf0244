//go:build rados

package rados

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

const (
	// headSize is how much of an object is before the ring.
	headSize = 24576
	// entryHeader is what the class writes before each entry: a magic number
	// and the length.
	entryHeader = 10
	// maxRing is the largest ring: larger objects than 128 MiB, of which the
	// head is a part, are refused by OSDs with their usual configuration.
	maxRing = 128<<20 - headSize
)

// ring is a ring's size in bytes. Places in it are given as the number of
// bytes that were ever written before them, so that they only grow; the class
// knows them as laps and offsets.
type ring uint64

// offset returns where in the object a place is.
func (r ring) offset(at uint64) uint64 { return headSize + at%uint64(r) }

// marker returns a place as the class writes it.
func (r ring) marker(at uint64) string {
	return strconv.FormatUint(at/uint64(r), 10) + "/" + strconv.FormatUint(r.offset(at), 10)
}

// place is the inverse of marker, for positions that the class has.
func (r ring) place(p position) (uint64, error) {
	if r == 0 || p.off < headSize || p.off > headSize+uint64(r) {
		return 0, fmt.Errorf("position %d/%d is not in the ring", p.gen, p.off)
	}
	return p.gen*uint64(r) + p.off - headSize, nil
}

// parsePosition reads a marker of the class.
func parsePosition(s string) (p position, err error) {
	gen, off, ok := strings.Cut(s, "/")
	if !ok {
		return p, fmt.Errorf("marker %q without a slash", s)
	}
	if p.gen, err = strconv.ParseUint(gen, 10, 64); err == nil {
		p.off, err = strconv.ParseUint(off, 10, 64)
	}
	return p, err
}

// spans returns the parts of the object that hold n bytes from a place on; the
// second is empty unless the ring ends in between.
func (r ring) spans(at, n uint64) (first, second span) {
	off := r.offset(at)
	first = span{off, min(n, headSize+uint64(r)-off)}
	return first, span{headSize, n - first.n}
}

type span struct{ off, n uint64 }

// nextEntry returns the entry at the start of b, and how many bytes it takes
// there. When b ends before the entry does, data is nil; size is then how many
// bytes are needed, or zero when not even that can be told.
func nextEntry(b []byte) (data []byte, size uint64, err error) {
	if len(b) < entryHeader {
		return nil, 0, nil
	}
	if magic := binary.LittleEndian.Uint16(b); magic != entryMagic {
		return nil, 0, fmt.Errorf("entry starts with %#x: %w", magic, errMagic)
	}
	n := binary.LittleEndian.Uint64(b[2:])
	if n > maxRing {
		return nil, 0, fmt.Errorf("entry of %d bytes: %w", n, errMagic)
	}
	size = entryHeader + n
	if uint64(len(b)) < size {
		return nil, size, nil
	}
	return b[entryHeader:size:size], size, nil
}
