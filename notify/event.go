package notify

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"herald/store"
)

// facts are what is known of a change before it happens. They are kept in the
// intent of a reservation; with the outcome they make the record.
type facts struct {
	op     store.OpID
	typ    EventType
	bucket string // as clients see it
	tenant string
	owner  string // of the bucket
	id     string // of the bucket
	key    string
	// versionID is that of a delete by version.
	versionID string
	principal string
	requestID string
	hostID    string
	// versioned: the bucket is, or was; else records show no version.
	versioned bool
	origin
}

// origin is what RGW's records do not show of the request.
type origin struct {
	traceParent, traceState string // W3C trace context
	sourceIP                string // for topics of S3's dialect
}

func (o *origin) isZero() bool { return *o == origin{} }

func (o *origin) fields() [3]*string { return [...]*string{&o.traceParent, &o.traceState, &o.sourceIP} }

func (f *facts) storeName() string { return store.StoreName(f.tenant, f.bucket) }

func (f *facts) ref() store.OpRef {
	return store.OpRef{ID: f.op, Bucket: f.storeName(), Key: f.key}
}

// orderKey names what is ordered: one key of one bucket.
func (f *facts) orderKey() string { return f.storeName() + "/" + f.key }

// subject is the version whose size, ETag and attributes a record shows: the
// new object, or what a delete removed or hid. It is nil when there was none.
func (f *facts) subject(out *store.Outcome) *store.Info {
	switch {
	case out.Info == nil:
		return out.Prior
	case !f.typ.Removes() || f.versionID != "" || !out.Info.DeleteMarker:
		return out.Info
	}
	return out.Prior // a delete marker now hides it
}

// seqTime is the time of a change by its sequence number, which is one of
// nanoseconds: a record that is rebuilt after a crash has the same.
func seqTime(seq uint64) time.Time {
	if !seqIsTime(seq) {
		return time.Now()
	}
	return time.Unix(0, int64(seq))
}

func seqIsTime(seq uint64) bool {
	const year2001 = 1e18
	return seq >= year2001 && seq <= 1<<62
}

// shown is what a record shows of an outcome.
type shown struct {
	obj     *store.Info
	seq     uint64
	when    time.Time // the event's
	version string
}

// shows returns what the record of an outcome shows.
func (f *facts) shows(out *store.Outcome) shown {
	obj := f.subject(out)
	if obj == nil {
		obj = new(store.Info)
	}
	when := seqTime(out.Seq)
	if !f.typ.Removes() && !obj.ModTime.IsZero() {
		when = obj.ModTime
	}
	version := obj.VersionID
	if out.Info != nil { // of the marker, not of what it hides
		version = out.Info.VersionID
	}
	if !f.versioned && version == store.NullVersion {
		version = ""
	}
	return shown{obj: obj, seq: out.Seq, when: when, version: version}
}

// appendRecord appends the record of a change for one rule, as RGW writes it,
// key order included.
func appendRecord(b []byte, f *facts, region, rule, opaque string, out *store.Outcome) []byte {
	return appendShown(b, f, region, rule, opaque, f.shows(out))
}

func appendShown(b []byte, f *facts, region, rule, opaque string, s shown) []byte {
	b = append(b, `{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":`...)
	b = appendString(b, region)
	b = append(b, `,"eventTime":"`...)
	b = s.when.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `","eventName":`...)
	b = appendString(b, f.typ.Name())
	b = append(b, `,"userIdentity":{"principalId":`...)
	b = appendString(b, f.principal)
	b = append(b, `},"requestParameters":{"sourceIPAddress":""},"responseElements":{"x-amz-request-id":`...)
	b = appendString(b, f.requestID)
	b = append(b, `,"x-amz-id-2":`...)
	b = appendString(b, f.hostID)
	b = append(b, `},"s3":{"s3SchemaVersion":"1.0","configurationId":`...)
	b = appendString(b, rule)
	b = appendBucket(b, f, region)
	b = appendObject(b, f.key, s.version, s.seq, s.obj)
	b = append(b, `},"eventId":`...)
	b = appendString(b, eventID(seqTime(s.seq), s.obj.ETag))
	b = append(b, `,"opaqueData":`...)
	b = appendString(b, opaque)
	return append(b, '}')
}

func appendBucket(b []byte, f *facts, region string) []byte {
	b = append(b, `,"bucket":{"name":`...)
	b = appendString(b, f.bucket)
	b = append(b, `,"ownerIdentity":{"principalId":`...)
	b = appendString(b, f.owner)
	b = append(b, `},"arn":`...)
	b = appendString(b, "arn:aws:s3:"+region+":"+f.tenant+":"+f.bucket)
	b = append(b, `,"id":`...)
	b = appendString(b, f.id)
	return append(b, '}')
}

