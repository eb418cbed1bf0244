package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// httpPusher posts each event to a URL. A 2xx is an ack, everything else is to
// be tried again; redirects are not followed (RGW).
type httpPusher struct {
	cloudEvents bool
	timeout     time.Duration
	pool        *httpPool
}

var _ Pusher = (*httpPusher)(nil)

// newHTTPPusher makes one. Errors: ErrInvalidEndpoint.
func newHTTPPusher(e Endpoint, u *url.URL) (*httpPusher, error) {
	req, err := http.NewRequest(http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, ErrInvalidEndpoint // its text may hold a password
	}
	req.Header.Set("Content-Type", "application/json")
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	dialer := net.Dialer{Timeout: e.ConnectTimeout, KeepAlive: 30 * time.Second}
	pool, err := newHTTPPool(req, dialer, e.BoolArg("verify-ssl", true))
	if err != nil {
		return nil, ErrInvalidEndpoint
	}
	return &httpPusher{cloudEvents: e.BoolArg("cloudevents", false), timeout: e.Timeout, pool: pool}, nil
}

// Push implements Pusher.
func (p *httpPusher) Push(ctx context.Context, events []Event) []Result {
	results := make([]Result, len(events))
	for i := range events {
		if err := p.post(ctx, &events[i]); err != nil {
			results[i] = Result{Retry, err}
		}
	}
	return results
}

// Close implements Pusher.
func (p *httpPusher) Close() error {
	p.pool.close()
	return nil
}

// What is around the record in a message. Never written.
var messageHead, messageTail = []byte(`{"Records":[`), []byte(`]}`)

func (p *httpPusher) post(ctx context.Context, e *Event) error {
	var fields []byte
	if p.cloudEvents {
		h := http.Header{}
		if err := addCloudEvent(h, e.Record); err != nil {
			return err
		}
		var b bytes.Buffer
		_ = h.Write(&b) // into memory
		fields = b.Bytes()
	}
	status, err := p.pool.post(ctx, time.Now().Add(p.timeout), fields, messageHead, e.Record, messageTail)
	if err == nil && status/100 != 2 {
		// Not the text of the answer: it is the endpoint's, and goes to logs.
		err = fmt.Errorf("endpoint answered %d %s", status, http.StatusText(status))
	}
	return err
}

// addCloudEvent adds the headers of CloudEvents' binary mode, as RGW fills
// them.
func addCloudEvent(h http.Header, record []byte) error {
	var r Record
	if err := json.Unmarshal(record, &r); err != nil {
		return fmt.Errorf("cloudevents: %w", err)
	}
	h.Set("ce-specversion", "1.0")
	h.Set("ce-type", "com.amazonaws."+r.EventName)
	h.Set("ce-time", r.EventTime)
	h.Set("ce-id", headerText(r.ResponseElements.RequestID+"."+r.ResponseElements.HostID))
	h.Set("ce-source", headerText(r.EventSource+"."+r.AWSRegion+"."+r.S3.Bucket.Name))
	h.Set("ce-subject", headerText(r.S3.Object.Key))
	return nil
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
