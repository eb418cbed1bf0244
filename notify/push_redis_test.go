package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/tests/redistest"

	"github.com/redis/go-redis/v9"
)

// streamEntries returns all of a stream.
func streamEntries(t *testing.T, srv *redistest.Server, key string) []redis.XMessage {
	t.Helper()
	c := srv.Client()
	defer func() { _ = c.Close() }() // nothing is lost
	entries, err := c.XRange(t.Context(), key, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestRedis_Stream(t *testing.T) {
	srv := redistest.Start(t)
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	events := brokerEvents(600, 7)
	events[0].TraceParent, events[0].TraceState = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
	wantResults(t, "push", p.Push(t.Context(), events), Acked, "")
	got := streamEntries(t, srv, "topic")
	if len(got) != len(events) {
		t.Fatalf("the stream has %d entries, want %d", len(got), len(events))
	}
	last := map[int]int{}
	for _, m := range got {
		var n int
		if _, err := fmt.Sscanf(fmt.Sprint(m.Values["message"]), `{"Records":[{"n":%d}]}`, &n); err != nil {
			t.Fatalf("entry %v: %v", m, err)
		}
		e := &events[n]
		if m.Values["id"] != e.ID || m.Values["bucket"] != "b" || m.Values["key"] != e.Object || m.Values["message"] != string(e.Message()) ||
			n == 0 && (m.Values["traceparent"] != e.TraceParent || m.Values["tracestate"] != e.TraceState) || n != 0 && len(m.Values) != 4 {
			t.Errorf("entry %v, want that of %+v", m, e)
		}
		if before, ok := last[n%7]; ok && before > n {
			t.Errorf("event %d came after %d of the same key", n, before)
		}
		last[n%7] = n
	}
	short := openBroker(t, brokerTimeout, nil, srv.URL(), "redis-key", "{x}:short", "redis-maxlen", "100")
	wantResults(t, "push", short.Push(t.Context(), events), Acked, "")
	if n := len(streamEntries(t, srv, "{x}:short")); n < 100 || n > 500 {
		t.Errorf("a stream of about 100 entries has %d", n)
	}
}

func TestRedis_PubSub(t *testing.T) {
	srv := redistest.Start(t)
	c := srv.Client()
	defer func() { _ = c.Close() }() // nothing is lost
	sub := c.Subscribe(t.Context(), "news")
	defer func() { _ = sub.Close() }() // likewise
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := openBroker(t, brokerTimeout, nil, srv.URL(), "redis-mode", "pubsub", "redis-key", "news")
	events := brokerEvents(50, 1)
	wantResults(t, "push", p.Push(t.Context(), events), Acked, "")
	for i := range events {
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil || m.Payload != string(events[i].Message()) {
			t.Fatalf("message %d = %v, %v", i, m, err)
		}
	}
	nobody := openBroker(t, brokerTimeout, nil, srv.URL(), "redis-mode", "pubsub", "redis-key", "nobody")
	wantResults(t, "to nobody", nobody.Push(t.Context(), events), Acked, "")
}

func TestRedis_Refused(t *testing.T) {
	srv := redistest.Start(t)
	srv.Do("ACL", "SETUSER", "u", "on", ">right", "~ok*", "&ok*", "+@all")
	closed := redistest.Start(t, "--requirepass", "right")
	follower := redistest.Start(t, "--replicaof", "127.0.0.1", "1")
	full := redistest.Start(t, "--maxmemory", "1")
	srv.Do("SET", "string", "x")
	port := func(s *redistest.Server) string { return strings.TrimPrefix(s.URL(), "redis://") }
	tests := []struct {
		name, url string
		args      []string
		want      Status
		text      string
	}{
		{"all is well", srv.URL(), nil, Acked, ""},
		{"a user", "redis://u:right@" + port(srv), []string{"redis-key", "ok"}, Acked, ""},
		{"attributes for the user", srv.URL(), []string{"redis-key", "ok", "user-name", "u", "password", "right"}, Acked, ""},
		{"password alone", "redis://:right@" + port(closed), nil, Acked, ""},
		{"no password", closed.URL(), nil, Retry, "NOAUTH"},
		{"wrong password", "redis://:wrong@" + port(closed), nil, Retry, "WRONGPASS"},
		{"no right", "redis://u:right@" + port(srv), nil, Retry, "NOPERM"},
		{"no right to publish", "redis://u:right@" + port(srv), []string{"redis-mode", "pubsub"}, Retry, "NOPERM"},
		{"a replica", follower.URL(), nil, Retry, "READONLY"},
		{"full", full.URL(), nil, Retry, "OOM"},
		{"no stream", srv.URL(), []string{"redis-key", "string"}, Retry, "WRONGTYPE"},
		{"no such database", strings.TrimSuffix(srv.URL(), "/0") + "/9999", nil, Retry, "out of range"},
		{"no TLS there", strings.Replace(srv.URL(), "redis:", "rediss:", 1), nil, Retry, ""},
		{"nobody listens", "redis://127.0.0.1:1", nil, Retry, "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			timeout := brokerTimeout
			if tt.name == "no TLS there" { // the server waits for more
				timeout = 2 * time.Second
			}
			p := openBroker(t, timeout, nil, tt.url, tt.args...)
			for range 2 {
				results := p.Push(t.Context(), brokerEvents(3, 3))
				wantResults(t, "push", results, tt.want, tt.text)
				if err := results[0].Err; err != nil && strings.Contains(err.Error(), "right") {
					t.Errorf("the error shows a password: %v", err)
				}
			}
		})
	}
}

// A failure of one event holds up the later ones of its key alone.
func TestRedis_Full(t *testing.T) {
	srv := redistest.Start(t)
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	wantResults(t, "push", p.Push(t.Context(), brokerEvents(10, 10)), Acked, "")
	srv.Do("CONFIG", "SET", "maxmemory", "1")
	wantResults(t, "to a full server", p.Push(t.Context(), brokerEvents(10, 10)), Retry, "OOM: the server's memory is full")
	srv.Do("CONFIG", "SET", "maxmemory", "0")
	wantResults(t, "to one with room again", p.Push(t.Context(), brokerEvents(10, 10)), Acked, "")
}

func TestRedis_Paused(t *testing.T) {
	srv := redistest.Start(t)
	const timeout = 2 * time.Second
	p := openBroker(t, timeout, nil, srv.URL())
	events := brokerEvents(40, 40)
	for i := range events { // more than the sockets hold
		events[i].Record = []byte(`"` + strings.Repeat("x", 500_000) + `"`)
	}
	for deadline := time.Now().Add(brokerTimeout); p.Push(t.Context(), events[:1])[0].Status != Acked; {
		if time.Now().After(deadline) {
			t.Fatal("no push gets there")
		}
	}
	srv.Pause()
	start := time.Now()
	for _, r := range p.Push(t.Context(), events) {
		if r.Status != Retry {
			t.Errorf("push to a paused server = %v", r.Status)
		}
	}
	if d := time.Since(start); d < timeout || d > 15*timeout {
		t.Errorf("push to a paused server took %v, want %v", d, timeout)
	}
	patient := openBroker(t, brokerTimeout, nil, srv.URL())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []Result)
	go func() { done <- patient.Push(ctx, events) }()
	time.Sleep(100 * time.Millisecond) // most likely it waits by now; else nothing is lost
	cancel()
	wantResults(t, "cancelled", <-done, Retry, "cancel")
	go func() { done <- patient.Push(t.Context(), events) }()
	start = time.Now()
	_ = patient.Close()
	for _, r := range <-done {
		if r.Status != Retry {
			t.Errorf("push after Close = %v", r.Status)
		}
	}
	if d := time.Since(start); d > brokerTimeout/2 {
		t.Errorf("Close took %v", d)
	}
	srv.Resume()
	for start = time.Now(); p.Push(t.Context(), events[:1])[0].Status != Acked; {
		if time.Since(start) > brokerTimeout {
			t.Fatal("the server goes on, but no push gets there")
		}
	}
}

