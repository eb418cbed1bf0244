package s3api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"herald/auth"
	"herald/notify"
	"herald/store"
)

func TestServe_CommonHeaders(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	seen := map[string]bool{}
	for _, c := range []call{
		{method: "GET", path: "/bkt"},
		{method: "GET", path: "/absent"},
		{method: "HEAD", path: "/absent"},
		{method: "GET", path: "/bkt", user: "-"},
		{method: "PATCH", path: "/bkt"},
	} {
		a := f.do(c)
		id := a.header.Get("x-amz-request-id")
		if len(id) != 16 || seen[id] {
			t.Errorf("%s %s: x-amz-request-id = %q", c.method, c.path, id)
		}
		seen[id] = true
		if got := a.header.Get("x-amz-id-2"); got != "host-1" {
			t.Errorf("%s %s: x-amz-id-2 = %q", c.method, c.path, got)
		}
		if a.header.Get("Date") == "" || a.header.Get("Server") == "" {
			t.Errorf("%s %s: header = %v", c.method, c.path, a.header)
		}
	}
}

func TestServe_Errors(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Domains = []string{"s3.test"} })
	f.bucket("bkt")
	long := strings.Repeat("k", 1025)
	tests := []struct {
		name   string
		call   call
		status int
		code   code
	}{
		{"anonymous", call{user: "-", method: "GET", path: "/bkt"}, 403, codeAccessDenied},
		{"anonymous listener", call{user: "-", method: "GET", path: "/?events=s3:ObjectCreated:*"}, 403, codeAccessDenied},
		{"anonymous, no bucket", call{user: "-", method: "GET", path: "/absent"}, 404, codeNoSuchBucket},
		{"another user", call{user: "bob", method: "GET", path: "/bkt"}, 403, codeAccessDenied},
		{"another tenant", call{user: "carol", method: "GET", path: "/bkt"}, 404, codeNoSuchBucket},
		{"another tenant's user, explicit", call{user: "carol", method: "GET", path: "/:bkt"}, 403, codeAccessDenied},
		{"unknown key", call{user: "mallory", method: "GET", path: "/bkt"}, 403, codeInvalidAccessKeyID},
		{"no bucket", call{method: "GET", path: "/absent"}, 404, codeNoSuchBucket},
		{"no bucket, HEAD", call{method: "HEAD", path: "/absent"}, 404, codeNoSuchBucket},
		{"no bucket by host", call{method: "GET", path: "/", host: "absent.s3.test"}, 404, codeNoSuchBucket},
		{"bad bucket name", call{method: "PUT", path: "/Bad_Name"}, 400, codeInvalidBucketName},
		{"short bucket name", call{method: "PUT", path: "/ab"}, 400, codeInvalidBucketName},
		{"empty bucket name", call{method: "GET", path: "//k"}, 400, codeInvalidBucketName},
		{"long key", call{method: "GET", path: "/bkt/" + long}, 400, codeKeyTooLong},
		{"long key, PUT", call{method: "PUT", path: "/bkt/" + long, body: "x"}, 400, codeKeyTooLong},
		{"key is not UTF-8", call{method: "GET", path: "/bkt/%ff"}, 400, codeInvalidURI},
		{"query is not escaped", call{user: "-", method: "GET", path: "/bkt?prefix=%zz"}, 400, codeInvalidURI},
		{"query is not UTF-8", call{method: "GET", path: "/bkt?prefix=%ff"}, 400, codeInvalidURI},
		{"unknown method", call{method: "PATCH", path: "/bkt"}, 405, codeMethodNotAllowed},
		{"odd method", call{method: "BREW", path: "/bkt/k"}, 405, codeMethodNotAllowed},
		{"method of no such sub-resource", call{method: "DELETE", path: "/bkt?versioning"}, 405, codeMethodNotAllowed},
		{"not implemented", call{method: "GET", path: "/bkt?policy"}, 501, codeNotImplemented},
		{"not implemented, object", call{method: "PUT", path: "/bkt/k?retention", body: "<Retention/>"}, 501, codeNotImplemented},
		{"not implemented, anonymous", call{user: "-", method: "GET", path: "/bkt?policy"}, 403, codeAccessDenied},
		{"no form", call{method: "POST", path: "/bkt", body: "x"}, 412, codePreconditionFailed},
		{"large header", call{method: "GET", path: "/bkt", header: http.Header{"X-Test": {strings.Repeat("x", 20<<10)}}}, 400, codeRequestHeaderSectionTooLarge},
		{"long URI", call{method: "GET", path: "/bkt?prefix=" + strings.Repeat("p", 40<<10)}, 400, codeInvalidURI},
		{"expected another owner", call{method: "GET", path: "/bkt", header: http.Header{"X-Amz-Expected-Bucket-Owner": {"bob"}}}, 403, codeAccessDenied},
		{"header of 1 MB", call{method: "GET", path: "/bkt", header: http.Header{"X-Test": {strings.Repeat("x", 1<<20)}}}, 400, codeRequestHeaderSectionTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := *f
			f.t = t
			f.wantError(tt.status, tt.code, tt.call)
		})
	}
	f.want(200, call{method: "GET", path: "/bkt", header: http.Header{"X-Amz-Expected-Bucket-Owner": {"alice"}}})
	// Nothing of all that did anything.
	f.want(200, call{method: "HEAD", path: "/bkt"})
	wantXML(t, f.do(call{method: "GET", path: "/absent"}).body, `
		<Error><Code>NoSuchBucket</Code><Message>There is no such bucket.</Message>
		<BucketName>absent</BucketName><RequestId>ID</RequestId><HostId>host-1</HostId></Error>`)
}

