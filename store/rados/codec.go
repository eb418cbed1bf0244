//go:build rados

package rados

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"herald/store"
)

// codecVersion begins every encoding of a head's state and of a version.
const codecVersion = 1

// version is one version of a key, or a delete marker, without attributes.
type version struct {
	id      string // store.NullVersion or 32 hexadecimal digits
	marker  bool
	size    int64
	etag    string
	modTime int64 // nanoseconds since 1970
	seq     uint64
	// segments are where the bytes are, in their order; none: in the head
	// (only the null version's), or there are no bytes.
	segments []segment
	stored   int64 // bytes in the head, where they are compressed there; 0: they are not
}

// segment is a run of bytes: all that is in tails of one TAG.
type segment struct {
	tag  store.OpID
	size int64 // bytes, more than 0
	// bid is the bucket in which the tails were written; "": that of who names
	// them. Only those of a reference may be in another.
	bid string
	// ref is the change that holds a reference to the tails; zero: they belong
	// to who names them. See refs.go.
	ref    store.OpID
	stored int64 // bytes in the tails, where some are compressed; 0: none is
}

// in returns the bucket whose tails they are, if bid names them.
func (s *segment) in(bid string) string { return cmp.Or(s.bid, bid) }

// inline tells whether the version's bytes are in the head.
func (v *version) inline() bool { return v.size > 0 && len(v.segments) == 0 }

// info is v as the contract shows it.
func (v *version) info(key string, latest bool, attrs store.Attrs) *store.Info {
	return &store.Info{
		Key: key, VersionID: v.id, IsLatest: latest, DeleteMarker: v.marker, Size: v.size, ETag: v.etag,
		ModTime: time.Unix(0, v.modTime).UTC(), Seq: v.seq, Attrs: attrs,
	}
}

// Flags of an encoded version.
const (
	flagMarker = 1 << iota
	flagNull   // the null version; no id follows
	flagMD5    // the ETag is 32 hexadecimal digits, kept as 16 bytes
	flagLong   // each segment is followed by its flags, and what they tell of
	flagPacked // the bytes in the head are compressed; how many they are follows
)

func (v *version) encode(e *encoder) {
	var flags byte
	if v.marker {
		flags |= flagMarker
	}
	if v.id == store.NullVersion {
		flags |= flagNull
	}
	if isHex(v.etag, 16) {
		flags |= flagMD5
	}
	if slices.ContainsFunc(v.segments, func(s segment) bool { return s.flags() != 0 }) {
		flags |= flagLong
	}
	if v.stored > 0 {
		flags |= flagPacked
	}
	e.byte(flags)
	if flags&flagNull == 0 {
		e.string(v.id)
	}
	e.uint(uint64(v.size))
	e.int(v.modTime)
	e.uint(v.seq)
	if flags&flagMD5 != 0 {
		e.b, _ = hex.AppendDecode(e.b, []byte(v.etag)) // isHex said so
	} else {
		e.string(v.etag)
	}
	if flags&flagPacked != 0 {
		e.uint(uint64(v.stored))
	}
	e.uint(uint64(len(v.segments)))
	for i := range v.segments {
		v.segments[i].encode(e, flags&flagLong != 0)
	}
}

// Flags of an encoded segment.
const (
	segmentBucket = 1 << iota
	segmentRef
	segmentStored
	segmentFlags // all flags are below
)

func (s *segment) flags() (flags byte) {
	if s.bid != "" {
		flags |= segmentBucket
	}
	if !s.ref.IsZero() {
		flags |= segmentRef
	}
	if s.stored > 0 {
		flags |= segmentStored
	}
	return flags
}

func (s *segment) encode(e *encoder, long bool) {
	e.raw(s.tag[:])
	e.uint(uint64(s.size))
	if !long {
		return
	}
	flags := s.flags()
	e.byte(flags)
	if flags&segmentBucket != 0 {
		e.bid(s.bid)
	}
	if flags&segmentRef != 0 {
		e.raw(s.ref[:])
	}
	if flags&segmentStored != 0 {
		e.uint(uint64(s.stored))
	}
}

