//go:build rados

package queues

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// TestRADOS_Away has a cluster whose OSD is down when the gateway starts, comes,
// dies, and comes again.
func TestRADOS_Away(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool := c.Pool(t)
	c.KillOSD(t, 0)
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", "rados://" + pool, "--queue.rados.conf", c.Conf}})
	e.check(e.g.Launch())
	if status, queue := e.ready(); status != 503 || !strings.Contains(queue, pool) {
		t.Errorf("readiness = %d, queue %q, want 503 and the pool", status, queue)
	}
	c.StartOSD(t, 0)
	e.awayAndBack(func() { c.KillOSD(t, 0) }, func() { c.StartOSD(t, 0) })
}

// TestRADOS_Stop is stopAndStart with a cluster whose OSD is down.
func TestRADOS_Stop(t *testing.T) {
	gatewaytest.NeedTree(t, "others have no outbox")
	t.Parallel() // it mostly waits
	c := cephtest.StartOwn(t, cephtest.Options{})
	place, conf := "rados://"+c.Pool(t), []string{"--queue.rados.conf", c.Conf}
	e := newEnv(t, gatewaytest.Options{Args: append([]string{"--queue", place, "--queue-lease", "5s"}, conf...)})
	e.args = conf
	e.stopAndStart(place, func() { c.KillOSD(t, 0) }, func() { c.StartOSD(t, 0) })
}

// TestRADOS_Refused has clusters and pools that are not there.
func TestRADOS_Refused(t *testing.T) {
	c := cephtest.Start(t)
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"no such pool", "no-such-pool", []string{"--queue", "rados://no-such-pool", "--queue.rados.conf", c.Conf}},
		{"no such file", "no-such-file", []string{"--queue", "rados://pool", "--queue.rados.conf", "/no-such-file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, gatewaytest.Options{Args: tt.args})
			if err := e.launch(); err == nil || !strings.Contains(e.g.Log(4000), tt.want) {
				t.Errorf("start = %v, want an error with %q\n%s", err, tt.want, e.g.Log(4000))
			}
		})
	}
}

// TestRADOS_NoMonitor has a cluster of which nobody answers: the gateway starts,
// and stops, all the same.
func TestRADOS_NoMonitor(t *testing.T) {
	t.Parallel() // it mostly waits
	conf := filepath.Join(t.TempDir(), "ceph.conf")
	text := "[global]\nmon_host = " + gatewaytest.FreeAddress(t) + "\nauth_client_required = none\nauth_cluster_required = none\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", "rados://pool", "--queue.rados.conf", conf}})
	e.check(e.g.Launch())
	if status, queue := e.ready(); status != 503 || !strings.Contains(queue, "rados://pool") {
		t.Errorf("readiness = %d, queue %q, want 503 and the place", status, queue)
	}
	e.createBucket("plain")
	e.check(e.put("plain", "a", "1"))
	e.check(e.g.Stop())
}

// TestMigrate_RADOS moves events from the embedded queues to RADOS, to Redis
// and back.
func TestMigrate_RADOS(t *testing.T) {
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	testMigrate(t, []string{"--queue.rados.conf", c.Conf},
		"embedded", "rados://"+pool+"/"+namespace, redistest.Start(t).URL(), "rados://"+pool+"/"+namespace)
}
