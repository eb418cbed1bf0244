package redis

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"herald/queue"
)

// tag encodes a name so that it can stand between the braces of a hash tag: it
// has no braces of its own and, with a letter before it, is not empty.
func tag(name string) string {
	if !strings.ContainsAny(name, "{}%") {
		return name
	}
	return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(name)
}

// queueKeys are the keys of a queue, in the order in which the scripts have
// them. All are in one hash slot.
func (d *Driver) queueKeys(name string) []string {
	base := d.namespace + ":{q:" + tag(name) + "}:"
	return []string{
		base + "meta", base + "reserved", base + "intents", base + "times", base + "data", base + "order",
		base + "attempts", base + "ended", base + "before", base + "deleted",
	}
}

// nameKeys are those of the list of queues.
func (d *Driver) nameKeys() []string {
	base := d.namespace + ":{names}:"
	return []string{base + "names", base + "pending"}
}

// lockKeys are holder and newest fence of a lock.
func (d *Driver) lockKeys(name string) []string {
	base := d.namespace + ":{l:" + tag(name) + "}:"
	return []string{base + "holder", base + "fence"}
}

func (d *Driver) groupKeys(name string) []string {
	return []string{d.namespace + ":{g:" + tag(name) + "}:group"}
}

// channel tells of commits: messages are ids of queues.
func (d *Driver) channel() string { return d.namespace + ":commits" }

// markerNumber returns the number of the entry in a marker. ok is whether it
// looks like one.
func markerNumber(m queue.Marker) (n uint64, ok bool) {
	_, n, _, ok = parseMarker(string(m))
	return n, ok
}

// markerArg is a marker for the scripts: what is none is before the first.
func markerArg(m queue.Marker) string {
	if _, _, _, ok := parseMarker(string(m)); !ok {
		return ""
	}
	return string(m)
}

// parseMarker reads number-term-time-size: 13 digits, 4 characters, 16 digits
// of microseconds, digits.
func parseMarker(s string) (size int64, number uint64, micros int64, ok bool) {
	if len(s) < 37 || s[13] != '-' || s[18] != '-' || s[35] != '-' {
		return 0, 0, 0, false
	}
	number, err1 := strconv.ParseUint(s[:13], 10, 53)
	micros, err2 := strconv.ParseInt(s[19:35], 10, 54)
	size, err3 := strconv.ParseInt(s[36:], 10, 54)
	if err1 != nil || err2 != nil || err3 != nil || size < 0 || micros < 0 {
		return 0, 0, 0, false
	}
	return size, number, micros, true
}

// maxNumber is more than any queue holds: the scripts write whole numbers
// exactly below it.
const maxNumber = 99_999_999_999_999

// reserveBytes is what a reservation takes, or more than any queue has.
func reserveBytes(size int64, entries int) int64 {
	if size > maxNumber || int64(entries) > maxNumber/queue.EntryOverhead {
		return math.MaxInt64
	}
	return size + int64(entries)*queue.EntryOverhead
}

// newID chooses an id that nobody else will.
func newID() queue.ID { return queue.ID(1 + rand.Uint64N(math.MaxUint64)) }

func idString(id queue.ID) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(id)))
}

func parseID(s string) (queue.ID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("reservation id %q: %w", s, errReply)
	}
	return queue.ID(n), nil
}
