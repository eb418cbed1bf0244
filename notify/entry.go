package notify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"herald/store"
)

// Versions of the encodings; the first byte of each. They are never used for
// anything else again.
const (
	entryV1  = 0x01
	entryV4  = 0x04 // entryV1 with the origin
	intentV1 = 0x41
	intentV2 = 0x42 // with the store's identity
	intentV3 = 0x43 // with the maker
	intentV4 = 0x44 // with the origin; the maker may be empty
)

// IntentNone is the intent of a reservation that stands for no op (dead letters,
// redrive, a move to another queue): if it is found, its work was not finished,
// and is done anew.
const IntentNone = "\x40"

// AdoptIntent returns an intent as one of the store with that identity, if it
// names none: it was in a queue that was never shared, and goes into one that
// is. Others it returns as they are.
func AdoptIntent(intent []byte, storeID string) []byte {
	in, err := decodeIntent(intent)
	if err != nil || in.op.IsZero() || in.store != "" {
		return intent
	}
	in.store = storeID
	return in.encode()
}

// entry is what waits in a queue: the record, and what delivery needs without
// decoding it.
type entry struct {
	created time.Time // its age counts from here
	order   string    // bucket and key: facts.orderKey
	arn     string    // of the topic
	// The topic's delivery as of then; the topic itself is read anew before
	// each attempt, these are used for nothing but to be seen in a dump.
	endpoint, args      string
	ttl, retries, sleep Limit
	record              []byte
	origin
}

// event is the entry as pushers get it.
func (e *entry) event() Event {
	name, key, _ := strings.Cut(e.order, "/")
	_, bucket := store.SplitStoreName(name)
	return Event{
		Record: e.record, Bare: isBare(e.record), Key: e.order, ID: idOf(e), Bucket: bucket, Object: key,
		TraceParent: e.traceParent, TraceState: e.traceState,
	}
}

// idOf is an event's ID: made of topic and record, it needs no place in queues,
// and survives a move or a rebuild of the entry.
func idOf(e *entry) string {
	var room [1024]byte
	b := append(append(append(room[:0], e.arn...), 0), e.record...)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// encoder appends length-prefixed fields.
type encoder struct{ b []byte }

func (e *encoder) str(s string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) num(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) flag(v bool) {
	n := uint64(0)
	if v {
		n = 1
	}
	e.num(n)
}

// decoder reads what encoder wrote; after the first error everything is zero.
type decoder struct {
	b    []byte
	text string // ends with what b has: strings are made of it, or each anew if it is empty
	bad  bool
}

func (d *decoder) num() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.num()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) str() string {
	p := d.bytes()
	if d.text == "" {
		return string(p)
	}
	end := len(d.text) - len(d.b)
	return d.text[end-len(p) : end]
}

// skip passes over n strings.
func (d *decoder) skip(n int) {
	for range n {
		d.bytes()
	}
}

// entryStart is the version and the checksum of all that follows.
const entryStart = 1 + 4

// appendEntryHead appends all of an entry but its record, which follows as the
// rest of the bytes; sealEntry then ends it.
func appendEntryHead(b []byte, order string, t *Topic, created time.Time, o *origin) []byte {
	version := byte(entryV1)
	if !o.isZero() {
		version = entryV4
	}
	e := encoder{append(b, version, 0, 0, 0, 0)}
	e.num(uint64(created.UnixNano()))
	e.str(order)
	e.delivery(t)
	if version == entryV4 {
		for _, p := range o.fields() {
			e.str(*p)
		}
	}
	return e.b
}

// sealEntry puts the checksum in its place.
func sealEntry(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[entryStart:], castagnoli))
	return b
}

// castagnoli is never written.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decodeEntry reads an entry of any format; its record may share memory with b.
func decodeEntry(b []byte) (entry, error) {
	e, err := decodeOwnEntry(b)
	if err == nil {
		return e, nil
	}
	return decodeRGWEntry(b)
}

// head is what is needed of an entry while it waits.
type head struct {
	created time.Time
	order   string
}

