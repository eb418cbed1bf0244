package s3api

import (
	"encoding/binary"
	"hash/crc32"
)

// crcField describes the arithmetic of one CRC: polynomials over GF(2) modulo
// a generator, bit-reflected (the most significant bit is x to the 0th).
type crcField struct {
	poly uint64 // reflected, without its leading term
	bits uint
}

func (a algorithm) field() crcField {
	switch a {
	case algCRC32:
		return crcField{crc32.IEEE, 32}
	case algCRC32C:
		return crcField{crc32.Castagnoli, 32}
	default:
		return crcField{0x9a6c9329ac4bc9b5, 64} // CRC-64/NVME
	}
}

func (f crcField) one() uint64 { return 1 << (f.bits - 1) }

// mul multiplies two polynomials.
func (f crcField) mul(a, b uint64) uint64 {
	var p uint64
	for m := f.one(); m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
		}
		if b&1 != 0 { // b times x
			b = b>>1 ^ f.poly
		} else {
			b >>= 1
		}
	}
	return p
}

// shift returns x to the power of 8n: what a CRC is multiplied by when n bytes
// follow.
func (f crcField) shift(n int64) uint64 {
	result, power := f.one(), f.one()>>8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = f.mul(result, power)
		}
		power = f.mul(power, power)
	}
	return result
}

// crcCombiner computes the CRC of data from those of its consecutive parts.
// Parts of one size share the costly step.
type crcCombiner struct {
	field    crcField
	crc      uint64
	lastSize int64
	factor   uint64 // shift(lastSize)
}

func newCRCCombiner(a algorithm) *crcCombiner {
	f := a.field()
	return &crcCombiner{field: f, factor: f.one()}
}

// add appends a part.
func (c *crcCombiner) add(sum []byte, size int64) {
	if size != c.lastSize {
		c.lastSize, c.factor = size, c.field.shift(size)
	}
	c.crc = c.field.mul(c.factor, c.crc) ^ readCRC(sum)
}

// sum returns the checksum of all parts, big endian.
func (c *crcCombiner) sum() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.crc)
	return b[8-c.field.bits/8:]
}

func readCRC(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}
