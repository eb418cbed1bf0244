package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// A frame is one entry in a segment file (little endian):
//
//	0  length of the data u32
//	4  crc32c u32 of all that follows
//	8  sequence number u64
//	16 time u64, nanoseconds since 1970
//	24 data
const frameHeader = 24

func appendFrame(b []byte, it *item) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(it.data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, it.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(it.time))
	b = append(b, it.data...)
	binary.LittleEndian.PutUint32(b[at+4:], crc32c(b[at+8:]))
	return b
}

// parseFrame returns the entry of a whole frame.
func parseFrame(b []byte) (item, error) {
	if len(b) < frameHeader || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)-frameHeader) ||
		binary.LittleEndian.Uint32(b[4:]) != crc32c(b[8:]) {
		return item{}, errCorrupt
	}
	return item{
		seq:  binary.LittleEndian.Uint64(b[8:]),
		time: int64(binary.LittleEndian.Uint64(b[16:])),
		data: b[frameHeader:len(b):len(b)],
	}, nil
}

// segment is a file with entries in order of their sequence numbers, of which
// some may be missing.
type segment struct {
	path        string
	slot        uint64
	first, last uint64 // sequence numbers
	firstTime   int64
	count       int   // frames
	size        int64 // bytes of frames; the file may be longer
	live        int64 // entries that are not gone
	liveBytes   int64 // of them, with overhead
	gone        []uint64
	snapped     bool // a snapshot mentions it

	f       *os.File // or nil
	closes  int      // how often f was closed
	touched bool     // used since the last checkpoint
	// The index, when loaded: sequence numbers less first, and offsets.
	loaded bool
	seqs   []uint32
	offs   []uint32
}

func (s *segment) isGone(i int) bool {
	return i>>6 < len(s.gone) && s.gone[i>>6]&(1<<(i&63)) != 0
}

func (s *segment) setGone(i int) {
	for i>>6 >= len(s.gone) {
		s.gone = append(s.gone, 0)
	}
	s.gone[i>>6] |= 1 << (i & 63)
}

// firstLive returns the index of the first entry that is not gone.
func (s *segment) firstLive() int {
	for w, word := range s.gone {
		if word != ^uint64(0) {
			return w<<6 + bits.TrailingZeros64(^word)
		}
	}
	return len(s.gone) << 6
}

// frameEnd returns where frame i ends. The segment is loaded.
func (s *segment) frameEnd(i int) int64 {
	if i+1 < len(s.offs) {
		return int64(s.offs[i+1])
	}
	return s.size
}

// cost is what frame i counts for in the capacity.
func (s *segment) cost(i int) int64 {
	return entryCost(int(s.frameEnd(i) - int64(s.offs[i]) - frameHeader))
}

// after returns the index of the first entry after seq. The segment is loaded.
func (s *segment) after(seq uint64) int {
	if seq < s.first {
		return 0
	}
	d := seq - s.first
	return sort.Search(len(s.seqs), func(i int) bool { return uint64(s.seqs[i]) > d })
}

// find returns the index of an entry, or -1. The segment is loaded.
func (s *segment) find(seq uint64) int {
	if seq < s.first || seq > s.last {
		return -1
	}
	if i, ok := slices.BinarySearch(s.seqs, uint32(seq-s.first)); ok {
		return i
	}
	return -1
}

func (s *segment) open() (*os.File, error) {
	s.touched = true
	if s.f == nil {
		f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		s.f = f
	}
	return s.f, nil
}

// load makes the index, from the file if need be.
func (s *segment) load() error {
	s.touched = true
	if s.loaded {
		return nil
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	b := make([]byte, s.size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	s.seqs, s.offs = make([]uint32, 0, s.count), make([]uint32, 0, s.count)
	for off := 0; off < len(b); {
		if len(b)-off < frameHeader {
			return s.corrupt(off)
		}
		end := off + frameHeader + int(binary.LittleEndian.Uint32(b[off:]))
		seq := binary.LittleEndian.Uint64(b[off+8:])
		if end > len(b) || seq < s.first || seq > s.last {
			return s.corrupt(off)
		}
		s.seqs, s.offs = append(s.seqs, uint32(seq-s.first)), append(s.offs, uint32(off))
		off = end
	}
	if len(s.seqs) != s.count || !slices.IsSorted(s.seqs) {
		return s.corrupt(len(b))
	}
	s.loaded = true
	return nil
}

func (s *segment) corrupt(off int) error {
	return fmt.Errorf("%s at offset %d: %w", s.path, off, errCorrupt)
}

// unload frees memory and the file.
func (s *segment) unload() {
	s.loaded, s.seqs, s.offs = false, nil, nil
	s.closeFile()
}

func (s *segment) closeFile() {
	if s.f != nil {
		_ = s.f.Close() // what was written is flushed by the checkpoint
		s.f = nil
		s.closes++
	}
}

// slots are the numbers of a queue's segment files. Files are used again
// rather than deleted: ext4 is slow in both for a while after deletions.
type slots struct {
	next    uint64
	free    []uint64
	dying   []uint64 // gone, but in the last snapshot
	leaving []uint64 // likewise, not in the snapshot being flushed
}

// spareFiles is how many free files a queue keeps.
const spareFiles = 2

func (sl *slots) take() uint64 {
	if n := len(sl.free); n > 0 {
		slot := sl.free[n-1]
		sl.free = sl.free[:n-1]
		return slot
	}
	sl.next++
	return sl.next
}

// release gives a segment's file back.
func (sl *slots) release(s *segment) {
	s.unload()
	if s.snapped {
		sl.dying = append(sl.dying, s.slot)
	} else {
		sl.free = append(sl.free, s.slot)
	}
}

// flushed makes free what the flushed snapshot does not mention any more, and
// deletes files beyond the spare ones.
func (sl *slots) flushed(dir string) error {
	sl.free = append(sl.free, sl.leaving...)
	sl.leaving = nil
	var errs []error
	for len(sl.free) > spareFiles {
		n := len(sl.free) - 1
		err := os.Remove(segmentPath(dir, sl.free[n]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		sl.free = sl.free[:n]
	}
	return errors.Join(errs...)
}

func segmentPath(dir string, slot uint64) string {
	return filepath.Join(dir, fmt.Sprintf("segment.%d", slot))
}
