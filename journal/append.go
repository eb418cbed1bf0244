package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
	"unsafe"
)

// On disk a batch begins at a block and looks like this (little endian):
//
//	0  magic     u32
//	4  crc32c    u32  of bytes 8..length
//	8  epoch     u64  random, new with each Recover
//	16 position  u64  of this batch in the journal
//	24 length    u32  without the padding to the next block
//	28 records   u32
//	32 records, each: length u32, stream u8, 3 zero bytes, payload
//
// A batch is written only after the one before it is durable. So when one is
// damaged and another one of the same epoch follows, it was not torn by a
// crash. The epoch cannot be guessed by those who write payloads.
const (
	batchMagic   = 0x31424a48 // "HJB1"
	batchHeader  = 32
	recordHeader = 8
)

// batch collects records in memory.
type batch struct {
	start   uint64 // position, a multiple of blockSize
	buf     []byte // aligned
	records int
	led     bool          // somebody has undertaken to flush it
	done    chan struct{} // closed when it is durable, or err is set
	err     error
}

func (b *batch) end() uint64 { return b.start + uint64(len(b.buf)) }

func newBatch(start uint64, buf []byte) *batch {
	if cap(buf) == 0 || cap(buf) > 2*maxBatchSoft {
		buf = alignedBuffer(256 << 10)
	}
	buf = buf[:batchHeader]
	clear(buf)
	return &batch{start: start, buf: buf, done: make(chan struct{})}
}

// alignedBuffer returns an empty buffer that O_DIRECT accepts. Its capacity
// is a multiple of blockSize, at least n.
func alignedBuffer(n int) []byte {
	n = int(alignUp(uint64(n)))
	raw := make([]byte, n+blockSize)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (blockSize - 1))
	return raw[skip : skip : skip+n]
}

func alignUp(pos uint64) uint64 { return (pos + blockSize - 1) &^ (blockSize - 1) }

// grow makes room for n more bytes.
func (b *batch) grow(n int) {
	if len(b.buf)+n <= cap(b.buf) {
		return
	}
	buf := alignedBuffer(max(2*cap(b.buf), len(b.buf)+n))
	b.buf = append(buf, b.buf...)
}

// add copies a record to the batch and returns its LSN: the position of its
// end.
func (b *batch) add(s Stream, size int, parts [][]byte) LSN {
	b.grow(recordHeader + size)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(size))
	b.buf = append(b.buf, byte(s), 0, 0, 0)
	for _, p := range parts {
		b.buf = append(b.buf, p...)
	}
	b.records++
	return LSN(b.end())
}

// seal completes the header and pads to the next block.
func (b *batch) seal(epoch uint64) []byte {
	n := len(b.buf)
	h := b.buf[:batchHeader]
	binary.LittleEndian.PutUint32(h[0:], batchMagic)
	binary.LittleEndian.PutUint64(h[8:], epoch)
	binary.LittleEndian.PutUint64(h[16:], b.start)
	binary.LittleEndian.PutUint32(h[24:], uint32(n))
	binary.LittleEndian.PutUint32(h[28:], uint32(b.records))
	binary.LittleEndian.PutUint32(h[4:], crc32c(b.buf[8:n]))
	padded := b.buf[:alignUp(uint64(n))]
	clear(padded[n:])
	return padded
}

func crc32c(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// Append adds a record made of the parts, which are copied, and returns its
// LSN. It is not durable yet. Append blocks while the ring is full, until Run
// has done a checkpoint: a caller must hold no lock that its own
// Client.Checkpoint takes, or use TryAppend.
// Errors: ErrTooLarge, ErrClosed, ErrNotReady, ErrRingFull (checkpoints have
// released nothing for Options.StallTimeout), and what poisoned the journal.
func (j *Journal) Append(s Stream, parts ...[]byte) (LSN, error) {
	return j.append(s, parts, true)
}

// TryAppend is Append that answers ErrRingFull instead of waiting for a
// checkpoint. See WaitRoom.
func (j *Journal) TryAppend(s Stream, parts ...[]byte) (LSN, error) {
	return j.append(s, parts, false)
}

// WaitRoom blocks until there is room for records of size bytes in all. The
// room is not reserved. Errors: as Append.
func (j *Journal) WaitRoom(size int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if err := j.usable(); err != nil {
			return err
		}
		if j.fits(size) {
			return nil
		}
		if err := j.awaitRoom(); err != nil {
			return err
		}
	}
}