func TestServe_Privileged(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.want(200, call{user: "root", method: "HEAD", path: "/bkt"})
	f.want(200, call{user: "carol", method: "PUT", path: "/bkt"}) // of her own tenant
	f.want(200, call{user: "root", method: "HEAD", path: "/acme:bkt"})
	f.want(200, call{user: "carol", method: "HEAD", path: "/acme:bkt"})
	f.wantError(403, codeAccessDenied, call{method: "HEAD", path: "/acme:bkt"})
}

// newStub starts a server that runs h for GetObject and PutObject.
func newStub(t *testing.T, change func(*Config), h handler) *fixture {
	t.Helper()
	f := newFixtureWith(t, []route{
		{op: "CreateBucket", method: "PUT", level: levelBucket, run: (*Server).createBucket, access: byUser},
		{op: "PutObject", method: "PUT", level: levelObject, run: h},
		{op: "GetObject", method: "GET", level: levelObject, run: h},
		{op: "HeadObject", method: "HEAD", level: levelObject, run: h},
	}, notify.Options{}, change)
	f.bucket("bkt")
	return f
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestServe_HandlerErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		code   code
		header map[string]string
	}{
		{"full queue", fmt.Errorf("reserve: %w", notify.ErrFull), 503, codeSlowDown, map[string]string{"Retry-After": "1"}},
		{"no key", store.ErrNoSuchKey, 404, codeNoSuchKey, nil},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", store.ErrPreconditionFailed)), 412, codePreconditionFailed, nil},
		{"no space", store.ErrNoSpace, 507, codeInsufficientStorage, nil},
		{"auth", &auth.Error{Code: "XAmzContentSHA256Mismatch", Message: "m"}, 400, codeContentSHA256Mismatch, nil},
		{"unknown auth code", &auth.Error{Code: "Mystery", Message: "m"}, 500, codeInternalError, nil},
		{"truncated", io.ErrUnexpectedEOF, 400, codeIncompleteBody, nil},
		{"unknown", errors.New("open /secret/path"), 500, codeInternalError, nil},
		{"with header", failWith(codeNoSuchKey, store.ErrDeleteMarker).header("X-Amz-Delete-Marker", "true"), 404, codeNoSuchKey, map[string]string{"X-Amz-Delete-Marker": "true"}},
	}
	var current error
	f := newStub(t, nil, func(_ *Server, _ context.Context, r *request) (*response, error) {
		r.setHeader("X-Of-Success", "must not be seen")
		return nil, current
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := *f
			f.t = t
			current = tt.err
			a := f.wantError(tt.status, tt.code, call{method: "GET", path: "/bkt/k"})
			if strings.Contains(a.body, "secret") || a.header.Get("X-Of-Success") != "" {
				t.Errorf("answer = %v %s", a.header, a.body)
			}
			for k, v := range tt.header {
				if got := a.header.Get(k); got != v {
					t.Errorf("header %s = %q, want %q", k, got, v)
				}
			}
			f.wantError(tt.status, tt.code, call{method: "HEAD", path: "/bkt/k"})
		})
	}
	current = (&apiError{code: codeNotModified}).header("Etag", `"x"`)
	if a := f.want(304, call{method: "GET", path: "/bkt/k"}); a.body != "" || a.header.Get("Etag") != `"x"` {
		t.Errorf("304 = %v %q", a.header, a.body)
	}
}

