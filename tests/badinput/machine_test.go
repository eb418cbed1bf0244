package badinput

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// TestSlowClients: many connections that dribble do not keep others out, and
// are ended.
func TestSlowClients(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	var conns []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nX-")); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	ok(t, g, "PUT", "/bucket/x", "x")
	began := time.Now()
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
		if _, err := c.Read(make([]byte, 1000)); err != nil && os.IsTimeout(err) {
			t.Fatalf("a client that sends no header is still connected after %s", time.Since(began))
		}
	}
}

// TestFullDisk fills the filesystem: writes are refused with 507, nothing is
// half-written, reads and deletes work, and so do writes once there is room.
func TestFullDisk(t *testing.T) {
	gatewaytest.NeedTree(t, "it fills the filesystem that has the objects; store/rados tests a full pool")
	dir := smallFilesystem(t, "500M")
	g := gatewaytest.Start(t, gatewaytest.Options{Data: filepath.Join(dir, "data")})
	ok(t, g, "PUT", "/bucket", "")
	ok(t, g, "PUT", "/bucket/first", "first")
	body := strings.Repeat("x", 8<<20)
	full, n := answer{}, 0
	for ; n < 200; n++ {
		full = request{method: "PUT", path: "/bucket/big-" + strconv.Itoa(n), body: body, hash: unsigned}.send(t, g)
		if full.status != 200 {
			break
		}
	}
	if full.status != 507 && full.status != 500 {
		t.Fatalf("PUT on a full disk = %d %s, want 507", full.status, full.body)
	}
	gone(t, g, "/bucket/big-"+strconv.Itoa(n))
	if a := (request{method: "GET", path: "/bucket/first"}).send(t, g); a.body != "first" {
		t.Errorf("GET on a full disk = %d %q", a.status, a.body)
	}
	if !strings.Contains(g.Log(100_000), "no space left") {
		t.Errorf("the log does not say that there is no space left:\n%s", g.Log(3000))
	}
	for i := range min(n, 4) {
		ok(t, g, "DELETE", "/bucket/big-"+strconv.Itoa(i), "")
	}
	deadline := time.Now().Add(3 * time.Minute) // freed blocks come back at the filesystem's next commit
	for {
		a := request{method: "PUT", path: "/bucket/again", body: body, hash: unsigned}.send(t, g)
		if a.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("PUT after deletes = %d %s", a.status, a.body)
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.Kill()
	if err := g.Run(); err != nil {
		t.Fatal(err)
	}
	if a := (request{method: "GET", path: "/bucket/again"}).send(t, g); len(a.body) != len(body) {
		t.Errorf("GET after a restart = %d, %d bytes", a.status, len(a.body))
	}
}

// smallFilesystem mounts an ext4 image of its own.
func smallFilesystem(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		gatewaytest.Missing(t, "root, to mount a filesystem")
	}
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{"truncate", "-s", size, image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			gatewaytest.Missing(t, strings.Join(cmd, " ")+": "+err.Error()+" "+string(out))
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return mount
}

// TestSecondGateway: a directory has one gateway; the second says who has it.
func TestSecondGateway(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	second := gatewaytest.New(t, gatewaytest.Options{Data: g.Data})
	err := second.Run()
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(g.PID())) {
		t.Errorf("second gateway = %v, want it refused, with process %d named", err, g.PID())
	}
	ok(t, g, "PUT", "/bucket", "")
}

// TestDirectoryModes: others may read the objects, as the umask has it, but
// nothing of the gateway's own.
func TestDirectoryModes(t *testing.T) {
	gatewaytest.NeedTree(t, "it looks at the modes of the objects' files")
	g := gatewaytest.Start(t, gatewaytest.Options{Data: filepath.Join(t.TempDir(), "data")})
	ok(t, g, "PUT", "/bucket", "")
	ok(t, g, "PUT", "/bucket/dir/x", "x")
	for name, want := range map[string]os.FileMode{"": 0o755, "bucket": 0o755, "bucket/dir": 0o755, "bucket/dir/x": 0o644, ".herald": 0o700} {
		info, err := os.Stat(filepath.Join(g.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %q = %o, want %o (umask 022)", name, got, want)
		}
	}
}

// TestReadOnlyDirectory: a directory that cannot be written stops the start
// with a line that says so.
func TestReadOnlyDirectory(t *testing.T) {
	dir := smallFilesystem(t, "64M")
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		gatewaytest.Missing(t, "remount: "+err.Error()+string(out))
	}
	err := gatewaytest.New(t, gatewaytest.Options{Data: filepath.Join(dir, "data")}).Run()
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("start on a read-only directory = %v, want an error that says so", err)
	}
}

// TestStopDrains: SIGTERM cuts no request, and the gateway exits with 0.
func TestStopDrains(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	ok(t, g, "PUT", "/bucket", "")
	q := request{method: "PUT", path: "/bucket/slow", hash: unsigned}
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(append(q.head(t, g, 10), "01234"...)); err != nil {
		t.Fatal(err)
	}
	ok(t, g, "PUT", "/bucket/other", "x") // the first is being served by now
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	time.Sleep(300 * time.Millisecond) // the drain has begun
	if _, err := conn.Write([]byte("56789")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200") {
		t.Errorf("request during the drain = %q %v", buf[:n], err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop = %v, want exit code 0", err)
	}
	if err := g.Run(); err != nil {
		t.Fatal(err)
	}
	if a := (request{method: "GET", path: "/bucket/slow"}).send(t, g); a.body != "0123456789" {
		t.Errorf("GET = %d %q", a.status, a.body)
	}
}
