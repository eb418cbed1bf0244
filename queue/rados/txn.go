//go:build rados

package rados

import (
	"fmt"

	"herald/queue"
)

// kind is what a request asks for.
type kind uint8

const (
	kindReserve kind = iota
	kindRenew
	kindCommit
	kindAbort
	kindAck
)

// request is one call that changes a queue.
type request struct {
	kind    kind
	id      queue.ID // of renew, commit, abort; the answer of reserve
	intent  []byte
	size    int64
	entries int
	data    [][]byte
	ack     ack
}

// ack is a queue.Ack in numbers.
type ack struct {
	upTo   uint64
	done   []uint64
	failed map[uint64]mark
	fence  uint64
}

// view is what the omap tells of single entries, as of a record.
type view struct {
	acks   uint64 // of the record
	marks  map[uint64]mark
	parked map[uint64]uint64 // what each takes of the capacity
}

// facts is what a change is made up from, besides the record.
type facts struct {
	groups map[uint64]*group // those that are named, as far as there are any
	own    map[uint64]bool   // which of them this driver made
	view   view
	places *places
}

// errUnknownPlace says that a frame must be found before a change can be made
// up.
type errUnknownPlace struct{ seq uint64 }

func (e errUnknownPlace) Error() string {
	return fmt.Sprintf("the frame of entry %d is not known", e.seq)
}

// txn is a change of a queue that is being made up of requests: the record
// after it, and what else its operation does. It is one of
//
//	compare the record, set it, set and remove keys of the omap
//
// with at most one call of the class: one that appends a frame, when there are
// new entries, or one that frees the start of the ring.
type txn struct {
	facts
	rec     *record // as it will be
	now     int64   // nanoseconds since 1970 by the cluster's clock
	set     map[string][]byte
	rm      map[string]bool
	ends    map[uint64]*group // groups of which the states change
	number  uint64            // of the group that is made
	made    *group            // that group, or nil
	strange uint64            // changes of reservations that others made
	marks   map[uint64]*mark  // over those of the view; nil: removed
	unpark  map[uint64]bool
	park    map[uint64]uint64 // newly parked, and what each takes of the capacity
	short   bool              // a reservation was refused for want of room in the ring
	data    [][]byte          // of new entries
	cost    uint64            // what they take of the capacity
	room    uint64            // and of the ring, at most
	frame   []byte            // of them, when sealed
	free    string            // the marker up to which the ring is freed
	dirty   bool
}

func newTxn(rec *record, f facts, now int64) *txn {
	return &txn{
		facts: f, rec: rec.clone(), now: now,
		set: map[string][]byte{}, rm: map[string]bool{},
		ends:  map[uint64]*group{},
		marks: map[uint64]*mark{}, unpark: map[uint64]bool{}, park: map[uint64]uint64{},
	}
}

func (t *txn) put(k string, v []byte) {
	delete(t.rm, k)
	t.set[k], t.dirty = v, true
}

func (t *txn) drop(k string) {
	delete(t.set, k)
	t.rm[k], t.dirty = true, true
}

// apply adds a request. Its error is the request's answer, but for
// errUnknownPlace.
func (t *txn) apply(r *request) error {
	switch r.kind {
	case kindReserve:
		return t.reserve(r)
	case kindRenew:
		return t.renew(r)
	case kindCommit:
		return t.commit(r)
	case kindAbort:
		if m := t.open(r.id); m != nil {
			t.end(r.id, m)
		}
		return nil
	default:
		return t.ack(&r.ack)
	}
}

// maxCommit is the most bytes that a reservation may hold: an OSD refuses
// writes above 90 MiB.
const maxCommit = 64 << 20

func (t *txn) reserve(r *request) error {
	rec := t.rec
	switch {
	case r.size < 1 || r.entries < 1:
		return queue.ErrInvalid
	case r.size > maxCommit || r.entries > maxCommit/queue.EntryOverhead:
		return queue.ErrFull
	}
	c, need := cost(r.size, r.entries), room(r.size, r.entries)
	if rec.bytes()+t.cost+rec.reserved+c > rec.capacity {
		return queue.ErrFull
	}
	if rec.used()+t.room+rec.room+need >= uint64(rec.ring) {
		t.short = true
		return queue.ErrFull
	}
	if t.made == nil {
		t.number, t.made = rec.nextGroup, &group{time: t.now}
		rec.nextGroup++
	}
	r.id = idOf(t.number, t.made.add(member{r.size, r.entries, r.intent}))
	rec.reservations++
	rec.reserved += c
	rec.room += need
	t.dirty = true
	return nil
}

