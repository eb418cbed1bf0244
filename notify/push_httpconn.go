package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// httpPool speaks HTTP/1.1 with one endpoint over connections that it keeps.
// One goroutine does a whole exchange: net/http's client passes each request and
// answer between three, which costs more than the push itself.
//
// A server that speaks HTTP/2 over TLS gets that, by net/http: see h2.
type httpPool struct {
	e      Endpoint
	addr   string // to connect to
	host   string // that the certificate must bear
	secure bool
	head   []byte // of each request, but for its length and its end
	h2     httpTwo

	mu     sync.Mutex // guards all below
	idle   []*httpConn
	open   map[*openConn]struct{}
	reaper *time.Timer // nil while nothing is idle
	closed bool
}

// httpConn is a connection. One push at a time has it.
type httpConn struct {
	net.Conn
	tcp    net.Conn // below TLS
	limit  io.LimitedReader
	r      *bufio.Reader
	out    []byte
	used   time.Time // put back then
	reused bool
}

const (
	// httpIdle is how many idle connections to one endpoint are kept, and
	// httpIdleTime for how long.
	httpIdle     = 128
	httpIdleTime = 60 * time.Second
	// maxAnswerHeader and maxAnswerBody bound what is read of an endpoint's
	// answer, in bytes; maxAnswerSteps is how many preliminary answers (1xx) it
	// may have.
	maxAnswerHeader = 64 << 10
	maxAnswerBody   = 64 << 10
	maxAnswerSteps  = 5
	// httpFresh is how long an idle connection is used again unseen.
	httpFresh = 500 * time.Millisecond
	// keptRequest is the largest request of which the memory is kept.
	keptRequest = 16 << 10
)

var (
	errPoolClosed   = errors.New("the endpoint is no longer used")
	errHTTP2        = errors.New("the endpoint speaks HTTP/2")
	errAnswerHeader = errors.New("the header of the endpoint's answer is too large")
	// postRequest is what answers are read for. It is never written.
	postRequest = &http.Request{Method: http.MethodPost}
	// longAgo is when the deadline of a cancelled push was. It is never written.
	longAgo = time.Unix(1, 0)
)

// newHTTPPool is a pool for requests as req, which has no body.
func newHTTPPool(e Endpoint, req *http.Request) (*httpPool, error) {
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	const length, end = "Content-Length: 0\r\n", "\r\n"
	head := bytes.Replace(b.Bytes(), []byte(length), nil, 1)
	p := &httpPool{
		e: e, head: bytes.TrimSuffix(head, []byte(end)), open: make(map[*openConn]struct{}),
		host: req.URL.Hostname(), secure: strings.EqualFold(req.URL.Scheme, "https"),
	}
	if name := asciiHost(head); name != "" && !isASCII(p.host) {
		p.host = name
	}
	port := "80"
	if p.secure {
		port = "443"
	}
	p.addr = net.JoinHostPort(p.host, orDefault(req.URL.Port(), port))
	p.h2.init(p, req)
	return p, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// asciiHost is the host in a request's header, which has no characters beyond
// ASCII.
func asciiHost(head []byte) string {
	_, rest, _ := bytes.Cut(head, []byte("\r\nHost: "))
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return (&url.URL{Host: string(line)}).Hostname()
}

// post sends a body with more header fields, and returns the answer.
func (p *httpPool) post(ctx context.Context, deadline time.Time, fields []byte, body ...[]byte) (httpAnswer, error) {
	for !p.h2.spoken.Load() {
		c, err := p.get(ctx, deadline)
		if errors.Is(err, errHTTP2) {
			break
		}
		if err != nil {
			return httpAnswer{}, ended(ctx, err)
		}
		c.compose(p.head, fields, body)
		a, again, err := p.exchange(ctx, c, deadline)
		// The endpoint may close a connection that was idle before it reads what
		// is sent. Should it have read it, it gets the event twice, as after any
		// answer that is lost.
		if err == nil || !again {
			return a, ended(ctx, err)
		}
	}
	return p.h2.post(ctx, deadline, fields, body)
}

// ended makes one error of all that come of a deadline.
func ended(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded
	}
	return err
}

// compose makes up the request.
func (c *httpConn) compose(head, fields []byte, body [][]byte) {
	n := 0
	for _, part := range body {
		n += len(part)
	}
	b := append(append(c.out[:0], head...), fields...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, "\r\n\r\n"...)
	for _, part := range body {
		b = append(b, part...)
	}
	c.out = b
}

// exchange sends a request and reads the answer. again is whether the endpoint
// seems to have closed the connection before.
func (p *httpPool) exchange(ctx context.Context, c *httpConn, deadline time.Time) (a httpAnswer, again bool, err error) {
	keep := false
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
	defer func() {
		if stop() && keep {
			p.put(c)
		} else {
			_ = c.Close()
		}
	}()
	if err := c.SetDeadline(deadline); err != nil {
		return a, c.reused, err
	}
	if ctx.Err() != nil { // the deadline may have replaced that of the cancellation
		return a, false, ctx.Err()
	}
	if _, err := c.Write(c.out); err != nil {
		return a, c.reused && gone(err), err
	}
	c.limit.N = maxAnswerHeader
	if _, err := c.r.Peek(1); err != nil {
		return a, c.reused && gone(err), err
	}
	a, keep, err = c.answer()
	return a, false, err
}

