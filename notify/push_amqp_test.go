package notify

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"herald/tests/brokertest"
)

// TestAMQPServer reads RGW's forms of URLs.
func TestAMQPServer(t *testing.T) {
	for _, c := range []struct{ url, args, want string }{
		{"amqp://host", "", "host:5672 / guest guest tls=false"},
		{"amqp://host/", "", "host:5672 / guest guest tls=false"},
		{"amqps://host", "", "host:5671 / guest guest tls=true"},
		{"amqp://u:p%40@host:1234/v%2Fh", "", "host:1234 v/h u p@ tls=false"},
		{"amqp://u:p@[::1]/%2F", "", "[::1]:5672 / u p tls=false"},
		{"amqp://u:p@host/v", "user-name=a&password=b", "host:5672 v a b tls=false"},
	} {
		e := Endpoint{URL: c.url, Args: c.args}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		s, err := amqpServerOf(&e, u)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if got := fmt.Sprintf("%s %s %s %s tls=%v", s.addr, s.vhost, s.user, s.password, s.tls); got != c.want {
			t.Errorf("%s %s = %s, want %s", c.url, c.args, got, c.want)
		}
	}
	for _, c := range []struct{ url, args string }{
		{"amqp://host", ""}, {"amqp://host", "amqp-exchange=x&amqp-ack-level=all"}, {"amqp://:1", "amqp-exchange=x"},
		{"amqp://host", "amqp-exchange=x&amqp-version=1-0"}, {"amqp://host", "amqp-exchange=x&mechanism=GSSAPI"},
	} {
		if p, err := openPusher(Endpoint{URL: c.url, Args: c.args}); err == nil || p != nil {
			t.Errorf("%s %s: %v, %v; want no pusher and an error", c.url, c.args, p, err)
		}
	}
}

// rabbit is a broker, and a connection to it that the test has.
type rabbit struct {
	*brokertest.RabbitMQ
	t  *testing.T
	ch *amqp.Channel
}

func startRabbit(t *testing.T) *rabbit {
	t.Helper()
	return &rabbit{RabbitMQ: brokertest.StartRabbitMQ(t, brokertest.RabbitOptions{Config: []string{"max_message_size = 20000"}}), t: t}
}

func (r *rabbit) connect() {
	r.t.Helper()
	conn, err := amqp.Dial("amqp://" + r.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if r.ch, err = conn.Channel(); err != nil {
		r.t.Fatal(err)
	}
}

// bind makes a durable exchange and a queue that gets a topic's events.
func (r *rabbit) bind(exchange, kind, topic, queue string) {
	r.t.Helper()
	if err := r.ch.ExchangeDeclare(exchange, kind, true, false, false, false, nil); err != nil {
		r.t.Fatal(err)
	}
	if queue == "" {
		return
	}
	if _, err := r.ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		r.t.Fatal(err)
	}
	if err := r.ch.QueueBind(queue, topic, exchange, false, nil); err != nil {
		r.t.Fatal(err)
	}
}

// take gets a message that must be there.
func (r *rabbit) take(queue string) amqp.Delivery {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		d, ok, err := r.ch.Get(queue, true)
		if err != nil || !ok && time.Now().After(deadline) {
			r.t.Fatalf("no message in %s: %v", queue, err)
		}
		if ok {
			return d
		}
	}
}

func openAMQP(t *testing.T, pool *shared, addr, topic, args string, timeout time.Duration) Pusher {
	t.Helper()
	p, err := openPusher(Endpoint{
		URL: "amqp://" + addr, Args: args, Topic: topic, ConnectTimeout: 30 * time.Second, Timeout: timeout, shared: pool,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func recordEvent(key string) Event {
	return Event{Record: []byte(`{"s3":{"object":{"key":"` + key + `"}}}`), Key: "b/" + key, ID: fmt.Sprintf("%032x", key)}
}

func wantStatus(t *testing.T, what string, got []Result, want ...Status) {
	t.Helper()
	for i, r := range got {
		if r.Status != want[i] || (r.Err == nil) != (want[i] == Acked) {
			t.Errorf("%s: result %d = %s, %v; want %s", what, i, r.Status, r.Err, want[i])
		}
	}
}

// TestAMQPPusher is all that needs a broker: a start of RabbitMQ takes seconds.
func TestAMQPPusher(t *testing.T) {
	r := startRabbit(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *rabbit)
	}{{"messages", testAMQPMessages}, {"pool", testAMQPPool}, {"idle", testAMQPIdle}, {"trouble", testAMQPTrouble}} {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			r.connect()
			tt.test(t, r)
		})
	}
}

