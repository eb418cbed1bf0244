package s3api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"herald/auth"
)

// maxHeaderSection is what the header fields of a request may take, in bytes.
// S3 allows 8 KiB; tags in a header can take more than that when escaped.
const maxHeaderSection = 16 << 10

// maxURI is how long a request's path and query may be, in bytes: that of a
// key with every byte escaped, a presigned URL and more fits in.
const maxURI = 32 << 10

// Names of headers that the pipeline sets.
const (
	hContentLength = "Content-Length"
	hContentType   = "Content-Type"
	hRequestID     = "X-Amz-Request-Id"
	hHostID        = "X-Amz-Id-2"
	hServer        = "Server"
	hRetryAfter    = "Retry-After"
	hExpectedOwner = "X-Amz-Expected-Bucket-Owner"
)

const typeXML = "application/xml"

// exchange is one request with its answer, as the pipeline sees it.
type exchange struct {
	request
	w       http.ResponseWriter
	control *http.ResponseController
	start   time.Time

	status int   // 0: no header was written yet
	sent   int64 // bytes of the answer's body
	code   code  // of an error
	err    error // for the log
	lost   bool  // the store failed when half of an answer was out
}

// serve is the one pipeline: match, authenticate, authorize, decode and run,
// encode. Every request leaves one line in the log and one in the metrics.
func (s *Server) serve(w http.ResponseWriter, hr *http.Request) {
	x := &exchange{w: w, control: http.NewResponseController(w), start: time.Now()}
	x.request = request{http: hr, op: noRoute, id: s.newRequestID(), outHeader: w.Header(), lifecycle: &s.lifecycle}
	s.metrics.inFlight.Inc()
	defer s.record(x)
	defer s.recover(x)
	s.setCommonHeaders(x)
	resp, err := s.process(hr.Context(), &x.request, x.control)
	if err != nil {
		s.sendError(x, err)
		return
	}
	s.send(x, resp)
}

// process does all that happens before an answer is written.
func (s *Server) process(ctx context.Context, r *request, control *http.ResponseController) (*response, error) {
	if err := s.match(r); err != nil {
		return nil, err
	}
	if r.http.ContentLength != 0 {
		// A form may be read before its sender is known: it gets no more time
		// as its bytes come.
		r.body = &countedBody{ReadCloser: r.http.Body, control: control, idle: s.bodyIdle, once: r.route.sns}
		r.http.Body = r.body
	}
	if err := s.authenticate(r); err != nil {
		return nil, err
	}
	if err := s.openBucket(ctx, r); err != nil {
		return nil, err
	}
	if err := authorize(r); err != nil {
		return nil, err
	}
	if r.route.run == nil {
		return nil, codeNotImplemented
	}
	return r.route.run(s, ctx, r)
}

// match finds the row of the table and checks what can be checked of the
// request without knowing its sender.
func (s *Server) match(r *request) error {
	if headerSize(r.http.Header) > maxHeaderSection {
		return fail(codeRequestHeaderSectionTooLarge, "").
			with("MaxSizeAllowed", strconv.Itoa(maxHeaderSection))
	}
	if len(r.http.RequestURI) > maxURI {
		return fail(codeInvalidURI, "The URI is too long.")
	}
	t, err := parseTarget(s.domains, r.http.Host, r.http.URL.Path)
	if err != nil {
		return err
	}
	r.tenant, r.bucketName, r.key, r.explicitTenant = t.tenant, t.bucket, t.key, t.hasTenant
	if r.query, err = parseQuery(r.http.URL.RawQuery); err != nil {
		return failWith(codeInvalidURI, err)
	}
	if r.route, err = s.index.match(r.http.Method, t.level, r.query, r.http.Header); err != nil {
		return err
	}
	r.op = r.route.op
	return nil
}

func headerSize(h http.Header) int {
	n := 0
	for k, values := range h {
		for _, v := range values {
			n += len(k) + len(v) + len(": \r\n")
		}
	}
	return n
}

// authenticate finds out who sent the request. The body is not touched.
func (s *Server) authenticate(r *request) error {
	v, err := s.verifier.Verify(r.http)
	if err != nil {
		return err
	}
	r.verified = v
	r.adoptHeaders()
	s.setUser(r, v.Identity)
	return nil
}

