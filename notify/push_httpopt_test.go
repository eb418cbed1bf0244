package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
)

// request is what a server got.
type request struct {
	*http.Request
	body string
}

// listening is a server that keeps what it gets; protocol "h2" is HTTP/2 by TLS,
// "tls" HTTP/1.1 by TLS, and "" HTTP/1.1.
func listening(t *testing.T, protocol string, answer http.HandlerFunc) (endpoint string, last func() request) {
	t.Helper()
	var mu sync.Mutex
	var got request
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = request{r, string(data)}
		mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	switch server.EnableHTTP2 = protocol == "h2"; protocol {
	case "":
		server.Start()
	default:
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return server.URL, func() request {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

// args makes an endpoint's arguments.
func args(pairs ...string) string {
	var t Topic
	for i := 0; i < len(pairs); i += 2 {
		t.setArg(pairs[i], pairs[i+1])
	}
	return t.Dest.Args
}

var protocols = [...]string{"", "tls", "h2"}

func testEvent() Event {
	return Event{
		Record: []byte(`{"eventName":"ObjectCreated:Put","eventSource":"ceph:s3","awsRegion":"r","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}`),
		Key:    "b/a \"ö", ID: "0123456789abcdef0123456789abcdef", Bucket: "b", Object: "a \"ö", TraceParent: "00-1-2-01", TraceState: "a=b",
	}
}

// TestHTTPPusher_Options has all that topics can have sent, by each protocol.
func TestHTTPPusher_Options(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			endpoint, last := listening(t, protocol, nil)
			p := newTestPusher(t, endpoint, args("verify-ssl", "false", argHTTPToken, "s3cr3t", argHTTPHeaders, "X-One: 1\n x-two: 2\n\nX-Three:\n",
				argHTTPKeys, "new:0123456789abcdef,old:fedcba9876543210"), 30*time.Second)
			e := testEvent()
			for range 3 {
				if r := p.Push(t.Context(), []Event{e})[0]; r.Status != Acked {
					t.Fatalf("push = %v", r)
				}
			}
			got := last()
			if want := map[string]int{"": 1, "tls": 1, "h2": 2}[protocol]; got.ProtoMajor != want {
				t.Errorf("HTTP/%d was spoken, want HTTP/%d", got.ProtoMajor, want)
			}
			for name, want := range map[string]string{
				"Authorization": "Bearer s3cr3t", "X-One": "1", "X-Two": "2", "X-Three": "", "Idempotency-Key": e.ID,
				"Traceparent": "00-1-2-01", "Tracestate": "a=b", "Content-Type": "application/json", "Ce-Id": "",
			} {
				if v := got.Header.Get(name); v != want {
					t.Errorf("%s: %q, want %q", name, v, want)
				}
			}
			if _, ok := got.Header["X-Three"]; !ok || got.body != string(e.Message()) || got.ContentLength != int64(len(got.body)) {
				t.Errorf("header %v, body %s", got.Header, got.body)
			}
			for id, secret := range map[string]string{"new": "0123456789abcdef", "old": "fedcba9876543210"} {
				if err := verifySignature(got.Header.Get(signatureField), id, secret, got.body); err != nil {
					t.Errorf("key %s: %v", id, err)
				}
			}
		})
	}
}

// verifySignature is what an endpoint does.
func verifySignature(field, id, secret, body string) error {
	var stamp, kid string
	for pair := range strings.SplitSeq(field, ",") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "t":
			stamp = value
		case "kid":
			kid = value
		case "v1":
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(stamp + "." + body))
			want, err := hex.DecodeString(value)
			if kid == id && err == nil && hmac.Equal(want, mac.Sum(nil)) {
				return nil
			}
		}
	}
	return fmt.Errorf("%q does not sign %s", field, body)
}