func decodeSegment(d *decoder, long bool) (s segment) {
	d.raw(s.tag[:])
	s.size = d.size()
	if !long {
		return s
	}
	flags := d.byte()
	if flags >= segmentFlags {
		d.fail()
	}
	if flags&segmentBucket != 0 {
		s.bid = d.bid()
	}
	if flags&segmentRef != 0 {
		d.raw(s.ref[:])
	}
	if flags&segmentStored != 0 {
		s.stored = d.size()
	}
	return s
}

func decodeVersion(d *decoder) *version {
	flags := d.byte()
	v := &version{id: store.NullVersion, marker: flags&flagMarker != 0}
	if flags&flagNull == 0 {
		v.id = d.string()
	}
	v.size, v.modTime, v.seq = d.size(), d.int(), d.uint()
	if flags&flagMD5 != 0 {
		var sum [16]byte
		d.raw(sum[:])
		v.etag = hex.EncodeToString(sum[:])
	} else {
		v.etag = d.string()
	}
	if flags&flagPacked != 0 {
		v.stored = d.size()
	}
	for range d.count() {
		v.segments = append(v.segments, decodeSegment(d, flags&flagLong != 0))
	}
	return v
}

// encodeNoncurrent is the value of v/VERSION.
func encodeNoncurrent(v *version, attrs []byte) []byte {
	e := encoder{make([]byte, 0, 128+len(attrs))}
	e.byte(codecVersion)
	v.encode(&e)
	e.raw(attrs)
	return e.b
}

// decodeNoncurrent reads a value of v/VERSION. The attributes remain encoded.
func decodeNoncurrent(b []byte) (v *version, attrs []byte, err error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return nil, nil, errCorrupt
	}
	v = decodeVersion(&d)
	return v, d.b, d.err
}

func encodeAttrs(attrs store.Attrs) []byte {
	if len(attrs) == 0 {
		return nil
	}
	e := encoder{make([]byte, 0, 256)}
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		e.string(k)
		e.string(attrs[k])
	}
	return e.b
}

func decodeAttrs(b []byte) (store.Attrs, error) {
	attrs := store.Attrs{}
	d := decoder{b: b}
	for d.err == nil && len(d.b) > 0 {
		k := d.string()
		attrs[k] = d.string()
	}
	return attrs, d.err
}

// outcome is what an op became.
type outcome struct {
	changed     bool
	seq         uint64
	info, prior *version
	latest      bool       // of info
	after       store.OpID // the op before this one, if it was not forgotten
	attrs       []byte     // of info; of prior when info is a delete marker
}

func (o *outcome) encode(e *encoder) {
	var flags byte
	for i, set := range []bool{o.changed, o.info != nil, o.prior != nil, o.latest, !o.after.IsZero(), len(o.attrs) > 0} {
		if set {
			flags |= 1 << i
		}
	}
	e.byte(flags)
	e.uint(o.seq)
	for _, v := range []*version{o.info, o.prior} {
		if v != nil {
			short := *v
			short.segments, short.stored = nil, 0
			short.encode(e)
		}
	}
	if !o.after.IsZero() {
		e.raw(o.after[:])
	}
	if len(o.attrs) > 0 {
		e.uint(uint64(len(o.attrs)))
		e.raw(o.attrs)
	}
}

func decodeOutcome(d *decoder) *outcome {
	flags := d.byte()
	o := &outcome{changed: flags&1 != 0, latest: flags&8 != 0, seq: d.uint()}
	if flags&2 != 0 {
		o.info = decodeVersion(d)
	}
	if flags&4 != 0 {
		o.prior = decodeVersion(d)
	}
	if flags&16 != 0 {
		d.raw(o.after[:])
	}
	if flags&32 != 0 {
		if attrs := d.string(); attrs != "" {
			o.attrs = []byte(attrs)
		}
	}
	return o
}