// The server is killed and comes back while events are pushed: each is there,
// and the first of each in order.
func TestRedis_Killed(t *testing.T) {
	srv := redistest.Start(t)
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	var wg sync.WaitGroup
	const pushers, each = 8, 100
	for n := range pushers {
		wg.Go(func() {
			for i := range each {
				e := Event{Key: fmt.Sprint(n), Object: fmt.Sprint(n), ID: fmt.Sprint(i), Record: []byte("{}")}
				for deadline := time.Now().Add(brokerTimeout); ; {
					r := p.Push(t.Context(), []Event{e})[0]
					if r.Status == Acked {
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("push = %v", r.Err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		time.Sleep(100 * time.Millisecond) // some are pushed meanwhile; none need be
		srv.KillNine()
		srv.Restart()
	}
	wg.Wait()
	next := map[string]int{}
	for _, m := range streamEntries(t, srv, "topic") {
		key := fmt.Sprint(m.Values["key"])
		var i int
		if _, err := fmt.Sscan(fmt.Sprint(m.Values["id"]), &i); err != nil || i > next[key] {
			t.Errorf("pusher %s: event %d, want at most %d (%v)", key, i, next[key], err)
		}
		next[key] = max(next[key], i+1)
	}
	for n := range pushers {
		if next[fmt.Sprint(n)] != each {
			t.Errorf("pusher %d: %d events, want %d", n, next[fmt.Sprint(n)], each)
		}
	}
}

func TestRedis_TLS(t *testing.T) {
	srv, files := redistest.StartTLS(t)
	secure := strings.Replace(srv.URL(), "redis:", "rediss:", 1)
	client := []string{"ssl-certificate-location", files.Cert, "ssl-key-location", files.Key}
	for _, tt := range []struct {
		name, url string
		args      []string
		want      Status
		text      string
	}{
		{"CA", secure, append(client, "ca-location", files.CA), Acked, ""},
		{"by attribute", srv.URL(), append(client, "ca-location", files.CA, "use-ssl", "true"), Acked, ""},
		{"not verified", secure, append(client, "verify-ssl", "false"), Acked, ""},
		{"unknown authority", secure, client, Retry, "unknown authority"},
		{"no certificate", secure, []string{"ca-location", files.CA}, Retry, ""},
		{"plain", srv.URL(), nil, Retry, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := openBroker(t, brokerTimeout, nil, tt.url, tt.args...)
			wantResults(t, "push", p.Push(t.Context(), brokerEvents(2, 2)), tt.want, tt.text)
		})
	}
}

func TestRedis_Shared(t *testing.T) {
	srv := redistest.Start(t)
	var common shared
	a := openBroker(t, brokerTimeout, &common, srv.URL())
	b := openBroker(t, brokerTimeout, &common, srv.URL(), "redis-key", "other")
	c := openBroker(t, brokerTimeout, &common, srv.URL(), "verify-ssl", "false")
	if len(common.by) != 2 {
		t.Errorf("%d clients, want 2", len(common.by))
	}
	_ = a.Close()
	wantResults(t, "push", b.Push(t.Context(), brokerEvents(1, 1)), Acked, "")
	wantResults(t, "push after Close", c.Push(t.Context(), brokerEvents(1, 1)), Acked, "")
	_, _ = b.Close(), c.Close()
	wantResults(t, "push after Close", b.Push(t.Context(), brokerEvents(1, 1)), Retry, "closed")
	if len(common.by) != 0 {
		t.Errorf("%d clients, want none", len(common.by))
	}
}

func TestRedis_Settings(t *testing.T) {
	tests := []struct {
		url, args string
		ok        bool
	}{
		{"redis://h", "", true},
		{"redis://h:1/15", "", true},
		{"rediss://:p@h", "", true},
		{"redis://u@h", "", false},
		{"redis://u:p@h/", "", true},
		{"redis://h/x", "", false},
		{"redis://h/-1", "", false},
		{"redis://h?db=1", "", false},
		{"redis://a:1,b:2", "", false},
		{"redis://h", "redis-mode=pubsub", true},
		{"redis://h", "redis-mode=list", false},
		{"redis://h", "redis-maxlen=10", true},
		{"redis://h", "redis-maxlen=0", false},
		{"redis://h", "redis-maxlen=ten", false},
		{"redis://h", "redis-maxlen=10&redis-mode=pubsub", false},
		{"redis://h", "redis-key=" + strings.Repeat("k", maxRedisKey+1), false},
	}
	for _, tt := range tests {
		topic := Topic{Name: "t", Dest: Dest{PushEndpoint: tt.url, Args: tt.args}}
		if err := topic.checkEndpoint(); (err == nil) != tt.ok {
			t.Errorf("%s with %s: %v, want ok %t", tt.url, tt.args, err, tt.ok)
		}
	}
}

func FuzzRedisSettings(f *testing.F) {
	f.Add("redis://u:p@h:1/3", "redis-key=a b&redis-maxlen=7")
	f.Add("rediss://:p@[::1]", "redis-mode=pubsub")
	f.Fuzz(func(t *testing.T, endpoint, args string) {
		u, err := url.Parse(endpoint)
		if err != nil {
			return
		}
		s, err := redisSettingsOf(&Endpoint{URL: endpoint, Args: args, Topic: "t"}, u)
		if err == nil && (s.key == "" || s.db < 0 || s.maxLen < 0 || !strings.Contains(s.addr, ":")) {
			t.Errorf("%+v", s)
		}
		if err != nil && !errors.Is(err, ErrInvalidEndpoint) {
			t.Errorf("%q: %v", endpoint, err)
		}
	})
}

func FuzzRedisRefusal(f *testing.F) {
	f.Add("OOM command not allowed when used memory > 'maxmemory'.")
	f.Add("ERR x\r\ny")
	f.Fuzz(func(t *testing.T, answer string) {
		if text := redisRefusal(answer).Error(); strings.ContainsAny(text, "\r\n\x00") || len(text) > 2000 {
			t.Errorf("%q", text)
		}
	})
}