// TestHTTPPusher_CloudEvents has both content modes, and S3's own test event.
func TestHTTPPusher_CloudEvents(t *testing.T) {
	for _, protocol := range protocols {
		endpoint, last := listening(t, protocol, nil)
		p := newTestPusher(t, endpoint, args("verify-ssl", "false", argCloudMode, "structured", argHTTPKeys, "k:0123456789abcdef"), 30*time.Second)
		e := testEvent()
		test := Event{Record: []byte(`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-21T00:00:00Z","Bucket":"b"}`), Bare: true, ID: "i"}
		for _, c := range []struct {
			event               Event
			kind, subject, data string
		}{
			{e, "com.amazonaws.ObjectCreated:Put", e.Object, string(e.Message())},
			{test, "com.amazonaws.s3:TestEvent", "", string(test.Record)},
		} {
			if r := p.Push(t.Context(), []Event{c.event})[0]; r.Status != Acked {
				t.Fatalf("push = %v", r)
			}
			var doc struct {
				SpecVersion, ID, Source, Type, Subject, DataContentType string
				Data                                                    json.RawMessage
			}
			got := last()
			if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
				t.Fatalf("%v: %s", err, got.body)
			}
			if doc.SpecVersion != "1.0" || doc.ID != c.event.ID || doc.Type != c.kind || doc.Subject != c.subject || doc.Source == "" ||
				doc.DataContentType != "application/json" || string(doc.Data) != c.data || got.Header.Get("Content-Type") != "application/cloudevents+json" {
				t.Errorf("%s %s", got.Header, got.body)
			}
			if err := verifySignature(got.Header.Get(signatureField), "k", "0123456789abcdef", got.body); err != nil {
				t.Error(err)
			}
		}
		binary := newTestPusher(t, endpoint, args("verify-ssl", "false", "cloudevents", "true"), 30*time.Second)
		if r := binary.Push(t.Context(), []Event{e})[0]; r.Status != Acked {
			t.Fatalf("push = %v", r)
		}
		if got := last(); got.Header.Get("Ce-Subject") != "a%20%22%C3%B6" || got.Header.Get("Ce-Source") != "ceph:s3.r.b" || got.body != string(e.Message()) {
			t.Errorf("%v %s", got.Header, got.body)
		}
	}
}

// TestHTTPPusher_Statuses has what answers mean.
func TestHTTPPusher_Statuses(t *testing.T) {
	var status atomic.Int32
	endpoint, _ := listening(t, "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
	})
	for _, c := range []struct {
		reject string
		status int
		want   Status
		pause  time.Duration
	}{
		{"", 200, Acked, 0}, {"", 204, Acked, 0}, {"", 299, Acked, 0}, {"4xx", 201, Acked, 0},
		{"", 301, Retry, 0}, {"", 400, Retry, 0}, {"", 413, Retry, 0}, {"", 500, Retry, 0},
		{"", 429, Retry, 7 * time.Second}, {"", 503, Retry, 7 * time.Second},
		{"400, 413", 413, Rejected, 0}, {"400,413", 410, Retry, 0}, {"4XX", 404, Rejected, 0},
		{"4xx", 429, Retry, 7 * time.Second}, {"4xx", 408, Retry, 0}, {"4xx,429", 429, Rejected, 0}, {"503", 503, Rejected, 0},
	} {
		status.Store(int32(c.status))
		r := pushOne(newTestPusher(t, endpoint, args(argHTTPReject, c.reject), 30*time.Second))
		if r.Status != c.want || r.pause() != c.pause {
			t.Errorf("%d with %q: %v, to be tried after %s; want %v after %s", c.status, c.reject, r, r.pause(), c.want, c.pause)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, "-5": 0, "x": 0, "99999999999999999999": maxRetryAfter, "100000": maxRetryAfter,
		"Sat, 21 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sat, 21 Nov 2026 11:00:00 GMT": 0, "Sun, 21 Nov 2027 12:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", s, got, want)
		}
	}
}

