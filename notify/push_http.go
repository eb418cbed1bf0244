package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// httpPusher posts each event to a URL. A 2xx is an ack, everything else is to
// be tried again, unless the topic says that a status is final; redirects are not
// followed (RGW).
type httpPusher struct {
	cloud   cloudMode
	timeout time.Duration
	signer  *signer // nil: nothing is signed
	reject  *statuses
	pool    *httpPool
}

var _ Pusher = (*httpPusher)(nil)

// maxRetryAfter is the longest pause that an endpoint may ask for.
const maxRetryAfter = 5 * time.Minute

// newHTTPPusher makes one. Errors: ErrInvalidEndpoint.
func newHTTPPusher(e Endpoint, u *url.URL) (*httpPusher, error) {
	if err := checkHTTPArgs(e.Args); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidEndpoint, err)
	}
	p := &httpPusher{cloud: cloudModeOf(e), timeout: e.Timeout}
	// Checked above.
	keys, _ := parseSigningKeys(e.Arg(argHTTPKeys))
	p.signer = newSigner(keys)
	p.reject, _ = parseStatuses(e.Arg(argHTTPReject))
	fields, _ := parseHTTPHeaders(e.Arg(argHTTPHeaders))
	req, err := http.NewRequest(http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, ErrInvalidEndpoint // its text may hold a password
	}
	req.URL.User = nil
	req.Header.Set("User-Agent", "Herald")
	for _, f := range fields {
		req.Header.Set(f.name, f.value)
	}
	req.Header.Set("Content-Type", p.cloud.contentType())
	if err := authorize(req, e, u.User); err != nil {
		return nil, err
	}
	if p.pool, err = newHTTPPool(e, req); err != nil {
		return nil, ErrInvalidEndpoint
	}
	return p, nil
}

// authorize sets the field Authorization: a bearer token, or the user and
// password of the arguments, or those of the URL. Errors: ErrInvalidEndpoint.
func authorize(req *http.Request, e Endpoint, user *url.Userinfo) error {
	name, password, token := e.Arg("user-name"), e.Arg("password"), e.Arg(argHTTPToken)
	if name == "" && user != nil {
		name = user.Username()
		password, _ = user.Password()
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case name != "" && strings.Contains(name, ":"):
		return fmt.Errorf("%w: a user name with a colon", ErrInvalidEndpoint)
	case name != "":
		req.SetBasicAuth(name, password)
	}
	return nil
}

// Push implements Pusher.
func (p *httpPusher) Push(ctx context.Context, events []Event) []Result {
	results := make([]Result, len(events))
	for i := range events {
		results[i] = p.post(ctx, &events[i])
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

func (p *httpPusher) post(ctx context.Context, e *Event) Result {
	var room [512]byte
	fields := room[:0]
	if e.ID != "" {
		fields = appendField(fields, "Idempotency-Key", e.ID)
	}
	if e.TraceParent != "" && fieldValue(e.TraceParent) {
		fields = appendField(fields, "Traceparent", e.TraceParent)
		if e.TraceState != "" && fieldValue(e.TraceState) {
			fields = appendField(fields, "Tracestate", e.TraceState)
		}
	}
	head, tail := e.frame()
	if p.cloud != cloudNone {
		c, err := cloudEventOf(e)
		if err != nil {
			return Result{Status: Retry, Err: err}
		}
		if p.cloud == cloudBinary {
			fields = c.appendFields(fields)
		} else {
			head, tail = c.envelope(head, tail)
		}
	}
	now := time.Now()
	if p.signer != nil {
		fields = append(append(fields, signatureField...), ": "...)
		fields = p.signer.appendValue(fields, now, head, e.Record, tail)
		fields = append(fields, "\r\n"...)
	}
	deadline := now.Add(p.timeout)
	if err := p.enter(ctx, deadline); err != nil {
		return Result{Status: Retry, Err: err}
	}
	defer p.leave()
	a, err := p.pool.post(ctx, deadline, fields, head, e.Record, tail)
	if err != nil {
		return Result{Status: Retry, Err: hungUp(err)}
	}
	return p.result(a)
}

// enter waits for room among the pushes of all HTTP endpoints.
func (p *httpPusher) enter(ctx context.Context, deadline time.Time) error {
	room := p.pool.e.room
	if room == nil || room.TryAcquire(1) {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := room.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("too many pushes to HTTP endpoints are on their way: %w", err)
	}
	return nil
}

func (p *httpPusher) leave() {
	if room := p.pool.e.room; room != nil {
		room.Release(1)
	}
}

// result is what an answer means.
func (p *httpPusher) result(a httpAnswer) Result {
	if a.status/100 == 2 {
		return Result{}
	}
	// Not the text of the answer: it is the endpoint's, and goes to logs.
	err := fmt.Errorf("endpoint answered %d %s", a.status, http.StatusText(a.status))
	if p.reject.has(a.status) {
		return Result{Status: Rejected, Err: err}
	}
	switch a.status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		err = &refusedError{err}
	}
	if a.after > 0 {
		err = &laterError{err, a.after}
	}
	return Result{Status: Retry, Err: err}
}

// refusedError is a failure that is due to the event: the endpoint may take
// others.
type refusedError struct{ error }

// Unwrap returns what failed.
func (e *refusedError) Unwrap() error { return e.error }

// refused tells whether the endpoint has refused the event.
func (r *Result) refused() bool {
	var refused *refusedError
	return r.Err != nil && errors.As(r.Err, &refused)
}

// laterError is a failure after which the endpoint wants to be left alone for a
// while.
type laterError struct {
	error
	after time.Duration
}

// Unwrap returns what failed.
func (e *laterError) Unwrap() error { return e.error }

// pause is how long the endpoint wants to be left alone.
func (r *Result) pause() time.Duration {
	var later *laterError
	if r.Err != nil && errors.As(r.Err, &later) {
		return later.after
	}
	return 0
}

// appendField appends a line of a header. name and value must be fit for it.
func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// httpAnswer is what counts of an answer.
type httpAnswer struct {
	status int
	after  time.Duration // of Retry-After, with 429 and 503
}

func answerOf(resp *http.Response) httpAnswer {
	a := httpAnswer{status: resp.StatusCode}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		a.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return a
}

// retryAfter reads the field's value: seconds or a date. 0: it says nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseUint(s, 10, 63); err == nil || errors.Is(err, strconv.ErrRange) {
		d = time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}
