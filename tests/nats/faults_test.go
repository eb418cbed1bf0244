package nats

import (
	"errors"
	"testing"
	"time"

	"herald/tests/brokertest"
	"herald/tests/endpointtest"
	"herald/tests/natstest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// messages returns what a stream has.
func messages(srv *natstest.Server, stream jetstream.Stream) [][]byte {
	var out [][]byte
	for _, m := range srv.Messages(stream) {
		out = append(out, m.Data)
	}
	return out
}

// While bad things happen to the server and to the way there, every event gets
// into the stream once, and in the order of its key.
func TestFaults(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	streams := map[string]jetstream.Stream{}
	endpointtest.Faults(t, &endpointtest.Broker{
		Addr: srv.Addr, Kill: srv.Kill, Start: srv.Restart, Pause: srv.Pause, Resume: srv.Resume,
		Endpoint: func(addr string) string { return "nats://" + addr },
		Prepare: func(_ *testing.T, topic string) {
			streams[topic] = srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: topic, Subjects: []string{topic}})
		},
		Messages: func(_ *testing.T, topic string) [][]byte { return messages(srv, streams[topic]) },
		Once:     true,
	})
}

// A stream that is full and discards what is new: events wait, and go on their
// way when there is room.
func TestFull(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	js := srv.JetStream()
	config := jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"t"}, MaxMsgs: 50, Discard: jetstream.DiscardNew}
	stream := srv.Stream(js, config)
	e := endpointtest.New(t, endpointtest.Impatient...)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", srv.URL()))
	load := e.StartLoad(bucket, 200)
	load.Wait()
	e.Logged("maximum messages exceeded")
	e.Eventually("the stream is full", func() bool { return e.Entries("t") == load.Done()-50 })
	config.MaxMsgs = -1
	srv.Stream(js, config)
	e.Drained("t")
	if again := load.Check(messages(srv, stream)); again > 0 {
		t.Errorf("%d events came more than once", again)
	}
}

// No stream: events wait, the log says why, and they arrive when there is one.
func TestMissingStream(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	e := endpointtest.New(t, append(endpointtest.Impatient, "--log-level", "debug")...)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", srv.URL(), "nats-subject", "s3.events", "nats-stream", "EVENTS"))
	load := e.StartLoad(bucket, 40)
	load.Wait()
	e.Logged("no stream takes subject")
	js := srv.JetStream()
	wrong := srv.Stream(js, jetstream.StreamConfig{Name: "WRONG", Subjects: []string{"s3.>"}})
	e.Logged("expected stream does not match")
	if got := srv.Messages(wrong); len(got) > 0 || e.Entries("t") != load.Done() {
		t.Errorf("the wrong stream has %d events", len(got))
	}
	if err := js.DeleteStream(t.Context(), "WRONG"); err != nil {
		t.Fatal(err)
	}
	stream := srv.Stream(js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"s3.>"}})
	e.Drained("t")
	load.Check(messages(srv, stream))
}

// A server that is dead when the topic is made, and while the gateway is started
// again: what waits gets there when it comes.
func TestDeadAtFirst(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	stream := srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"t"}})
	srv.Kill()
	e := endpointtest.New(t, endpointtest.Impatient...)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", srv.URL()))
	load := e.StartLoad(bucket, 40)
	load.Wait()
	e.Logged("connection refused")
	if n := e.Entries("t"); n != load.Done() {
		t.Errorf("%d events wait, want %d", n, load.Done())
	}
	if err := e.G.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := e.G.Run(); err != nil {
		t.Fatal(err)
	}
	srv.Restart()
	e.Drained("t")
	if again := load.Check(messages(srv, stream)); again > 0 {
		t.Errorf("%d events came more than once", again)
	}
}

// Without JetStream a subscriber gets what is published while it listens; what
// the server never read waits.
func TestCore(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{NoJetStream: true})
	conn := srv.Conn()
	sub, err := conn.SubscribeSync("t")
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	flush := func() {
		t.Helper()
		if err := conn.FlushTimeout(endpointtest.Patience); err != nil {
			t.Fatal(err)
		}
	}
	flush() // the server knows of the subscription
	proxy := brokertest.NewProxy(t, srv.Addr)
	e := endpointtest.New(t, endpointtest.Impatient...)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", "nats://"+proxy.Addr, "nats-ack-level", "none"))
	load := e.StartLoad(bucket, endpointtest.Changes())
	for range 10 {
		load.Make(20)
		proxy.Cut()
	}
	load.Wait()
	e.Drained("t")
	flush() // all that the server has for it is here
	var got [][]byte
	for {
		m, err := sub.NextMsg(time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Data)
		if m.Header.Get(nats.MsgIdHdr) == "" {
			t.Errorf("message without an ID: %v", m.Header)
		}
	}
	load.Check(got)
}