// setUser notes who sent the request, and whose buckets it means.
func (s *Server) setUser(r *request, id auth.Identity) {
	if r.user = id.User; id.Anonymous() {
		r.user = s.anonymous
	}
	if !r.explicitTenant {
		r.tenant = r.user.Tenant
	}
}

// openBucket opens the bucket that the request addresses, if its operation
// needs one.
func (s *Server) openBucket(ctx context.Context, r *request) (err error) {
	if !r.route.access.ofBucket() {
		return nil
	}
	r.bucket, err = s.store.OpenBucket(ctx, r.tenant, r.bucketName)
	return err
}

// setCommonHeaders sets the headers of every answer; net/http adds Date.
func (s *Server) setCommonHeaders(x *exchange) {
	h := x.outHeader
	h[hRequestID] = []string{x.id}
	h[hHostID] = s.hostIDHeader
	h[hServer] = s.serverHeader
}

// Limits on how long a client may take to read an answer.
const (
	sendChunk        = 4 << 20          // bytes given to the kernel at a time
	sendChunkTimeout = 4 * time.Minute  // for one of them
	longRequest      = 30 * time.Second // from here on the write deadline is counted anew
)

// begin writes the header section.
func (x *exchange) begin(status int, length int64) {
	x.status = status
	if length >= 0 && status != http.StatusNoContent && status != http.StatusNotModified {
		x.outHeader[hContentLength] = []string{strconv.FormatInt(length, 10)}
	}
	if x.body != nil {
		x.body.finish()
	}
	if length > 1<<16 || time.Since(x.start) > longRequest {
		_ = x.control.SetWriteDeadline(time.Now().Add(sendChunkTimeout)) // not every writer has one
	}
	x.w.WriteHeader(status)
}

// send writes a handler's answer.
func (s *Server) send(x *exchange, resp *response) {
	status := resp.status
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case resp.object != nil:
		x.sendObject(resp, status)
	case resp.xml != nil:
		x.outHeader[hContentType] = s.xmlType
		x.sendBytes(status, resp.xml.buf)
		resp.xml.release()
	case resp.stream != nil:
		x.begin(status, -1)
		n, err := resp.stream(x.w)
		x.sent += n
		x.err = err
	default:
		x.sendBytes(status, resp.body)
	}
}

func (x *exchange) sendBytes(status int, b []byte) {
	x.begin(status, int64(len(b)))
	if len(b) == 0 || x.http.Method == http.MethodHead {
		return
	}
	n, err := x.w.Write(b)
	x.sent, x.err = int64(n), err
}

// sendObject lets the driver copy, a few MiB at a time, so that a client that
// has stopped reading is noticed.
func (x *exchange) sendObject(resp *response, status int) {
	defer func() { _ = resp.object.Close() }() // read only
	x.begin(status, resp.length)
	if x.http.Method == http.MethodHead {
		return
	}
	if _, ok := resp.object.(pieceByPiece); ok {
		n, err := resp.object.WriteRangeTo(&patientWriter{x}, resp.off, resp.length)
		x.sent += n
		x.broken(err)
		return
	}
	for off, left := resp.off, resp.length; left > 0; {
		n, err := resp.object.WriteRangeTo(x.w, off, min(left, sendChunk))
		x.sent += n
		off, left = off+n, left-n
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			x.broken(err)
			return // net/http closes a connection whose answer is short
		}
		if left > 0 {
			_ = x.control.SetWriteDeadline(time.Now().Add(sendChunkTimeout))
		}
	}
}

// broken notes why an object was not sent whole, if it was not: because of the
// client, whom only closing tells, or of the store, which is an error of ours
// whatever the status was.
func (x *exchange) broken(err error) {
	if err == nil {
		return
	}
	x.err = fmt.Errorf("send object: %w", err)
	var conn *net.OpError
	x.lost = x.http.Context().Err() == nil && !errors.As(err, &conn)
}

// pieceByPiece are readers that write a few MiB at a time by themselves, and
// read ahead meanwhile.
type pieceByPiece interface{ PieceByPiece() }

// patientWriter gives the client time for each piece.
type patientWriter struct{ x *exchange }

func (w *patientWriter) Write(p []byte) (int, error) {
	if len(p) > 1<<16 {
		_ = w.x.control.SetWriteDeadline(time.Now().Add(sendChunkTimeout)) // not every writer has one
	}
	return w.x.w.Write(p)
}