func TestServe_Panic(t *testing.T) {
	var log syncBuffer
	started := false
	f := newStub(t, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) },
		func(_ *Server, _ context.Context, r *request) (*response, error) {
			if r.key == "late" {
				started = true
				return &response{stream: func(w http.ResponseWriter) (int64, error) {
					_, _ = w.Write(make([]byte, 1<<16))
					panic("too late")
				}}, nil
			}
			panic("boom at /secret")
		})
	a := f.wantError(500, codeInternalError, call{method: "GET", path: "/bkt/k"})
	if strings.Contains(a.body, "boom") {
		t.Errorf("the client sees the panic: %s", a.body)
	}
	if s := log.String(); !strings.Contains(s, "boom") || !strings.Contains(s, "serve_test.go") {
		t.Errorf("log = %s, want the panic and its stack", s)
	}
	resp, err := f.http.Client().Do(f.request(call{method: "GET", path: "/bkt/late"}))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil || !started {
		t.Errorf("an answer that broke off in the middle looked complete")
	}
	f.want(500, call{method: "GET", path: "/bkt/k"}) // the server lives
}

func TestServe_Log(t *testing.T) {
	var log syncBuffer
	f := newStub(t, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) },
		func(_ *Server, _ context.Context, r *request) (*response, error) {
			if _, err := drainAll(r.reader()); err != nil {
				return nil, err
			}
			return &response{body: []byte("hello")}, nil
		})
	a := f.want(200, call{method: "PUT", path: "/bkt/a%20b?X-Secret=hidden", body: "1234567"})
	line := struct {
		Level, Msg, Op, Bucket, Key, User, Request, Remote, Code, Err string
		Status                                                        int
		In, Out                                                       int64
		Took                                                          int64
	}{}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatal(err)
	}
	if line.Op != "PutObject" || line.Bucket != "bkt" || line.Key != "a b" || line.User != "alice" || line.Status != 200 ||
		line.In != 7 || line.Out != 5 || line.Took <= 0 || line.Request != a.header.Get("x-amz-request-id") || line.Level != "INFO" {
		t.Errorf("line = %+v", line)
	}
	f.want(400, call{method: "GET", path: "/bkt/k?X-Amz-Signature=hidden&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=hidden", user: "-"})
	if strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), testSecretKey("alice")) {
		t.Errorf("log shows a secret: %s", log.String())
	}
}

// TestServe_BreaksOff: the store loses bytes after the header was sent.
func TestServe_BreaksOff(t *testing.T) {
	const size = 1 << 20
	var log syncBuffer
	var file string
	f := newFixtureWith(t, []route{
		{op: "CreateBucket", method: "PUT", level: levelBucket, run: (*Server).createBucket, access: byUser},
		{op: "PutObject", method: "PUT", level: levelObject, run: (*Server).putObject},
		{op: "GetObject", method: "GET", level: levelObject, run: func(s *Server, ctx context.Context, r *request) (*response, error) {
			resp, err := s.getObject(ctx, r)
			return resp, errors.Join(err, os.Truncate(file, size/2))
		}},
	}, notify.Options{}, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	f.bucket("bkt")
	f.want(200, call{method: "PUT", path: "/bkt/k", body: strings.Repeat("x", size)})
	_ = filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, _ error) error {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() == size && e.Name() == "k" {
			file = path
		}
		return nil
	})
	resp, err := f.http.Client().Do(f.request(call{method: "GET", path: "/bkt/k"}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.Copy(io.Discard, resp.Body); resp.StatusCode != http.StatusOK || err == nil {
		t.Fatalf("status %d, %d bytes and no error", resp.StatusCode, n)
	}
	f.http.Close() // the line is written behind the answer
	if s := log.String(); !strings.Contains(s, `"level":"ERROR","msg":"request","op":"GetObject"`) || !strings.Contains(s, `"err":"send object: `) {
		t.Errorf("log = %s", s)
	}
}

func TestServe_Metrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newStub(t, func(c *Config) { c.Registerer = reg },
		func(_ *Server, _ context.Context, r *request) (*response, error) {
			if _, err := drainAll(r.reader()); err != nil || r.key == "absent" {
				return nil, codeNoSuchKey
			}
			return &response{body: []byte("hello")}, nil
		})
	f.want(200, call{method: "PUT", path: "/bkt/k", body: "1234567"})
	f.want(200, call{method: "GET", path: "/bkt/k"})
	f.want(404, call{method: "GET", path: "/bkt/absent"})
	f.want(405, call{method: "PATCH", path: "/bkt/absent"})
	m := f.server.metrics
	for _, tt := range []struct {
		op, status string
		want       float64
	}{{"GetObject", "2xx", 1}, {"GetObject", "4xx", 1}, {"PutObject", "2xx", 1}, {"CreateBucket", "2xx", 1}, {noRoute, "4xx", 1}} {
		if got := counted(t, m.requests.WithLabelValues(tt.op, tt.status)); got != tt.want {
			t.Errorf("requests{%s,%s} = %v, want %v", tt.op, tt.status, got, tt.want)
		}
	}
	if in, out := counted(t, m.received), counted(t, m.sent); in != 7 || out < 10 {
		t.Errorf("bytes = %v in, %v out", in, out)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 5 {
		t.Errorf("Gather = %d families, %v", len(families), err)
	}
}

// counted returns a counter's value.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// rawConn sends text as it is and returns the connection with a reader.
func (f *fixture) rawConn(text string) (net.Conn, *bufio.Reader) {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.http.Listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		f.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// head is a request's header section as it stands on the wire, without the
// empty line at its end.
func (f *fixture) head(c call, length int, extra string) string {
	f.t.Helper()
	req := f.request(c)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s", req.Method, req.URL.RequestURI(), req.Host, length, extra)
	for k, v := range req.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v[0])
	}
	return b.String()
}

