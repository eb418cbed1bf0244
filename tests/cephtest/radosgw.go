package cephtest

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"herald/tests/processtest"
)

// Radosgw is Ceph's own S3 gateway, running on a Cluster.
type Radosgw struct {
	Endpoint  string // http://127.0.0.1:PORT
	AccessKey string // of a user that may do what any user may
	SecretKey string
	User      string

	cluster *Cluster
	name    string // NAME of client.NAME
	port    string
	options []string
}

// StartRadosgw starts radosgw with more options of its command line, such as
// "--rgw-lc-debug-interval", "10", creates a user, and ends it with the test.
// All radosgws of a cluster belong to the one zone "default": what one stored,
// topics and their queues included, the next one finds.
func StartRadosgw(t testing.TB, c *Cluster, options ...string) *Radosgw {
	t.Helper()
	require(t, "radosgw", "radosgw-admin")
	addr, err := processtest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	c.mu.Lock()
	c.rgws++
	name := fmt.Sprintf("rgw%d-%s", c.rgws, rand.Text()[:5])
	c.mu.Unlock()
	g := &Radosgw{
		Endpoint:  "http://127.0.0.1:" + port,
		AccessKey: rand.Text()[:20], SecretKey: rand.Text() + rand.Text()[:14],
		User: "tester-" + name, cluster: c, name: name, port: port, options: options,
	}
	t.Cleanup(func() { g.Stop(t) })
	g.Run(t)
	g.Admin(t, "user", "create", "--uid", g.User, "--display-name", g.User,
		"--access-key", g.AccessKey, "--secret-key", g.SecretKey)
	return g
}

// Admin runs radosgw-admin and returns its output.
func (g *Radosgw) Admin(t testing.TB, args ...string) string {
	t.Helper()
	out, err := output(nil, "radosgw-admin", append([]string{"-c", g.cluster.Conf}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Run starts radosgw again after Stop or Kill, at the same endpoint, and waits
// until it answers.
func (g *Radosgw) Run(t testing.TB) {
	t.Helper()
	if err := g.cluster.run(nil, append([]string{"radosgw", g.cluster.Dir, g.name, g.port}, g.options...)...); err != nil {
		t.Fatal(err)
	}
}

// Stop lets radosgw end by itself. Locks of queues that it held stay until they
// expire all the same: 16.2.15 does not give them back.
func (g *Radosgw) Stop(t testing.TB) {
	t.Helper()
	if err := g.cluster.run(nil, "term", g.cluster.Dir, "client."+g.name); err != nil {
		t.Error(err)
	}
}

// Kill ends radosgw by SIGKILL. Locks that it held stay until they expire.
func (g *Radosgw) Kill(t testing.TB) {
	t.Helper()
	if err := g.cluster.run(nil, "kill", g.cluster.Dir, "client."+g.name); err != nil {
		t.Fatal(err)
	}
}
