package notify

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"herald/store"
)

// EntryFormat is the encoding of the entries that a Service writes. It reads
// all of them, whichever it writes.
type EntryFormat int

const (
	// EntriesOwn is compact and has a checksum.
	EntriesOwn EntryFormat = iota
	// EntriesRGW is that of RGW's persistent queues, so that a radosgw can
	// deliver what this gateway queued (docs/adr/0011-rgw-interchange.md).
	EntriesRGW
)

// The versions of RGW's structures that are written. Older releases read them
// as well: a frame says how much they have to skip. 16.2.15 itself writes
// entries of version 1, which later releases put at the end of the queue again,
// or lose when they do not find the topic (Ceph: rgw_notify.cc, Migrating).
const (
	rgwEntryVersion = 3 // 2: creation time; 3: the topic's limits
	rgwEventVersion = 4 // 2: bucket id, metadata; 3: tags; 4: opaque data
)

// Recode gives an entry, in whichever format, in another one. It is for what
// moves entries between queues of different kinds. What is in that format
// already is returned as it is.
func Recode(data []byte, to EntryFormat) ([]byte, error) {
	e, own := decodeOwnEntry(data)
	if own != nil {
		var err error
		if e, err = decodeRGWEntry(data); err != nil {
			return nil, err
		}
	}
	switch {
	case (to == EntriesOwn) == (own == nil):
		return data, nil
	case to == EntriesRGW:
		return appendRGWEntry(nil, &e)
	}
	return e.renewed(e.created), nil
}

// format gives entries of our own in the format that is configured.
func (s *Service) format(entries ...[]byte) [][]byte {
	if s.cfg.EntryFormat == EntriesOwn {
		return entries
	}
	for i, own := range entries {
		data, err := Recode(own, s.cfg.EntryFormat)
		if err != nil { // of our own records there is none
			s.log.Error("entry stays in our own format", "err", err)
			continue
		}
		entries[i] = data
	}
	return entries
}

// appendRGWEntry appends an entry as RGW's event_entry_t. Not in it: the
// topic's ARN, of which the name is left, and what the queue itself keeps
// (when it was enqueued, attempts).
func appendRGWEntry(b []byte, e *entry) ([]byte, error) {
	var r Record
	if err := json.Unmarshal(e.record, &r); err != nil {
		return nil, fmt.Errorf("%w: record: %w", errUndecodable, err)
	}
	when, err := time.Parse(time.RFC3339Nano, r.EventTime)
	if err != nil || r.S3.Object.Size < 0 {
		return nil, fmt.Errorf("%w: record: %w", errUndecodable, err)
	}
	name := e.arn
	if _, topic, err := ParseTopicARN(e.arn); err == nil {
		name = topic
	}
	enc := cephEncoder{b}
	enc.frame(rgwEntryVersion, func() {
		enc.event(&r, when)
		enc.str(e.endpoint)
		enc.str(rgwArgs(e.args))
		enc.str(name)
		enc.time(e.created)
		enc.u32(uint32(e.ttl))
		enc.u32(uint32(e.retries))
		enc.u32(uint32(e.sleep))
	})
	return enc.b, nil
}

// event appends a record as RGW's rgw_pubsub_s3_event.
func (e *cephEncoder) event(r *Record, when time.Time) {
	obj, bucket := &r.S3.Object, &r.S3.Bucket
	e.frame(rgwEventVersion, func() {
		e.str(r.EventVersion)
		e.str(r.EventSource)
		e.str(r.AWSRegion)
		e.time(when)
		for _, s := range [...]string{
			r.EventName, r.UserIdentity.PrincipalID, r.RequestParameters.SourceIPAddress,
			r.ResponseElements.RequestID, r.ResponseElements.HostID,
			r.S3.SchemaVersion, r.S3.ConfigurationID,
			bucket.Name, bucket.Owner.PrincipalID, bucket.ARN, obj.Key,
		} {
			e.str(s)
		}
		e.u64(uint64(obj.Size))
		e.str(obj.ETag)
		e.str(obj.VersionID)
		e.str(obj.Sequencer)
		e.str(r.EventID)
		e.str(bucket.ID)
		e.pairs(obj.Metadata)
		e.pairs(obj.Tags)
		e.str(r.OpaqueData)
	})
}

// decodeRGWEntry reads RGW's event_entry_t of any version that says that we
// can. An entry of version 1 has no creation time: it gets that of its event.
func decodeRGWEntry(b []byte) (entry, error) {
	outer := cephDecoder{b: b}
	version, d := outer.frame(rgwEntryVersion)
	if outer.bad || len(outer.b) != 0 {
		return entry{}, fmt.Errorf("%w: RGW entry", errUndecodable)
	}
	r, when := d.event()
	e := entry{created: when, endpoint: d.str()}
	dest := destOfRGW(d.str())
	e.args, e.ttl, e.retries, e.sleep = dest.Args, dest.TimeToLive, dest.MaxRetries, dest.RetrySleep
	e.arn = d.str()
	if version > 1 {
		if created := d.time(); created.Unix() != 0 {
			e.created = created
		}
	}
	if version > 2 {
		e.ttl, e.retries, e.sleep = Limit(d.u32()), Limit(d.u32()), Limit(d.u32())
	}
	if d.bad || e.arn == "" || r.S3.Object.Size < 0 {
		return entry{}, fmt.Errorf("%w: RGW entry", errUndecodable)
	}
	e.order = store.StoreName(tenantOfBucketARN(r.S3.Bucket.ARN), r.S3.Bucket.Name) + "/" + r.S3.Object.Key
	e.record = appendRecordOf(nil, r, when)
	return e, nil
}

