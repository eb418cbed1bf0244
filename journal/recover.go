package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Recover gives each client its records since the last checkpoint, in order,
// does a checkpoint, and makes the journal ready for Append. The end of the
// journal is the first batch that is not whole; when a batch of the same epoch
// follows it, that is damage and no end, and nothing is changed.
// Errors: ErrInUse, ErrCorrupt (a *CorruptError), ErrNoClient, what a client
// returned.
func (j *Journal) Recover() error {
	if j.state != stateOpened || j.lock != nil {
		return errors.New("journal: Recover called twice")
	}
	if err := j.takeLock(); err != nil {
		return err
	}
	if err := j.recover(); err != nil {
		j.releaseFiles()
		return err
	}
	return nil
}

func (j *Journal) recover() error {
	var err error
	if j.fs, err = os.Open(j.dir); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	h, err := readHeader(j.dir)
	if err != nil {
		return err
	}
	next := uint64(0)
	if h != nil {
		j.head = *h
	} else {
		j.head = header{id: random(), done: make(map[Stream]LSN)}
	}
	if err := j.startClients(); err != nil {
		return err
	}
	if h != nil {
		next, err = j.replay(h)
		if err != nil {
			return err
		}
	}
	j.opts.Fault("journal.recover.replayed")
	if h == nil || h.clean {
		return j.begin(next)
	}
	if err := j.settleClients(); err != nil {
		return err
	}
	if err := j.begin(next); err != nil {
		return err
	}
	for s, c := range j.clients {
		if err := c.Flushed(j.head.done[s]); err != nil {
			return fmt.Errorf("checkpoint stream %d: %w", s, err)
		}
	}
	return nil
}

func (j *Journal) startClients() error {
	for s, c := range j.clients {
		if c, ok := c.(Starter); ok {
			if err := c.Start(j.head.done[s]); err != nil {
				return fmt.Errorf("start stream %d: %w", s, err)
			}
		}
	}
	return nil
}

// replay gives the records to the clients and returns a position beyond all
// that may ever have been used.
func (j *Journal) replay(h *header) (uint64, error) {
	old := newRing(j.dir, int64(h.segBytes), int(h.segments), false)
	// Positions go on by more than a ring: those of torn batches, which
	// clients may have seen, are never used again.
	if h.clean {
		return h.start, nil
	}
	r := &reader{ring: old, epoch: h.epoch, start: h.start, relaxed: h.relaxed}
	defer r.close()
	end, err := r.each(func(lsn LSN, s Stream, payload []byte) error {
		c := j.clients[s]
		if c == nil {
			return fmt.Errorf("%w: %d", ErrNoClient, s)
		}
		if lsn <= h.done[s] {
			return nil
		}
		if err := c.Replay(lsn, payload); err != nil {
			return fmt.Errorf("replay record %d of stream %d: %w", lsn, s, err)
		}
		return nil
	})
	j.mu.Lock()
	j.end, j.durable = LSN(end), LSN(end)
	j.mu.Unlock()
	return end + 2*old.size(), err
}

