//go:build rados

package rados

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Names of the object classes and of their methods.
const (
	classQueue = "2pc_queue"
	classRing  = "queue" // what 2pc_queue is built on: its ring, without reservations
	classLock  = "lock"

	methodInit         = "2pc_queue_init"
	methodCapacity     = "2pc_queue_get_capacity"
	methodReserve      = "2pc_queue_reserve"
	methodCommit       = "2pc_queue_commit"
	methodAbort        = "2pc_queue_abort"
	methodReservations = "2pc_queue_list_reservations"
	methodList         = "2pc_queue_list_entries"
	methodRemove       = "2pc_queue_remove_entries"

	methodEnqueue = "queue_enqueue"
	methodFree    = "queue_remove_entries"

	methodLock         = "lock"
	methodUnlock       = "unlock"
	methodBreakLock    = "break_lock"
	methodLockInfo     = "get_info"
	methodAssertLocked = "assert_locked"
)

// Errors of decoding what a server answered.
var (
	errShort   = errors.New("short buffer")
	errVersion = errors.New("encoded by something newer")
	errMagic   = errors.New("wrong magic number")
)

// encoder writes Ceph's encoding: little-endian, unpadded, with lengths of 32
// bits before strings, lists and versioned structures.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)     { e.b = append(e.b, v) }
func (e *encoder) u32(v uint32)   { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)   { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) bytes(p []byte) { e.u32(uint32(len(p))); e.b = append(e.b, p...) }
func (e *encoder) str(s string)   { e.u32(uint32(len(s))); e.b = append(e.b, s...) }

// seconds writes a time or a duration, in nanoseconds.
func (e *encoder) seconds(ns int64) {
	e.u32(uint32(ns / 1e9))
	e.u32(uint32(ns % 1e9))
}

// framed writes a versioned structure.
func (e *encoder) framed(version uint8, body func(*encoder)) []byte {
	e.u8(version)
	e.u8(1) // readers of version 1 understand it
	at := len(e.b)
	e.u32(0)
	body(e)
	binary.LittleEndian.PutUint32(e.b[at:], uint32(len(e.b)-at-4))
	return e.b
}

// decoder reads Ceph's encoding. After the first error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.b)) {
		d.err = errShort
	}
	if d.err != nil {
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) bytes() []byte { return d.take(uint64(d.u32())) }
func (d *decoder) str() string   { return string(d.bytes()) }

func (d *decoder) time() time.Time {
	s, ns := d.u32(), d.u32()
	return time.Unix(int64(s), int64(ns))
}

// framed reads a versioned structure, of which body need not read all.
func (d *decoder) framed(body func(version uint8, d *decoder)) {
	version, compat := d.u8(), d.u8()
	in := decoder{b: d.take(uint64(d.u32())), err: d.err}
	if in.err == nil && compat > 4 { // the newest that is known: 4, of the state of reservations
		in.err = fmt.Errorf("version %d, compatible to %d: %w", version, compat, errVersion)
	}
	if in.err == nil {
		body(version, &in)
	}
	d.err = in.err
}

// count reads the length of a list whose elements take at least size bytes.
func (d *decoder) count(size int) int {
	n := uint64(d.u32())
	if d.err == nil && n*uint64(size) > uint64(len(d.b)) {
		d.err = errShort
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func encodeInit(capacity uint64) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.u64(capacity); e.u64(0); e.bytes(nil) })
}

func encodeReserve(size uint64, entries uint32) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.u64(size); e.u32(entries) })
}

func encodeCommit(id uint32, entries ...[]byte) []byte {
	n := 0
	for _, p := range entries {
		n += 4 + len(p)
	}
	e := encoder{b: make([]byte, 0, 16+n)}
	return e.framed(1, func(e *encoder) {
		e.u32(id)
		e.u32(uint32(len(entries)))
		for _, p := range entries {
			e.bytes(p)
		}
	})
}