// gone is whether an error means that the other side has closed the connection.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// answer reads an answer. keep is whether another request may follow.
func (c *httpConn) answer() (a httpAnswer, keep bool, err error) {
	for range maxAnswerSteps {
		resp, err := http.ReadResponse(c.r, postRequest)
		switch {
		case err != nil && c.limit.N <= 0:
			return a, false, errAnswerHeader
		case err != nil:
			return a, false, fmt.Errorf("read the endpoint's answer: %w", noText(err))
		case resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols:
			continue
		}
		// An endless answer is not read to its end.
		c.limit.N = 2 * maxAnswerBody
		whole := resp.Body == http.NoBody
		if !whole {
			_, err := io.CopyN(io.Discard, resp.Body, maxAnswerBody)
			whole = err == io.EOF
			if err != nil && !whole && c.limit.N > 0 && resp.StatusCode/100 == 2 {
				// It may be the answer of somebody between, who lost the endpoint.
				return a, false, fmt.Errorf("the endpoint's answer is cut short: %w", err)
			}
		}
		return answerOf(resp), whole && !resp.Close && c.r.Buffered() == 0 && resp.StatusCode/100 != 1, nil
	}
	return a, false, errors.New("the endpoint gives preliminary answers only")
}

// noText leaves out what an endpoint sent instead of an answer: it goes to logs.
func noText(err error) error {
	var op net.Error
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errors.New("not HTTP")
}

// get takes a connection that is there, or makes one. It is errHTTP2 when the
// endpoint wants that: h2 has the connection then.
func (p *httpPool) get(ctx context.Context, deadline time.Time) (*httpConn, error) {
	for c := p.take(); c != nil; c = p.take() {
		if time.Since(c.used) < httpFresh || c.silent() {
			return c, nil
		}
		_ = c.Close()
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	if secure, ok := c.Conn.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		p.h2.adopt(secure)
		return nil, errHTTP2
	}
	c.limit.R = c.Conn
	c.r = bufio.NewReader(&c.limit)
	return c, nil
}

// connect makes a connection.
func (p *httpPool) connect(ctx context.Context) (*httpConn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.e.ConnectTimeout)
	defer cancel()
	tcp, err := p.e.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	conn, err := p.keep(tcp)
	if err != nil {
		return nil, err
	}
	c := &httpConn{tcp: tcp, Conn: conn}
	if !p.secure {
		return c, nil
	}
	// Made anew, so that it has the certificates that the files hold now.
	config, err := p.e.tlsConfig(p.host)
	if err == nil {
		config.NextProtos = p.h2.protocols
		secure := tls.Client(conn, config)
		c.Conn = secure
		err = secure.HandshakeContext(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// silent is whether the endpoint has neither sent anything nor closed the
// connection.
func (c *httpConn) silent() bool {
	sc, ok := c.tcp.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && silent
}

// take returns the connection that was used last, or nil.
func (p *httpPool) take() *httpConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	c := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	c.reused = true
	return c
}

// openConn is a TCP connection of a pool.
type openConn struct {
	net.Conn
	pool *httpPool
}

// keep notes a new connection, so that it can be closed with the pool.
func (p *httpPool) keep(conn net.Conn) (*openConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return nil, errPoolClosed
	}
	c := &openConn{conn, p}
	p.open[c] = struct{}{}
	return c, nil
}

// Close implements net.Conn.
func (c *openConn) Close() error {
	c.pool.mu.Lock()
	delete(c.pool.open, c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}

// put keeps a connection for the next push.
func (p *httpPool) put(c *httpConn) {
	if cap(c.out) > keptRequest {
		c.out = nil
	}
	c.used = time.Now()
	p.mu.Lock()
	room := !p.closed && len(p.idle) < httpIdle
	if room {
		p.idle = append(p.idle, c)
		if p.reaper == nil {
			p.reaper = time.AfterFunc(httpIdleTime, p.reap)
		}
	}
	p.mu.Unlock()
	if !room {
		_ = c.Close()
	}
}

// reap closes what was idle for long.
func (p *httpPool) reap() {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].used) >= httpIdleTime {
		n++
	}
	old := p.idle[:n]
	p.idle = append([]*httpConn(nil), p.idle[n:]...)
	p.reaper = nil
	if len(p.idle) > 0 {
		p.reaper = time.AfterFunc(httpIdleTime-time.Since(p.idle[0].used), p.reap)
	}
	p.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

// close closes all connections: what is in flight fails.
func (p *httpPool) close() {
	p.h2.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.open {
		_ = c.Conn.Close() // at once: without TLS's farewell, which may have to wait
	}
	p.open, p.idle = nil, nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
}