// public is o as the contract shows it.
func (o *outcome) public(key string) store.Outcome {
	out := store.Outcome{Changed: o.changed, Seq: o.seq, After: o.after}
	var attrs store.Attrs
	if len(o.attrs) > 0 {
		attrs, _ = decodeAttrs(o.attrs) // encoded by us
	}
	if o.info != nil {
		out.Info = o.info.info(key, o.latest, nil)
		if !o.info.marker {
			out.Info.Attrs = attrs
		}
	}
	if o.prior != nil {
		out.Prior = o.prior.info(key, true, nil)
		if o.info != nil && (o.info.marker || o.info.seq == o.prior.seq) {
			out.Prior.Attrs = attrs
		}
	}
	return out
}

// encodeOutcome is the value of o/OPID.
func encodeOutcome(o *outcome) []byte {
	e := encoder{make([]byte, 0, 128)}
	e.byte(codecVersion)
	o.encode(&e)
	return e.b
}

func parseOutcome(b []byte) (*outcome, error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return nil, errCorrupt
	}
	o := decodeOutcome(&d)
	return o, d.end()
}

// changeID names a change of a head: the random end of its TAG.
type changeID [8]byte

func changeOf(tag store.OpID) (c changeID) {
	copy(c[:], tag[8:])
	return c
}

// maxRecent is how many changes a head names.
const maxRecent = 8

// state is the truth about a key: the xattr "head" of its head.
type state struct {
	key     string
	seq     uint64   // newest number of the key: all changes
	gen     uint64   // newest number of what a listing shows of the key
	current *version // nil: none
	nullSeq uint64   // of the noncurrent null version; 0: there is none
	others  uint64   // noncurrent versions
	data    bool     // the object has data: those of the null version
	recent  []changeID
	op      store.OpID // whose outcome is the newest; zero: none
	outcome *outcome   // of op
}

// alive tells whether the key has any version.
func (s *state) alive() bool { return s.current != nil }

// Flags of an encoded state.
const (
	stateCurrent = 1 << iota
	stateData
	stateOp
)

func (s *state) encode() []byte {
	e := encoder{make([]byte, 0, 192+len(s.key))}
	var flags byte
	if s.current != nil {
		flags |= stateCurrent
	}
	if s.data {
		flags |= stateData
	}
	if !s.op.IsZero() {
		flags |= stateOp
	}
	e.byte(codecVersion)
	e.byte(flags)
	e.string(s.key)
	for _, n := range []uint64{s.seq, s.gen, s.nullSeq, s.others} {
		e.uint(n)
	}
	e.byte(byte(len(s.recent)))
	for _, c := range s.recent {
		e.raw(c[:])
	}
	if s.current != nil {
		s.current.encode(&e)
	}
	if flags&stateOp != 0 {
		e.raw(s.op[:])
		s.outcome.encode(&e)
	}
	return e.b
}

func decodeState(b []byte) (*state, error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return nil, errCorrupt
	}
	flags := d.byte()
	s := &state{key: d.string(), data: flags&stateData != 0}
	for _, n := range []*uint64{&s.seq, &s.gen, &s.nullSeq, &s.others} {
		*n = d.uint()
	}
	for range d.byte() {
		var c changeID
		if d.raw(c[:]); d.err != nil {
			return nil, d.err
		}
		s.recent = append(s.recent, c)
	}
	if flags&stateCurrent != 0 {
		s.current = decodeVersion(&d)
	}
	if flags&stateOp != 0 {
		d.raw(s.op[:])
		s.outcome = decodeOutcome(&d)
	}
	return s, d.end()
}

// newVersionID returns an id that sorts newest first: the complement of the
// number, then the end of the TAG.
func newVersionID(seq uint64, tag store.OpID) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], ^seq)
	copy(id[8:], tag[8:])
	return hex.EncodeToString(id[:])
}

// validVersionID tells whether a version can have the id.
func validVersionID(id string) bool { return id == store.NullVersion || isHex(id, 16) }

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