// A client that waits for 100 Continue learns of the refusal instead, and its
// body is never asked for.
func TestServe_ExpectContinueRefused(t *testing.T) {
	f := newStub(t, nil, func(*Server, context.Context, *request) (*response, error) { return ok(), nil })
	text := "PUT /bkt/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
	_, r := f.rawConn(text)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 403 {
		t.Errorf("status = %d, want 403 and no 100", resp.StatusCode)
	}
}

func TestServe_ExpectContinueAccepted(t *testing.T) {
	f := newStub(t, nil, func(_ *Server, _ context.Context, r *request) (*response, error) {
		_, err := drainAll(r.reader())
		return ok(), err
	})
	conn, r := f.rawConn(f.head(call{method: "PUT", path: "/bkt/k", body: "12345"}, 5, "Expect: 100-continue\r\n") + "\r\n")
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("first line = %q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "12345"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("response = %v, %v", resp, err)
	}
}

// After an error whose body was not read but is short, the connection lives.
func TestServe_KeepAliveAfterError(t *testing.T) {
	f := newStub(t, nil, func(*Server, context.Context, *request) (*response, error) { return nil, codeAccessDenied })
	first := f.head(call{method: "PUT", path: "/bkt/k", body: "12345"}, 5, "") + "\r\n12345"
	second := f.head(call{method: "GET", path: "/bkt/k"}, 0, "") + "\r\n"
	_, r := f.rawConn(first + second)
	for i := range 2 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		if _, err := drainAll(resp.Body); err != nil || resp.StatusCode != 403 || resp.Close {
			t.Errorf("response %d = %d, close %t, %v", i, resp.StatusCode, resp.Close, err)
		}
	}
}

// A client that stops in the middle of its body is told so and let go.
func TestServe_StalledBody(t *testing.T) {
	f := newStub(t, func(c *Config) { c.BodyIdle = 50 * time.Millisecond },
		func(_ *Server, _ context.Context, r *request) (*response, error) {
			_, err := drainAll(r.reader())
			return ok(), err
		})
	_, r := f.rawConn(f.head(call{method: "PUT", path: "/bkt/k", body: "12345"}, 5, "") + "\r\n123")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 400 || !strings.Contains(string(body), "RequestTimeout") {
		t.Errorf("response = %d %s, %v", resp.StatusCode, body, err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
}

// A form may be read before its sender is known, so bytes that drip buy it no
// more time.
func TestServe_DrippingForm(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.BodyIdle = 100 * time.Millisecond })
	conn, r := f.rawConn(f.head(call{method: "POST", path: "/", body: strings.Repeat("x", 1<<19)}, 1<<19, "") + "\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(conn, "x"); err != nil {
				tick.Stop()
				return
			}
		}
	}()
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 400 {
		t.Errorf("response = %v, %v", resp, err)
	}
	_ = conn.Close() // ends the writer
	<-done
}

func TestServe_TruncatedBody(t *testing.T) {
	result := make(chan error, 1)
	f := newStub(t, nil, func(_ *Server, _ context.Context, r *request) (*response, error) {
		_, err := drainAll(r.reader())
		result <- err
		return ok(), err
	})
	conn, _ := f.rawConn(f.head(call{method: "PUT", path: "/bkt/k", body: "12345"}, 5, "") + "\r\n123")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	err := <-result
	if e, _ := describe(err); err == nil || e.code != codeIncompleteBody {
		t.Errorf("error = %v, want IncompleteBody", err)
	}
}

func TestServe_VirtualHost(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Domains = []string{"s3.test"} })
	f.want(200, call{method: "PUT", path: "/", host: "bkt.s3.test"})
	f.want(200, call{method: "HEAD", path: "/", host: "bkt.s3.test:7480"})
	f.want(200, call{method: "HEAD", path: "/bkt", host: "s3.test"})
	f.put("", "bkt", "k", "data", nil)
	a := f.want(200, call{method: "GET", path: "/?list-type=2", host: "bkt.s3.test"})
	if !strings.Contains(a.body, "<Key>k</Key>") {
		t.Errorf("list = %s", a.body)
	}
}
