package notify

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"herald/queue"
	"herald/queue/redis"
	"herald/tests/redistest"
)

// redisFleet is gateways with a real Redis between them, each with its own
// connections.
func redisFleet(t *testing.T, opt Options) (*fleet, *redistest.Server) {
	server := redistest.Start(t)
	connect := func() queue.Driver {
		t.Helper()
		d, err := redis.Open(t.Context(), server.URL(), redis.Options{RequireAOF: true, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	return &fleet{
		t: t, queues: connect(), connect: connect, opt: opt, puts: make(map[string][]string),
		endpoint: &endpoint{begun: make(map[string]time.Time), takes: time.Millisecond},
	}, server
}

// brisk are options with which a gateway is missed soon.
func brisk() Options {
	opt := quick()
	opt.Shards, opt.Lease, opt.ScanEvery = 5, 3*time.Second, 100*time.Millisecond
	opt.StaleAge, opt.ResolveEvery = 5*time.Second, time.Second
	return opt
}

// settled waits until each queue of the topic has one of the gateways.
func (f *fleet) settled(topic string, shards int, among ...*fleetMember) {
	f.t.Helper()
	longUntil(f.t, fmt.Sprintf("%d gateways to share %d queues", len(among), shards), func() bool {
		owners := make(map[string]int)
		counts := make(map[string]int)
		for _, m := range among {
			for _, sh := range m.s.Shards(f.t.Context()) {
				if sh.Ours {
					owners[sh.Queue]++
					counts[m.name]++
				}
			}
		}
		for _, n := range counts {
			if n < shards/len(among) || n > (shards+len(among)-1)/len(among) {
				return false
			}
		}
		for _, n := range owners {
			if n != 1 {
				return false
			}
		}
		return len(owners) == shards && len(counts) == len(among)
	})
}

// longUntil polls for what depends on leases, on a busy machine.
func longUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Three gateways with three stores: shares, one that loses touch and comes
// back, one that goes, and the server itself that dies and comes back.
func TestRedis_ComeAndGo(t *testing.T) {
	f, server := redisFleet(t, brisk())
	for _, name := range []string{"a", "b", "c"} {
		f.add(name, "store-"+name, nil, true).define("t")
	}
	a, b, c := f.members[0], f.members[1], f.members[2]
	for _, m := range f.members {
		m.run()
	}
	f.settled("t", 5, a, b, c)
	stop := f.load(a, b, c)
	c.link.sever()
	f.settled("t", 5, a, b)
	c.link.heal()
	f.settled("t", 5, a, b, c)
	a.stop()
	f.settled("t", 5, b, c)
	server.KillNine()
	time.Sleep(time.Second)
	server.Restart()
	f.settled("t", 5, b, c)
	a.openAs("store-a", true)
	a.run()
	f.settled("t", 5, a, b, c)
	stop()
	f.done("t")
	repeats := f.endpoint.check(t, f.puts)
	t.Logf("%d deliveries, %d of them repeats", len(f.endpoint.all()), repeats)
	for _, m := range f.members {
		m.stop()
	}
}