// TestHTTPArgs_Refused has what no topic can be made with; no value is in the
// error.
func TestHTTPArgs_Refused(t *testing.T) {
	for _, c := range [][2]string{
		{argHTTPHeaders, "Content-Length: SECRET"}, {argHTTPHeaders, "transfer-encoding: SECRET"}, {argHTTPHeaders, "Connection: SECRET"},
		{argHTTPHeaders, "Host: SECRET"}, {argHTTPHeaders, "Herald-Signature: SECRET"}, {argHTTPHeaders, "ce-id: SECRET"},
		{argHTTPHeaders, "SECRET"}, {argHTTPHeaders, "A B: SECRET"}, {argHTTPHeaders, ": SECRET"}, {argHTTPHeaders, "X: SECRET\rY: 1"}, {argHTTPHeaders, "X: SECRET\x00"},
		{argHTTPHeaders, `{"X":"SECRET\r\nY: 1"}`}, {argHTTPHeaders, `{"X":5, "Y":"SECRET"}`}, {argHTTPHeaders, `{"X":"SECRET"`}, {argHTTPHeaders, "X: SECRET\nx: 2"},
		{argHTTPHeaders, "X: SECRET" + strings.Repeat("x", maxHTTPHeaderBytes)}, {argHTTPHeaders, "X: SECRETé"},
		{argHTTPToken, "SECRET\r\nX: 1"}, {argHTTPKeys, "SECRET"}, {argHTTPKeys, "k:SECRET"}, {argHTTPKeys, ":SECRETSECRETSECRET"}, {argHTTPKeys, "k,:SECRETSECRETSECRET"},
		{argHTTPKeys, "k:SECRETSECRETSECRET,k:SECRETSECRETSECRET"}, {argHTTPReject, "200"}, {argHTTPReject, "600"}, {argHTTPReject, "5xx"},
		{argCloudMode, "batch"}, {argHTTPVersion, "3"},
	} {
		_, err := NewTopic("r", "", "t", "o", map[string]string{"push-endpoint": "http://x", c[0]: c[1]})
		if !errors.Is(err, ErrInvalidAttribute) || strings.Contains(fmt.Sprint(err), "SECRET") {
			t.Errorf("%s %q: %v", c[0], c[1], err)
		}
	}
	topic, err := NewTopic("r", "", "t", "o", map[string]string{"push-endpoint": "http://x", argHTTPHeaders: `{"X-A":"SECRET","X-B":""}`})
	if err != nil || !topic.Dest.StoredSecret || strings.Contains(topic.Redacted().Dest.Args, "SECRET") {
		t.Errorf("%+v, %v", topic, err)
	}
}

// TestHTTPPusher_CutShort has a 2xx of which the end is missing, which somebody
// between may have sent.
func TestHTTPPusher_CutShort(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", "HTTP/1.1 200 OK\r\nContent-Le",
	} {
		var closing atomic.Bool
		endpoint, _ := listening(t, "", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, answer)
			if !closing.Load() {
				_, _ = conn.Read(make([]byte, 1)) // until the pusher closes
			}
			_ = conn.Close()
		})
		if r := pushOne(newTestPusher(t, endpoint, "", 100*time.Millisecond)); r.Status != Retry || r.Err == nil {
			t.Errorf("push that is answered %q and nothing else = %v", answer, r)
		}
		closing.Store(true)
		if r := pushOne(newTestPusher(t, endpoint, "", 30*time.Second)); r.Status != Retry || r.Err == nil {
			t.Errorf("push that is answered %q = %v", answer, r)
		}
	}
}

// TestHTTPPusher_Close has what is in flight fail at once.
func TestHTTPPusher_Close(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			arrived, leave := make(chan bool, 1), make(chan bool)
			endpoint, _ := listening(t, protocol, func(http.ResponseWriter, *http.Request) {
				arrived <- true
				<-leave
			})
			p := newTestPusher(t, endpoint, "verify-ssl=false", time.Hour)
			done := make(chan Result, 1)
			go func() { done <- pushOne(p) }()
			<-arrived
			_ = p.Close()
			if r := <-done; r.Status != Retry || r.Err == nil {
				t.Errorf("push = %v", r)
			}
			if r := pushOne(p); r.Status != Retry {
				t.Errorf("push after Close = %v", r)
			}
			close(leave)
		})
	}
}

// TestHTTPPusher_HTTP2 has many pushes at once, an endpoint that says farewell,
// and one that is not to be spoken to so.
func TestHTTPPusher_HTTP2(t *testing.T) {
	endpoint, last := listening(t, "h2", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // HTTP/2: GOAWAY
	})
	p := newTestPusher(t, endpoint, "verify-ssl=false", 30*time.Second)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 10 {
				if r := pushOne(p); r.Status != Acked && !strings.Contains(r.Err.Error(), "GOAWAY") {
					t.Errorf("push = %v", r)
				}
			}
		})
	}
	wg.Wait()
	if r := pushOne(newTestPusher(t, endpoint, "verify-ssl=false&http-version=1.1", 30*time.Second)); r.Status != Acked || last().ProtoMajor != 1 {
		t.Errorf("push = %v by HTTP/%d", r, last().ProtoMajor)
	}
	silent, _ := listening(t, "h2", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if r := pushOne(newTestPusher(t, silent, "verify-ssl=false", 100*time.Millisecond)); !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("push = %v", r)
	}
}