func testAMQPMessages(t *testing.T, r *rabbit) {
	r.bind("x", "topic", "t", "q")
	r.bind("fan", "fanout", "", "fanq")
	pool := &shared{}
	ctx := t.Context()
	const long = time.Minute

	t.Run("levels", func(t *testing.T) {
		for level, mode := range map[string]uint8{"none": 0, "broker": amqp.Persistent, "routable": amqp.Persistent} {
			p := openAMQP(t, pool, r.Addr, "t", "amqp-exchange=x&amqp-ack-level="+level, long)
			e := recordEvent("k-" + level)
			e.TraceParent, e.TraceState = "00-1-2-01", "a=b"
			wantStatus(t, level, p.Push(ctx, []Event{e}), Acked)
			d := r.take("q")
			if string(d.Body) != `{"Records":[`+string(e.Record)+`]}` || d.DeliveryMode != mode || d.RoutingKey != "t" || d.Exchange != "x" ||
				d.ContentType != "" || d.MessageId != e.ID || d.Headers["traceparent"] != "00-1-2-01" || d.Headers["tracestate"] != "a=b" {
				t.Errorf("%s: message = %+v", level, d)
			}
		}
	})
	t.Run("not routed", func(t *testing.T) {
		for level, want := range map[string]Status{"none": Acked, "broker": Acked, "routable": Retry} {
			p := openAMQP(t, pool, r.Addr, "nobody", "amqp-exchange=x&amqp-ack-level="+level, long)
			wantStatus(t, level, p.Push(ctx, []Event{recordEvent("a"), recordEvent("b")}), want, want)
		}
		p := openAMQP(t, pool, r.Addr, "later", "amqp-exchange=x&amqp-ack-level=routable", long)
		wantStatus(t, "before", p.Push(ctx, []Event{recordEvent("a")}), Retry)
		r.bind("x", "topic", "later", "laterq")
		wantStatus(t, "after", p.Push(ctx, []Event{recordEvent("a")}), Acked)
	})
	t.Run("order", func(t *testing.T) { // another type of exchange, many events at once
		p := openAMQP(t, pool, r.Addr, "t", "amqp-exchange=fan", long)
		var events []Event
		for i := range 300 {
			e := recordEvent(fmt.Sprint(i))
			e.Key = fmt.Sprint(i % 7)
			events = append(events, e)
		}
		wantStatus(t, "fan", p.Push(ctx, events), make([]Status, len(events))...)
		last := map[int]int{}
		for range events {
			var i int
			body := string(r.take("fanq").Body)
			if _, err := fmt.Sscanf(body[strings.Index(body, `"key":"`)+7:], "%d", &i); err != nil {
				t.Fatal(err)
			}
			if i < last[i%7] {
				t.Errorf("event %d after %d", i, last[i%7])
			}
			last[i%7] = i
		}
	})
	t.Run("errors", func(t *testing.T) {
		for what, c := range map[string]struct{ addr, args, want string }{
			"exchange": {r.Addr, "amqp-exchange=missing", "no exchange 'missing'"},
			"password": {"guest:wrong-pass@" + r.Addr, "amqp-exchange=x", "not allowed"},
			"vhost":    {r.Addr + "/missing", "amqp-exchange=x", "vhost"},
			"refused":  {"127.0.0.1:1", "amqp-exchange=x", "refused"},
		} {
			p := openAMQP(t, pool, c.addr, "t", c.args, long)
			for range 2 { // the second one within the pause between attempts
				got := p.Push(ctx, []Event{recordEvent("a")})
				wantStatus(t, what, got, Retry)
				if text := fmt.Sprint(got[0].Err); !strings.Contains(text, c.want) || strings.Contains(text, "wrong-pass") {
					t.Errorf("%s: %s; want %s", what, text, c.want)
				}
			}
		}
	})
	t.Run("too large", func(t *testing.T) { // and neighbours that are not
		p := openAMQP(t, pool, r.Addr, "t", "amqp-exchange=fan", long)
		large := recordEvent("large")
		large.Record = []byte(`"` + strings.Repeat("x", 30000) + `"`)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			got := p.Push(ctx, []Event{recordEvent("a"), large, recordEvent("b")})
			for i, r := range got {
				if r.Status == Rejected && i != 1 || i == 1 && r.Status == Acked {
					t.Fatalf("result %d = %v", i, r)
				}
			}
			if got[1].Status == Rejected {
				return
			}
			time.Sleep(50 * time.Millisecond) // the pause after a lost channel
		}
		t.Error("a message over the limit was never rejected")
	})
}

