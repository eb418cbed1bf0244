package httpendpoint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// events writes each of some keys several times, and returns how many events
// that makes.
func (c *client) events(bucket string, keys, times int) int {
	c.t.Helper()
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for i := range times {
				c.put(c.t.Context(), bucket, fmt.Sprintf("key-%03d", k), fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	return keys * times
}

// complete waits until a sink has taken so many different events, and checks
// that those of each key came in their order.
func complete(t testing.TB, s *sink, want int) {
	t.Helper()
	distinct := func() map[[2]string]bool {
		seen := map[[2]string]bool{}
		for _, d := range s.all() {
			seen[[2]string{d.key, d.sequencer}] = true
		}
		return seen
	}
	deadline := time.Now().Add(patience)
	for len(distinct()) < want {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events within %s; %d requests", len(distinct()), want, patience, s.asked())
		}
		time.Sleep(20 * time.Millisecond)
	}
	last, seen, twice := map[string]string{}, map[[2]string]bool{}, 0
	for _, d := range s.all() {
		if id := [2]string{d.key, d.sequencer}; seen[id] {
			twice++
			continue
		} else {
			seen[id] = true
		}
		if d.sequencer < last[d.key] {
			t.Errorf("%s: sequencer %s after %s", d.key, d.sequencer, last[d.key])
		}
		last[d.key] = d.sequencer
	}
	if len(seen) != want {
		t.Errorf("%d different events, want %d", len(seen), want)
	}
	t.Logf("%d events by %d requests, %d of them twice", want, s.asked(), twice)
}

// TestMoods has an endpoint that behaves in each way, at random: every event
// arrives, in order per key.
func TestMoods(t *testing.T) {
	c := start(t, "--http-message-timeout", "2s")
	keys, times := 20, 15
	if testing.Short() {
		keys, times = 6, 5
	}
	for i, protocol := range []string{"", "tls", "h2"} {
		t.Run("by "+protocol, func(t *testing.T) {
			moods := []mood{refusing, moved, silent, deaf, leaving, half, short, early, dripping, babbling, departing, busy}
			random := rand.New(rand.NewPCG(1, uint64(i)))
			s := newSink(t, protocol, func(int) mood {
				if random.IntN(2) == 0 {
					return good
				}
				return moods[random.IntN(len(moods))]
			})
			name := fmt.Sprintf("moods-%d", i)
			c.topic(name, s.URL, "persistent", "true", "verify-ssl", "false")
			c.bucket(name, name)
			n := c.events(name, keys, times)
			time.AfterFunc(20*time.Second, func() { s.set(nil) }) // it has seen enough
			complete(t, s, n)
			eventually(t, "the topic is drained", func() bool { return c.entries(name) == 0 })
		})
	}
}

// TestFlapping has an endpoint that dies and returns while events come.
func TestFlapping(t *testing.T) {
	c := start(t, "--http-message-timeout", "2s")
	s := newSink(t, "", nil)
	c.topic("flapping", s.URL, "persistent", "true")
	c.bucket("flapping", "flapping")
	n := 0
	for range 4 {
		n += c.events("flapping", 5, 3)
		s.restart(func() { n += c.events("flapping", 5, 3) })
	}
	complete(t, s, n)
}

// TestSilentEndpoint is sore point 6: an endpoint that accepts and never answers
// holds up a synchronous upload no longer than the timeout, and a persistent one
// not at all; other topics go on.
func TestSilentEndpoint(t *testing.T) {
	c := start(t, "--http-message-timeout", "3s")
	dead := newSink(t, "", func(int) mood { return silent })
	alive := newSink(t, "", nil)
	c.topic("sync", dead.URL)
	c.topic("queued", dead.URL, "persistent", "true")
	c.topic("alive", alive.URL, "persistent", "true")
	for _, name := range []string{"sync", "queued", "alive"} {
		c.bucket(name, name)
	}
	if took := c.put(t.Context(), "sync", "k", "x"); took < 3*time.Second || took > patience {
		t.Errorf("an upload with a synchronous topic took %s, want about 3s", took)
	}
	for range 5 {
		c.events("queued", 3, 1)
		c.events("alive", 3, 1)
	}
	complete(t, alive, 15)
	if n := c.entries("queued"); n != 15 {
		t.Errorf("%d events wait for the dead endpoint, want 15", n)
	}
}

// TestManyInFlight is sore point 7: hundreds of synchronous pushes at once to a
// slow endpoint.
func TestManyInFlight(t *testing.T) {
	c := start(t, "--http-message-timeout", "60s")
	s := newSink(t, "", func(int) mood { return slow })
	c.topic("many", s.URL)
	c.bucket("many", "many")
	n := 400
	if testing.Short() {
		n = 100
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { c.put(context.WithoutCancel(t.Context()), "many", fmt.Sprint("key-", i), "x") })
	}
	wg.Wait()
	complete(t, s, n)
}
