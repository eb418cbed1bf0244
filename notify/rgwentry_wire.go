package notify

import (
	"encoding/binary"
	"math"
	"time"
)

// Ceph's encoding of structures: little-endian integers without padding,
// strings and lists after their length in 32 bits, and around each structure a
// frame of version, oldest version that can read it, and length of the body.

// cephEncoder appends values in Ceph's encoding.
type cephEncoder struct{ b []byte }

// frame appends a structure whose body is written by body.
func (e *cephEncoder) frame(version byte, body func()) {
	const compat = 1 // readers of all versions can skip what they do not know
	e.b = append(e.b, version, compat, 0, 0, 0, 0)
	start := len(e.b)
	body()
	binary.LittleEndian.PutUint32(e.b[start-4:], uint32(len(e.b)-start))
}

func (e *cephEncoder) u32(n uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, n) }

func (e *cephEncoder) u64(n uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, n) }

func (e *cephEncoder) str(s string) {
	e.u32(uint32(len(s)))
	e.b = append(e.b, s...)
}

// time appends seconds and nanoseconds, each in 32 bits; years before 1970
// and after 2105 become the nearest that fits.
func (e *cephEncoder) time(t time.Time) {
	sec := t.Unix()
	if sec < 0 || sec > math.MaxUint32 {
		e.u32(uint32(min(max(sec, 0), math.MaxUint32)))
		e.u32(0)
		return
	}
	e.u32(uint32(sec))
	e.u32(uint32(t.Nanosecond()))
}

func (e *cephEncoder) pairs(list []KV) {
	e.u32(uint32(len(list)))
	for _, kv := range list {
		e.str(kv.Key)
		e.str(kv.Val)
	}
}

// cephDecoder reads what cephEncoder, or Ceph, wrote; after the first error
// everything is zero.
type cephDecoder struct {
	b   []byte
	bad bool
}

func (d *cephDecoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *cephDecoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *cephDecoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *cephDecoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *cephDecoder) str() string {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	return string(d.take(int(n)))
}

func (d *cephDecoder) time() time.Time {
	sec, nsec := d.u32(), d.u32()
	return time.Unix(int64(sec), int64(nsec))
}

func (d *cephDecoder) pairs() []KV {
	n := d.u32()
	if uint64(n)*8 > uint64(len(d.b)) { // each takes at least two lengths
		d.bad, d.b = true, nil
		return nil
	}
	list := make([]KV, 0, n)
	for range n {
		list = append(list, KV{d.str(), d.str()})
	}
	return list
}

// frame reads a structure whose newest version that is known here is known,
// and returns its version and a decoder of its body.
func (d *cephDecoder) frame(known byte) (version byte, body cephDecoder) {
	version, compat := d.u8(), d.u8()
	n := d.u32()
	if d.bad || compat > known || uint64(n) > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0, cephDecoder{bad: true}
	}
	return version, cephDecoder{b: d.take(int(n))}
}