// encodeEnqueue appends an entry to the ring.
func encodeEnqueue(entry []byte) []byte {
	e := encoder{b: make([]byte, 0, 16+len(entry))}
	return e.framed(1, func(e *encoder) { e.u32(1); e.bytes(entry) })
}

// encodeFree frees the ring before the marker.
func encodeFree(end string) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.str(end) })
}

func encodeAbort(id uint32) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.u32(id) })
}

func encodeList(most uint64, start string) []byte {
	e := encoder{}
	return e.framed(2, func(e *encoder) { e.u64(most); e.str(start); e.str("") })
}

// encodeRemove removes what is before the marker. Servers from Squid on trust
// the number of entries that this is.
func encodeRemove(end string, entries uint64) []byte {
	e := encoder{}
	return e.framed(2, func(e *encoder) { e.str(end); e.u32(uint32(min(entries, math.MaxUint32))) })
}

func decodeReserve(b []byte) (id uint32, err error) {
	d := decoder{b: b}
	d.framed(func(_ uint8, d *decoder) { id = d.u32() })
	return id, d.err
}

func decodeCapacity(b []byte) (capacity uint64, err error) {
	d := decoder{b: b}
	d.framed(func(_ uint8, d *decoder) { capacity = d.u64() })
	return capacity, d.err
}

// classReservation is a reservation as the class has it.
type classReservation struct {
	size    uint64
	time    time.Time // by the server's clock
	entries uint32    // zero before Squid
}

func (d *decoder) reservations() map[uint32]classReservation {
	n := d.count(4 + 6 + 16)
	m := make(map[uint32]classReservation, n)
	for range n {
		id := d.u32()
		var r classReservation
		d.framed(func(version uint8, d *decoder) {
			r.size, r.time = d.u64(), d.time()
			if version >= 2 {
				r.entries = d.u32()
			}
		})
		if d.err != nil {
			return nil
		}
		m[id] = r
	}
	return m
}

func decodeReservations(b []byte) (m map[uint32]classReservation, err error) {
	d := decoder{b: b}
	d.framed(func(_ uint8, d *decoder) { m = d.reservations() })
	return m, d.err
}

// classEntry is an entry of the ring.
type classEntry struct {
	marker string
	data   []byte // part of the answer
}

type classList struct {
	entries   []classEntry
	next      string // the marker after them
	truncated bool
}

func decodeList(b []byte) (l classList, err error) {
	d := decoder{b: b}
	d.framed(func(_ uint8, d *decoder) {
		l.truncated, l.next = d.u8() != 0, d.str()
		for range d.count(6 + 8) {
			d.framed(func(_ uint8, d *decoder) {
				data := d.bytes()
				l.entries = append(l.entries, classEntry{d.str(), data})
			})
			if d.err != nil {
				return
			}
		}
	})
	return l, d.err
}

// classHead is the start of a queue's object, as the class has it.
type classHead struct {
	encoded      uint64 // bytes, after the first ten
	maxHead      uint64 // where the ring starts
	front, tail  position
	end          uint64 // where the ring ends
	state        int    // bytes at the end of it all that are the state of reservations
	reserved     uint64
	lastID       uint32
	reservations map[uint32]classReservation
	spilled      bool // into an xattr, some of them
}

// position is a place in a ring: laps, and the offset in the object.
type position struct{ gen, off uint64 }

func (d *decoder) position() (p position) {
	d.framed(func(_ uint8, d *decoder) { p = position{d.u64(), d.u64()} })
	return p
}

const (
	headMagic  = 0xDEAD
	entryMagic = 0xBEEF
	headPrefix = 10 // magic and length

	// frontAt is where the front's lap and offset are in a head, after
	// the starts of two frames, and maxHead.
	frontAt, frontSize = headPrefix + 6 + 8 + 6, 16
)

