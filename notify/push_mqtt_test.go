package notify

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"herald/tests/brokertest"
)

func TestMQTTPusher_Invalid(t *testing.T) {
	for _, c := range []struct{ url, args string }{
		{"mqtt://host", "mqtt-qos=3"}, {"mqtt://host/a/+/b", ""}, {"mqtt://host/%23", ""}, {"mqtt://:1", ""},
	} {
		if _, err := openPusher(Endpoint{URL: c.url, Args: c.args, Topic: "t"}); err == nil {
			t.Errorf("%s %s is accepted", c.url, c.args)
		}
	}
}

func TestMQTTAnswer(t *testing.T) {
	for code, want := range map[byte]Status{0: Acked, 0x10: Acked, 0x80: Retry, 0x87: Retry, 0x90: Retry, 0x95: Rejected, 0x97: Retry, 0x99: Rejected} {
		if got := mqttAnswer(code); got.Status != want || (got.Err == nil) != (want == Acked) {
			t.Errorf("0x%02X = %v", code, got)
		}
	}
}

// subscribe takes what arrives at a topic's filter.
func subscribe(t *testing.T, addr, filter string) <-chan *paho.Publish {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *paho.Publish, 1000)
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) { got <- r.Packet; return true, nil },
	}})
	if _, err := client.Connect(t.Context(), &paho.Connect{ClientID: "subscriber", CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Disconnect(&paho.Disconnect{})
		<-client.Done()
	})
	return got
}

func arrived(t *testing.T, got <-chan *paho.Publish) *paho.Publish {
	t.Helper()
	select {
	case m := <-got:
		return m
	case <-time.After(time.Minute):
		t.Fatal("no message arrives")
		return nil
	}
}

func openMQTT(t *testing.T, pool *shared, url, topic, args string, timeout time.Duration) Pusher {
	t.Helper()
	p, err := openPusher(Endpoint{URL: url, Args: args, Topic: topic, ConnectTimeout: 30 * time.Second, Timeout: timeout, shared: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestMQTTPusher(t *testing.T) {
	broker := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"max_packet_size 20000", "max_inflight_messages 3"}})
	got := subscribe(t, broker.Addr, "#")
	proxy := brokertest.NewProxy(t, broker.Addr)
	pool := &shared{}
	for _, c := range []struct{ path, args, topic string }{
		{"", "mqtt-qos=0", "t"}, {"/", "", "t"}, {"/a/b", "mqtt-qos=2", "a/b/t"}, {"/a%20b/", "mqtt-qos=1", "a b/t"},
	} {
		p := openMQTT(t, pool, "mqtt://"+proxy.Addr+c.path, "t", c.args, time.Minute)
		e := recordEvent("k")
		e.TraceParent = "00-1-2-01"
		wantStatus(t, c.args, p.Push(t.Context(), []Event{e}), Acked)
		m := arrived(t, got)
		if m.Topic != c.topic || string(m.Payload) != string(e.Message()) || m.Properties.ContentType != "application/json" ||
			m.Properties.User.Get("event-id") != e.ID || m.Properties.User.Get("traceparent") != "00-1-2-01" {
			t.Errorf("%+v: message %+v %+v", c, m, m.Properties)
		}
	}
	if n := proxy.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	p := openMQTT(t, pool, "mqtt://"+broker.Addr, "t", "", time.Minute)
	large := recordEvent("large")
	large.Record = []byte(`"` + strings.Repeat("x", 30000) + `"`)
	wantStatus(t, "large", p.Push(t.Context(), []Event{recordEvent("a"), large}), Acked, Rejected)
	arrived(t, got)
	var events []Event // more than the broker takes at once
	for i := range 200 {
		e := recordEvent(fmt.Sprint(i))
		e.Key = fmt.Sprint(i % 20)
		events = append(events, e)
	}
	wantStatus(t, "many", p.Push(t.Context(), events), make([]Status, len(events))...)
	last := map[int]int{}
	for range events {
		var i int
		body := string(arrived(t, got).Payload)
		if _, err := fmt.Sscanf(body[strings.Index(body, `"key":"`)+7:], "%d", &i); err != nil {
			t.Fatal(err)
		}
		if i < last[i%20] {
			t.Errorf("event %d after %d", i, last[i%20])
		}
		last[i%20] = i
	}
}

