package embedded

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"herald/queue"
)

// item is one entry in memory.
type item struct {
	seq  uint64
	time int64 // nanoseconds since 1970
	data []byte
	gone bool
}

type attempt struct {
	n    int
	last int64 // nanoseconds since 1970; 0: never
}

func entryCost(data int) int64 { return int64(data) + queue.EntryOverhead }

// entryLog holds the entries of a queue: segments, then the tail in memory.
// Its methods need the queue's mutex, except read.
type entryLog struct {
	dir          string
	segmentBytes int
	tailMax      int
	spills       *sync.Pool

	nextSeq   uint64
	segs      []*segment // in order; none is empty of live entries
	tail      []item     // the newest; sequence numbers without gaps
	tailBase  []item     // the array that tail lies in
	page      []byte     // what the data of small ones lie in; full up to its length
	tailBytes int        // live ones
	entries   int64      // live
	bytes     int64      // live, with overhead
	attempts  map[uint64]attempt
	slots     slots

	oldestSeg  *segment // whose entry oldestAt is the time below
	oldestAt   int
	oldestTime int64
}

// add appends entries with the next sequence numbers. It keeps a copy.
func (l *entryLog) add(t int64, entries [][]byte) {
	l.growTail(len(entries))
	for _, e := range entries {
		l.tail = append(l.tail, item{seq: l.nextSeq, time: t, data: l.copied(e)})
		l.nextSeq++
		cost := entryCost(len(e))
		l.tailBytes += int(cost)
		l.entries++
		l.bytes += cost
	}
}

// pageBytes is the size of pages. Data that are longer than a quarter have memory
// of their own.
const pageBytes = 4 << 10

// copied returns a copy of an entry's data.
func (l *entryLog) copied(data []byte) []byte {
	if len(data) > pageBytes/4 {
		return slices.Clone(data)
	}
	if len(l.page)+len(data) > cap(l.page) {
		l.page = make([]byte, 0, pageBytes)
	}
	at := len(l.page)
	l.page = append(l.page, data...)
	return l.page[at:len(l.page):len(l.page)]
}

// growTail makes room for n more items, where possible in the room that
// removed ones have left.
func (l *entryLog) growTail(n int) {
	n += len(l.tail)
	if n <= cap(l.tail) {
		return
	}
	if cap(l.tailBase) < 2*n {
		l.tailBase = make([]item, 0, 2*n)
	}
	base := l.tailBase[:cap(l.tailBase)]
	copy(base, l.tail)
	clear(base[len(l.tail):])
	l.tail = base[:len(l.tail)]
}

// spill writes the tail to segments.
func (l *entryLog) spill() error {
	kept, ok := l.spills.Get().(*[]byte)
	if !ok {
		kept = new([]byte)
	}
	buf := slices.Grow((*kept)[:0], max(l.tailBytes+frameHeader*len(l.tail), 0)) // the figure may be wrong (Check)
	defer func() {
		*kept = buf
		l.spills.Put(kept)
	}()
	for i := 0; i < len(l.tail); {
		s := l.active()
		f, err := l.openSegment(s)
		if err != nil {
			l.tail = l.tail[i:]
			return err
		}
		buf = buf[:0]
		from := i
		for ; i < len(l.tail) && s.size+int64(len(buf)) < int64(l.segmentBytes); i++ {
			if it := &l.tail[i]; !it.gone {
				buf = appendFrame(buf, it)
			}
		}
		if _, err := f.WriteAt(buf, s.size); err != nil {
			l.tail = l.tail[from:]
			l.releaseEmpty(s)
			return fmt.Errorf("write entries: %w", err)
		}
		l.moved(s, l.tail[from:i])
	}
	clear(l.tail)
	l.tail = l.tail[:0]
	l.tailBytes = 0
	return nil
}

// active returns the segment to write to.
func (l *entryLog) active() *segment {
	if n := len(l.segs); n > 0 {
		s := l.segs[n-1]
		if s.size < int64(l.segmentBytes) && l.nextSeq-s.first < 1<<31 {
			return s
		}
	}
	slot := l.slots.take()
	return &segment{slot: slot, path: segmentPath(l.dir, slot), loaded: true}
}

func (l *entryLog) openSegment(s *segment) (*os.File, error) {
	f, err := s.open()
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(l.dir, 0o700); err == nil {
			f, err = s.open()
		}
	}
	if err != nil {
		l.releaseEmpty(s)
		return nil, fmt.Errorf("write entries: %w", err)
	}
	return f, nil
}

// releaseEmpty gives back a segment that active has made for nothing.
func (l *entryLog) releaseEmpty(s *segment) {
	if s.count == 0 {
		l.slots.release(s)
	}
}

// moved notes that items of the tail have been written to the segment.
func (l *entryLog) moved(s *segment, items []item) {
	for i := range items {
		it := &items[i]
		if it.gone {
			continue
		}
		if s.count == 0 {
			s.first, s.firstTime = it.seq, it.time
			l.segs = append(l.segs, s)
		}
		if s.loaded {
			s.seqs = append(s.seqs, uint32(it.seq-s.first))
			s.offs = append(s.offs, uint32(s.size))
		}
		s.last = it.seq
		s.count++
		s.size += frameHeader + int64(len(it.data))
		s.live++
		s.liveBytes += entryCost(len(it.data))
		it.gone = true // from the tail
		l.tailBytes -= int(entryCost(len(it.data)))
	}
	l.releaseEmpty(s)
}

