package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// httpTwo speaks HTTP/2 with the endpoint of a pool, by net/http, which shares
// few connections among many pushes. It is used once the endpoint chose that
// protocol in a TLS handshake.
type httpTwo struct {
	pool      *httpPool
	protocols []string      // to offer
	request   *http.Request // as all are, without a body
	transport *http.Transport
	closing   context.Context // done when the pool is closed
	stop      context.CancelFunc
	spoken    atomic.Bool

	fresh atomic.Pointer[tls.Conn] // adopted, and not used yet
}

const (
	protoHTTP1, protoHTTP2 = "http/1.1", "h2"
	// A connection on which nothing came for httpSilence is asked, and closed
	// when it does not answer within httpProbe.
	httpSilence, httpProbe = 15 * time.Second, 5 * time.Second
)

func (h *httpTwo) init(p *httpPool, req *http.Request) {
	h.pool, h.request, h.protocols = p, req, []string{protoHTTP2, protoHTTP1}
	if p.e.Arg(argHTTPVersion) == "1.1" {
		h.protocols = []string{protoHTTP1}
	}
	h.closing, h.stop = context.WithCancel(context.Background())
	h.transport = &http.Transport{ // without Proxy: not the environment's
		DialTLSContext:         h.dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    httpIdle,
		IdleConnTimeout:        httpIdleTime,
		MaxResponseHeaderBytes: maxAnswerHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: httpSilence, PingTimeout: httpProbe},
	}
}

// adopt takes a connection that speaks HTTP/2.
func (h *httpTwo) adopt(c *tls.Conn) {
	if old := h.fresh.Swap(c); old != nil {
		_ = old.Close() // one is enough
	}
	h.spoken.Store(true)
}

// dial gives the transport a connection that was adopted, or a new one.
func (h *httpTwo) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if c := h.fresh.Swap(nil); c != nil {
		return c, nil
	}
	c, err := h.pool.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c.Conn, nil
}

// post is httpPool.post.
func (h *httpTwo) post(ctx context.Context, deadline time.Time, fields []byte, body [][]byte) (httpAnswer, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	req := h.request.Clone(ctx)
	addLines(req.Header, fields)
	data := bytes.Join(body, nil)
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return httpAnswer{}, h.failure(ctx, err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxAnswerBody); err != nil && err != io.EOF && resp.StatusCode/100 == 2 {
		return httpAnswer{}, h.failure(ctx, fmt.Errorf("the endpoint's answer is cut short: %w", noText(err)))
	}
	return answerOf(resp), nil
}

// failure is one that says what was given up, and nothing of what was sent.
func (h *httpTwo) failure(ctx context.Context, err error) error {
	switch {
	case h.closing.Err() != nil:
		return errPoolClosed
	case errors.Is(ctx.Err(), context.DeadlineExceeded), ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// addLines adds lines "Name: value\r\n".
func addLines(h http.Header, lines []byte) {
	for line := range strings.Lines(string(lines)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": ")
		h.Set(name, value)
	}
}

// close has what is in flight fail. The pool closes the connections.
func (h *httpTwo) close() {
	h.stop()
	h.transport.CloseIdleConnections()
}