// TestMQTTPusher_Refused: who may not connect, or not publish there.
func TestMQTTPusher_Refused(t *testing.T) {
	dir := t.TempDir()
	passwords, rules := filepath.Join(dir, "passwords"), filepath.Join(dir, "rules")
	// mosquitto_passwd's form of user "u" with password "right-pass".
	for file, text := range map[string]string{
		passwords: "u:" + mosquittoHash("right-pass") + "\n", rules: "user u\ntopic write ok/#\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broker := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"allow_anonymous false", "password_file " + passwords, "acl_file " + rules}})
	for _, c := range []struct {
		url, want string
		status    Status
	}{
		{"mqtt://u:right-pass@" + broker.Addr + "/ok", "", Acked},
		{"mqtt://u:right-pass@" + broker.Addr + "/other", "not authorized", Retry},
		{"mqtt://u:wrong-pass@" + broker.Addr + "/ok", "0x8", Retry},
		{"mqtt://" + broker.Addr + "/ok", "0x8", Retry},
		{"mqtt://127.0.0.1:1", "refused", Retry},
	} {
		for _, qos := range []string{"1", "2"} {
			p := openMQTT(t, nil, c.url, "t", "mqtt-qos="+qos, time.Minute)
			got := p.Push(t.Context(), []Event{recordEvent("a")})
			wantStatus(t, c.url, got, c.status)
			if text := fmt.Sprint(got[0].Err); c.want != "" && !strings.Contains(text, c.want) || strings.Contains(text, "-pass") {
				t.Errorf("%s: %s; want %s", c.url, text, c.want)
			}
		}
	}
}

// TestMQTTPusher_Trouble: whatever happens to the broker, pushes end in time,
// and connections are made again.
func TestMQTTPusher_Trouble(t *testing.T) {
	broker := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{})
	proxy := brokertest.NewProxy(t, broker.Addr)
	p := openMQTT(t, nil, "mqtt://"+proxy.Addr, "t", "", 2*time.Second)
	pushUntilAcked(t, p, recordEvent("a")) // in less than two seconds, on a machine that does not pause
	broker.Pause()
	wantStatus(t, "paused", p.Push(t.Context(), []Event{recordEvent("b")}), Retry)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantStatus(t, "cancelled", p.Push(ctx, []Event{recordEvent("b")}), Retry)
	broker.Resume()
	pushUntilAcked(t, p, recordEvent("c"))
	proxy.Cut()
	pushUntilAcked(t, p, recordEvent("d"))
	broker.Kill()
	wantStatus(t, "dead", p.Push(t.Context(), []Event{recordEvent("e")}), Retry)
	broker.Start()
	pushUntilAcked(t, p, recordEvent("e"))
	lazy := openMQTT(t, nil, "mqtt://"+proxy.Addr, "t", "", time.Minute)
	lazy.(*mqttPusher).links.idle = 300 * time.Millisecond
	wantStatus(t, "first", lazy.Push(t.Context(), []Event{recordEvent("f")}), Acked)
	before := proxy.Connections()
	for deadline := time.Now().Add(time.Minute); proxy.Connections() == before; time.Sleep(500 * time.Millisecond) { // it is idle then
		wantStatus(t, "idle", lazy.Push(t.Context(), []Event{recordEvent("f")}), Acked)
		if time.Now().After(deadline) {
			t.Fatal("an idle connection stays")
		}
	}
	broker.Pause() // what is in flight fails at once when the pusher is closed
	slow := openMQTT(t, nil, "mqtt://"+broker.Addr, "t", "", time.Minute)
	done := make(chan []Result)
	go func() { done <- slow.Push(t.Context(), []Event{recordEvent("g")}) }()
	time.Sleep(200 * time.Millisecond) // so that it is, on most runs
	_ = slow.Close()
	wantStatus(t, "closed", <-done, Retry)
	broker.Resume()
}

// mosquittoHash is a password as mosquitto_passwd stores it.
func mosquittoHash(password string) string {
	salt := []byte("0123456789ab")
	key, err := pbkdf2.Key(sha512.New, password, salt, 101, 64)
	if err != nil {
		panic(err) // of its own arguments
	}
	return "$7$101$" + base64.StdEncoding.EncodeToString(salt) + "$" + base64.StdEncoding.EncodeToString(key)
}
