//go:build rados

package rados

import (
	"encoding/binary"
	"errors"
	"slices"

	"herald/queue"
)

// group is the reservations that one change made. It is a value of the omap,
// which stays as it is until the last of them has ended; what became of each
// meanwhile is another, small one.
type group struct {
	time    int64 // when they were made, nanoseconds since 1970 by the cluster's clock
	members []member
	states  []int64 // of each: open, ended, or the stamp of its renewal
}

// member is one reservation of a group.
type member struct {
	size    int64
	entries int
	intent  []byte
}

const (
	stateOpen  = 0
	stateEnded = 1
)

// An id is the number of the group, and that of the member in it.
const memberBits = 10

func idOf(number uint64, member int) queue.ID { return queue.ID(number<<memberBits | uint64(member)) }

func splitID(id queue.ID) (number uint64, member int) {
	return uint64(id) >> memberBits, int(id & (1<<memberBits - 1))
}

// open returns a member that has not ended, or nil.
func (g *group) open(i int) *member {
	if g == nil || i >= len(g.members) || g.states[i] == stateEnded {
		return nil
	}
	return &g.members[i]
}

// stamp is when a member was made, or renewed.
func (g *group) stamp(i int) int64 {
	if s := g.states[i]; s != stateOpen {
		return s
	}
	return g.time
}

// over tells whether all have ended.
func (g *group) over() bool {
	return !slices.ContainsFunc(g.states, func(s int64) bool { return s != stateEnded })
}

// clone returns a copy of which the states may be changed.
func (g *group) clone() *group {
	return &group{g.time, g.members, slices.Clone(g.states)}
}

func (g *group) add(m member) int {
	g.members, g.states = append(g.members, m), append(g.states, stateOpen)
	return len(g.members) - 1
}

const groupVersion = 1

var errGroup = errors.New("damaged reservations")

// encode writes what does not change.
func (g *group) encode() []byte {
	size := 32
	for _, m := range g.members {
		size += 16 + len(m.intent)
	}
	b := append(make([]byte, 0, size), groupVersion)
	b = binary.AppendUvarint(b, uint64(g.time))
	b = binary.AppendUvarint(b, uint64(len(g.members)))
	for _, m := range g.members {
		b = binary.AppendUvarint(b, uint64(m.size))
		b = binary.AppendUvarint(b, uint64(m.entries))
		b = binary.AppendUvarint(b, uint64(len(m.intent)))
	}
	for _, m := range g.members {
		b = append(b, m.intent...)
	}
	return b
}

// decodeGroup decodes a group. The intents stay in b.
func decodeGroup(b []byte) (*group, error) {
	if len(b) == 0 || b[0] != groupVersion {
		return nil, errGroup
	}
	n := numbers{b: b[1:]}
	g := &group{time: int64(n.next())}
	count := n.next()
	if count == 0 || count > 1<<memberBits || count > uint64(len(n.b)) {
		return nil, errGroup
	}
	lengths := make([]uint64, count)
	for i := range lengths {
		m := member{size: int64(n.next()), entries: int(n.next())}
		if lengths[i] = n.next(); n.failed || m.size < 1 || m.entries < 1 || m.size > maxRing || m.entries > maxRing {
			return nil, errGroup
		}
		g.add(m)
	}
	for i, size := range lengths {
		if size > uint64(len(n.b)) {
			return nil, errGroup
		}
		g.members[i].intent, n.b = n.b[:size:size], n.b[size:]
	}
	if len(n.b) > 0 {
		return nil, errGroup
	}
	return g, nil
}

// encodeStates writes what became of the members.
func (g *group) encodeStates() []byte {
	b := []byte{groupVersion}
	for _, s := range g.states {
		b = binary.AppendUvarint(b, uint64(s))
	}
	return b
}

func (g *group) decodeStates(b []byte) error {
	if len(b) == 0 || b[0] != groupVersion {
		return errGroup
	}
	n := numbers{b: b[1:]}
	for i := range g.states {
		g.states[i] = int64(n.next())
	}
	if n.failed || len(n.b) > 0 {
		return errGroup
	}
	return nil
}
