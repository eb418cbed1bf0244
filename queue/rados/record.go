//go:build rados

package rados

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"herald/queue"
)

// record is all that is to know of a queue but its reservations and entries.
// It is one extended attribute of the queue's object. Each change of a queue
// compares it with what the writer knew, and replaces it, in the operation that
// does the rest; so changes happen one after the other, each on the whole state
// before it, whoever makes them.
type record struct {
	incarnation incarnation
	version     uint64 // changes so far
	capacity    uint64 // bytes, as the contract counts
	ring        ring

	nextGroup    uint64 // of reservations
	reservations uint64
	reserved     uint64 // bytes, with overhead
	room         uint64 // bytes of the ring that the reservations may take
	foreign      uint64 // changes of reservations by another driver than the one that made them

	nextSeq uint64 // of the next entry; the first is 1
	total   uint64 // bytes of all entries ever, with overhead
	frames  uint64 // ever written
	tail    uint64 // place in the ring where the next frame goes

	from      uint64 // entries before it are gone, or parked
	fromTotal uint64 // bytes of all entries before it, ever
	live      uint64 // place of the frame that has it; tail, when there is none
	liveFrame uint64 // number of that frame
	gone      uint64 // entries from there on that are gone all the same
	goneBytes uint64
	parked    uint64 // entries before it that are not gone: they are in the omap
	parkBytes uint64
	acks      uint64 // changes of what is gone, parked, or was tried

	front      uint64 // place where the class's ring starts
	frontFrame uint64 // number of the frame there

	fence   uint64 // newest that an Ack came with
	clients []client
}

// incarnation tells a queue from another of the same name before or after it.
type incarnation [16]byte

// client is the last change that a driver made: whether a change whose answer
// was lost was made at all, is seen from it.
type client struct {
	id      uint64
	change  uint64 // number that the driver gave it
	version uint64 // of the record
}

// maxClients is how many drivers a record remembers. A change is only looked
// for a moment after it was sent; to miss it, that many others must have made
// changes in between.
const maxClients = 64

const recordVersion = 1

var errRecord = errors.New("damaged record of a queue")

// newRecord returns that of an empty queue. Groups of reservations are numbered
// from the time in microseconds on, so that ids of one queue are not met again
// in the next of the same name.
func newRecord(id incarnation, capacity uint64, now int64) *record {
	return &record{
		incarnation: id, capacity: capacity, ring: ringFor(capacity),
		nextGroup: uint64(max(now, 1e3) / 1e3), nextSeq: 1, from: 1,
	}
}

// entries returns how many entries there are.
func (r *record) entries() uint64 { return r.parked + r.nextSeq - r.from - r.gone }

// bytes returns what they take of the capacity.
func (r *record) bytes() uint64 { return r.parkBytes + r.total - r.fromTotal - r.goneBytes }

// used returns how much of the ring is taken.
func (r *record) used() uint64 { return r.tail - r.front }

// stats returns the figures of the contract, but for the oldest.
func (r *record) stats() queue.Stats {
	return queue.Stats{
		Capacity: int64(r.capacity), Entries: int64(r.entries()), Bytes: int64(r.bytes()),
		Reservations: int64(r.reservations), Reserved: int64(r.reserved),
	}
}

// numbers lists the fields that are numbers, in the order they are stored.
func (r *record) numbers() []*uint64 {
	return []*uint64{
		&r.version, &r.capacity, (*uint64)(&r.ring),
		&r.nextGroup, &r.reservations, &r.reserved, &r.room, &r.foreign,
		&r.nextSeq, &r.total, &r.frames, &r.tail,
		&r.from, &r.fromTotal, &r.live, &r.liveFrame, &r.gone, &r.goneBytes, &r.parked, &r.parkBytes, &r.acks,
		&r.front, &r.frontFrame, &r.fence,
	}
}

func (r *record) encode() []byte {
	b := append(make([]byte, 0, 256), recordVersion)
	b = append(b, r.incarnation[:]...)
	for _, n := range r.numbers() {
		b = binary.AppendUvarint(b, *n)
	}
	b = binary.AppendUvarint(b, uint64(len(r.clients)))
	for _, c := range r.clients {
		for _, n := range []uint64{c.id, c.change, c.version} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

func decodeRecord(b []byte) (*record, error) {
	if len(b) < 1+len(incarnation{}) {
		return nil, errRecord
	}
	if b[0] != recordVersion {
		return nil, errVersion
	}
	r := &record{incarnation: incarnation(b[1:17])}
	n := numbers{b: b[17:]}
	for _, field := range r.numbers() {
		*field = n.next()
	}
	for range min(n.next(), maxClients+1) {
		r.clients = append(r.clients, client{n.next(), n.next(), n.next()})
	}
	if n.failed || len(n.b) > 0 || !r.plausible() {
		return nil, errRecord
	}
	return r, nil
}

// plausible tells whether places and numbers are in order. Sums are Check's
// to see to.
func (r *record) plausible() bool {
	return r.ring > 0 && r.ring <= maxRing && len(r.clients) <= maxClients &&
		1 <= r.from && r.from <= r.nextSeq &&
		r.front <= r.live && r.live <= r.tail && r.tail-r.front <= uint64(r.ring) &&
		r.frontFrame <= r.liveFrame && r.liveFrame <= r.frames && r.nextGroup > 0
}

// clone returns a copy to be changed.
func (r *record) clone() *record {
	c := *r
	c.clients = slices.Clone(r.clients)
	return &c
}

// sign notes a driver's change in the record, and counts it.
func (r *record) sign(id, change uint64) {
	r.version++
	signed := client{id, change, r.version}
	if i := slices.IndexFunc(r.clients, func(c client) bool { return c.id == id }); i >= 0 {
		r.clients[i] = signed
		return
	}
	if len(r.clients) >= maxClients {
		oldest := slices.MinFunc(r.clients, func(a, b client) int { return cmp.Compare(a.version, b.version) })
		r.clients = slices.DeleteFunc(r.clients, func(c client) bool { return c == oldest })
	}
	r.clients = append(r.clients, signed)
}

// has tells whether a driver's change is in the record.
func (r *record) has(id, change uint64) bool {
	return slices.Contains(r.clients, client{id, change, r.versionOf(id)}) && change != 0
}

func (r *record) versionOf(id uint64) uint64 {
	for _, c := range r.clients {
		if c.id == id {
			return c.version
		}
	}
	return 0
}
