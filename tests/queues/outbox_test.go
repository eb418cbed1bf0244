package queues

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// waiting is how many entries wait in the queues at a place, as a command sees
// them that runs without a gateway.
func (e *env) waiting(place string) int64 {
	e.t.Helper()
	out, err := e.run(e.t.Context(), append([]string{"admin", "queue", "stats", "--queue", place}, e.args...)...)
	if err != nil {
		e.t.Fatalf("stats of %s: %v\n%s", place, err, out)
	}
	var list []struct{ Entries int64 }
	e.check(json.Unmarshal([]byte(out), &list))
	var sum int64
	for _, q := range list {
		sum += q.Entries
	}
	return sum
}

// drainTime is how long a gateway that ends waits for the server to take what is in
// the outbox.
const drainTime = 3 * time.Second

// stopLate stops the gateway, and tells whether that took so long that it may have
// left events behind: the server was too slow.
func (e *env) stopLate() bool {
	e.t.Helper()
	began := time.Now()
	e.check(e.g.Stop())
	return time.Since(began) >= drainTime
}

// stopAndStart stops a gateway right after changes: with its server there it
// leaves nothing in the outbox; without, it ends all the same, and what it leaves
// is delivered after the next start, in order.
func (e *env) stopAndStart(place string, away, back func()) {
	e.t.Helper()
	e.check(e.g.Run())
	e.createBucket("watched")
	e.notify("watched", "http://"+gatewaytest.FreeAddress(e.t))
	n := 0
	put := func(count int) {
		for range count {
			n++
			e.check(e.put("watched", "key", fmt.Sprint(n)))
		}
	}
	for put(50); e.stopLate(); put(50) {
		e.check(e.g.Run())
	}
	if here, there := e.waiting("embedded"), e.waiting(place); here != 0 || there != int64(n) {
		e.t.Errorf("%d events in the outbox and %d on the server, want all %d there", here, there, n)
	}
	e.check(e.g.Run())
	put(5)
	away()
	put(20)
	e.check(e.g.Stop())
	if here := e.waiting("embedded"); here < 20 {
		e.t.Errorf("%d events in the outbox, want at least those 20 for which there was no server", here)
	}
	back()
	e.check(e.g.Run())
	put(5)
	sink := newEndpoint(e.t)
	_, err := e.createTopic(sink.URL)
	e.check(err)
	sink.want(e.t, n)
	for i, got := range sink.gotSums() {
		if want := fmt.Sprintf("watched/key %x", md5.Sum(fmt.Append(nil, i+1))); got != want {
			e.t.Fatalf("event %d is %q, want %q", i, got, want)
		}
	}
}

// TestRedis_Stop is stopAndStart with a server that does not answer.
func TestRedis_Stop(t *testing.T) {
	gatewaytest.NeedTree(t, "others have no outbox")
	r := redistest.Start(t)
	place := r.URL() + "?namespace=stop"
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", place, "--queue-lease", "5s"}})
	e.stopAndStart(place, r.Pause, r.Resume)
}
