package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/tests/natstest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// brokerTimeout is that of pushes which are to succeed.
const brokerTimeout = 60 * time.Second

// openBroker opens a pusher for topic "topic". args are names and values.
func openBroker(t *testing.T, timeout time.Duration, shared *shared, endpoint string, args ...string) Pusher {
	t.Helper()
	topic := Topic{}
	for i := 0; i < len(args); i += 2 {
		topic.setArg(args[i], args[i+1])
	}
	p, err := openPusher(Endpoint{URL: endpoint, Args: topic.Dest.Args, Topic: "topic", ConnectTimeout: timeout, Timeout: timeout, shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// brokerEvents are n events of some keys.
func brokerEvents(n, keys int) []Event {
	events := make([]Event, n)
	for i := range events {
		key := fmt.Sprintf("key-%d", i%keys)
		events[i] = Event{Record: fmt.Appendf(nil, `{"n":%d}`, i), Key: "b/" + key, ID: fmt.Sprintf("%032x", i), Bucket: "b", Object: key}
	}
	return events
}

// wantResults fails unless all results have a status, and texts if there is one.
func wantResults(t *testing.T, what string, results []Result, want Status, text string) {
	t.Helper()
	for i, r := range results {
		if r.Status != want || (r.Err != nil) != (want != Acked) || r.Err != nil && !strings.Contains(r.Err.Error(), text) {
			t.Fatalf("%s: event %d = %v (%v), want %v (%s)", what, i, r.Status, r.Err, want, text)
		}
	}
}

func TestNATS_JetStream(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	stream := srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic", "s3.>"}})
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	events := brokerEvents(600, 7)
	events[0].TraceParent, events[0].TraceState = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
	events[1].Bare = true
	wantResults(t, "push", p.Push(t.Context(), events), Acked, "")
	wantResults(t, "the same again", p.Push(t.Context(), events), Acked, "")
	got := srv.Messages(stream)
	if len(got) != len(events) {
		t.Fatalf("the stream has %d messages, want %d", len(got), len(events))
	}
	last := map[int]int{}
	for _, m := range got {
		var n int
		text := strings.TrimSuffix(strings.TrimPrefix(string(m.Data), `{"Records":[`), `]}`)
		if _, err := fmt.Sscanf(text, `{"n":%d}`, &n); err != nil {
			t.Fatalf("message %q: %v", m.Data, err)
		}
		if m.Header.Get(nats.MsgIdHdr) != events[n].ID || m.Header.Get("Content-Type") != "application/json" || m.Header.Get("traceparent") != events[n].TraceParent ||
			m.Header.Get("tracestate") != events[n].TraceState || m.Subject != "topic" || string(m.Data) != string(events[n].Message()) {
			t.Errorf("message %+v, want that of %+v", m, events[n])
		}
		if before, ok := last[n%7]; ok && before > n {
			t.Errorf("event %d came after %d of the same key", n, before)
		}
		last[n%7] = n
	}
	other := openBroker(t, brokerTimeout, nil, srv.URL(), "nats-subject", "s3.events.x", "nats-stream", "S")
	wantResults(t, "another subject", other.Push(t.Context(), []Event{{ID: "x", Record: []byte("{}")}}), Acked, "")
	if got := srv.Messages(stream); len(got) != len(events)+1 || got[len(events)].Subject != "s3.events.x" {
		t.Errorf("the stream has %d messages, want one more, of the subject", len(got))
	}
}

func TestNATS_Refused(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{Config: `
		max_payload: 4KB
		authorization { users: [
			{user: "u", password: "right"},
			{user: "mute", password: "right", permissions: {publish: "other", subscribe: ">"}}
			{user: "deaf", password: "right", permissions: {publish: ">", subscribe: "other"}}
		] }`, Connect: []nats.Option{nats.UserInfo("u", "right")}})
	js := srv.JetStream()
	srv.Stream(js, jetstream.StreamConfig{Name: "S", Subjects: []string{"topic"}})
	srv.Stream(js, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgSize: 300})
	srv.Stream(js, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
	if _, err := js.Publish(t.Context(), "full", nil); err != nil {
		t.Fatal(err)
	}
	as := func(user string) string { return "nats://" + user + "@" + srv.Addr }
	large := []Event{{ID: "1", Record: []byte(`"` + strings.Repeat("x", 5000) + `"`)}}
	medium := []Event{{ID: "1", Record: []byte(`"` + strings.Repeat("x", 500) + `"`)}}
	tests := []struct {
		name, url string
		args      []string
		events    []Event
		want      Status
		text      string
	}{
		{"all is well", as("u:right"), nil, medium, Acked, ""},
		{"no stream", as("u:right"), []string{"nats-subject", "nowhere"}, medium, Retry, "no stream takes"},
		{"another stream", as("u:right"), []string{"nats-stream", "T"}, medium, Retry, "expected stream does not match"},
		{"larger than the server takes", as("u:right"), nil, large, Rejected, "4096 bytes"},
		{"without a stream, too", as("u:right"), []string{"nats-ack-level", "none"}, large, Rejected, "4096 bytes"},
		{"larger than the stream takes", as("u:right"), []string{"nats-subject", "small"}, medium, Rejected, "larger than the stream takes"},
		{"full", as("u:right"), []string{"nats-subject", "full"}, medium, Retry, "maximum messages exceeded"},
		{"wrong password", as("u:wrong"), nil, medium, Retry, "Authorization"},
		{"no password", "nats://" + srv.Addr, nil, medium, Retry, "Authorization"},
		{"token", as("token"), nil, medium, Retry, "Authorization"},
		{"attributes for the user", "nats://" + srv.Addr, []string{"user-name", "u", "password", "right"}, medium, Acked, ""},
		{"may not publish", as("mute:right"), nil, medium, Retry, "ermissions"},
		{"may not publish, without a stream", as("mute:right"), []string{"nats-ack-level", "none"}, medium, Retry, "ermissions"},
		{"may not hear acknowledgements", as("deaf:right"), nil, medium, Retry, "ermissions"},
		{"needs no acknowledgements", as("deaf:right"), []string{"nats-ack-level", "none"}, medium, Acked, ""},
		{"no TLS there", as("u:right"), []string{"use-ssl", "true"}, medium, Retry, "no TLS"},
		{"no CA", as("u:right"), []string{"ca-location", "/nonexistent"}, medium, Retry, "ca-location"},
		{"no credentials", "nats://" + srv.Addr, []string{"nats-credentials-location", "/nonexistent"}, medium, Retry, "nats-credentials-location"},
		{"no nkey", "nats://" + srv.Addr, []string{"nats-nkey-location", os.DevNull}, medium, Retry, "nats-nkey-location"},
		{"one of several servers", "nats://u:right@127.0.0.1:1," + srv.Addr, nil, medium, Acked, ""},
		{"nobody listens", "nats://127.0.0.1:1", nil, medium, Retry, "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := openBroker(t, brokerTimeout, nil, tt.url, tt.args...)
			for range 2 {
				results := p.Push(t.Context(), tt.events)
				wantResults(t, "push", results, tt.want, tt.text)
				if err := results[0].Err; err != nil && strings.Contains(err.Error(), "right") {
					t.Errorf("the error shows a password: %v", err)
				}
			}
		})
	}
}

// Two at once on one connection: the refusal of one does not harm the other, nor
// is it taken for the other's.
func TestNATS_RefusedAlone(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{Config: `
		authorization { users: [ {user: "u", password: "p", permissions: {publish: {deny: "bad"}}} ] }`,
		Connect: []nats.Option{nats.UserInfo("u", "p")}})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"good", "bad"}})
	for _, level := range []string{"jetstream", "none"} {
		t.Run(level, func(t *testing.T) {
			var common shared
			var wg sync.WaitGroup
			for subject, want := range map[string]Status{"good": Acked, "bad": Retry} {
				p := openBroker(t, brokerTimeout, &common, "nats://u:p@"+srv.Addr, "nats-ack-level", level, "nats-subject", subject)
				for n := range 8 {
					wg.Go(func() {
						for i := range 50 {
							id := fmt.Sprint(level, subject, n, i)
							r := p.Push(t.Context(), []Event{{ID: id, Record: []byte("{}")}})[0]
							if r.Status != want {
								t.Errorf("%s = %v (%v), want %v", subject, r.Status, r.Err, want)
								return
							}
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

func TestNATS_NKey(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, append(seed, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("authorization { users: [ {nkey: %s} ] }\n", public), NoJetStream: true})
	p := openBroker(t, brokerTimeout, nil, srv.URL(), "nats-ack-level", "none", "nats-nkey-location", file)
	wantResults(t, "the right key", p.Push(t.Context(), brokerEvents(3, 1)), Acked, "")
	other, _ := nkeys.CreateUser()
	wrong, _ := other.Seed()
	if err := os.WriteFile(file, wrong, 0o600); err != nil {
		t.Fatal(err)
	}
	p = openBroker(t, brokerTimeout, nil, srv.URL(), "nats-ack-level", "none", "nats-nkey-location", file)
	wantResults(t, "another key", p.Push(t.Context(), brokerEvents(3, 3)), Retry, "Authorization")
	p = openBroker(t, brokerTimeout, nil, srv.URL(), "nats-nkey-location", file)
	wantResults(t, "another key", p.Push(t.Context(), brokerEvents(3, 3)), Retry, "Authorization")
}

func TestNATS_NoJetStream(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{NoJetStream: true})
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	wantResults(t, "push", p.Push(t.Context(), brokerEvents(3, 3)), Retry, "no JetStream")
	sub, err := srv.Conn().SubscribeSync("topic")
	if err != nil {
		t.Fatal(err)
	}
	wantResults(t, "a subscriber does not acknowledge", p.Push(t.Context(), brokerEvents(1, 1)[:0]), Acked, "")
	none := openBroker(t, brokerTimeout, nil, srv.URL(), "nats-ack-level", "none")
	events := brokerEvents(50, 5)
	wantResults(t, "none", none.Push(t.Context(), events), Acked, "")
	last := map[string]int{}
	for range events {
		m, err := sub.NextMsgWithContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(m.Data), `{"Records":[{"n":%d}]}`, &n); err != nil || m.Header.Get(nats.MsgIdHdr) != events[n].ID {
			t.Errorf("message %q, %v", m.Data, m.Header)
		}
		if before, ok := last[events[n].Key]; ok && before > n {
			t.Errorf("event %d came after %d of the same key", n, before)
		}
		last[events[n].Key] = n
	}
}

// What is no stream's word is no acknowledgement.
func TestNATS_Liar(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{NoJetStream: true})
	c := srv.Conn()
	for subject, answer := range map[string]string{"a": "", "b": "OK", "c": "{}", "d": `{"stream":""}`, "e": `{"stream":"X","seq":0}`, "f": "[1]", "g": `{"error":{"description":"no\nno"}}`} {
		sub, err := c.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer)) })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		p := openBroker(t, brokerTimeout, nil, srv.URL(), "nats-subject", subject)
		wantResults(t, answer, p.Push(t.Context(), brokerEvents(1, 1)), Retry, "stream")
		_ = sub.Unsubscribe()
	}
}

