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

// TestKillAtRandom_RADOS is TestKillAtRandom with queues in a Ceph cluster.
func TestKillAtRandom_RADOS(t *testing.T) {
	killAtRandom(t, gatewaytest.Options{Args: radosQueue(t, cephtest.Start(t))})
}

// TestFaultPoints_RADOS ends the gateway at the points around its queues.
func TestFaultPoints_RADOS(t *testing.T) {
	faultPoints(t, gatewaytest.Options{Args: radosQueue(t, cephtest.Start(t))}, "notify.")
}

// TestManyGateways_RADOS has three gateways that share queues in a Ceph cluster.
func TestManyGateways_RADOS(t *testing.T) {
	c := cephtest.StartOwn(t, cephtest.Options{})
	newFleet(t, 3, func() error { return c.RestartOSD(0) }, radosQueue(t, c)...).live(kills(t), 60)
}
