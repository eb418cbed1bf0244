package embedded

import (
	"fmt"
	"os"
	"sort"
	"time"

	"herald/queue"
)

// listBytes is about how many bytes one List returns.
const listBytes = 4 << 20

// ref is an entry that List will return: in memory, or a frame in a file.
type ref struct {
	seq      uint64
	time     int64
	data     []byte // of the tail
	seg      *segment
	f        *os.File
	closes   int // of seg, when f was open
	off, end int64
	attempt  attempt
}

// segmentAfter returns the number of the first segment with entries after seq.
func (l *entryLog) segmentAfter(seq uint64) int {
	return sort.Search(len(l.segs), func(i int) bool { return l.segs[i].last > seq })
}

// plan collects the entries after seq that List returns.
func (l *entryLog) plan(seq uint64, max int) (refs []ref, more bool, err error) {
	size := int64(0)
	full := func(n int64) bool {
		if len(refs) == max || size+n > listBytes && len(refs) > 0 {
			return true
		}
		size += n
		return false
	}
	for n := l.segmentAfter(seq); n < len(l.segs); n++ {
		s := l.segs[n]
		if err := s.load(); err != nil {
			return nil, false, err
		}
		f, err := s.open()
		if err != nil {
			return nil, false, err
		}
		for i := s.after(seq); i < s.count; i++ {
			if s.isGone(i) {
				continue
			}
			off, end := int64(s.offs[i]), s.frameEnd(i)
			if full(end - off) {
				return refs, true, nil
			}
			at := s.first + uint64(s.seqs[i])
			refs = append(refs, ref{seq: at, seg: s, f: f, closes: s.closes, off: off, end: end, attempt: l.attempts[at]})
		}
	}
	for i := l.tailAfter(seq); i < len(l.tail); i++ {
		it := &l.tail[i]
		if it.gone {
			continue
		}
		if full(int64(len(it.data))) {
			return refs, true, nil
		}
		refs = append(refs, ref{seq: it.seq, time: it.time, data: it.data, attempt: l.attempts[it.seq]})
	}
	return refs, false, nil
}

func (l *entryLog) tailAfter(seq uint64) int {
	if len(l.tail) == 0 || seq < l.tail[0].seq {
		return 0
	}
	return int(min(seq-l.tail[0].seq+1, uint64(len(l.tail))))
}

// stale tells whether a file of refs was closed since they were planned.
func stale(refs []ref) bool {
	for i := range refs {
		if r := &refs[i]; r.seg != nil && r.seg.closes != r.closes {
			return true
		}
	}
	return false
}

// read turns refs into entries. It needs no mutex: when a file is closed
// meanwhile, and perhaps written over, there is an error or a wrong checksum or
// number, and the refs are stale.
func read(refs []ref) ([]queue.Entry, error) {
	entries := make([]queue.Entry, 0, len(refs))
	for i := 0; i < len(refs); {
		if refs[i].seg == nil {
			entries = append(entries, refs[i].entry(refs[i].time, refs[i].data))
			i++
			continue
		}
		n := run(refs[i:])
		base := refs[i].off
		b := make([]byte, refs[i+n-1].end-base)
		if _, err := refs[i].f.ReadAt(b, base); err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		for _, r := range refs[i : i+n] {
			it, err := parseFrame(b[r.off-base : r.end-base])
			if err != nil || it.seq != r.seq {
				return nil, r.seg.corrupt(int(r.off))
			}
			entries = append(entries, r.entry(it.time, it.data))
		}
		i += n
	}
	return entries, nil
}

// run returns how many refs, from the first, are worth one read.
func run(refs []ref) int {
	const gap = 64 << 10
	n := 1
	for n < len(refs) && refs[n].f == refs[0].f && refs[n].off-refs[n-1].end <= gap {
		n++
	}
	return n
}

func (r *ref) entry(t int64, data []byte) queue.Entry {
	return queue.Entry{
		Marker:   markerOf(r.seq),
		Data:     data,
		Enqueued: time.Unix(0, t),
		Attempts: r.attempt.n,
		LastTry:  timeOrZero(r.attempt.last),
	}
}

func timeOrZero(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
