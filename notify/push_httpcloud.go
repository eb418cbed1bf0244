package notify

import (
	"encoding/json"
	"fmt"
	"strings"
)

// cloudMode is CloudEvents' content mode.
type cloudMode uint8

const (
	cloudNone       cloudMode = iota
	cloudBinary               // fields of the header, as RGW has them
	cloudStructured           // an envelope around the message
)

func cloudModeOf(e Endpoint) cloudMode {
	switch structured := e.Arg(argCloudMode) == "structured"; {
	case !e.BoolArg("cloudevents", e.Arg(argCloudMode) != ""):
		return cloudNone
	case structured:
		return cloudStructured
	}
	return cloudBinary
}

func (m cloudMode) contentType() string {
	if m == cloudStructured {
		return "application/cloudevents+json"
	}
	return "application/json"
}

// cloudEvent are the attributes of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Subject     string `json:"subject,omitempty"`
	Time        string `json:"time,omitempty"`
	ContentType string `json:"datacontenttype"`
	TraceParent string `json:"traceparent,omitempty"`
	TraceState  string `json:"tracestate,omitempty"`

	rgwID string
}

// cloudEventOf has the attributes as RGW fills them; only the ID of structured
// mode is the event's own, since RGW's is the same for all events of a request.
func cloudEventOf(e *Event) (*cloudEvent, error) {
	c := &cloudEvent{SpecVersion: "1.0", ID: e.ID, ContentType: "application/json", TraceParent: e.TraceParent, TraceState: e.TraceState}
	if e.Bare {
		var test struct{ Event, Time, Bucket string }
		if err := json.Unmarshal(e.Record, &test); err != nil {
			return nil, fmt.Errorf("cloudevents: %w", err)
		}
		c.Type, c.Time, c.Source, c.rgwID = "com.amazonaws."+test.Event, test.Time, "aws:s3.."+test.Bucket, e.ID
		return c, nil
	}
	var r Record
	if err := json.Unmarshal(e.Record, &r); err != nil {
		return nil, fmt.Errorf("cloudevents: %w", err)
	}
	c.Type, c.Time = "com.amazonaws."+r.EventName, r.EventTime
	c.rgwID = r.ResponseElements.RequestID + "." + r.ResponseElements.HostID
	c.Source = r.EventSource + "." + r.AWSRegion + "." + r.S3.Bucket.Name
	c.Subject = r.S3.Object.Key
	if e.Object != "" { // as it is, whatever the dialect
		c.Subject = e.Object
	}
	if c.ID == "" {
		c.ID = c.rgwID
	}
	return c, nil
}

// appendFields appends the lines of binary mode.
func (c *cloudEvent) appendFields(b []byte) []byte {
	for _, f := range [...]headerField{
		{"ce-specversion", c.SpecVersion}, {"ce-type", c.Type}, {"ce-time", c.Time},
		{"ce-id", c.rgwID}, {"ce-source", c.Source}, {"ce-subject", c.Subject},
	} {
		b = appendField(b, f.name, headerText(f.value))
	}
	return b
}

// envelope is what is around the record in structured mode: a JSON document of
// the attributes, of which "data" is the message.
func (c *cloudEvent) envelope(head, tail []byte) (before, after []byte) {
	c.Source = strings.ReplaceAll(headerText(c.Source), `\`, "%5C") // a reference to a URI
	before, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings only
	}
	before = append(append(before[:len(before)-1], `,"data":`...), head...)
	return before, append(tail[:len(tail):len(tail)], '}')
}

// headerText makes any key fit for a header: what CloudEvents' HTTP binding
// has percent-encoded (controls, space, '"', '%', and all that is not ASCII).
// A key of ordinary characters stays as it is.
func headerText(s string) string {
	const hex = "0123456789ABCDEF"
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	clean := true
	for i := range len(s) {
		clean = clean && plain(s[i])
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&0xF]})
		}
	}
	return b.String()
}
