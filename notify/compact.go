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
const entryV2 = 0x02

// appendCompact appends an entry of a change for one rule.
func appendCompact(b []byte, f *facts, region, rule string, t *Topic, s shown, created time.Time) []byte {
	b = append(b, entryV2, 0, 0, 0, 0)
	e := encoder{appendDelivery(b, t, created)}
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
	return e.b
}

// mayCompact is whether a record can be made again: its times are those that
// numbers stand for.
func mayCompact(s shown) bool {
	return seqIsTime(s.seq) && s.when.Year() >= 1970 && s.when.Year() < 2200
}

// decodeCompact reads what follows the checksum.
func decodeCompact(b []byte) (entry, error) {
	d := decoder{b: b}
	e := decodeDelivery(&d)
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
	s.obj = &obj
	if d.bad || len(d.b) != 0 || !mayCompact(s) {
		return entry{}, fmt.Errorf("%w: entry", errUndecodable)
	}
	e.order = f.orderKey()
	e.record = appendShown(make([]byte, 0, 768+2*len(b)), &f, region, rule, opaque, s)
	return e, nil
}

// appendDelivery appends what delivery needs of an entry beside its record, but
// for the order.
func appendDelivery(b []byte, t *Topic, created time.Time) []byte {
	e := encoder{b}
	e.num(uint64(created.UnixNano()))
	e.str(t.ARN)
	e.str(t.Dest.PushEndpoint)
	e.str(t.Dest.Args)
	e.num(uint64(t.Dest.TimeToLive))
	e.num(uint64(t.Dest.MaxRetries))
	e.num(uint64(t.Dest.RetrySleep))
	return e.b
}

func decodeDelivery(d *decoder) entry {
	return entry{
		created:  time.Unix(0, int64(d.num())),
		arn:      d.str(),
		endpoint: d.str(),
		args:     d.str(),
		ttl:      Limit(d.num()),
		retries:  Limit(d.num()),
		sleep:    Limit(d.num()),
	}
}

// sealed returns what follows the checksum, and the version; 0 when the
// checksum is another.
func sealed(b []byte) (version byte, rest []byte) {
	if len(b) < entryStart || binary.LittleEndian.Uint32(b[1:]) != crc32.Checksum(b[entryStart:], castagnoli) {
		return 0, nil
	}
	return b[0], b[entryStart:]
}
