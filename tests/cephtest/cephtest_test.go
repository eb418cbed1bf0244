//go:build rados

package cephtest_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herald/tests/cephtest"
)

func TestMain(m *testing.M) { cephtest.MainDurable(m) }

// rados runs the command rados.
func rados(t *testing.T, c *cephtest.Cluster, in string, args ...string) string {
	t.Helper()
	cmd := exec.Command("timeout", append([]string{"300", "rados", "-c", c.Conf}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rados %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestCluster_KeepsAnObjectAcrossAKilledOSD(t *testing.T) {
	c := cephtest.Start(t)
	pool := c.Pool(t)
	rados(t, c, "content", "-p", pool, "put", "object", "-")
	c.KillOSD(t, 0)
	c.StartOSD(t, 0)
	if got := rados(t, c, "", "-p", pool, "get", "object", "-"); got != "content" {
		t.Errorf("get = %q", got)
	}
	c.WaitHealthy(t)
}

func TestCluster_LoadsTheClasses(t *testing.T) {
	c := cephtest.Start(t)
	pool, ns := c.Namespace(t)
	rados(t, c, "", "-p", pool, "-N", ns, "create", "object")
	rados(t, c, "", "-p", pool, "-N", ns, "lock", "get", "object", "name")
	if got := rados(t, c, "", "-p", pool, "-N", ns, "lock", "list", "object"); !strings.Contains(got, "name") {
		t.Errorf("lock list = %q", got)
	}
	for _, class := range []string{"lock", "2pc_queue"} {
		cmd := exec.Command("ceph", "daemon", filepath.Join(c.Dir, "osd.0.asok"), "config", "get", "osd_class_load_list")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("*")) {
			t.Errorf("class %s: %v %s", class, err, out)
		}
	}
}

func TestRadosgw_ServesItsUser(t *testing.T) {
	c := cephtest.Start(t)
	g := cephtest.StartRadosgw(t, c)
	if out := g.Admin(t, "user", "info", "--uid", g.User); !strings.Contains(out, g.AccessKey) {
		t.Errorf("user info lacks the key: %s", out)
	}
	g.Kill(t)
	g.Run(t)
	resp, err := http.Get(g.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); !bytes.Contains(body, []byte("ListAllMyBucketsResult")) {
		t.Errorf("GET / = %s", body)
	}
}

func TestStartOwn_ThreeOSDs(t *testing.T) {
	if testing.Short() {
		t.Skip("three OSDs: long")
	}
	c := cephtest.StartOwn(t, cephtest.Options{OSDs: 3})
	pool := c.Pool(t)
	rados(t, c, "content", "-p", pool, "put", "object", "-")
	c.WaitHealthy(t)
	for id := range 3 { // one copy is left while one is away
		c.KillOSD(t, id)
		if got := rados(t, c, "", "-p", pool, "get", "object", "-"); got != "content" {
			t.Errorf("get without osd.%d = %q", id, got)
		}
		c.StartOSD(t, id)
		c.WaitHealthy(t)
	}
}

// TestNothingOutlivesTheTests starts a cluster in a test binary that is killed
// outright, and looks for what is left of it.
func TestNothingOutlivesTheTests(t *testing.T) {
	if dir := os.Getenv("CEPHTEST_CHILD"); dir != "" {
		t.Setenv("TMPDIR", dir)
		c := cephtest.StartOwn(t, cephtest.Options{Memstore: true})
		if err := os.WriteFile(filepath.Join(dir, "ready"), []byte(c.Dir), 0o600); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	cephtest.Start(t) // misses the binaries if they are missing
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=TestNothingOutlivesTheTests", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), "CEPHTEST_CHILD="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	clusterDir := waitFor(t, func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "ready"))
		return string(b)
	})
	if len(running(t, clusterDir)) == 0 {
		t.Error("no daemon is seen while the cluster runs")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	waitFor(t, func() string {
		if left := running(t, clusterDir); len(left) > 0 {
			return ""
		}
		if _, err := os.Stat(clusterDir); err == nil {
			return ""
		}
		return "gone"
	})
}

// running returns the command lines that name a cluster's configuration.
func running(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		line, _ := os.ReadFile(name) // it may have ended
		if strings.Contains(string(line), filepath.Join(dir, "ceph.conf")) {
			found = append(found, string(line))
		}
	}
	return found
}

func waitFor(t *testing.T, f func() string) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s := f(); s != "" {
			return s
		}
	}
	t.Fatal("waited in vain for five minutes")
	return ""
}