// testAMQPPool: pushers with equal connection attributes have one
// connection, whatever their exchange; others have their own.
func testAMQPPool(t *testing.T, r *rabbit) {
	r.bind("x", "topic", "#", "q")
	r.bind("y", "topic", "#", "q")
	r.AddUser("other", "other-pass", ".*", ".*")
	proxy := brokertest.NewProxy(t, r.Addr)
	pool := &shared{}
	var pushers []Pusher
	var wg sync.WaitGroup
	push := func(p Pusher) {
		pushers = append(pushers, p)
		for range 10 {
			wg.Go(func() { wantStatus(t, "push", p.Push(context.Background(), []Event{recordEvent("a")}), Acked) })
		}
	}
	push(openAMQP(t, pool, proxy.Addr, "t1", "amqp-exchange=x", time.Minute))
	push(openAMQP(t, pool, proxy.Addr, "t2", "amqp-exchange=y&amqp-ack-level=none", time.Minute))
	push(openAMQP(t, pool, proxy.Addr, "t3", "amqp-exchange=y&amqp-ack-level=routable", time.Minute))
	wg.Wait()
	if n := proxy.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	push(openAMQP(t, pool, proxy.Addr, "t4", "amqp-exchange=x&user-name=other&password=other-pass", time.Minute))
	push(openAMQP(t, nil, proxy.Addr, "t5", "amqp-exchange=x", time.Minute))
	wg.Wait()
	if n := proxy.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	for _, p := range pushers {
		_ = p.Close()
	}
	wantStatus(t, "closed", pushers[0].Push(context.Background(), []Event{recordEvent("a")}), Retry)
	for deadline := time.Now().Add(time.Minute); r.Connections("Herald") > 0; {
		if time.Now().After(deadline) {
			t.Fatal("connections of closed pushers stay")
		}
	}
}

// testAMQPIdle: a connection that nobody uses is closed, and made again.
func testAMQPIdle(t *testing.T, r *rabbit) {
	r.bind("x", "topic", "#", "q")
	proxy := brokertest.NewProxy(t, r.Addr)
	p := openAMQP(t, nil, proxy.Addr, "t", "amqp-exchange=x", time.Minute)
	p.(*amqpPusher).channels.idle = 100 * time.Millisecond
	for i := range 2 {
		wantStatus(t, "push", p.Push(t.Context(), []Event{recordEvent("a")}), Acked)
		for deadline := time.Now().Add(time.Minute); r.Connections("Herald") > 0; {
			if time.Now().After(deadline) {
				t.Fatal("an idle connection stays")
			}
		}
		if n := proxy.Connections(); n != i+1 {
			t.Errorf("%d connections, want %d", n, i+1)
		}
	}
}

// testAMQPTrouble: whatever happens to the broker, pushes end in time,
// and nothing is acked that is not there.
func testAMQPTrouble(t *testing.T, r *rabbit) {
	r.bind("x", "topic", "#", "q")
	p := openAMQP(t, nil, r.Addr, "t", "amqp-exchange=x", 2*time.Second)
	pushUntilAcked(t, p, recordEvent("a")) // in less than two seconds, on a machine that does not pause

	r.Pause()
	wantStatus(t, "paused", p.Push(t.Context(), []Event{recordEvent("b")}), Retry)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantStatus(t, "cancelled", p.Push(ctx, []Event{recordEvent("b")}), Retry)
	r.Resume()
	pushUntilAcked(t, p, recordEvent("c"))

	r.Memory(true)
	blocked := false
	for deadline := time.Now().Add(time.Minute); !blocked && time.Now().Before(deadline); {
		got := p.Push(t.Context(), []Event{recordEvent("d")})
		blocked = got[0].Status == Retry && strings.Contains(got[0].Err.Error(), "takes no messages")
	}
	if !blocked {
		t.Error("an alarm is not noticed")
	}
	wantStatus(t, "alarm", p.Push(t.Context(), []Event{recordEvent("d")}), Retry)
	r.Memory(false)
	pushUntilAcked(t, p, recordEvent("e"))

	r.Kill()
	wantStatus(t, "dead", p.Push(t.Context(), []Event{recordEvent("f")}), Retry)
	r.Start()
	pushUntilAcked(t, p, recordEvent("f"))

	r.Pause() // what is in flight fails at once when the pusher is closed
	done := make(chan []Result)
	slow := openAMQP(t, nil, r.Addr, "t", "amqp-exchange=x", time.Minute)
	go func() { done <- slow.Push(t.Context(), []Event{recordEvent("g")}) }()
	time.Sleep(200 * time.Millisecond) // so that it is, on most runs
	_ = slow.Close()
	wantStatus(t, "closed", <-done, Retry)
	r.Resume()
}

// pushUntilAcked is a dispatcher of one event.
func pushUntilAcked(t *testing.T, p Pusher, e Event) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := p.Push(t.Context(), []Event{e})
		if got[0].Status == Acked {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never acked: %v", got[0].Err)
		}
	}
}
