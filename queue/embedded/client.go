package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"herald/journal"
	"herald/queue"
)

// client is the Driver as the journal sees it.
type client Driver

// Start loads the snapshots that the journal has confirmed.
func (c *client) Start(done journal.LSN) error {
	d := (*Driver)(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := d.catalog.load(d.j.ID(), done)
	if err != nil {
		return err
	}
	if body == nil {
		if done != 0 {
			return fmt.Errorf("%s: %w: the catalog is missing", d.dir, errCorrupt)
		}
		return d.sweep()
	}
	if err := d.decodeCatalog(body); err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	d.catalog.lsn = d.lsn
	for _, q := range d.byID {
		if err := q.load(done); err != nil {
			return fmt.Errorf("load queue %s: %w", q.name, err)
		}
	}
	return d.sweep()
}

// sweep removes directories of queues that are not in the catalog. d.mu is
// held.
func (d *Driver) sweep() error {
	known := make(map[string]bool)
	for _, q := range d.byID {
		known[filepath.Base(q.dir)] = true
	}
	names, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !e.IsDir() || known[e.Name()] {
			continue
		}
		if _, err := queueName(e.Name()); err != nil {
			continue // not ours
		}
		if err := os.RemoveAll(filepath.Join(d.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) load(done journal.LSN) error {
	body, err := q.snap.load(q.d.j.ID(), done)
	if err != nil {
		return err
	}
	if body == nil {
		return fmt.Errorf("%w: the snapshot is missing", errCorrupt)
	}
	if err := q.decode(body); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	q.snap.lsn = q.lsn
	return q.log.collectFiles()
}

// collectFiles finds segment files that are free.
func (l *entryLog) collectFiles() error {
	used := make(map[uint64]bool)
	for _, s := range l.segs {
		used[s.slot] = true
	}
	names, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		number, ok := strings.CutPrefix(e.Name(), "segment.")
		slot, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || used[slot] {
			continue
		}
		l.slots.free = append(l.slots.free, slot)
		l.slots.next = max(l.slots.next, slot)
	}
	return nil
}

// Replay applies one record.
func (c *client) Replay(lsn journal.LSN, payload []byte) error {
	d := (*Driver)(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	dec := &decoder{b: payload}
	op, id := dec.byte(), dec.number()
	switch op {
	case opCreate:
		name, capacity := string(dec.bytes()), int64(dec.number())
		if err := dec.end(); err != nil {
			return err
		}
		if lsn > d.lsn {
			d.applyCreate(lsn, id, name, capacity)
		}
		return nil
	case opDelete:
		if q := d.byID[id]; q != nil && lsn > d.lsn {
			d.applyDelete(lsn, q)
		}
		return dec.end()
	case opFence:
		if lsn > d.lsn {
			d.fence, d.lsn = max(d.fence, dec.number()), lsn
		}
		return nil
	}
	q := d.byID[id]
	if q == nil {
		return dec.err // deleted since
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if lsn <= q.lsn {
		return nil
	}
	return q.replay(lsn, op, dec)
}

// replay applies a record of the queue. q.mu is held.
func (q *Queue) replay(lsn journal.LSN, op byte, d *decoder) error {
	switch op {
	case opReserve:
		id := queue.ID(d.number())
		r := reservation{time: int64(d.number()), size: int64(d.number()), entries: int(d.number()), intent: d.b}
		if d.err == nil {
			q.applyReserve(lsn, id, r)
		}
		return d.err
	case opCommit:
		return q.replayCommit(lsn, d)
	case opAbort:
		id := queue.ID(d.number())
		if err := d.end(); err != nil {
			return err
		}
		q.applyAbort(lsn, id)
		return nil
	case opAck:
		a := decodeAck(d)
		if err := d.end(); err != nil {
			return err
		}
		return q.applyAck(lsn, a)
	}
	return fmt.Errorf("record of unknown kind %d: %w", op, errCorrupt)
}

func (q *Queue) replayCommit(lsn journal.LSN, d *decoder) error {
	id, t, first := queue.ID(d.number()), int64(d.number()), d.number()
	var entries [][]byte
	for range d.count() {
		entries = append(entries, d.bytes())
	}
	if err := d.end(); err != nil {
		return err
	}
	if first != q.log.nextSeq {
		return fmt.Errorf("queue %s: commit at %d, want %d: %w", q.name, first, q.log.nextSeq, errCorrupt)
	}
	q.applyCommit(lsn, id, t, entries)
	return nil
}

// Checkpoint writes snapshots of what has changed.
func (c *client) Checkpoint() (journal.LSN, error) {
	d := (*Driver)(c)
	// Every record up to here is applied: a record is appended and applied
	// under the mutex that is taken below.
	stamp := d.j.End()
	d.mu.Lock()
	newest := d.lsn
	var body []byte
	if !d.catalog.exists || d.lsn != d.catalog.lsn {
		body = d.encodeCatalog()
	}
	queues := d.all()
	d.leaving, d.trash = append(d.leaving, d.trash...), nil
	d.mu.Unlock()
	if body != nil {
		if err := d.catalog.write(d.j.ID(), stamp, newest, body); err != nil {
			return 0, err
		}
	}
	if d.afterCatalog != nil {
		d.afterCatalog()
	}
	for _, q := range queues {
		lsn, err := q.checkpoint(stamp)
		if err != nil {
			return 0, fmt.Errorf("queue %s: %w", q.name, err)
		}
		newest = max(newest, lsn)
	}
	// No file may tell of a record that can still be lost.
	if err := d.j.Wait(newest); err != nil {
		return 0, err
	}
	return stamp, nil
}

// checkpoint writes the queue's entries and snapshot, and returns the LSN of
// the last record that is in them. A queue that was deleted since the catalog
// was encoded is written like the others, as the catalog has it: its deletion
// may still be lost, or be replayed on what is written here.
func (q *Queue) checkpoint(stamp journal.LSN) (journal.LSN, error) {
	q.mu.Lock()
	q.log.unloadIdle()
	lsn := q.lsn
	if q.snap.exists && lsn == q.snap.lsn && !q.repaired {
		q.mu.Unlock()
		return lsn, nil
	}
	err := q.log.spill()
	var body []byte
	if err == nil {
		body = q.encode()
		sl := &q.log.slots
		sl.leaving, sl.dying = append(sl.leaving, sl.dying...), nil
		q.repaired = false
	}
	if q.closed || q.deleted {
		q.log.closeFiles()
	}
	q.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return lsn, q.snap.write(q.d.j.ID(), stamp, lsn, body)
}

// Flushed confirms the snapshots, and gives back what they do not need.
func (c *client) Flushed(journal.LSN) error {
	d := (*Driver)(c)
	d.mu.Lock()
	queues := d.all()
	leaving := d.leaving
	d.leaving = nil
	d.mu.Unlock()
	d.catalog.flushed()
	for _, q := range queues {
		q.snap.flushed()
		q.mu.Lock()
		err := q.log.slots.flushed(q.dir)
		q.mu.Unlock()
		if err != nil {
			return fmt.Errorf("queue %s: %w", q.name, err)
		}
	}
	for _, dir := range leaving {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete queue: %w", err)
		}
	}
	return nil
}
