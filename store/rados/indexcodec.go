//go:build rados

package rados

import (
	"encoding/binary"
	"time"

	"herald/store"
)

// indexEntry is what a listing shows of a version.
type indexEntry struct {
	// gen is the number of the head's state that the entry repeats; 0 in
	// entries of noncurrent versions. No two states of a key's head have the
	// same one, and it grows.
	gen  uint64
	info store.Info
}

// state returns the number of an entry's state; 0: there is none.
func (e *indexEntry) state() uint64 {
	if e == nil {
		return 0
	}
	return e.gen
}

// encode gives the value under which the entry is kept. It begins with gen,
// which is all that is compared.
func (e *indexEntry) encode() []byte {
	i := &e.info
	w := encoder{binary.BigEndian.AppendUint64(nil, e.gen)}
	w.byte(codecVersion)
	w.byte(map[bool]byte{true: flagMarker}[i.DeleteMarker])
	w.uint(i.Seq)
	w.uint(uint64(i.Size))
	w.int(i.ModTime.Unix())
	w.uint(uint64(i.ModTime.Nanosecond()))
	w.string(i.VersionID)
	w.string(i.ETag)
	for n, name := range store.ListAttrs {
		if v, ok := i.Attrs[name]; ok {
			w.byte(byte(n))
			w.string(v)
		}
	}
	return w.b
}

// decodeIndexEntry is the inverse of encode, for an entry of key.
func decodeIndexEntry(key string, b []byte) (*indexEntry, error) {
	e := &indexEntry{}
	if err := e.decode(key, b); err != nil {
		return nil, err
	}
	return e, nil
}

// decode is decodeIndexEntry into an entry that is there.
func (e *indexEntry) decode(key string, b []byte) error {
	d := decoder{b: b}
	var gen [8]byte
	d.raw(gen[:])
	if d.byte() != codecVersion {
		return errCorrupt
	}
	*e = indexEntry{gen: binary.BigEndian.Uint64(gen[:]), info: store.Info{Key: key}}
	e.info.DeleteMarker = d.byte()&flagMarker != 0
	e.info.Seq = d.uint()
	e.info.Size = d.size()
	sec := d.int()
	e.info.ModTime = time.Unix(sec, int64(d.uint()%1e9))
	e.info.VersionID = d.string()
	e.info.ETag = d.string()
	for d.err == nil && len(d.b) > 0 {
		n := int(d.byte())
		v := d.string()
		if n >= len(store.ListAttrs) {
			return errCorrupt
		}
		if e.info.Attrs == nil {
			e.info.Attrs = store.Attrs{}
		}
		e.info.Attrs[store.ListAttrs[n]] = v
	}
	return d.end()
}

// markValue is what a mark holds: whether its change has to ask the head when
// it ends, since somebody took the key's entries from there; when it was made
// or renewed; by which gateway.
func markValue(ask bool, at time.Time, gateway string) []byte {
	b := []byte{0}
	if ask {
		b[0] = 1
	}
	return append(binary.BigEndian.AppendUint64(b, uint64(at.UnixNano())), gateway...)
}

// asks tells whether a mark's change has to ask the head when it ends.
func asks(mark []byte) bool { return len(mark) > 0 && mark[0] != 0 }

// asking is a mark's value with that said.
func asking(mark []byte) []byte {
	if len(mark) == 0 {
		return []byte{1}
	}
	return append([]byte{1}, mark[1:]...)
}

// sums are what a shard, or one gateway's changes of it, holds: each of them
// may be negative for one gateway.
type sums struct {
	Entries int64 // of versions and delete markers
	Objects int64 // versions
	Bytes   int64 // of versions
}

func (s *sums) add(o sums) {
	s.Entries += o.Entries
	s.Objects += o.Objects
	s.Bytes += o.Bytes
}

// sumsOf is what one version adds; sign -1: takes away.
func sumsOf(info *store.Info, sign int64) sums {
	if info.DeleteMarker {
		return sums{Entries: sign}
	}
	return sums{Entries: sign, Objects: sign, Bytes: sign * info.Size}
}

func (s sums) encode() []byte {
	var e encoder
	e.int(s.Entries)
	e.int(s.Objects)
	e.int(s.Bytes)
	return e.b
}

// decodeSums is the inverse of encode; nothing is zero.
func decodeSums(b []byte) (s sums, err error) {
	if len(b) == 0 {
		return sums{}, nil
	}
	d := decoder{b: b}
	s = sums{Entries: d.int(), Objects: d.int(), Bytes: d.int()}
	return s, d.end()
}