// sendError writes what the error table says. What the handler had prepared of
// headers is dropped.
func (s *Server) sendError(x *exchange, err error) {
	e, d := describe(err)
	x.err, x.code = err, e.code
	clear(x.outHeader)
	s.setCommonHeaders(x)
	for _, h := range e.headers {
		x.outHeader[h.name] = append(x.outHeader[h.name], h.value)
	}
	if e.code == codeSlowDown || e.code == codeServiceUnavailable {
		x.outHeader[hRetryAfter] = []string{"1"}
	}
	if d.status == http.StatusNotModified {
		x.begin(d.status, -1)
		return
	}
	x.outHeader[hContentType] = s.xmlType
	if x.http.Method == http.MethodHead {
		x.begin(d.status, -1)
		return
	}
	doc := s.errorDocument(x, e, d)
	x.sendBytes(d.status, doc.buf)
	doc.release()
	x.err = err // rather than one of writing
}

// errorDocument encodes an error in the dialect of the operation.
func (s *Server) errorDocument(x *exchange, e *apiError, d descriptor) *xmlWriter {
	if x.route != nil && x.route.sns {
		doc := newXML("ErrorResponse", nsSNS)
		doc.open("Error")
		doc.elem("Type", senderOrReceiver(d.status))
		doc.elem("Code", string(e.code))
		doc.elem("Message", e.message)
		doc.end("Error")
		doc.elem("RequestId", x.id)
		doc.end("ErrorResponse")
		return doc
	}
	doc := newXML("Error", "")
	doc.elem("Code", string(e.code))
	doc.elem("Message", e.message)
	for _, dt := range e.details {
		doc.elem(dt.name, dt.value)
	}
	for _, own := range [...]struct {
		name, value string
		wanted      bool
	}{
		{"Key", x.key, d.names&nameKey != 0},
		{"VersionId", x.query.get("versionId"), d.names&nameVersion != 0},
		{"BucketName", x.bucketName, d.names&nameBucket != 0},
	} {
		if own.wanted && !e.has(own.name) {
			doc.optional(own.name, own.value)
		}
	}
	doc.elem("RequestId", x.id)
	doc.elem("HostId", s.hostID)
	doc.end("Error")
	return doc
}

func senderOrReceiver(status int) string {
	if status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

// recover turns a panic of a handler into InternalError, for that request
// alone.
func (s *Server) recover(x *exchange) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.log.Error("panic in handler", "op", x.op, "request", x.id, "panic", p, "stack", string(debug.Stack()))
	err := fmt.Errorf("panic: %v", p)
	if x.status != 0 { // half an answer is out: only closing tells the client
		x.err = err
		panic(http.ErrAbortHandler)
	}
	s.sendError(x, err)
}

// record writes the request's line in the log, and its metrics.
func (s *Server) record(x *exchange) {
	took := time.Since(x.start)
	var in int64
	if x.body != nil {
		in = x.body.n
	}
	row := noRoute
	if x.route != nil {
		row = x.route.op
	}
	s.metrics.inFlight.Dec()
	s.metrics.observe(x.op, row, x.status, took, in, x.sent)

	ctx := x.http.Context()
	lvl := slog.LevelInfo
	if x.lost || x.status >= http.StatusInternalServerError && x.code != codeSlowDown && x.code != codeNotImplemented {
		lvl = slog.LevelError
	}
	if !s.log.Enabled(ctx, lvl) {
		return
	}
	attrs := make([]slog.Attr, 0, 13)
	attrs = append(attrs,
		slog.String("op", x.op), slog.String("bucket", x.bucketName), slog.String("key", x.key),
		slog.Int("status", x.status), slog.Int64("in", in), slog.Int64("out", x.sent),
		slog.Duration("took", took), slog.String("user", x.principal()),
		slog.String("request", x.id), slog.String("remote", x.http.RemoteAddr))
	if x.code != "" {
		attrs = append(attrs, slog.String("code", string(x.code)))
	}
	if x.err != nil && (x.code == "" || x.err != error(x.code)) {
		attrs = append(attrs, slog.String("err", x.err.Error()))
	}
	s.log.LogAttrs(ctx, lvl, "request", attrs...)
}