// A server that does not answer: a push ends at its timeout, or when it is
// cancelled, or when the pusher is closed; when the server goes on, all is well.
func TestNATS_Paused(t *testing.T) {
	for _, level := range []string{"jetstream", "none"} {
		t.Run(level, func(t *testing.T) {
			srv := natstest.Start(t, natstest.Options{})
			srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic"}})
			const timeout = 2 * time.Second
			p := openBroker(t, timeout, nil, srv.URL(), "nats-ack-level", level)
			events := brokerEvents(40, 40)
			for i := range events { // more than the sockets hold
				events[i].Record = []byte(`"` + strings.Repeat("x", 500_000) + `"`)
			}
			deadline := time.Now().Add(brokerTimeout)
			for {
				r := p.Push(t.Context(), events[:1])[0]
				if r.Status == Acked {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("push = %v", r.Err)
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
			patient := openBroker(t, brokerTimeout, nil, srv.URL(), "nats-ack-level", level)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan []Result)
			go func() { done <- patient.Push(ctx, events) }()
			cancel()
			wantResults(t, "cancelled", <-done, Retry, "cancel")
			go func() { done <- patient.Push(t.Context(), events) }()
			start = time.Now()
			_ = patient.Close()
			wantResults(t, "closed", <-done, Retry, "closed")
			if d := time.Since(start); d > brokerTimeout/2 {
				t.Errorf("Close took %v", d)
			}
			srv.Resume()
			for start = time.Now(); ; {
				if p.Push(t.Context(), events[:1])[0].Status == Acked {
					break
				}
				if time.Since(start) > brokerTimeout {
					t.Fatal("the server goes on, but no push gets there")
				}
			}
		})
	}
}

// The server is killed and comes back while events are pushed.
func TestNATS_Killed(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	stream := srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic"}})
	p := openBroker(t, brokerTimeout, nil, srv.URL())
	var wg sync.WaitGroup
	const pushers, each = 8, 100
	for n := range pushers {
		wg.Go(func() {
			for i := range each {
				e := Event{ID: fmt.Sprintf("%d-%d", n, i), Key: fmt.Sprint(n), Record: fmt.Appendf(nil, `"%d %d"`, n, i)}
				for deadline := time.Now().Add(brokerTimeout); ; {
					r := p.Push(t.Context(), []Event{e})[0]
					if r.Status == Acked {
						break
					}
					if r.Status == Rejected || time.Now().After(deadline) {
						t.Errorf("push = %v (%v)", r.Status, r.Err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		time.Sleep(100 * time.Millisecond) // some are pushed meanwhile; none need be
		srv.Kill()
		srv.Restart()
	}
	wg.Wait()
	seen := map[string]int{}
	for _, m := range srv.Messages(stream) {
		var n, i int
		if _, err := fmt.Sscanf(string(m.Data), `{"Records":["%d %d"]}`, &n, &i); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(n)
		if i != seen[key] {
			t.Errorf("pusher %d: event %d, want %d", n, i, seen[key])
		}
		seen[key] = i + 1
	}
	for n := range pushers {
		if seen[fmt.Sprint(n)] != each {
			t.Errorf("pusher %d: %d events, want %d", n, seen[fmt.Sprint(n)], each)
		}
	}
}

func TestNATS_Settings(t *testing.T) {
	tests := []struct {
		url  string
		args string
		ok   bool
	}{
		{"nats://h", "", true},
		{"nats://h:1/", "", true},
		{"nats://u:p@h:1,h2:2", "", true},
		{"natss://token@h", "", true},
		{"tls://h", "", true},
		{"nats://h/x", "", false},
		{"nats://h?x=y", "", false},
		{"nats://h,:1", "", false},
		{"nats://h", "nats-ack-level=none", true},
		{"nats://h", "nats-ack-level=broker", false},
		{"nats://h", "nats-subject=a.b", true},
		{"nats://h", "nats-subject=a.*", false},
		{"nats://h", "nats-subject=a.>", false},
		{"nats://h", "nats-subject=a..b", false},
		{"nats://h", "nats-subject=a b", false},
		{"nats://h", "nats-subject=$JS.API.STREAM.DELETE.S", false},
		{"nats://h", "nats-subject=a\r\nPUB x", false},
		{"nats://h", "nats-stream=S", true},
		{"nats://h", "nats-stream=S.T", false},
		{"nats://h", "nats-stream=S&nats-ack-level=none", false},
		{"nats://h", "nats-inbox-prefix=_INBOX_x", true},
		{"nats://h", "nats-inbox-prefix=>", false},
		{"nats://u:p@h", "nats-nkey-location=/f", false},
		{"nats://h", "nats-credentials-location=/f&nats-nkey-location=/f", false},
	}
	for _, tt := range tests {
		topic := Topic{Name: "t", Dest: Dest{PushEndpoint: tt.url, Args: tt.args}}
		if err := topic.checkEndpoint(); (err == nil) != tt.ok {
			t.Errorf("%s with %s: %v, want ok %t", tt.url, tt.args, err, tt.ok)
		}
	}
	topic := Topic{Name: "t", Dest: Dest{PushEndpoint: "nats://sesame@h:1"}}
	if err := topic.checkEndpoint(); err != nil || !topic.Dest.StoredSecret || topic.Redacted().Dest.PushEndpoint != "nats://xxxxx@h:1" {
		t.Errorf("a token: %v, secret %t, shown as %s", err, topic.Dest.StoredSecret, topic.Redacted().Dest.PushEndpoint)
	}
}

func FuzzNATSSettings(f *testing.F) {
	f.Add("nats://u:p@h:1,[::1]:2", "nats-subject=a.b&nats-stream=S")
	f.Add("tls://token@h", "nats-ack-level=none")
	f.Fuzz(func(t *testing.T, endpoint, args string) {
		u, err := url.Parse(endpoint)
		if err != nil {
			return
		}
		s, err := natsSettingsOf(&Endpoint{URL: endpoint, Args: args, Topic: "t"}, u)
		if err != nil {
			return
		}
		if strings.ContainsAny(s.subject+s.stream+s.inbox, " \r\n\t*>") || s.subject == "" || s.subject[0] == '$' || len(s.servers) == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzNATSAck(f *testing.F) {
	f.Add([]byte(`{"stream":"S","seq":1,"duplicate":true}`), "S")
	f.Add([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}`), "")
	f.Fuzz(func(t *testing.T, data []byte, wanted string) {
		status, err := natsAck(data, wanted)
		var ack struct {
			Stream string
			Seq    uint64
		}
		if (err == nil) != (status == Acked) || status == Acked && (json.Unmarshal(data, &ack) != nil || ack.Stream == "" || ack.Seq == 0) {
			t.Errorf("%q = %v, %v", data, status, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("error %q", err)
		}
	})
}
