//go:build rados

package crash

import (
	"testing"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// radosQueue starts a Ceph cluster and returns the flags of a gateway that
// keeps its queues there.
func radosQueue(t *testing.T) (*cephtest.Cluster, []string) {
	t.Helper()
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	return c, []string{"--queue", "rados://" + pool + "/" + namespace, "--queue.rados.conf", c.Conf, "--queue-lease", fleetLease.String()}
}

// TestKillAtRandom_RADOS is TestKillAtRandom with queues in a Ceph cluster.
func TestKillAtRandom_RADOS(t *testing.T) {
	_, args := radosQueue(t)
	killAtRandom(t, gatewaytest.Options{Args: args})
}

// TestFaultPoints_RADOS ends the gateway at the points around its queues.
func TestFaultPoints_RADOS(t *testing.T) {
	_, args := radosQueue(t)
	faultPoints(t, gatewaytest.Options{Args: args}, "notify.")
}

// TestManyGateways_RADOS has three gateways that share queues in a Ceph cluster.
func TestManyGateways_RADOS(t *testing.T) {
	c, args := radosQueue(t)
	newFleet(t, 3, func() error { return c.RestartOSD(0) }, args...).live(kills(t), 60)
}
