package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The dialects that a topic's events may be in. They are applied when an event
// is sent: what waits changes with the topic.
const (
	dialectCeph = "ceph" // RGW's record
	dialectAWS  = "aws"  // S3's
)

// dialect is the topic's.
func (t *Topic) dialect() string {
	if v := t.Arg(ArgDialect); v != "" {
		return v
	}
	return dialectCeph
}

// checkChoices validates the arguments that are one of a few words. Empty is
// the default. Errors: ErrInvalidAttribute.
func (t *Topic) checkChoices() error {
	for _, c := range [...]struct {
		name  string
		words []string
	}{
		{ArgDialect, []string{dialectCeph, dialectAWS}},
		{ArgWhenFull, []string{fullReject, fullDropOldest, fullDropNew}},
	} {
		if v := t.Arg(c.name); v != "" && !slices.Contains(c.words, v) {
			return fmt.Errorf("%w: %s must be one of %s", ErrInvalidAttribute, c.name, strings.Join(c.words, ", "))
		}
	}
	return nil
}

// origin is that of a change.
func (c *Change) origin() origin {
	o := origin{sourceIP: c.SourceIP}
	if validTraceParent(c.TraceParent) {
		o.traceParent = c.TraceParent
		if len(c.TraceState) <= maxTraceState {
			o.traceState = c.TraceState
		}
	}
	return o
}

// maxTraceState bounds what is kept, in bytes: what W3C has everybody pass on.
const maxTraceState = 512

// validTraceParent: "VERSION-TRACE-PARENT-FLAGS", in lower-case hexadecimal
// digits, neither id all zeros (W3C Trace Context). Later versions may have more
// after that.
func validTraceParent(s string) bool {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || len(s) > maxTraceState || s[:2] == "ff" || s[:2] == "00" && len(s) != length || len(s) > length && s[length] != '-' {
		return false
	}
	for i := range length {
		c := s[i]
		if i == 2 || i == 35 || i == 52 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	for _, c := range s[length:] {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// fit leaves out of an intent what its topic does not show.
func (in *intent) fit(t *Topic) {
	if t.dialect() != dialectAWS {
		in.sourceIP = ""
	}
}

// event is an entry as the endpoint is to get it.
func (t *target) event(e *entry) Event {
	ev := e.event()
	if t.aws && !ev.Bare {
		ev.Record = awsRecord(e)
	}
	return ev
}

// The versions of S3's records. The later ones only add fields to the first.
const (
	awsVersion            = "2.1"
	awsVersionReplication = "2.2"
	awsVersionLifecycle   = "2.3"
)

// emptyETag is that of no bytes: S3's records of delete markers have it.
const emptyETag = "d41d8cd98f00b204e9800998ecf8427e"

// awsRecord is the record of an entry as S3 writes it: the key form-encoded, no
// fields of RGW's, and of what is gone neither size nor ETag.
func awsRecord(e *entry) []byte {
	var r Record
	if json.Unmarshal(e.record, &r) != nil {
		return e.record // none of ours
	}
	b := make([]byte, 0, len(e.record))
	field := func(name, value string) { b = appendString(append(b, name...), value) }
	version := awsVersion
	switch family, _, _ := strings.Cut(r.EventName, ":"); {
	case family == "Replication":
		version = awsVersionReplication
	case strings.HasPrefix(family, "Lifecycle"):
		version = awsVersionLifecycle
	}
	when := r.EventTime
	if t, err := time.Parse(time.RFC3339Nano, when); err == nil {
		when = t.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	field(`{"eventVersion":`, version)
	field(`,"eventSource":`, "aws:s3")
	field(`,"awsRegion":`, r.AWSRegion)
	field(`,"eventTime":`, when)
	field(`,"eventName":`, r.EventName)
	field(`,"userIdentity":{"principalId":`, r.UserIdentity.PrincipalID)
	field(`},"requestParameters":{"sourceIPAddress":`, e.sourceIP)
	field(`},"responseElements":{"x-amz-request-id":`, r.ResponseElements.RequestID)
	field(`,"x-amz-id-2":`, r.ResponseElements.HostID)
	field(`},"s3":{"s3SchemaVersion":`, r.S3.SchemaVersion)
	field(`,"configurationId":`, r.S3.ConfigurationID)
	field(`,"bucket":{"name":`, r.S3.Bucket.Name)
	field(`,"ownerIdentity":{"principalId":`, r.S3.Bucket.Owner.PrincipalID)
	field(`},"arn":`, "arn:aws:s3:::"+r.S3.Bucket.Name)
	b = appendAWSObject(append(b, '}'), r.EventName, &r.S3.Object)
	return append(b, "}}"...)
}

func appendAWSObject(b []byte, event string, obj *RecordObject) []byte {
	field := func(name, value string) { b = appendString(append(b, name...), value) }
	field(`,"object":{"key":`, formEncode(obj.Key))
	switch {
	case strings.HasSuffix(event, ":DeleteMarkerCreated"):
		field(`,"eTag":`, emptyETag)
	case !strings.HasSuffix(event, ":Delete"):
		b = append(b, `,"size":`...)
		b = strconv.AppendInt(b, obj.Size, 10)
		field(`,"eTag":`, obj.ETag)
	}
	if obj.VersionID != "" {
		field(`,"versionId":`, obj.VersionID)
	}
	field(`,"sequencer":`, obj.Sequencer)
	return append(b, '}')
}

// formEncode is the encoding of keys in S3's records: that of forms, but for the
// slash, which stays.
func formEncode(key string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(key)+8)
	for i := range len(key) {
		c := key[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._*/", c) >= 0:
			b = append(b, c)
		case c == ' ':
			b = append(b, '+')
		default:
			b = append(b, '%', hex[c>>4], hex[c&0xF])
		}
	}
	return string(b)
}

// testEventHead begins S3's message about a new configuration, and no record.
const testEventHead = `{"Service":"Amazon S3","Event":"s3:TestEvent"`

func isBare(record []byte) bool { return bytes.HasPrefix(record, []byte(testEventHead)) }

// testMessage is S3's s3:TestEvent.
func testMessage(bucket, requestID, hostID string, when time.Time) []byte {
	b := append([]byte(testEventHead), `,"Time":"`...)
	b = when.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = appendString(append(b, `","Bucket":`...), bucket)
	b = appendString(append(b, `,"RequestId":`...), requestID)
	b = appendString(append(b, `,"HostId":`...), hostID)
	return append(b, '}')
}