// removeUpTo removes all entries up to and including seq.
func (l *entryLog) removeUpTo(seq uint64) error {
	for len(l.segs) > 0 && l.segs[0].first <= seq {
		s := l.segs[0]
		if s.last <= seq {
			l.entries -= s.live
			l.bytes -= s.liveBytes
			l.dropSegment(0)
			continue
		}
		if err := s.load(); err != nil {
			return err
		}
		for i, end := s.firstLive(), s.after(seq); i < end; i++ {
			l.removeAt(s, i)
		}
		if s.live == 0 {
			l.dropSegment(0)
		}
		break
	}
	for i := 0; i < len(l.tail) && l.tail[i].seq <= seq; i++ {
		l.removeTail(i)
	}
	for at := range l.attempts {
		if at <= seq {
			delete(l.attempts, at)
		}
	}
	l.trim()
	return nil
}

// remove removes one entry, if it is there.
func (l *entryLog) remove(seq uint64) error {
	delete(l.attempts, seq)
	if i := l.tailIndex(seq); i >= 0 {
		l.removeTail(i)
		l.trim()
		return nil
	}
	n, i, err := l.find(seq)
	if err != nil || i < 0 {
		return err
	}
	s := l.segs[n]
	l.removeAt(s, i)
	if s.live == 0 {
		l.dropSegment(n)
	}
	return nil
}

func (l *entryLog) removeTail(i int) {
	it := &l.tail[i]
	if it.gone {
		return
	}
	cost := entryCost(len(it.data))
	it.gone, it.data = true, nil
	l.tailBytes -= int(cost)
	l.entries--
	l.bytes -= cost
}

func (l *entryLog) removeAt(s *segment, i int) {
	if s.isGone(i) {
		return
	}
	s.setGone(i)
	cost := s.cost(i)
	s.live--
	s.liveBytes -= cost
	l.entries--
	l.bytes -= cost
}

func (l *entryLog) dropSegment(n int) {
	l.slots.release(l.segs[n])
	copy(l.segs[n:], l.segs[n+1:])
	l.segs[len(l.segs)-1] = nil
	l.segs = l.segs[:len(l.segs)-1]
}

// trim forgets what is gone at the head of the tail.
func (l *entryLog) trim() {
	i := 0
	for i < len(l.tail) && l.tail[i].gone {
		i++
	}
	l.tail = l.tail[i:]
}

func (l *entryLog) tailIndex(seq uint64) int {
	if len(l.tail) == 0 || seq < l.tail[0].seq || seq >= l.nextSeq {
		return -1
	}
	return int(seq - l.tail[0].seq)
}

// find returns the segment and index of an entry in a segment; index -1 if it
// is in none, or gone.
func (l *entryLog) find(seq uint64) (n, i int, err error) {
	n = l.segmentAfter(seq - 1)
	if n == len(l.segs) || l.segs[n].first > seq {
		return n, -1, nil
	}
	s := l.segs[n]
	if err := s.load(); err != nil {
		return n, -1, err
	}
	i = s.find(seq)
	if i >= 0 && s.isGone(i) {
		i = -1
	}
	return n, i, nil
}

// noteAttempt keeps an attempt of an entry that is there.
func (l *entryLog) noteAttempt(seq uint64, a attempt) error {
	if i := l.tailIndex(seq); i >= 0 {
		if !l.tail[i].gone {
			l.attempts[seq] = a
		}
		return nil
	}
	_, i, err := l.find(seq)
	if err == nil && i >= 0 {
		l.attempts[seq] = a
	}
	return err
}

// hasAfter tells whether there is an entry after seq.
func (l *entryLog) hasAfter(seq uint64) (bool, error) {
	for i := len(l.tail) - 1; i >= 0 && l.tail[i].seq > seq; i-- {
		if !l.tail[i].gone {
			return true, nil
		}
	}
	for n := len(l.segs) - 1; n >= 0 && l.segs[n].last > seq; n-- {
		s := l.segs[n]
		if s.first > seq {
			return true, nil
		}
		if err := s.load(); err != nil {
			return false, err
		}
		for i := s.count - 1; i >= s.after(seq); i-- {
			if !s.isGone(i) {
				return true, nil
			}
		}
	}
	return false, nil
}

// oldest returns when the oldest entry was enqueued; zero when there is none.
func (l *entryLog) oldest() (time.Time, error) {
	if len(l.segs) == 0 {
		for i := range l.tail {
			if !l.tail[i].gone {
				return time.Unix(0, l.tail[i].time), nil
			}
		}
		return time.Time{}, nil
	}
	s := l.segs[0]
	i := s.firstLive()
	if i == 0 {
		return time.Unix(0, s.firstTime), nil
	}
	if l.oldestSeg != s || l.oldestAt != i {
		t, err := l.timeOf(s, i)
		if err != nil {
			return time.Time{}, err
		}
		l.oldestSeg, l.oldestAt, l.oldestTime = s, i, t
	}
	return time.Unix(0, l.oldestTime), nil
}

func (l *entryLog) timeOf(s *segment, i int) (int64, error) {
	if err := s.load(); err != nil {
		return 0, err
	}
	f, err := s.open()
	if err != nil {
		return 0, err
	}
	b := make([]byte, s.frameEnd(i)-int64(s.offs[i]))
	if _, err := f.ReadAt(b, int64(s.offs[i])); err != nil {
		return 0, err
	}
	it, err := parseFrame(b)
	if err != nil {
		return 0, s.corrupt(int(s.offs[i]))
	}
	return it.time, nil
}

// unloadIdle frees what was not used since the last call.
func (l *entryLog) unloadIdle() {
	for _, s := range l.segs {
		if !s.touched {
			s.unload()
		}
		s.touched = false
	}
}

func (l *entryLog) closeFiles() {
	for _, s := range l.segs {
		s.closeFile()
	}
}