func appendObject(b []byte, key, version string, seq uint64, obj *store.Info) []byte {
	b = append(b, `,"object":{"key":`...)
	b = appendString(b, key)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, obj.Size, 10)
	b = append(b, `,"eTag":`...)
	b = appendString(b, obj.ETag)
	b = append(b, `,"versionId":`...)
	b = appendString(b, version)
	b = append(b, `,"sequencer":"`...)
	b = appendSequencer(b, seq)
	b = append(b, `","metadata":`...)
	b = appendPairs(b, metadataOf(obj.Attrs))
	b = append(b, `,"tags":`...)
	b = appendPairs(b, decodeTags(obj.Attrs[AttrTags]))
	return append(b, '}')
}

// appendSequencer writes 16 digits, so that sequencers of one key compare as
// text (S3's rule); RGW's byte order does not allow that.
func appendSequencer(b []byte, seq uint64) []byte {
	const digits = "0123456789ABCDEF"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[seq>>shift&0xF])
	}
	return b
}

// eventID is "SECONDS.MICROSECONDS.ETAG", seconds with 10 digits.
func eventID(t time.Time, etag string) string {
	b := make([]byte, 0, 64)
	b = appendPadded(b, t.Unix(), 10)
	b = append(b, '.')
	b = appendPadded(b, int64(t.Nanosecond()/1000), 6)
	b = append(b, '.')
	return string(append(b, etag...))
}

func appendPadded(b []byte, n int64, width int) []byte {
	var tmp [20]byte
	s := strconv.AppendInt(tmp[:0], n, 10)
	for range width - len(s) {
		b = append(b, '0')
	}
	return append(b, s...)
}

type pair struct{ key, val string }

// metadataOf returns the user metadata in the order of names.
func metadataOf(attrs store.Attrs) []pair {
	var out []pair
	for k, v := range attrs {
		if strings.HasPrefix(k, metaPrefix) {
			out = append(out, pair{k, v})
		}
	}
	slices.SortFunc(out, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	return out
}

// decodeTags reads AttrTags; a broken part is skipped.
func decodeTags(s string) []pair {
	if s == "" {
		return nil
	}
	var out []pair
	for p := range strings.SplitSeq(s, "&") {
		k, v, _ := strings.Cut(p, "=")
		k, err := url.QueryUnescape(k)
		if err != nil {
			continue
		}
		v, err = url.QueryUnescape(v)
		if err != nil {
			continue
		}
		out = append(out, pair{k, v})
	}
	return out
}

func appendPairs(b []byte, pairs []pair) []byte {
	b = append(b, '[')
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"key":`...)
		b = appendString(b, p.key)
		b = append(b, `,"val":`...)
		b = appendString(b, p.val)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendString appends a JSON string. Bytes that are no UTF-8 become U+FFFD,
// as encoding/json has it; nothing is escaped that need not be.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += n
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i-1]...)
		start = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// Record is a record as consumers read it; the gateway itself writes records
// without it.
type Record struct {
	EventVersion      string            `json:"eventVersion"`
	EventSource       string            `json:"eventSource"`
	AWSRegion         string            `json:"awsRegion"`
	EventTime         string            `json:"eventTime"` // UTC, microseconds
	EventName         string            `json:"eventName"` // without "s3:"
	UserIdentity      Identity          `json:"userIdentity"`
	RequestParameters RequestParameters `json:"requestParameters"`
	ResponseElements  ResponseElements  `json:"responseElements"`
	S3                S3Part            `json:"s3"`
	EventID           string            `json:"eventId"`
	OpaqueData        string            `json:"opaqueData"`
}

// Identity names a user.
type Identity struct {
	PrincipalID string `json:"principalId"`
}

// RequestParameters is always empty (RGW).
type RequestParameters struct {
	SourceIPAddress string `json:"sourceIPAddress"`
}

// ResponseElements are those of the answer that the client got.
type ResponseElements struct {
	RequestID string `json:"x-amz-request-id"`
	HostID    string `json:"x-amz-id-2"`
}

// S3Part says which rule fired, for which object.
type S3Part struct {
	SchemaVersion   string       `json:"s3SchemaVersion"`
	ConfigurationID string       `json:"configurationId"`
	Bucket          BucketPart   `json:"bucket"`
	Object          RecordObject `json:"object"`
}

// BucketPart is the bucket of a record.
type BucketPart struct {
	Name  string   `json:"name"`
	Owner Identity `json:"ownerIdentity"`
	ARN   string   `json:"arn"`
	ID    string   `json:"id"`
}

// RecordObject is the object of a record.
type RecordObject struct {
	Key       string `json:"key"` // raw, not URL-encoded (RGW)
	Size      int64  `json:"size"`
	ETag      string `json:"eTag"`
	VersionID string `json:"versionId"`
	Sequencer string `json:"sequencer"`
	Metadata  []KV   `json:"metadata"`
	Tags      []KV   `json:"tags"`
}

// KV is one item of metadata, or one tag.
type KV struct {
	Key string `json:"key"`
	Val string `json:"val"`
}