// decodeHead reads an entry of any format without making its record, which takes
// several times as much memory. It takes what decodeEntry takes, if it names a
// topic.
func decodeHead(b []byte) (head, error) {
	if version, rest := sealed(b); version == entryV2 || version == entryV3 {
		if h, err := decodeCompactHead(version, rest); err == nil {
			return h, nil
		}
	}
	e, err := decodeEntry(b)
	if err == nil && e.arn == "" {
		err = fmt.Errorf("%w: entry", errUndecodable)
	}
	return head{e.created, e.order}, err
}

// decodeOwnEntry reads what sealEntry ended.
func decodeOwnEntry(b []byte) (entry, error) {
	version, rest := sealed(b)
	switch version {
	case entryV2, entryV3:
		return decodeCompact(version, rest)
	case entryV1, entryV4:
	default:
		return entry{}, fmt.Errorf("%w: entry", errUndecodable)
	}
	d := decoder{b: rest}
	e := entry{created: time.Unix(0, int64(d.num())), order: d.str()}
	d.delivery(&e)
	if version == entryV4 {
		for _, p := range e.fields() {
			*p = d.str()
		}
		d.bad = d.bad || e.isZero()
	}
	e.record = d.b
	if d.bad {
		return entry{}, fmt.Errorf("%w: entry", errUndecodable)
	}
	return e, nil
}

// renewed is the entry's encoding with a fresh age.
func (e *entry) renewed(created time.Time) []byte {
	t := Topic{ARN: e.arn, Dest: Dest{
		PushEndpoint: e.endpoint, Args: e.args,
		TimeToLive: e.ttl, MaxRetries: e.retries, RetrySleep: e.sleep,
	}}
	return sealEntry(append(appendEntryHead(nil, e.order, &t, created, &e.origin), e.record...))
}

// dump is the entry as `topic dump` shows it, without secrets.
func (e *entry) dump() json.RawMessage {
	data, err := json.Marshal(struct {
		Event      json.RawMessage `json:"event"`
		Endpoint   string          `json:"push_endpoint"`
		Args       string          `json:"push_endpoint_args"`
		ARN        string          `json:"arn_topic"`
		Created    time.Time       `json:"creation_time"`
		TimeToLive Limit           `json:"time_to_live"`
		MaxRetries Limit           `json:"max_retries"`
		RetrySleep Limit           `json:"retry_sleep_duration"`
	}{e.record, RedactEndpoint(e.endpoint), redactArgs(e.args), e.arn, e.created.UTC(), e.ttl, e.retries, e.sleep})
	if err != nil {
		return nil // no JSON, though its checksum was right: not written by us
	}
	return data
}

// intent is what a reservation carries: enough to find out whether the op came
// true, and to write its entries then.
type intent struct {
	facts
	// store is the identity of the store that can tell what became of the op;
	// empty in version 1.
	store string
	// maker is the gateway that made the reservation, as in the group
	// "gateways"; empty before version 3, and where the store is open in one
	// process only.
	maker string
	arn   string // of the topic
	// rules are those of the topic that match as far as is known.
	rules []intentRule
	// queues names the queues of all reservations of the op, when there is
	// more than one.
	queues []string
}

// intentRule is a rule that fired, or may have: with filters that are to be
// held against the outcome's attributes.
type intentRule struct {
	id     string
	filter attrFilter
}

func (in *intent) encode() []byte {
	e := encoder{make([]byte, 0, 256)}
	version := byte(intentV2)
	switch {
	case !in.isZero():
		version = intentV4
	case in.maker != "":
		version = intentV3
	}
	e.b = append(e.b, version)
	e.b = append(e.b, in.op[:]...)
	e.str(in.store)
	if version >= intentV3 {
		e.str(in.maker)
	}
	e.num(uint64(in.typ))
	e.flag(in.versioned)
	for _, s := range [...]string{in.bucket, in.tenant, in.owner, in.id, in.key, in.versionID, in.principal, in.requestID, in.hostID, in.arn} {
		e.str(s)
	}
	e.num(uint64(len(in.rules)))
	for _, r := range in.rules {
		e.str(r.id)
		e.rules(r.filter.metadata)
		e.rules(r.filter.tags)
	}
	e.num(uint64(len(in.queues)))
	for _, q := range in.queues {
		e.str(q)
	}
	if version >= intentV4 {
		for _, p := range in.fields() {
			e.str(*p)
		}
	}
	return e.b
}