// group returns a group as it will be, or nil.
func (t *txn) group(number uint64) *group {
	if g := t.ends[number]; g != nil {
		return g
	}
	return t.groups[number]
}

// open returns an open reservation, or nil.
func (t *txn) open(id queue.ID) *member {
	number, i := splitID(id)
	return t.group(number).open(i)
}

// setState changes the state of an open reservation.
func (t *txn) setState(id queue.ID, state int64) {
	number, i := splitID(id)
	g := t.ends[number]
	if g == nil {
		g = t.groups[number].clone()
		t.ends[number] = g
	}
	g.states[i] = state
	if !t.own[number] {
		t.rec.foreign++
		t.strange++
	}
	t.dirty = true
}

func (t *txn) renew(r *request) error {
	if t.open(r.id) == nil {
		return queue.ErrNoSuchReservation
	}
	t.setState(r.id, max(t.now, stateEnded+1))
	return nil
}

func (t *txn) commit(r *request) error {
	m := t.open(r.id)
	if m == nil {
		return queue.ErrNoSuchReservation
	}
	size := int64(0)
	for _, p := range r.data {
		size += int64(len(p))
	}
	if size > m.size || len(r.data) > m.entries {
		return queue.ErrTooLarge
	}
	t.end(r.id, m)
	t.data = append(t.data, r.data...)
	t.cost += cost(size, len(r.data))
	t.room += room(size, len(r.data))
	return nil
}

// end ends a reservation.
func (t *txn) end(id queue.ID, m *member) {
	t.rec.reservations--
	t.rec.reserved -= cost(m.size, m.entries)
	t.rec.room -= room(m.size, m.entries)
	t.setState(id, stateEnded)
}

// putGroups stores the reservations that were made, and what became of others.
func (t *txn) putGroups() {
	if t.made != nil {
		t.put(key(keyGroup, t.number), t.made.encode())
	}
	for number, g := range t.ends {
		if g.over() {
			t.drop(key(keyGroup, number))
			t.drop(key(keyState, number))
		} else {
			t.put(key(keyState, number), g.encodeStates())
		}
	}
}

// seal makes a frame of the new entries, or else frees what can be freed of
// the ring, if that is worth it.
func (t *txn) seal() {
	rec := t.rec
	t.putGroups()
	if len(t.data) == 0 {
		if t.dirty && rec.live-rec.front >= t.worth() {
			t.trim()
		}
		return
	}
	f := frame{number: rec.frames, first: rec.nextSeq, before: rec.total, time: t.now, data: t.data}
	t.frame = f.encode()
	for _, p := range t.data {
		rec.total += cost(int64(len(p)), 1)
	}
	rec.nextSeq = f.end()
	rec.frames++
	rec.tail += entryHeader + uint64(len(t.frame))
}

// worth is how much must be free at the start of the ring before it is given
// back: all, when nothing else is in it.
func (t *txn) worth() uint64 {
	if t.rec.live == t.rec.tail {
		return 1
	}
	return min(64<<10, uint64(t.rec.ring)/8)
}

// trim frees the start of the ring.
func (t *txn) trim() {
	rec := t.rec
	t.free = rec.ring.marker(rec.live)
	rec.front, rec.frontFrame = rec.live, rec.liveFrame
	t.dirty = true
}

// mark returns what is noted of an entry.
func (t *txn) mark(seq uint64) (mark, bool) {
	if m, ok := t.marks[seq]; ok {
		if m == nil {
			return mark{}, false
		}
		return *m, true
	}
	m, ok := t.view.marks[seq]
	return m, ok
}

func (t *txn) setMark(seq uint64, m mark) {
	t.marks[seq] = &m
	t.put(key(keyMark, seq), m.encode())
}

