//go:build rados

package rados

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"
)

// What we keep with a queue that radosgw uses as well is beside what radosgw
// looks at: in extended attributes and the omap of the queue's object, so that
// it changes in one operation with the ring, and goes when radosgw removes the
// object.
const (
	// attrRGWID tells a queue from another of the same name before or after
	// it; every operation compares it.
	attrRGWID = "herald.id"
	// attrRGWFence is the newest fence, as fenceText writes it.
	attrRGWFence = "herald.fence"

	keyRGWReservation = "herald.r/" // and the id
	keyRGWMark        = "herald.e/" // and the entry's place
	// All keys are between these.
	keyRGWFirst, keyRGWEnd = "herald.", "herald/"
)

// rgwID is the value of attrRGWID.
type rgwID struct {
	incarnation incarnation
	made        bool // by us; else radosgw's, which we use
}

var errRGWID = errors.New("damaged mark of a queue that radosgw shares")

const rgwIDVersion = 1

func (id rgwID) encode() []byte {
	made := byte(0)
	if id.made {
		made = 1
	}
	return append([]byte{rgwIDVersion, made}, id.incarnation[:]...)
}

func decodeRGWID(b []byte) (id rgwID, err error) {
	if len(b) != 2+len(id.incarnation) || b[1] > 1 {
		return id, errRGWID
	}
	if b[0] != rgwIDVersion {
		return id, errVersion
	}
	return rgwID{incarnation(b[2:]), b[1] == 1}, nil
}

// rgwHeld is an open reservation of ours: a value of the omap.
type rgwHeld struct {
	reservation
	class uint32 // its id in the class, if taken is set and that has not ended
	taken int64  // since when it has it there, as reservation.time; 0: it is not known
}

func (h *rgwHeld) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, h.class)
	b = binary.BigEndian.AppendUint64(b, uint64(h.taken))
	return append(b, h.reservation.encode()...)
}

func decodeRGWHeld(b []byte) (h rgwHeld, err error) {
	if len(b) < 12 {
		return h, errReservation
	}
	h.class, h.taken = binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:]))
	res, err := decodeReservation(b[12:])
	if err == nil {
		h.reservation = *res
	}
	return h, err
}

// fenceText writes a fence so that texts compare as the numbers do.
func fenceText(fence uint64) []byte { return fmt.Appendf(nil, "%016x", fence) }

// parseFence reads a fence; an absent one is none.
func parseFence(b []byte) (uint64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return strconv.ParseUint(string(b), 16, 64)
}

// rgwPlaced is an entry with its place, and where it ends.
type rgwPlaced struct {
	at, end uint64
	data    []byte
}

// rgwIndex remembers where entries are, without a gap between the first and
// the last; the class tells a marker for each, but not the one after it.
type rgwIndex struct {
	at  []uint64
	end uint64 // of the last one
}

// add remembers entries that follow each other.
func (x *rgwIndex) add(list []rgwPlaced) {
	for _, e := range list {
		if len(x.at) > 0 && e.at > x.end || len(x.at) > 0 && e.at < x.at[0] {
			x.at = x.at[:0] // there is a gap
		}
		if len(x.at) > 0 && e.at < x.end {
			continue // known
		}
		x.at, x.end = append(x.at, e.at), e.end
	}
}

// drop forgets what is before a place.
func (x *rgwIndex) drop(front uint64) {
	if n := sort.Search(len(x.at), func(i int) bool { return x.at[i] >= front }); n > 0 {
		x.at = slices.Delete(x.at, 0, n)
	}
}

// next is where the entry at a place ends.
func (x *rgwIndex) next(at uint64) (uint64, bool) {
	i, ok := slices.BinarySearch(x.at, at)
	switch {
	case !ok:
		return 0, false
	case i+1 < len(x.at):
		return x.at[i+1], true
	}
	return x.end, true
}

// rgwEntryTime is when the event of an entry came about: the creation time of
// RGW's event_entry_t, which its version 1 lacks, else that of the event in
// it. Of other data there is none.
func rgwEntryTime(data []byte) (time.Time, bool) {
	var t time.Time
	d := decoder{b: data}
	d.framed(func(version uint8, d *decoder) {
		d.framed(func(_ uint8, d *decoder) { // the event
			_, _, _ = d.bytes(), d.bytes(), d.bytes() // its version, source and region
			t = d.time()
		})
		_, _, _ = d.bytes(), d.bytes(), d.bytes() // endpoint, arguments, topic
		if version >= 2 && d.err == nil {
			if created := d.time(); created.Unix() != 0 {
				t = created
			}
		}
	})
	return t, d.err == nil && len(d.b) == 0 && t.Unix() != 0
}

// markKey is the key of what is noted of the entry at a place.
func markKey(at uint64) string { return key(keyRGWMark, at) }
