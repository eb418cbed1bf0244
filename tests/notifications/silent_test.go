package notifications

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// silent is the URL of an endpoint that accepts connections and requests, and
// never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // until the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }()
		}
	}()
	return "http://" + l.Addr().String() + "/"
}

// TestSilentAmongMany: one endpoint that never answers among 20 topics holds up
// none of the others: they have all of their events while it has none.
func TestSilentAmongMany(t *testing.T) {
	const topics, puts = 20, 30
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	for i := range topics {
		endpoint := r.URL
		if i == topics/2 {
			endpoint = silent(t)
		}
		name := fmt.Sprint("t", i)
		e.notify(bucket, name, e.topic(name, endpoint, "persistent", "true"), created)
	}
	for _, k := range keys("k", puts) {
		e.put(bucket, k, "x")
	}
	r.want(e, (topics-1)*puts)
	checkPerRule(t, r, puts)
	e.wantEntries(fmt.Sprint("t", topics/2), puts)
}

// checkPerRule: every rule has that many events.
func checkPerRule(t *testing.T, r *receiver, want int) {
	t.Helper()
	got := map[string]int{}
	for _, ev := range r.all() {
		got[ev.S3.ConfigurationID]++
	}
	for rule, n := range got {
		if n != want {
			t.Errorf("%d events of %s, want %d", n, rule, want)
		}
	}
}
