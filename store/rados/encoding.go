//go:build rados

package rados

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
)

var errCorrupt = errors.New("corrupt encoding")

// encoder appends values to a buffer; decoder reads them back.
type encoder struct{ b []byte }

func (e *encoder) byte(v byte)     { e.b = append(e.b, v) }
func (e *encoder) uint(v uint64)   { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)     { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) raw(v []byte)    { e.b = append(e.b, v...) }
func (e *encoder) string(v string) { e.uint(uint64(len(v))); e.b = append(e.b, v...) }

// bid is the id of a bucket: 16 hexadecimal digits.
func (e *encoder) bid(v string) { e.b, _ = hex.AppendDecode(e.b, []byte(v)) }

// decoder reads what encoder wrote. After the first error all values are zero
// and err is set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() { d.err, d.b = errCorrupt, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// size is a number of bytes that is not negative as an int64.
func (d *decoder) size() int64 {
	v := d.uint()
	if int64(v) < 0 {
		d.fail()
		return 0
	}
	return int64(v)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// raw fills v.
func (d *decoder) raw(v []byte) {
	if len(v) > len(d.b) {
		d.fail()
		return
	}
	d.b = d.b[copy(v, d.b):]
}

func (d *decoder) bid() string {
	var v [8]byte
	d.raw(v[:])
	return hex.EncodeToString(v[:])
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

// count is a number of things that take at least one byte each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

// end reports an error unless all was read.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.err = errCorrupt
	}
	return d.err
}