// settleClients flushes what was replayed.
func (j *Journal) settleClients() error {
	for s, c := range j.clients {
		lsn, err := c.Checkpoint()
		if err != nil {
			return fmt.Errorf("checkpoint stream %d: %w", s, err)
		}
		j.head.done[s] = lsn
	}
	return j.syncAll()
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// begin starts a new epoch at the first ring boundary from pos on.
func (j *Journal) begin(pos uint64) error {
	j.ring = newRing(j.dir, j.opts.SegmentBytes, j.opts.Segments, !j.opts.NoDirect && !j.opts.NoSync)
	j.ring.epoch = random()
	start := (pos + j.ring.size() - 1) / j.ring.size() * j.ring.size()
	j.head.epoch, j.head.start, j.head.clean = j.ring.epoch, start, false
	j.head.relaxed = j.opts.NoSync
	j.head.segBytes, j.head.segments = j.ring.segBytes, uint32(j.opts.Segments)
	if err := writeHeader(j.dir, &j.head); err != nil {
		return err
	}
	if err := j.ring.allocate(); err != nil {
		return err
	}
	if err := j.ring.prepare(j.ring.segs[0]); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cur = newBatch(start, nil)
	j.end, j.durable = LSN(start), LSN(start)
	j.released, j.limit = start, start+j.ring.size()
	j.state = stateReady
	return nil
}

// takeLock makes sure that no other process has the journal open.
func (j *Journal) takeLock() error {
	f, err := os.OpenFile(filepath.Join(j.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock journal: %w", err)
	}
	if err := lockFile(f); err != nil {
		holder := make([]byte, 64)
		n, _ := f.ReadAt(holder, 0) // for the message only
		_ = f.Close()               // nothing written
		return fmt.Errorf("%w: %s (%s)", ErrInUse, j.dir, bytes.TrimSpace(holder[:n]))
	}
	_ = f.Truncate(0)                                              // the text is
	_, _ = f.WriteAt(fmt.Appendf(nil, "pid %d\n", os.Getpid()), 0) // only for people
	j.lock = f
	return nil
}

// releaseFiles closes all files.
func (j *Journal) releaseFiles() error {
	var errs []error
	if j.ring != nil {
		errs = append(errs, j.ring.close())
	}
	for _, f := range []*os.File{j.fs, j.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	j.fs, j.lock = nil, nil
	return errors.Join(errs...)
}

// reader reads what a ring holds.
type reader struct {
	ring  *ring
	epoch uint64
	start uint64
	// relaxed: batches need not have become durable in order.
	relaxed bool
	files   map[*segment]*os.File
	buf     []byte
}

// each calls f for each record from start on, in order, and returns the
// position after the last whole batch.
func (r *reader) each(f func(LSN, Stream, []byte) error) (uint64, error) {
	pos := r.start
	for pos < r.start+r.ring.size() {
		data, reason, err := r.batch(pos)
		if err != nil {
			return pos, err
		}
		if data == nil {
			return pos, r.checkEnd(pos, reason)
		}
		if err := r.records(pos, data, f); err != nil {
			return pos, err
		}
		pos = alignUp(pos + uint64(len(data)))
	}
	return pos, nil
}

// batch reads the batch at pos; nil with a reason if there is none.
func (r *reader) batch(pos uint64) (data []byte, reason string, err error) {
	head := make([]byte, batchHeader)
	if err := r.readAt(pos, head); err != nil {
		return nil, "", err
	}
	if !r.isBatch(head, pos) {
		return nil, "no batch", nil
	}
	n := uint64(binary.LittleEndian.Uint32(head[24:]))
	if n < batchHeader || pos+n > r.start+r.ring.size() {
		return nil, "impossible length", nil
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	data = r.buf[:n]
	if err := r.readAt(pos, data); err != nil {
		return nil, "", err
	}
	if crc32c(data[8:]) != binary.LittleEndian.Uint32(data[4:]) {
		return nil, "wrong checksum", nil
	}
	return data, "", nil
}

func (r *reader) isBatch(head []byte, pos uint64) bool {
	return binary.LittleEndian.Uint32(head) == batchMagic &&
		binary.LittleEndian.Uint64(head[8:]) == r.epoch &&
		binary.LittleEndian.Uint64(head[16:]) == pos
}

// records calls f for the records of a batch.
func (r *reader) records(pos uint64, data []byte, f func(LSN, Stream, []byte) error) error {
	count := binary.LittleEndian.Uint32(data[28:])
	for off := batchHeader; off < len(data); count-- {
		if len(data)-off < recordHeader {
			return r.corrupt(pos, "record header cut off")
		}
		n := int(binary.LittleEndian.Uint32(data[off:]))
		s := Stream(data[off+4])
		off += recordHeader
		if n > len(data)-off {
			return r.corrupt(pos, "record cut off")
		}
		if err := f(LSN(pos+uint64(off+n)), s, data[off:off+n:off+n]); err != nil {
			return err
		}
		off += n
	}
	if count != 0 {
		return r.corrupt(pos, "number of records")
	}
	return nil
}

// checkEnd makes sure that nothing of the epoch follows the broken batch at
// pos.
func (r *reader) checkEnd(pos uint64, reason string) error {
	if r.relaxed {
		return nil
	}
	const chunk = 1 << 20
	limit := r.start + r.ring.size()
	buf := make([]byte, min(chunk, limit-pos))
	for at := pos + blockSize; at < limit; at += chunk {
		b := buf[:min(chunk, limit-at)]
		if err := r.readAt(at, b); err != nil {
			return err
		}
		for off := 0; off < len(b); off += blockSize {
			if r.isBatch(b[off:], at+uint64(off)) {
				return r.corrupt(pos, fmt.Sprintf("%s, but a batch follows at position %d", reason, at+uint64(off)))
			}
		}
	}
	return nil
}

func (r *reader) corrupt(pos uint64, reason string) error {
	s, off := r.ring.at(pos)
	return &CorruptError{File: s.path, Offset: off, Pos: pos, Reason: reason}
}

// readAt reads from the ring; what does not exist is zero.
func (r *reader) readAt(pos uint64, b []byte) error {
	return r.ring.pieces(pos, len(b), func(s *segment, off int64, from, to int) error {
		f, err := r.open(s)
		if err != nil {
			return err
		}
		n := 0
		if f != nil {
			n, err = f.ReadAt(b[from:to], off)
			if err != nil && err != io.EOF {
				return fmt.Errorf("read journal: %w", err)
			}
		}
		clear(b[from+n : to])
		return nil
	})
}

func (r *reader) open(s *segment) (*os.File, error) {
	if f, ok := r.files[s]; ok {
		return f, nil
	}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	if r.files == nil {
		r.files = make(map[*segment]*os.File)
	}
	r.files[s] = f
	return f, nil
}

func (r *reader) close() {
	for _, f := range r.files {
		if f != nil {
			_ = f.Close() // read only
		}
	}
}
