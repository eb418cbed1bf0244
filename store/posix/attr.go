package posix

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"herald/store"
)

const (
	attrName    = "user.herald"
	attrVersion = 1
	maxInline   = 3500 // bytes of an encoded attr in the inode; ext4 takes about 4,000
)

// Flags of an encoded attr.
const (
	attrMarker  = 1 << iota // delete marker
	attrSide                // the rest is in the side file
	attrNull                // the null version; no id follows
	attrMD5                 // the ETag is 32 hex digits, kept as 16 bytes
	attrModTime             // ModTime differs from the tag, and follows
)

// attr is what is known of one version; see the package comment.
type attr struct {
	versionID string // store.NullVersion or 32 hex digits
	marker    bool
	size      int64
	tag       int64 // mtime of the file, nanoseconds since 1970; names the side file
	modTime   int64 // what clients see, nanoseconds since 1970
	seq       uint64
	op        store.OpID // zero: none
	etag      string
	attrs     store.Attrs
}

// encode appends the whole of a.
func (a *attr) encode(b []byte) []byte {
	b = a.encodeHead(b, 0)
	e := encoder{b}
	e.uint(uint64(len(a.attrs)))
	for _, k := range slices.Sorted(maps.Keys(a.attrs)) {
		e.string(k)
		e.string(a.attrs[k])
	}
	return e.b
}

// encodeHead appends all but the attributes.
func (a *attr) encodeHead(b []byte, flags byte) []byte {
	e := encoder{b}
	var md5 [16]byte
	if isHex(a.etag, 16) {
		flags |= attrMD5
	}
	if a.marker {
		flags |= attrMarker
	}
	if a.versionID == store.NullVersion {
		flags |= attrNull
	}
	if a.modTime != a.tag {
		flags |= attrModTime
	}
	e.byte(attrVersion)
	e.byte(flags)
	e.uint(uint64(a.size))
	e.int(a.tag)
	e.uint(a.seq)
	if flags&attrNull == 0 {
		e.string(a.versionID)
	}
	if flags&attrModTime != 0 {
		e.int(a.modTime)
	}
	e.raw(a.op[:])
	if flags&attrMD5 != 0 {
		_, _ = hex.Decode(md5[:], []byte(a.etag)) // isHex said so
		e.raw(md5[:])
	} else {
		e.string(a.etag)
	}
	return e.b
}

// decodeAttr reads an encoded attr. side tells that its attributes are in the
// side file. b may be reused afterwards.
func decodeAttr(b []byte) (a *attr, side bool, err error) {
	d := decoder{b: bytes.Clone(b), alias: true} // one allocation for all strings
	if d.byte() != attrVersion {
		return nil, false, errCorrupt
	}
	flags := d.byte()
	a = &attr{versionID: store.NullVersion, marker: flags&attrMarker != 0}
	a.size = int64(d.uint())
	a.tag = d.int()
	a.modTime = a.tag
	a.seq = d.uint()
	if flags&attrNull == 0 {
		a.versionID = d.string()
	}
	if flags&attrModTime != 0 {
		a.modTime = d.int()
	}
	copy(a.op[:], d.raw(len(a.op)))
	if flags&attrMD5 != 0 {
		a.etag = hex.EncodeToString(d.raw(16))
	} else {
		a.etag = d.string()
	}
	if d.err != nil {
		return nil, false, d.err
	}
	if flags&attrSide != 0 {
		return a, true, d.end()
	}
	if a.attrs, err = decodeAttrs(&d); err != nil {
		return nil, false, err
	}
	return a, false, d.end()
}

func decodeAttrs(d *decoder) (store.Attrs, error) {
	n := d.uint()
	if n > uint64(len(d.b)) { // each takes two bytes at least
		return nil, errCorrupt
	}
	attrs := make(store.Attrs, n)
	for range n {
		k := d.string()
		attrs[k] = d.string()
	}
	return attrs, d.err
}

// info is a as the contract shows it. The Attrs are shared.
func (a *attr) info(key string, latest bool) *store.Info {
	return &store.Info{
		Key:          key,
		VersionID:    a.versionID,
		IsLatest:     latest,
		DeleteMarker: a.marker,
		Size:         a.size,
		ETag:         a.etag,
		ModTime:      time.Unix(0, a.modTime).UTC(),
		Seq:          a.seq,
		Attrs:        a.attrs,
	}
}

// isHex tells whether s is n bytes in lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	if len(s) != 2*n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
