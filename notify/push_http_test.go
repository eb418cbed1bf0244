package notify

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newTestPusher(t *testing.T, endpoint, args string, timeout time.Duration) *httpPusher {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newHTTPPusher(Endpoint{URL: endpoint, Args: args, ConnectTimeout: 30 * time.Second, Timeout: timeout}, u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func pushOne(p *httpPusher) Result {
	return p.Push(context.Background(), []Event{{Record: []byte(`{"eventName":"ObjectCreated:Put"}`)}})[0]
}

// TestHTTPPusher_Request has all that a request is to have, over TLS as well.
func TestHTTPPusher_Request(t *testing.T) {
	var got *http.Request
	var body string
	take := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got, body = r, string(data)
		_, _ = io.WriteString(w, strings.Repeat("thanks ", 1000)) // chunked
	})
	plain, secure := httptest.NewServer(take), httptest.NewTLSServer(take)
	defer plain.Close()
	defer secure.Close()
	for _, server := range []*httptest.Server{plain, secure} {
		endpoint := strings.Replace(server.URL, "://", "://user:pa%3Ass@", 1) + "/a%20b?q=1"
		p := newTestPusher(t, endpoint, "verify-ssl=false&cloudevents=true", 30*time.Second)
		for range 3 {
			if r := pushOne(p); r.Status != Acked {
				t.Fatalf("push to %s = %v", server.URL, r)
			}
			user, password, _ := got.BasicAuth()
			h := got.Header
			if got.Method != "POST" || got.RequestURI != "/a%20b?q=1" || "http://"+got.Host != strings.Replace(server.URL, "https", "http", 1) ||
				user != "user" || password != "pa:ss" || h.Get("Content-Type") != "application/json" ||
				h.Get("ce-type") != "com.amazonaws.ObjectCreated:Put" || body != `{"Records":[{"eventName":"ObjectCreated:Put"}]}` {
				t.Errorf("got %s %s %s %v\n%s", got.Method, got.RequestURI, got.Host, h, body)
			}
		}
		if n := len(p.pool.idle); n != 1 {
			t.Errorf("%d connections are kept, want the one", n)
		}
	}
	if r := pushOne(newTestPusher(t, secure.URL, "", 30*time.Second)); r.Status != Retry {
		t.Errorf("push to a server whose certificate nobody knows = %v", r)
	}
}

// TestHTTPPusher_Closed has the endpoint close what is idle: no push fails.
func TestHTTPPusher_Closed(t *testing.T) {
	var taken atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { taken.Add(1) }))
	defer server.Close()
	p := newTestPusher(t, server.URL, "", 30*time.Second)
	for range 20 {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if r := pushOne(p); r.Status != Acked {
					t.Errorf("push = %v", r)
				}
			})
		}
		wg.Wait()
		server.CloseClientConnections()
	}
	if n := taken.Load(); n < 100 {
		t.Errorf("%d of 100 events were taken", n)
	}
}

// answering is an endpoint that answers each request with a text, and closes the
// connection when that is empty.
func answering(t *testing.T, answers ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for _, a := range answers {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if _, err := io.WriteString(conn, a); err != nil || a == "" {
						return
					}
				}
				_, _ = io.Copy(io.Discard, r) // silent until the other side goes
			})
		}
	})
	return "http://" + l.Addr().String()
}

// TestHTTPPusher_Answers has answers of all kinds.
func TestHTTPPusher_Answers(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		name   string
		answer string
		want   string // in the error; "": acked
		kept   int
	}{
		{"good", good, "", 1},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", 1},
		{"preliminary", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + good, "", 1},
		{"preliminary only", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 9), "preliminary", 0},
		{"to be closed", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "", 0},
		{"old", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", 0},
		{"more than one", good + good, "", 0},
		{"refused", "HTTP/1.1 503 Go Away SECRET\r\nContent-Length: 0\r\n\r\n", "endpoint answered 503 Service Unavailable", 1},
		{"moved", "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "endpoint answered 302 Found", 1},
		{"other protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "endpoint answered 101", 0},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Y: "+strings.Repeat("z", 1000)+"\r\n", 100), "too large", 0},
		{"endless body", "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + strings.Repeat("z", 200_000), "", 0},
		{"no HTTP", "SSH-2.0-OpenSSH_9\r\n\r\n", "endpoint's answer", 0},
		{"none", "", "EOF", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestPusher(t, answering(t, c.answer), "", 30*time.Second)
			r := pushOne(p)
			if c.want == "" && r.Status != Acked || c.want != "" && (r.Status != Retry || !strings.Contains(r.Err.Error(), c.want)) {
				t.Errorf("push = %v, want %q", r, c.want)
			}
			if n := len(p.pool.idle); n != c.kept {
				t.Errorf("%d connections are kept, want %d", n, c.kept)
			}
			if r.Err != nil && strings.Contains(r.Err.Error(), "SECRET") {
				t.Errorf("the endpoint's text is in %v", r.Err)
			}
		})
	}
}

// TestHTTPPusher_Stale has an answer nobody asked for on an idle connection: it
// is not taken for that to the next push.
func TestHTTPPusher_Stale(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	p := newTestPusher(t, answering(t, good, good), "", 30*time.Second)
	if r := pushOne(p); r.Status != Acked {
		t.Fatalf("push = %v", r)
	}
	c := p.pool.idle[0]
	c.used = c.used.Add(-httpFresh)
	if _, err := c.tcp.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil { // has it answered
		t.Fatal(err)
	}
	for c.silent() {
		time.Sleep(time.Millisecond)
	}
	if r := pushOne(p); r.Status != Acked {
		t.Errorf("push = %v", r)
	}
	if len(p.pool.idle) != 1 || p.pool.idle[0] == c {
		t.Error("the connection is used again")
	}
}

// TestHTTPPusher_Time has an endpoint that does not answer, and one that is not
// waited for.
func TestHTTPPusher_Time(t *testing.T) {
	url := answering(t)
	if r := pushOne(newTestPusher(t, url, "", 50*time.Millisecond)); !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("push = %v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	p := newTestPusher(t, url, "", time.Hour)
	if r := p.Push(ctx, []Event{{}})[0]; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("push = %v", r)
	}
	if r := p.Push(ctx, []Event{{}})[0]; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("push = %v", r)
	}
}

// TestHTTPPool_Reap closes what is idle for long.
func TestHTTPPool_Reap(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p := newTestPusher(t, server.URL, "", 30*time.Second)
	if r := pushOne(p); r.Status != Acked {
		t.Fatal(r)
	}
	p.pool.reap()
	if len(p.pool.idle) != 1 || p.pool.reaper == nil {
		t.Error("what was used now is closed")
	}
	p.pool.idle[0].used = time.Now().Add(-httpIdleTime)
	p.pool.reap()
	if len(p.pool.idle) != 0 || p.pool.reaper != nil {
		t.Error("what was idle for long is kept")
	}
}

func TestHTTPPool_Address(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://host":              "host:80",
		"https://host/x":           "host:443",
		"http://host:/x":           "host:80",
		"http://[::1]:8080/":       "[::1]:8080",
		"http://[fe80::1%25eth0]/": "[fe80::1%eth0]:80",
		"http://bücher.example/":   "xn--bcher-kva.example:80",
	} {
		if got := newTestPusher(t, endpoint, "", time.Second).pool.addr; got != want {
			t.Errorf("address of %s = %s, want %s", endpoint, got, want)
		}
	}
}
