package crash

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// redisQueue starts a Redis server and returns the flags of a gateway that
// keeps its queues there.
func redisQueue(t *testing.T) (*redistest.Server, []string) {
	t.Helper()
	r := redistest.Start(t)
	return r, []string{"--queue", r.URL() + "?namespace=crash", "--queue-lease", fleetLease.String()}
}

// TestKillAtRandom_Redis is TestKillAtRandom with queues on Redis.
func TestKillAtRandom_Redis(t *testing.T) {
	t.Parallel()
	_, args := redisQueue(t)
	killAtRandom(t, gatewaytest.Options{Args: args})
}

// TestFaultPoints_Redis ends the gateway at the points around its queues.
func TestFaultPoints_Redis(t *testing.T) {
	t.Parallel()
	_, args := redisQueue(t)
	faultPoints(t, gatewaytest.Options{Args: args}, append(commitPoints(), queuePoints()...)...)
}

// TestManyGateways_Redis has three gateways that share queues on Redis.
func TestManyGateways_Redis(t *testing.T) {
	t.Parallel()
	r, args := redisQueue(t)
	newFleet(t, 3, func() error { return restartRedis(r) }, args...).live(kills(t), 60)
}

// restartRedis kills a server, and starts it again a while later.
func restartRedis(r *redistest.Server) error {
	r.KillNine()
	time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
	r.Restart()
	return nil
}

// TestManyGateways_Sentinel has three gateways that share queues on a pair of
// Redis servers, whose master is killed: the replica, which has every change
// before it counts, takes its place. The killed one comes back as a replica.
func TestManyGateways_Sentinel(t *testing.T) {
	t.Parallel()
	if os.Getenv("HERALD_CRASH_KILLS") == "" {
		t.Skip("a long test: set HERALD_CRASH_KILLS")
	}
	p := redistest.StartSentinel(t)
	hurt := func() error {
		p.Failover().Restart()
		p.WaitReady()
		return nil
	}
	newFleet(t, 3, hurt, "--queue", p.URL()+"?namespace=crash", "--queue.redis.wait", "1", "--queue-lease", fleetLease.String()).
		live(kills(t), 60)
}

// TestMoveQueues_Redis kills the gateway under load, moves its queues with the
// reservations that it left, and starts it there, to and fro.
func TestMoveQueues_Redis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	from, to := "embedded", r.URL()+"?namespace=crash"
	w := newWorld(t, gatewaytest.Options{})
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for i := range rounds {
		after := "move to " + to
		w.loadAndKill(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		t.Log(strings.Join(strings.Fields(w.g.MustAdmin("queue", "migrate", "--from", from, "--to", to, "--force")), " "))
		w.g.SetArgs(append([]string{"--queue", to, "--queue-lease", fleetLease.String()}, commonArgs...)...)
		w.restart(after)
		if i%2 == 1 {
			w.drain(after)
		}
		from, to = to, from
	}
	w.report()
	w.fsck()
}
