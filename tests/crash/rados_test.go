//go:build rados

package crash

import (
	"testing"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// radosQueue returns the flags of a gateway that keeps its queues in a Ceph
// cluster.
func radosQueue(t *testing.T, c *cephtest.Cluster) []string {
	t.Helper()
	pool, namespace := c.Namespace(t)
	return []string{"--queue", "rados://" + pool + "/" + namespace, "--queue.rados.conf", c.Conf, "--queue-lease", fleetLease.String()}
}

// radosStore returns the flags of a gateway that keeps its objects there.
func radosStore(t *testing.T, c *cephtest.Cluster) []string {
	t.Helper()
	pool, namespace := c.Namespace(t)
	return []string{"--store", "rados://" + pool + "/" + namespace, "--store.rados.conf", c.Conf}
}

// TestKillAtRandom_RADOS is TestKillAtRandom with queues in a Ceph cluster.
func TestKillAtRandom_RADOS(t *testing.T) {
	t.Parallel()
	killAtRandom(t, gatewaytest.Options{Args: radosQueue(t, cephtest.Start(t))})
}

// TestFaultPoints_RADOS ends the gateway at the points around its queues.
func TestFaultPoints_RADOS(t *testing.T) {
	t.Parallel()
	faultPoints(t, gatewaytest.Options{Args: radosQueue(t, cephtest.Start(t))}, queuePoints()...)
}

// TestManyGateways_RADOS has three gateways that share queues in a Ceph cluster.
func TestManyGateways_RADOS(t *testing.T) {
	t.Parallel()
	c := cephtest.StartOwn(t, cephtest.Options{})
	newFleet(t, 3, func() error { return c.RestartOSD(0) }, radosQueue(t, c)...).live(kills(t), 60)
}

// newFleetOnOneStore is newFleet of gateways on one store, which the flags name.
func newFleetOnOneStore(t *testing.T, gateways int, hurt func() error, args ...string) *fleet {
	t.Helper()
	s, endpoint := newSink(t)
	f := &fleet{t: t, sink: s, hurt: hurt, one: true}
	b := bucketsOf("")
	hot := newHotKeys(b)
	args = append(args, "--topic-shards", "5")
	for i := range gateways {
		w := startWorld(t, b, hot, i*fleetClients, fleetClients, gatewaytest.Options{Args: args}, s)
		for _, worker := range w.workers {
			worker.heat = 50
		}
		if i == 0 {
			w.furnish(endpoint)
		}
		f.worlds = append(f.worlds, w)
	}
	return f
}

// TestManyGateways_OneStore has three gateways on one store in a Ceph cluster,
// whose clients change the same keys, and that share queues on Redis.
func TestManyGateways_OneStore(t *testing.T) {
	t.Parallel()
	r, args := redisQueue(t)
	newFleetOnOneStore(t, 3, func() error { return restartRedis(r) }, append(args, radosStore(t, cephtest.Start(t))...)...).live(kills(t), 60)
}

// TestManyGateways_OneStoreRADOS is TestManyGateways_OneStore with queues in the
// cluster, whose OSD is killed, too.
func TestManyGateways_OneStoreRADOS(t *testing.T) {
	t.Parallel()
	c := cephtest.StartOwn(t, cephtest.Options{})
	hurt := func() error { return c.RestartOSD(0) }
	newFleetOnOneStore(t, 3, hurt, append(radosQueue(t, c), radosStore(t, c)...)...).live(kills(t), 60)
}
