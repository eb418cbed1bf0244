package posix

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"herald/store"
)

// indexEntry is what the index knows of one version.
type indexEntry struct {
	seq       uint64
	size      int64
	modTime   int64 // nanoseconds since 1970
	versionID string
	etag      string
	marker    bool
	area      area
	attrs     [len(store.ListAttrs)]string
}

// Flags of an encoded entry.
const (
	entryMarker    = 1 << iota // delete marker
	entryModTime               // modTime is not seq, and follows
	entryMD5                   // the ETag is 16 bytes
	entryNull                  // the version id is "null"
	entryHexID                 // the version id is 16 bytes
	entryAttrs                 // attributes follow
	entryAreaShift = iota      // two bits: area
)

// encodeEntry gives the value of an entry.
func encodeEntry(info *store.Info, a area) []byte {
	flags := byte(a) << entryAreaShift
	if info.DeleteMarker {
		flags |= entryMarker
	}
	modTime := info.ModTime.UnixNano()
	if modTime != int64(info.Seq) {
		flags |= entryModTime
	}
	if isHex(info.ETag, 16) {
		flags |= entryMD5
	}
	switch {
	case info.VersionID == store.NullVersion:
		flags |= entryNull
	case isHex(info.VersionID, 16):
		flags |= entryHexID
	}
	mask := byte(0)
	for i, name := range store.ListAttrs {
		if info.Attrs[name] != "" {
			mask |= 1 << i
			flags |= entryAttrs
		}
	}
	e := encoder{make([]byte, 0, 96)}
	e.byte(flags)
	e.b = binary.BigEndian.AppendUint64(e.b, info.Seq)
	e.uint(uint64(info.Size))
	if flags&entryModTime != 0 {
		e.int(modTime)
	}
	encodeID(&e, info.ETag, flags&entryMD5 != 0)
	if flags&entryNull == 0 {
		encodeID(&e, info.VersionID, flags&entryHexID != 0)
	}
	if mask != 0 {
		e.byte(mask)
	}
	for i, name := range store.ListAttrs {
		if mask&(1<<i) != 0 {
			e.string(info.Attrs[name])
		}
	}
	return e.b
}

// sameButArea tells whether two encoded entries differ in nothing else.
func sameButArea(a, b []byte) bool {
	const rest = 1<<entryAreaShift - 1
	return len(a) > 0 && len(b) > 0 && a[0]&rest == b[0]&rest && string(a[1:]) == string(b[1:])
}

func encodeID(e *encoder, s string, isHex bool) {
	if !isHex {
		e.string(s)
		return
	}
	var raw [16]byte
	_, _ = hex.Decode(raw[:], []byte(s)) // the caller knows that it is
	e.raw(raw[:])
}

func decodeID(d *decoder, isHex bool) string {
	if isHex {
		return hex.EncodeToString(d.raw(16))
	}
	return d.string()
}

// decodeEntry is the inverse of encodeEntry; b may be reused afterwards.
func decodeEntry(b []byte) (*indexEntry, error) {
	d := decoder{b: bytes.Clone(b), alias: true} // one allocation for all strings
	flags := d.byte()
	e := &indexEntry{marker: flags&entryMarker != 0, area: area(flags >> entryAreaShift)}
	e.seq = binary.BigEndian.Uint64(d.raw(8))
	e.size = int64(d.uint())
	e.modTime = int64(e.seq)
	if flags&entryModTime != 0 {
		e.modTime = d.int()
	}
	e.etag = decodeID(&d, flags&entryMD5 != 0)
	if flags&entryNull != 0 {
		e.versionID = store.NullVersion
	} else {
		e.versionID = decodeID(&d, flags&entryHexID != 0)
	}
	if flags&entryAttrs != 0 {
		mask := d.byte()
		for i := range e.attrs {
			if mask&(1<<i) != 0 {
				e.attrs[i] = d.string()
			}
		}
	}
	return e, d.end()
}

// describeEntry says what an encoded entry tells; nil: nothing.
func describeEntry(b []byte) string {
	if b == nil {
		return "nothing"
	}
	e, err := decodeEntry(b)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("version %s of seq %d, %d bytes, ETag %s, area %d, %q", e.versionID, e.seq, e.size, e.etag, e.area, e.attrs)
}

// info is what a listing shows of e.
func (e *indexEntry) info(key string, latest bool) store.Info {
	var attrs store.Attrs
	for i, v := range e.attrs {
		if v == "" {
			continue
		}
		if attrs == nil {
			attrs = make(store.Attrs, len(e.attrs))
		}
		attrs[store.ListAttrs[i]] = v
	}
	return store.Info{
		Key:          key,
		VersionID:    e.versionID,
		IsLatest:     latest,
		DeleteMarker: e.marker,
		Size:         e.size,
		ETag:         e.etag,
		ModTime:      time.Unix(0, e.modTime).UTC(),
		Seq:          e.seq,
		Attrs:        attrs,
	}
}

// bucketKey is a key of the index in the spaces that keep the rest as it is.
func bucketKey(space byte, bucket uint32, rest string) []byte {
	b := make([]byte, 0, 5+len(rest))
	b = append(b, space)
	b = binary.BigEndian.AppendUint32(b, bucket)
	return append(b, rest...)
}

// versionKey is the key in the space of versions: the object's key, escaped
// so that the order of keys stays and none is the beginning of another, then
// the seq, newest first.
func versionKey(bucket uint32, key string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(versionPrefix(bucket, key), ^seq)
}

// The escape: a zero byte becomes 00 FF, and 00 00 ends the key.
func versionPrefix(bucket uint32, key string) []byte {
	return append(versionBound(bucket, key), 0, 0)
}

// versionBound is the first place in the space of versions for keys that begin
// with prefix.
func versionBound(bucket uint32, prefix string) []byte {
	b := make([]byte, 0, 5+len(prefix)+16)
	b = append(b, spaceVersions)
	b = binary.BigEndian.AppendUint32(b, bucket)
	for i := range len(prefix) {
		if b = append(b, prefix[i]); prefix[i] == 0 {
			b = append(b, 0xFF)
		}
	}
	return b
}

// versionsOfKey are the bounds of one key's versions.
func versionsOfKey(bucket uint32, key string) (lower, upper []byte) {
	lower = versionPrefix(bucket, key)
	upper = append([]byte(nil), lower...)
	upper[len(upper)-1] = 1
	return lower, upper
}

// splitVersionKey is the inverse of versionKey, without space and bucket. key
// is appended to buf.
func splitVersionKey(b, buf []byte) (key []byte, seq uint64, ok bool) {
	for i := 5; i+1 < len(b); i++ {
		if b[i] != 0 {
			buf = append(buf, b[i])
			continue
		}
		i++
		switch {
		case b[i] == 0xFF:
			buf = append(buf, 0)
		case b[i] == 0 && len(b) == i+9:
			return buf, ^binary.BigEndian.Uint64(b[i+1:]), true
		default:
			return buf, 0, false
		}
	}
	return buf, 0, false
}