// FuzzHTTPHeaders: what is accepted makes one line each in a request.
func FuzzHTTPHeaders(f *testing.F) {
	for _, s := range []string{"X-A: b\nX-C: d", `{"X-A":"b"}`, "Host: x", "X: \x7f", "A:\r\nB: c", "{", "x", "Pragma: no-cache"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fields, err := parseHTTPHeaders(s)
		if err != nil {
			return
		}
		var text []byte
		for _, h := range fields {
			text = appendField(text, h.name, h.value)
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\n" + string(text) + "Content-Length: 3\r\n\r\nabc")))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := len(fields) + 1
		if _, ok := req.Header["Cache-Control"]; ok && !slices.ContainsFunc(fields, func(h headerField) bool { return strings.EqualFold(h.name, "Cache-Control") }) {
			want++ // net/http adds it to "Pragma: no-cache"
		}
		if body, _ := io.ReadAll(req.Body); string(body) != "abc" || req.Host != "h" || len(req.Header) != want || len(req.TransferEncoding) > 0 {
			t.Errorf("%q makes %v with the body %q", text, req.Header, body)
		}
	})
}

// FuzzSigningKeys: what is accepted can be found in the field again.
func FuzzSigningKeys(f *testing.F) {
	f.Add("new:0123456789abcdef,old:fedcba9876543210", "body")
	f.Add("k:0123456789abcde=,=", "")
	f.Fuzz(func(t *testing.T, s, body string) {
		keys, err := parseSigningKeys(s)
		if err != nil || len(keys) == 0 {
			return
		}
		field := string(newSigner(keys).appendValue(nil, time.Unix(1763769000, 0), []byte(body)))
		for _, k := range keys {
			if err := verifySignature(field, k.id, string(k.secret), body); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzHTTPAnswer: an endpoint's bytes end in bounded memory and time, and only a
// status of 2xx is an ack.
func FuzzHTTPAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 x\r\nRetry-After: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.0 204\r\n\r\n", "SSH-2.0\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &httpConn{limit: io.LimitedReader{R: bytes.NewReader(data), N: maxAnswerHeader}}
		c.r = bufio.NewReader(&c.limit)
		a, _, err := c.answer()
		if err == nil && a.status/100 == 2 && !bytes.Contains(data, []byte(" 2")) {
			t.Errorf("%q is taken for %d", data, a.status)
		}
		if a.after < 0 || a.after > maxRetryAfter {
			t.Errorf("%q: to be tried after %s", data, a.after)
		}
	})
}

// TestHTTPPusher_Proxy: what the environment names is not asked.
func TestHTTPPusher_Proxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://"+l.Addr().String())
	}
	for _, protocol := range protocols {
		endpoint, _ := listening(t, protocol, nil)
		u, _ := url.Parse(endpoint)
		p := newTestPusher(t, strings.Replace(endpoint, "127.0.0.1", "localhost", 1), "verify-ssl=false", 30*time.Second)
		p.pool.addr = u.Host // localhost is exempt from proxies: its name is another
		if r := pushOne(p); r.Status != Acked {
			t.Errorf("push = %v", r)
		}
	}
}

// TestHTTPPusher_Room has no more pushes on their way than there is room for.
func TestHTTPPusher_Room(t *testing.T) {
	var now, most atomic.Int32
	endpoint, _ := listening(t, "", func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	})
	p := newTestPusher(t, endpoint, "", 30*time.Second)
	p.pool.e.room = semaphore.NewWeighted(3)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := pushOne(p); r.Status != Acked {
				t.Errorf("push = %v", r)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 3 {
		t.Errorf("%d pushes at once, want 3", n)
	}
	_ = p.pool.e.room.Acquire(t.Context(), 3)
	p.timeout = 20 * time.Millisecond
	if r := pushOne(p); r.Status != Retry || !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("push without room = %v", r)
	}
}