// event reads RGW's rgw_pubsub_s3_event. EventTime is left empty.
func (d *cephDecoder) event() (*Record, time.Time) {
	version, body := d.frame(rgwEventVersion)
	var r Record
	obj, bucket := &r.S3.Object, &r.S3.Bucket
	r.EventVersion, r.EventSource, r.AWSRegion = body.str(), body.str(), body.str()
	when := body.time()
	for _, s := range [...]*string{
		&r.EventName, &r.UserIdentity.PrincipalID, &r.RequestParameters.SourceIPAddress,
		&r.ResponseElements.RequestID, &r.ResponseElements.HostID,
		&r.S3.SchemaVersion, &r.S3.ConfigurationID,
		&bucket.Name, &bucket.Owner.PrincipalID, &bucket.ARN, &obj.Key,
	} {
		*s = body.str()
	}
	size := body.u64()
	obj.Size = int64(size)
	obj.ETag, obj.VersionID, obj.Sequencer = body.str(), body.str(), body.str()
	r.EventID = body.str()
	if version > 1 {
		bucket.ID = body.str()
		obj.Metadata = body.pairs()
	}
	if version > 2 {
		obj.Tags = body.pairs()
	}
	if version > 3 {
		r.OpaqueData = body.str()
	}
	d.bad = d.bad || body.bad || size > math.MaxInt64
	return &r, when
}

// appendRecordOf appends a record as appendRecord does.
func appendRecordOf(b []byte, r *Record, when time.Time) []byte {
	field := func(name, value string) { b = appendString(append(b, name...), value) }
	obj, bucket := &r.S3.Object, &r.S3.Bucket
	field(`{"eventVersion":`, r.EventVersion)
	field(`,"eventSource":`, r.EventSource)
	field(`,"awsRegion":`, r.AWSRegion)
	b = append(b, `,"eventTime":"`...)
	b = when.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	field(`","eventName":`, r.EventName)
	field(`,"userIdentity":{"principalId":`, r.UserIdentity.PrincipalID)
	field(`},"requestParameters":{"sourceIPAddress":`, r.RequestParameters.SourceIPAddress)
	field(`},"responseElements":{"x-amz-request-id":`, r.ResponseElements.RequestID)
	field(`,"x-amz-id-2":`, r.ResponseElements.HostID)
	field(`},"s3":{"s3SchemaVersion":`, r.S3.SchemaVersion)
	field(`,"configurationId":`, r.S3.ConfigurationID)
	field(`,"bucket":{"name":`, bucket.Name)
	field(`,"ownerIdentity":{"principalId":`, bucket.Owner.PrincipalID)
	field(`},"arn":`, bucket.ARN)
	field(`,"id":`, bucket.ID)
	field(`},"object":{"key":`, obj.Key)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, obj.Size, 10)
	field(`,"eTag":`, obj.ETag)
	field(`,"versionId":`, obj.VersionID)
	field(`,"sequencer":`, obj.Sequencer)
	b = append(b, `,"metadata":`...)
	b = appendKVs(b, obj.Metadata)
	b = append(b, `,"tags":`...)
	b = appendKVs(b, obj.Tags)
	field(`}},"eventId":`, r.EventID)
	field(`,"opaqueData":`, r.OpaqueData)
	return append(b, '}')
}

func appendKVs(b []byte, list []KV) []byte {
	pairs := make([]pair, len(list))
	for i, kv := range list {
		pairs[i] = pair{kv.Key, kv.Val}
	}
	return appendPairs(b, pairs)
}

// tenantOfBucketARN is the tenant in "arn:aws:s3:REGION:TENANT:BUCKET".
func tenantOfBucketARN(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

// rgwArgs gives a topic's arguments as RGW reads them: like a query of a URL,
// where "+" is a blank.
func rgwArgs(args string) string { return strings.ReplaceAll(args, "+", "%2B") }

// destOfRGW gives RGW's arguments as a topic has them. 16.2.15 keeps the whole
// form of CreateTopic among them: what has a place of its own goes there, and
// the form's own fields, which may hold a secret, nowhere.
func destOfRGW(args string) Dest {
	t := Topic{Dest: Dest{TimeToLive: Unset, MaxRetries: Unset, RetrySleep: Unset}}
	for p := range strings.SplitSeq(args, "&") {
		if decoded, err := url.QueryUnescape(p); err == nil {
			p = decoded
		}
		name, value, ok := strings.Cut(p, "=")
		if ok && !strings.HasPrefix(name, "Attributes.") && !slices.Contains(notArgs[:], name) {
			t.set(name, value)
		}
	}
	return t.Dest
}
