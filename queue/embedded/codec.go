package embedded

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// errCorrupt is what decoding answers for bytes that this package has not
// written.
var errCorrupt = errors.New("corrupt")

// Journal records: op u8, queue u64, then by op (all numbers uvarint, times in
// nanoseconds since 1970, byte strings with their length before them).
const (
	opCreate  = 1 // name, capacity
	opDelete  = 2 //
	opReserve = 3 // id, time, size, entries, intent to the end
	opCommit  = 4 // id, time, first sequence number, count, data...
	opAbort   = 5 // id
	opAck     = 6 // up to, fence, count, done..., count, (failed, attempts, last try)...
	opFence   = 7 // fence; queue 0
)

func putBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func putNumbers(b []byte, v ...uint64) []byte {
	for _, x := range v {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

// decoder reads what the functions above have written. After the first
// mistake it answers zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.err = nil, errCorrupt
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of things that each take a byte or more.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.b, d.err = nil, errCorrupt
		return 0
	}
	return int(n)
}

// bytes returns a part of the input.
func (d *decoder) bytes() []byte {
	n := d.count()
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.err = errCorrupt
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// end checks that nothing is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.err = errCorrupt
	}
	return d.err
}

func crc32c(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