func (t *txn) dropMark(seq uint64) {
	if _, ok := t.mark(seq); ok {
		t.marks[seq] = nil
		t.drop(key(keyMark, seq))
	}
}

// isParked tells whether an entry is in the omap.
func (t *txn) isParked(seq uint64) bool {
	_, ok := t.view.parked[seq]
	return ok && !t.unpark[seq]
}

// isLive tells whether an entry is in the ring and not gone.
func (t *txn) isLive(seq uint64) bool {
	m, _ := t.mark(seq)
	return t.rec.from <= seq && seq < t.rec.nextSeq && !m.gone
}

func (t *txn) ack(a *ack) error {
	rec := t.rec
	if a.fence != 0 && a.fence < rec.fence {
		return queue.ErrFenced
	}
	if a.fence > rec.fence {
		rec.fence, t.dirty = a.fence, true
	}
	before := len(t.set) + len(t.rm)
	for _, seq := range a.done {
		if err := t.finish(seq); err != nil {
			return err
		}
	}
	from := rec.from
	if a.upTo >= from {
		from = min(a.upTo, rec.nextSeq-1) + 1
	}
	if err := t.advance(from); err != nil {
		return err
	}
	for seq := range t.view.parked {
		if seq <= a.upTo && t.isParked(seq) {
			t.unparkOne(seq)
		}
	}
	for seq, m := range a.failed {
		if t.isLive(seq) || t.isParked(seq) {
			t.setMark(seq, m)
		}
	}
	if len(t.set)+len(t.rm) != before || t.dirty {
		rec.acks++
	}
	return nil
}

// finish removes a single entry.
func (t *txn) finish(seq uint64) error {
	if t.isParked(seq) {
		t.unparkOne(seq)
		return nil
	}
	if !t.isLive(seq) {
		return nil
	}
	p := t.places.find(seq)
	if p == nil {
		return errUnknownPlace{seq}
	}
	m := mark{gone: true, cost: p.cost(seq)}
	t.rec.gone++
	t.rec.goneBytes += m.cost
	t.setMark(seq, m)
	return nil
}

func (t *txn) unparkOne(seq uint64) {
	t.unpark[seq] = true
	t.rec.parked--
	t.rec.parkBytes -= t.view.parked[seq]
	t.drop(key(keyParked, seq))
	t.dropMark(seq)
}

// advance removes the entries of the ring before from, and those after it
// that are gone already.
func (t *txn) advance(from uint64) error {
	rec := t.rec
	for seq := rec.from; ; seq++ {
		m, ok := t.mark(seq)
		if seq >= from && !(ok && m.gone) {
			from = seq
			break
		}
		if m.gone {
			rec.gone--
			rec.goneBytes -= m.cost
		}
		t.dropMark(seq)
	}
	if from == rec.from {
		return nil
	}
	return t.moveTo(from)
}

// moveTo makes an entry the first that is in the ring.
func (t *txn) moveTo(from uint64) error {
	rec := t.rec
	p := t.places.find(from - 1)
	if p == nil {
		return errUnknownPlace{from - 1}
	}
	rec.from, t.dirty = from, true
	rec.fromTotal = p.totalBefore(from-1) + p.cost(from-1)
	rec.live, rec.liveFrame = p.at, p.number
	if p.next() == from {
		rec.live, rec.liveFrame = p.end, p.number+1
	}
	return nil
}

// parkFrames moves the entries of the first frames of the ring that are not
// gone to the omap, so that the ring can be freed.
func (t *txn) parkFrames(frames []*frame) error {
	rec := t.rec
	for _, f := range frames {
		for i, data := range f.data {
			seq := f.first + uint64(i)
			if seq < rec.from {
				continue
			}
			c := cost(int64(len(data)), 1)
			if m, _ := t.mark(seq); m.gone {
				rec.gone--
				rec.goneBytes -= m.cost
				t.dropMark(seq)
				continue
			}
			rec.parked++
			rec.parkBytes += c
			t.park[seq] = c
			t.put(key(keyParked, seq), parked{f.time, data}.encode())
		}
	}
	if err := t.moveTo(frames[len(frames)-1].end()); err != nil {
		return err
	}
	rec.acks++
	err := t.advance(rec.from)
	t.trim()
	return err
}
