//go:build rados

package rados

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"herald/queue"
)

// reservation is an open reservation. It is a value of the omap of the
// queue's object.
type reservation struct {
	time    int64 // made or renewed, nanoseconds since 1970 by the cluster's clock
	size    int64
	entries int
	intent  []byte
}

const reservationVersion = 1

var errReservation = errors.New("damaged reservation")

func (r *reservation) encode() []byte {
	b := append(make([]byte, 0, 24+len(r.intent)), reservationVersion)
	for _, v := range []uint64{uint64(r.time), uint64(r.size), uint64(r.entries)} {
		b = binary.AppendUvarint(b, v)
	}
	return append(b, r.intent...)
}

func decodeReservation(b []byte) (*reservation, error) {
	if len(b) == 0 || b[0] != reservationVersion {
		return nil, errReservation
	}
	n := numbers{b: b[1:]}
	r := &reservation{time: int64(n.next()), size: int64(n.next()), entries: int(n.next())}
	if n.failed || r.size < 1 || r.entries < 1 || r.size > maxRing || r.entries > maxRing {
		return nil, errReservation
	}
	r.intent = n.b
	return r, nil
}

// mark is what is noted of a single entry: that it is gone although entries
// before it are not, or that its delivery failed. It is a value of the omap.
type mark struct {
	gone     bool
	cost     uint64 // of a gone entry, bytes with overhead
	attempts int
	last     int64 // time of the latest attempt, by the cluster's clock; 0: none
}

const (
	markGone  = 'g'
	markTried = 't'
)

var errMark = errors.New("damaged mark of an entry")

func (m mark) encode() []byte {
	if m.gone {
		return binary.AppendUvarint([]byte{markGone}, m.cost)
	}
	b := binary.AppendUvarint([]byte{markTried}, uint64(m.attempts))
	return binary.AppendVarint(b, m.last)
}

func decodeMark(b []byte) (m mark, err error) {
	if len(b) < 2 {
		return m, errMark
	}
	n := numbers{b: b[1:]}
	switch b[0] {
	case markGone:
		m.gone, m.cost = true, n.next()
	case markTried:
		m.attempts = int(n.next())
		last, size := binary.Varint(n.b)
		n.failed, m.last = n.failed || size <= 0, last
	default:
		n.failed = true
	}
	if n.failed {
		return mark{}, errMark
	}
	return m, nil
}

// parked is an entry that was moved from the ring to the omap.
type parked struct {
	time int64 // of its commit
	data []byte
}

func (p parked) encode() []byte { return append(binary.AppendUvarint(nil, uint64(p.time)), p.data...) }

func decodeParked(b []byte) (parked, error) {
	n := numbers{b: b}
	p := parked{time: int64(n.next()), data: n.b}
	if n.failed {
		return parked{}, errParkedEntry
	}
	return p, nil
}

var errParkedEntry = errors.New("damaged parked entry")

// Keys of the omap start with a letter for what they are.
const (
	keyGroup  = "r/" // and the number of a group of reservations
	keyState  = "s/" // and that of one some of whose reservations have ended
	keyMark   = "d/" // and the entry's sequence number
	keyParked = "p/" // and the entry's sequence number
)

func key(prefix string, n uint64) string { return fmt.Sprintf("%s%016x", prefix, n) }

func parseKey(prefix, k string) (uint64, error) {
	digits, ok := strings.CutPrefix(k, prefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || len(digits) != 16 {
		return 0, fmt.Errorf("key %q is none of a queue", k)
	}
	return n, nil
}

// markerOf writes a sequence number as 16 hexadecimal digits.
func markerOf(seq uint64) queue.Marker { return queue.Marker(fmt.Sprintf("%016x", seq)) }

func parseMarker(m queue.Marker) (uint64, error) {
	if m == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(m), 16, 64)
	if err != nil || len(m) != 16 {
		return 0, fmt.Errorf("marker %q: %w", m, queue.ErrInvalid)
	}
	return n, nil
}
