//go:build rados

package linear

import (
	"testing"
	"time"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

func TestMain(m *testing.M) { cephtest.MainDurable(m) }

// TestLinear_RADOS has two gateways over one Ceph cluster, which keeps their
// queues, too.
func TestLinear_RADOS(t *testing.T) {
	all, each := runTime(t)
	c := cephtest.Start(t)
	if all > 5*time.Minute {
		// What gateways that were killed had replaced stays for an hour, and an
		// OSD that is nearly full may not come back (Ceph).
		c = cephtest.StartOwn(t, cephtest.Options{Size: "40G"})
	}
	pool, objects := c.Namespace(t)
	_, queues := c.Namespace(t)
	args := append(commonArgs(), "--store", "rados://"+pool+"/"+objects, "--store.rados.conf", c.Conf,
		"--queue", "rados://"+pool+"/"+queues, "--queue-lease", "2s")
	var gateways []*gatewaytest.Gateway
	for range 2 {
		gateways = append(gateways, gatewaytest.Start(t, gatewaytest.Options{Args: args}))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the cluster says: %s", c.Complaints())
		}
	})
	newWorld(t, gateways, func() error { return c.RestartOSD(0) }).live(all, each)
}