func (j *Journal) append(s Stream, parts [][]byte, block bool) (LSN, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size > j.opts.MaxRecord {
		return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, j.opts.MaxRecord)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if err := j.usable(); err != nil {
			return 0, err
		}
		if len(j.cur.buf) > j.softLimit() {
			j.mu.Unlock()
			err := j.Wait(j.End())
			j.mu.Lock()
			if err != nil {
				return 0, err
			}
			continue
		}
		if j.fits(size) {
			break
		}
		if !block {
			return 0, ErrRingFull
		}
		if err := j.awaitRoom(); err != nil {
			return 0, err
		}
	}
	lsn := j.cur.add(s, size, parts)
	j.end, j.last[s] = lsn, lsn
	j.wakeRun()
	return lsn, nil
}

// usable tells whether records may be appended. j.mu is held.
func (j *Journal) usable() error {
	switch {
	case j.err != nil:
		return j.err
	case j.state == stateOpened:
		return ErrNotReady
	case j.state == stateClosed:
		return ErrClosed
	}
	return nil
}

// fits tells whether a record of that size can be added to the current batch.
// j.mu is held.
func (j *Journal) fits(size int) bool {
	return alignUp(j.cur.end()+uint64(size)+recordHeader) <= j.limit
}

func (j *Journal) softLimit() int {
	return int(min(maxBatchSoft, j.ring.size()/8))
}

// awaitRoom waits until a checkpoint has released something. j.mu is held.
func (j *Journal) awaitRoom() error {
	if j.stalled {
		j.kickRun()
		return fmt.Errorf("%w: no checkpoint could release any of it", ErrRingFull)
	}
	j.waiting++
	j.kickRun()
	j.room.Wait()
	j.waiting--
	return nil
}

// Wait returns when the record is durable, with all those before it. One of
// those who wait writes and flushes for all; meanwhile others append to the
// next batch.
// Errors: ErrBeyondEnd, and what poisoned the journal.
func (j *Journal) Wait(lsn LSN) error {
	j.mu.Lock()
	if lsn <= j.durable {
		j.mu.Unlock()
		return nil
	}
	if j.err != nil || lsn > j.end {
		err := j.err
		j.mu.Unlock()
		if err == nil {
			err = ErrBeyondEnd
		}
		return err
	}
	if b := j.inflight; b != nil && lsn <= LSN(b.end()) {
		j.mu.Unlock()
		<-b.done
		return b.err
	}
	b := j.cur
	if b.led {
		j.mu.Unlock()
		<-b.done
		return b.err
	}
	b.led = true
	prev := j.inflight
	j.mu.Unlock()
	if prev != nil {
		<-prev.done
	}
	return j.flush(b)
}

// flush writes the batch and flushes it. The caller leads it, and no other is
// in flight.
func (j *Journal) flush(b *batch) error {
	j.opts.Fault("journal.flush.begin")
	j.mu.Lock()
	if j.err != nil {
		b.err = j.err
		j.mu.Unlock()
		close(b.done)
		return b.err
	}
	j.inflight = b
	j.cur = newBatch(alignUp(b.end()), j.spare)
	j.spare = nil
	j.mark(b.start)
	j.mu.Unlock()

	begin := time.Now()
	data := b.seal(j.ring.epoch)
	err := j.write(b.start, data)

	j.mu.Lock()
	j.inflight = nil
	if err != nil {
		j.poison(fmt.Errorf("write journal: %w", err))
		b.err = j.err
	} else {
		j.durable = LSN(b.end())
		j.spare = b.buf
		j.stats.Flushes++
		j.stats.Records += uint64(b.records)
		j.stats.Bytes += uint64(len(data))
	}
	records := b.records
	j.mu.Unlock()
	close(b.done)
	if err == nil && j.opts.OnFlush != nil {
		j.opts.OnFlush(time.Since(begin), records, len(data))
	}
	return b.err
}

func (j *Journal) write(pos uint64, data []byte) error {
	if err := j.ring.writeAt(pos, data); err != nil {
		return err
	}
	j.opts.Fault("journal.flush.written")
	if !j.opts.NoSync {
		if err := j.ring.sync(pos, len(data)); err != nil {
			return err
		}
	}
	j.opts.Fault("journal.flush.synced")
	return nil
}

// poison ends the journal's use. j.mu is held.
func (j *Journal) poison(err error) {
	if j.err == nil {
		j.err = err
	}
	j.room.Broadcast()
	j.kickRun()
}

// mark remembers the start of a batch, so that a checkpoint can release up to
// it. j.mu is held.
func (j *Journal) mark(pos uint64) {
	if n := len(j.marks); n == 0 || pos-j.marks[n-1] >= j.ring.size()/1024 {
		j.marks = append(j.marks, pos)
	}
}
