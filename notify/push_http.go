package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// httpPusher posts each event to a URL. A 2xx is an ack, everything else is to
// be tried again; redirects are not followed (RGW).
type httpPusher struct {
	url         string // without userinfo
	user        *url.Userinfo
	cloudEvents bool
	timeout     time.Duration
	client      *http.Client
}

var _ Pusher = (*httpPusher)(nil)

// maxAnswerHeader bounds the header of an endpoint's answer, in bytes.
const maxAnswerHeader = 64 << 10

// httpIdle is how many idle connections to one endpoint are kept.
const httpIdle = 128

func newHTTPPusher(e Endpoint, u *url.URL) *httpPusher {
	plain := *u
	plain.User = nil
	dialer := &net.Dialer{Timeout: e.ConnectTimeout, KeepAlive: 30 * time.Second}
	return &httpPusher{
		url:         plain.String(),
		user:        u.User,
		cloudEvents: e.BoolArg("cloudevents", false),
		timeout:     e.Timeout,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:         dialer.DialContext,
				TLSHandshakeTimeout: e.ConnectTimeout,
				TLSClientConfig:     &tls.Config{InsecureSkipVerify: !e.BoolArg("verify-ssl", true)}, // the topic's owner said so
				MaxIdleConns:        httpIdle,
				MaxIdleConnsPerHost: httpIdle,
				IdleConnTimeout:     60 * time.Second,
				DisableCompression:  true,

				MaxResponseHeaderBytes: maxAnswerHeader,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
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
	p.client.CloseIdleConnections()
	return nil
}

const (
	messageHead = `{"Records":[`
	messageTail = `]}`
)

func (p *httpPusher) post(ctx context.Context, e *Event) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	body := make([]byte, 0, len(messageHead)+len(e.Record)+len(messageTail))
	body = append(append(append(body, messageHead...), e.Record...), messageTail...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return ErrInvalidEndpoint
	}
	req.Header.Set("Content-Type", "application/json")
	if p.user != nil {
		password, _ := p.user.Password()
		req.SetBasicAuth(p.user.Username(), password)
	}
	if p.cloudEvents {
		if err := addCloudEvent(req.Header, e.Record); err != nil {
			return err
		}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is written to it
	// So that the connection can be used again; an endless answer is not read.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode/100 != 2 {
		// Not resp.Status: its text is the endpoint's, and goes to logs.
		return fmt.Errorf("endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}

// plainError drops the URL from an error: its query may hold a token.
func plainError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
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