// decodeHead decodes a head of which at least the bytes before the state of
// reservations are there. Without the rest, what comes of it is not.
func decodeHead(b []byte) (h classHead, err error) {
	d := decoder{b: b}
	if magic := d.u16(); d.err == nil && magic != headMagic {
		return h, errMagic
	}
	h.encoded = d.u64()
	whole := uint64(len(d.b)) >= h.encoded
	version, compat, length := d.u8(), d.u8(), d.u32()
	if d.err == nil && compat > 1 {
		return h, fmt.Errorf("head of version %d, compatible to %d: %w", version, compat, errVersion)
	}
	if whole {
		d.b = d.take(uint64(length))
	}
	h.maxHead, h.front, h.tail, h.end = d.u64(), d.position(), d.position(), d.u64()
	d.u64() // the room for the state
	size := d.u32()
	if d.err != nil || !whole {
		return h, d.err
	}
	h.state = int(size)
	in := decoder{b: d.take(uint64(size)), err: d.err}
	in.framed(func(_ uint8, d *decoder) {
		h.reserved, h.lastID, h.reservations = d.u64(), d.u32(), d.reservations()
		h.spilled = d.u8() != 0
	})
	return h, in.err
}

// reservedAt is where in the object the sum of the reservations stands.
func (h *classHead) reservedAt() uint64 {
	return headPrefix + h.encoded - uint64(h.state) + 6
}

// free is the room of the ring that no entry takes, as the class has it: a
// ring that is full to the byte is taken for an empty one.
func (h *classHead) free() uint64 {
	if h.tail.off >= h.front.off {
		return h.end - h.tail.off + h.front.off - h.maxHead
	}
	return h.front.off - h.tail.off
}

// fits tells whether the class takes a reservation, with what is reserved.
func (h *classHead) fits(need uint64) bool {
	free := h.free()
	return h.reserved <= free && need <= free-h.reserved
}

// A lock is exclusive, or shared by all that come with the same tag.
const (
	lockExclusive = 1
	lockShared    = 2
)

// Flags of a lock call: a holder may, or must, be there already.
const (
	lockMayRenew  = 1
	lockMustRenew = 2
)

// lockCall is what the calls of the lock class have in common.
type lockCall struct {
	name        string
	kind        uint8
	cookie      string
	description string
}

func (l lockCall) encodeLock(d time.Duration, flags uint8) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) {
		e.str(l.name)
		e.u8(l.kind)
		e.str(l.cookie)
		e.str("") // the tag
		e.str(l.description)
		e.seconds(int64(d))
		e.u8(flags)
	})
}

func (l lockCall) encodeUnlock() []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.str(l.name); e.str(l.cookie) })
}

func (l lockCall) encodeAssert() []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.str(l.name); e.u8(l.kind); e.str(l.cookie); e.str("") })
}

func (l lockCall) encodeInfo() []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) { e.str(l.name) })
}

// holder is who holds a lock.
type holder struct {
	kind    uint8 // of the client
	number  uint64
	cookie  string
	expires time.Time // by the server's clock; 1970: never
}

func (l lockCall) encodeBreak(h holder) []byte {
	e := encoder{}
	return e.framed(1, func(e *encoder) {
		e.str(l.name)
		e.u8(h.kind)
		e.u64(h.number)
		e.str(h.cookie)
	})
}

// decodeLockInfo decodes the holders of a lock. Addresses and
// descriptions are skipped.
func decodeLockInfo(b []byte) (holders []holder, err error) {
	d := decoder{b: b}
	d.framed(func(_ uint8, d *decoder) {
		for range d.count(6 + 13 + 6 + 8) {
			var h holder
			d.framed(func(_ uint8, d *decoder) {
				h.kind, h.number, h.cookie = d.u8(), d.u64(), d.str()
			})
			d.framed(func(_ uint8, d *decoder) { h.expires = d.time() })
			if d.err != nil {
				return
			}
			holders = append(holders, h)
		}
	})
	return holders, d.err
}
