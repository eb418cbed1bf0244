package redisendpoint

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"herald/tests/endpointtest"
	"herald/tests/redistest"
)

// messages returns what a stream has.
func messages(t *testing.T, srv *redistest.Server, key string) [][]byte {
	t.Helper()
	c := srv.Client()
	defer func() { _ = c.Close() }() // nothing is lost
	entries, err := c.XRange(t.Context(), key, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, e := range entries {
		m := endpointtest.Decode(t, []byte(fmt.Sprint(e.Values["message"])))
		if e.Values["key"] != m.S3.Object.Key || e.Values["bucket"] != m.S3.Bucket.Name || e.Values["id"] == "" {
			t.Errorf("entry %v", e)
		}
		out = append(out, []byte(fmt.Sprint(e.Values["message"])))
	}
	return out
}

// While bad things happen to the server and to the way there, every event gets
// into the stream, the first of each in the order of its key.
func TestFaults(t *testing.T) {
	srv := redistest.Start(t)
	// refusing has the server take no writes as long as a setting is 1.
	refusing := func(setting string) func(*endpointtest.Env, *endpointtest.Load) {
		return func(e *endpointtest.Env, load *endpointtest.Load) {
			load.Begin(4)
			srv.Do("CONFIG", "SET", setting, "1")
			load.Make(4)
			e.PushFails()
			srv.Do("CONFIG", "SET", setting, "0")
		}
	}
	endpointtest.Faults(t, &endpointtest.Broker{
		Addr: srv.Addr, Kill: srv.KillNine, Start: srv.Restart, Pause: srv.Pause, Resume: srv.Resume,
		Endpoint: func(addr string) string { return "redis://" + addr },
		Messages: func(t *testing.T, topic string) [][]byte { return messages(t, srv, topic) },
	}, endpointtest.Fault{Name: "full", Do: refusing("maxmemory")},
		endpointtest.Fault{Name: "read-only", Do: refusing("min-replicas-to-write")}) // as where no replica follows
}

// What the server answers is what the log says, and the events wait.
func TestRefused(t *testing.T) {
	full := redistest.Start(t, "--maxmemory", "1")
	follower := redistest.Start(t, "--replicaof", "127.0.0.1", "1")
	closed := redistest.Start(t, "--requirepass", "sesame")
	with := func(password string) string { return strings.Replace(closed.URL(), "//", "//:"+password+"@", 1) }
	e := endpointtest.New(t, "--allow-notification-secrets-in-cleartext", "--log-level", "debug")
	e.Outcomes(t, []endpointtest.Case{
		endpointtest.Refused("full", "OOM: the server's memory is full", full.URL()),
		endpointtest.Refused("follower", "READONLY: the server is a replica", follower.URL()),
		endpointtest.Refused("closed", "NOAUTH: the server wants a password", closed.URL()),
		endpointtest.Refused("wrong", "WRONGPASS: ", with("open-sesame")),
		endpointtest.Delivered("right", with("sesame")),
	}, "sesame")
	full.Do("CONFIG", "SET", "maxmemory", "0")
	e.Drained("full")
	follower.Promote()
	e.Drained("follower")
	e.Topic("closed", with("sesame")) // what waits goes there
	e.Drained("closed")
	e.Conceals("sesame")
}

func TestPubSub(t *testing.T) {
	srv := redistest.Start(t)
	c := srv.Client()
	defer func() { _ = c.Close() }() // nothing is lost
	sub := c.Subscribe(t.Context(), "news")
	defer func() { _ = sub.Close() }() // likewise
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := endpointtest.New(t)
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", srv.URL(), "redis-mode", "pubsub", "redis-key", "news"))
	load := e.StartLoad(bucket, 100)
	load.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), endpointtest.Patience)
	defer cancel()
	var got [][]byte
	for range 100 {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		got = append(got, []byte(m.Payload))
	}
	e.Drained("t")
	if again := load.Check(got); again > 0 {
		t.Errorf("%d events came more than once from a server that was well", again)
	}
}

func TestTLS(t *testing.T) {
	srv, files := redistest.StartTLS(t)
	e := endpointtest.New(t, "--log-level", "debug")
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("t", strings.Replace(srv.URL(), "redis:", "rediss:", 1), "ca-location", files.CA,
		"ssl-certificate-location", files.Cert, "ssl-key-location", files.Key, "redis-maxlen", "1000"))
	load := e.StartLoad(bucket, 40)
	load.Wait()
	e.Drained("t")
	load.Check(messages(t, srv, "t"))
	e.Outcomes(t, []endpointtest.Case{endpointtest.Refused("unknown", "unknown authority", strings.Replace(srv.URL(), "redis:", "rediss:", 1))})
}

func TestAttributes(t *testing.T) {
	e := endpointtest.New(t)
	for _, attributes := range [][]string{{"redis-mode", "list"}, {"redis-maxlen", "-1"}, {"redis-maxlen", "1", "redis-mode", "pubsub"}} {
		if _, err := e.CreateTopic("t", "redis://127.0.0.1", attributes...); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
			t.Errorf("CreateTopic with %q: %v, want InvalidArgument", attributes, err)
		}
	}
	for _, endpoint := range []string{"redis://127.0.0.1/x", "redis://a:1,b:2"} {
		if _, err := e.CreateTopic("t", endpoint); err == nil {
			t.Errorf("CreateTopic with %s succeeded", endpoint)
		}
	}
}
