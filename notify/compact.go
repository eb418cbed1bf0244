package notify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"herald/store"
)

// entryV2 is an entry with what its record is made of: less than half as much to
// be kept, and to be sent to a server of queues and back, as the record itself.
// A record that is made again is the same.
const (
	entryV2 = 0x02
	entryV3 = 0x03 // with the origin
)

// appendCompact appends an entry of a change for one rule.
func appendCompact(b []byte, f *facts, region, rule string, t *Topic, s shown, created time.Time) []byte {
	version := byte(entryV2)
	if !f.isZero() {
		version = entryV3
	}
	b = append(b, version, 0, 0, 0, 0)
	e := encoder{b}
	e.num(uint64(created.UnixNano()))
	e.delivery(t)
	e.num(uint64(f.typ))
	for _, text := range [...]string{region, rule, t.OpaqueData, f.bucket, f.tenant, f.owner, f.id, f.key, f.principal, f.requestID, f.hostID, s.version, s.obj.ETag} {
		e.str(text)
	}
	for _, n := range [...]uint64{s.seq, uint64(s.when.UnixNano()), uint64(s.obj.Size)} {
		e.num(n)
	}
	meta := metadataOf(s.obj.Attrs)
	e.num(uint64(len(meta)))
	for _, p := range meta {
		e.str(p.key)
		e.str(p.val)
	}
	e.str(s.obj.Attrs[AttrTags])
	if version == entryV3 {
		for _, p := range f.fields() {
			e.str(*p)
		}
	}
	return e.b
}

// mayCompact is whether a record can be made again: its times are those that
// numbers stand for.
func mayCompact(s shown) bool {
	return seqIsTime(s.seq) && s.when.Year() >= 1970 && s.when.Year() < 2200
}

// decodeCompact reads what follows the checksum.
func decodeCompact(version byte, b []byte) (entry, error) {
	d := decoder{b: b, text: string(b)}
	e := entry{created: time.Unix(0, int64(d.num()))}
	d.delivery(&e)
	f := facts{typ: EventType(d.num())}
	var region, rule, opaque string
	var s shown
	var obj store.Info
	for _, text := range [...]*string{&region, &rule, &opaque, &f.bucket, &f.tenant, &f.owner, &f.id, &f.key, &f.principal, &f.requestID, &f.hostID, &s.version, &obj.ETag} {
		*text = d.str()
	}
	s.seq, s.when, obj.Size = d.num(), time.Unix(0, int64(d.num())), int64(d.num())
	if n := d.count(); n > 0 {
		obj.Attrs = make(store.Attrs, n)
		for range n {
			k := d.str()
			obj.Attrs[k] = d.str()
		}
	}
	if tags := d.str(); tags != "" {
		if obj.Attrs == nil {
			obj.Attrs = make(store.Attrs, 1)
		}
		obj.Attrs[AttrTags] = tags
	}
	if version == entryV3 {
		for _, p := range e.fields() {
			*p = d.str()
		}
		d.bad = d.bad || e.isZero()
	}
	s.obj = &obj
	if d.bad || len(d.b) != 0 || !mayCompact(s) {
		return entry{}, fmt.Errorf("%w: entry", errUndecodable)
	}
	e.order = f.orderKey()
	e.record = appendShown(make([]byte, 0, 768+2*len(b)), &f, region, rule, opaque, s)
	return e, nil
}

// decodeCompactHead is decodeCompact without what is needed for the record only.
func decodeCompactHead(version byte, b []byte) (head, error) {
	d := decoder{b: b}
	h := head{created: time.Unix(0, int64(d.num()))}
	arn := d.bytes()
	d.skip(2)     // endpoint, arguments
	for range 4 { // limits, type
		d.num()
	}
	d.skip(3) // region, rule, opaque data
	var f facts
	f.bucket, f.tenant = d.str(), d.str()
	d.skip(2) // owner, bucket's id
	f.key = d.str()
	d.skip(5) // principal, request, host, version, ETag
	s := shown{seq: d.num(), when: time.Unix(0, int64(d.num()))}
	d.num()                 // size
	d.skip(2*d.count() + 1) // metadata, tags
	if version == entryV3 {
		any := false
		for range f.fields() {
			any = len(d.bytes()) > 0 || any
		}
		d.bad = d.bad || !any
	}
	if d.bad || len(d.b) != 0 || len(arn) == 0 || !mayCompact(s) {
		return head{}, fmt.Errorf("%w: entry", errUndecodable)
	}
	h.order = f.orderKey()
	return h, nil
}

// delivery appends what delivery needs of a topic.
func (e *encoder) delivery(t *Topic) {
	e.str(t.ARN)
	e.str(t.Dest.PushEndpoint)
	e.str(t.Dest.Args)
	for _, l := range [...]Limit{t.Dest.TimeToLive, t.Dest.MaxRetries, t.Dest.RetrySleep} {
		e.num(uint64(l))
	}
}

// delivery reads what encoder.delivery wrote.
func (d *decoder) delivery(e *entry) {
	e.arn, e.endpoint, e.args = d.str(), d.str(), d.str()
	e.ttl, e.retries, e.sleep = Limit(d.num()), Limit(d.num()), Limit(d.num())
}

// sealed returns what follows the checksum, and the version; 0 when the
// checksum is another.
func sealed(b []byte) (version byte, rest []byte) {
	if len(b) < entryStart || binary.LittleEndian.Uint32(b[1:]) != crc32.Checksum(b[entryStart:], castagnoli) {
		return 0, nil
	}
	return b[0], b[entryStart:]
}
