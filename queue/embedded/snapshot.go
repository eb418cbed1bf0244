package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"herald/journal"
	"herald/queue"
)

// snapshotFile is a document in two files, path.0 and path.1, written in turn
// and in place, so that a checkpoint makes no inodes. Each has a stamp, the
// LSN that the checkpoint returned: what the journal has not confirmed, or an
// earlier process has left unconfirmed, is never used.
type snapshotFile struct {
	path    string
	lsn     journal.LSN // of what the confirmed file holds
	slot    int         // of the confirmed file
	exists  bool        // there is one
	pending journal.LSN // of what the other file holds
	written bool        // since the last confirmation
}

const (
	snapshotMagic  = 0x31515148 // "HQQ1"
	snapshotHeader = 28         // magic u32, crc32c u32 of the rest, length u32, stamp u64, journal's ID u64
)

func (s *snapshotFile) name(slot int) string { return fmt.Sprintf("%s.%d", s.path, slot) }

// other returns the slot to write to.
func (s *snapshotFile) other() int {
	if !s.exists {
		return 0
	}
	return 1 - s.slot
}

// write writes the body to the file that is not the confirmed one.
func (s *snapshotFile) write(journalID uint64, stamp, lsn journal.LSN, body []byte) error {
	b := make([]byte, snapshotHeader, snapshotHeader+len(body))
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b, snapshotMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(body)))
	binary.LittleEndian.PutUint64(b[12:], uint64(stamp))
	binary.LittleEndian.PutUint64(b[20:], journalID)
	binary.LittleEndian.PutUint32(b[4:], crc32c(b[8:]))
	f, err := os.OpenFile(s.name(s.other()), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(s.path), 0o700); err == nil {
			f, err = os.OpenFile(s.name(s.other()), os.O_WRONLY|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	_, err = f.WriteAt(b, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	s.pending, s.written = lsn, true
	return nil
}

// flushed confirms what was written.
func (s *snapshotFile) flushed() {
	if s.written {
		s.slot, s.lsn, s.exists, s.written = s.other(), s.pending, true, false
	}
}

// load returns the body of the newest file with a stamp up to done, nil if
// there is none. Other files are removed, but not those of another journal.
// Errors: ErrForeign.
func (s *snapshotFile) load(journalID uint64, done journal.LSN) ([]byte, error) {
	var (
		body  []byte
		stamp journal.LSN
	)
	for slot := range 2 {
		b, err := os.ReadFile(s.name(slot))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		id, at, p, err := parseSnapshot(b)
		if err == nil && id != journalID {
			return nil, fmt.Errorf("%s: %w", s.name(slot), ErrForeign)
		}
		if err != nil || at > done {
			if err := os.Remove(s.name(slot)); err != nil {
				return nil, fmt.Errorf("read snapshot: %w", err)
			}
			continue
		}
		if !s.exists || at > stamp {
			s.exists, s.slot, stamp, body = true, slot, at, p
		}
	}
	return body, nil
}

func parseSnapshot(b []byte) (journalID uint64, stamp journal.LSN, body []byte, err error) {
	if len(b) < snapshotHeader || binary.LittleEndian.Uint32(b) != snapshotMagic {
		return 0, 0, nil, errCorrupt
	}
	n := uint64(binary.LittleEndian.Uint32(b[8:]))
	if n > uint64(len(b)-snapshotHeader) {
		return 0, 0, nil, errCorrupt
	}
	b = b[:snapshotHeader+n]
	if crc32c(b[8:]) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, 0, nil, errCorrupt
	}
	stamp = journal.LSN(binary.LittleEndian.Uint64(b[12:]))
	return binary.LittleEndian.Uint64(b[20:]), stamp, b[snapshotHeader:], nil
}

// encode returns the queue's state; the tail is empty. q.mu is held.
func (q *Queue) encode() []byte {
	l := &q.log
	b := putNumbers(nil, uint64(q.lsn), q.nextID, q.fence, l.nextSeq, l.slots.next, uint64(len(q.reservations)))
	for id, r := range q.reservations {
		b = putNumbers(b, uint64(id), uint64(r.size), uint64(r.entries), uint64(r.time))
		b = putBytes(b, r.intent)
	}
	b = putNumbers(b, uint64(len(l.segs)))
	for _, s := range l.segs {
		s.snapped = true
		b = putNumbers(b, s.slot, s.first, s.last, uint64(s.firstTime), uint64(s.count), uint64(s.size),
			uint64(s.live), uint64(s.liveBytes), uint64(len(s.gone)))
		for _, w := range s.gone {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	b = putNumbers(b, uint64(len(l.attempts)))
	for seq, a := range l.attempts {
		b = putNumbers(b, seq, uint64(a.n), uint64(a.last))
	}
	return b
}

// decode is the inverse of encode, on a new queue.
func (q *Queue) decode(b []byte) error {
	d := &decoder{b: b}
	l := &q.log
	q.lsn = journal.LSN(d.number())
	q.nextID, q.fence, l.nextSeq, l.slots.next = d.number(), d.number(), d.number(), d.number()
	for range d.count() {
		id := queue.ID(d.number())
		r := &reservation{size: int64(d.number()), entries: int(d.number()), time: int64(d.number())}
		r.intent = append([]byte(nil), d.bytes()...)
		q.reservations[id] = r
		q.reserved += r.cost()
	}
	for range d.count() {
		s := decodeSegment(d, l.dir)
		l.segs = append(l.segs, s)
		l.entries += s.live
		l.bytes += s.liveBytes
	}
	for range d.count() {
		l.attempts[d.number()] = attempt{int(d.number()), int64(d.number())}
	}
	return d.end()
}

func decodeSegment(d *decoder, dir string) *segment {
	s := &segment{snapped: true}
	s.slot, s.first, s.last, s.firstTime = d.number(), d.number(), d.number(), int64(d.number())
	s.count, s.size, s.live, s.liveBytes = int(d.number()), int64(d.number()), int64(d.number()), int64(d.number())
	s.path = segmentPath(dir, s.slot)
	n := d.count()
	if n*8 > len(d.b) {
		d.b, d.err = nil, errCorrupt
		return s
	}
	for range n {
		s.gone = append(s.gone, binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
	}
	return s
}

// encodeCatalog returns the driver's own state. d.mu is held.
func (d *Driver) encodeCatalog() []byte {
	b := putNumbers(nil, uint64(d.lsn), d.nextID, d.fence, uint64(len(d.byID)))
	for id, q := range d.byID {
		b = putBytes(putNumbers(b, id), []byte(q.name))
		b = putNumbers(b, uint64(q.capacity))
	}
	return b
}

// decodeCatalog is the inverse of encodeCatalog.
func (d *Driver) decodeCatalog(b []byte) error {
	dec := &decoder{b: b}
	d.lsn = journal.LSN(dec.number())
	d.nextID, d.fence = dec.number(), dec.number()
	for range dec.count() {
		id, name, capacity := dec.number(), string(dec.bytes()), int64(dec.number())
		q := newQueue(d, id, name, capacity)
		d.queues[name], d.byID[id] = q, q
	}
	return dec.end()
}