func (e *encoder) rules(rules []FilterRule) {
	e.num(uint64(len(rules)))
	for _, r := range rules {
		e.str(r.Name)
		e.str(r.Value)
	}
}

func (d *decoder) rules() []FilterRule {
	n := d.count()
	if n == 0 {
		return nil
	}
	out := make([]FilterRule, 0, n)
	for range n {
		out = append(out, FilterRule{d.str(), d.str()})
	}
	return out
}

// count reads the length of a list; each element takes at least a byte.
func (d *decoder) count() int {
	n := d.num()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

// decodeIntent reads an intent. One that stands for no op gives a zero op.
func decodeIntent(b []byte) (*intent, error) {
	if string(b) == IntentNone {
		return &intent{}, nil
	}
	var in intent
	if len(b) < 1+len(in.op) || b[0] < intentV1 || b[0] > intentV4 {
		return nil, fmt.Errorf("%w: intent", errUndecodable)
	}
	in.op = store.OpID(b[1:])
	d := decoder{b: b[1+len(in.op):]}
	if b[0] >= intentV2 {
		in.store = d.str()
	}
	if b[0] >= intentV3 {
		in.maker = d.str()
		d.bad = d.bad || in.maker == "" && b[0] == intentV3
	}
	in.typ = EventType(d.num())
	in.versioned = d.num() != 0
	for _, p := range [...]*string{&in.bucket, &in.tenant, &in.owner, &in.facts.id, &in.key, &in.versionID, &in.principal, &in.requestID, &in.hostID, &in.arn} {
		*p = d.str()
	}
	for range d.count() {
		in.rules = append(in.rules, intentRule{d.str(), attrFilter{d.rules(), d.rules()}})
	}
	for range d.count() {
		in.queues = append(in.queues, d.str())
	}
	if b[0] >= intentV4 {
		for _, p := range in.fields() {
			*p = d.str()
		}
		d.bad = d.bad || in.isZero()
	}
	if d.bad || len(d.b) != 0 || in.op.IsZero() {
		return nil, fmt.Errorf("%w: intent", errUndecodable)
	}
	return &in, nil
}

// entries makes what is to be queued for an outcome: one entry for each rule
// whose filters match.
func (in *intent) entries(region string, t *Topic, out *store.Outcome) [][]byte {
	var attrs store.Attrs
	if obj := in.subject(out); obj != nil {
		attrs = obj.Attrs
	}
	created, s := time.Now(), in.shows(out)
	list := make([][]byte, 0, len(in.rules))
	for _, r := range in.rules {
		if !r.filter.isZero() && !r.filter.match(attrs) {
			continue
		}
		if !mayCompact(s) {
			b := appendEntryHead(nil, in.orderKey(), t, created, &in.origin)
			list = append(list, sealEntry(appendShown(b, &in.facts, region, r.id, t.OpaqueData, s)))
			continue
		}
		list = append(list, sealEntry(appendCompact(make([]byte, 0, 512), &in.facts, region, r.id, t, s, created)))
	}
	return list
}

// estimate bounds, in all but rare cases, what entries will take, in bytes; an
// entry that turns out larger gets another reservation. known tells whether
// attrs are those of the object.
func (in *intent) estimate(region string, t *Topic, attrs store.Attrs, known bool) int64 {
	const fixed, unknown, perPair = 1024, 4096, 24
	n := fixed + 3*len(region) + 2*len(in.bucket) + 2*len(in.tenant) + len(in.owner) + len(in.facts.id) +
		len(in.traceParent) + len(in.traceState) + len(in.sourceIP) +
		2*len(in.key) + len(in.versionID) + len(in.principal) + len(in.requestID) + len(in.hostID) +
		len(t.ARN) + len(t.Dest.PushEndpoint) + len(t.Dest.Args) + len(t.OpaqueData) + len(t.OpaqueData)/4
	if !known {
		n += unknown
	}
	for k, v := range attrs {
		if k == AttrTags || len(k) > len(metaPrefix) && k[:len(metaPrefix)] == metaPrefix {
			n += len(k) + 2*len(v) + perPair
		}
	}
	total := 0
	for _, r := range in.rules {
		total += n + len(r.id)
	}
	return int64(total)
}
