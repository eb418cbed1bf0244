// Package cephtest runs a real Ceph cluster for tests: a monitor, a manager
// and OSDs on loopback, by tests/ceph.sh. Nothing of it outlives the test
// binary, however that ends: a watching process kills what is left when the
// pipe from the test binary breaks.
package cephtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/tests/processtest"
)

// timeout is how long any one step of a cluster may take on a busy machine.
const timeout = 5 * time.Minute

// Options of a cluster. The zero value is valid.
type Options struct {
	OSDs     int    // default 1; with 3, each object has two copies
	Memstore bool   // keep the objects in memory: they are gone when the OSD is
	Cephx    bool   // clients authenticate, by the keyring that Conf names; else nobody does
	Size     string // of each OSD's disk, a sparse file, such as "20G"; default 4G
}

// Cluster is a running cluster.
type Cluster struct {
	Dir  string // with configuration, logs and data
	Conf string // ceph.conf for clients, which are client.admin

	script string
	memory bool           // objects are gone with the OSD
	watch  *exec.Cmd      // kills the daemons when its stdin ends; nil: not ours to end
	stdin  io.WriteCloser // of watch
	rgws   int            // radosgws that were started; guarded by mu
	mu     sync.Mutex
	pool   onePool // Namespace's
	coded  onePool // CodedPool's
}

// onePool is a pool that is made once.
type onePool struct {
	once sync.Once // guards what follows
	name string
	err  error
}

func (p *onePool) get(t testing.TB, make func(name string) error) string {
	t.Helper()
	p.once.Do(func() {
		p.name = "shared-" + strings.ToLower(rand.Text()[:10])
		p.err = make(p.name)
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.name
}

var (
	startOnce sync.Once
	shared    *Cluster
	errStart  error
	durable   bool // shared is, also with -short
)

// MainDurable is Main for packages whose tests kill the OSD of the shared
// cluster: it keeps its objects on disk with -short, too.
func MainDurable(m *testing.M) {
	durable = true
	Main(m)
}

// Main runs the tests of a package and ends the shared cluster before it
// exits. Without Main the cluster ends a moment after the test binary.
func Main(m *testing.M) {
	code := m.Run()
	if shared != nil {
		shared.stop()
	}
	os.Exit(code)
}

// Start returns the cluster that all tests of this binary share, with one
// OSD; with three when the tests want an erasure-coded pool. With -short it keeps its objects in memory, which takes half the time;
// tests that kill an OSD have MainDurable or StartOwn. The environment
// HERALD_TEST_CEPH names the directory (absolute) of a cluster that runs already
// (tests/ceph.sh start DIR) and is used instead; its end is then up to who
// started it.
func Start(t testing.TB) *Cluster {
	t.Helper()
	require(t, "ceph", "ceph-mon", "ceph-mgr", "ceph-osd")
	startOnce.Do(func() {
		if dir := os.Getenv("HERALD_TEST_CEPH"); dir != "" {
			shared, errStart = attach(dir)
			return
		}
		opts := Options{Memstore: testing.Short() && !durable}
		if coded() {
			opts.OSDs = 3
		}
		shared, errStart = start(opts)
	})
	if errStart != nil {
		t.Fatal(errStart)
	}
	return shared
}

// coded is whether the tests were told to keep objects in an erasure-coded pool.
func coded() bool { return strings.HasSuffix(os.Getenv("HERALD_TEST_STORE"), "+ec") }

// StartOwn starts a cluster for this test alone and ends it with the test.
func StartOwn(t testing.TB, opts Options) *Cluster {
	t.Helper()
	require(t, "ceph", "ceph-mon", "ceph-mgr", "ceph-osd")
	c, err := start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}

func require(t testing.TB, commands ...string) {
	t.Helper()
	for _, name := range commands {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, name+" (make deps installs it)")
		}
	}
}

// missing skips the test; in CI (environment CI=true) that is a failure. (It is
// gatewaytest's, which uses this package.)
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// findScript looks for tests/ceph.sh upwards from the working directory.
func findScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "tests", "ceph.sh")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cephtest: tests/ceph.sh is not in a directory above")
		}
		dir = filepath.Dir(dir)
	}
}

func attach(dir string) (*Cluster, error) {
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	return &Cluster{Dir: dir, Conf: filepath.Join(dir, "ceph.conf"), script: script}, nil
}

func start(opts Options) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "herald-ceph-")
	if err != nil {
		return nil, err
	}
	c, err := attach(dir)
	if err != nil {
		return nil, err
	}
	if err := c.startWatch(); err != nil {
		return nil, err
	}
	addr, err := processtest.FreeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	env := []string{"MON_PORT=" + port, "DEFER=no"} // a killed OSD may damage objects by writes that it deferred
	c.memory = opts.Memstore
	if opts.Memstore {
		env = append(env, "STORE=memstore")
	}
	if opts.Cephx {
		env = append(env, "AUTH=cephx")
	}
	if opts.Size != "" {
		env = append(env, "OSD_SIZE="+opts.Size)
	}
	if err := c.run(env, "start", dir, strconv.Itoa(max(opts.OSDs, 1))); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// startWatch starts the process that ends the cluster. It is there before
// the first daemon, and in a session of its own, so that what kills the tests
// does not kill it.
func (c *Cluster) startWatch() error {
	c.watch = exec.Command(c.script, "watch", c.Dir)
	c.watch.SysProcAttr = processtest.Apart()
	var err error
	if c.stdin, err = c.watch.StdinPipe(); err != nil {
		return err
	}
	return c.watch.Start()
}

// stop kills the daemons, waits until they are gone and removes the directory.
func (c *Cluster) stop() {
	if c.watch == nil {
		return
	}
	_ = c.stdin.Close()
	_ = c.watch.Wait() // it has nothing to say
	c.watch = nil
}

// run runs tests/ceph.sh, which dies with the test binary.
func (c *Cluster) run(env []string, args ...string) error {
	_, err := output(env, c.script, args...)
	return err
}

func output(env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := processtest.Run(cmd); err != nil {
		return "", fmt.Errorf("%s %q: %w\n%s%s", filepath.Base(name), args, err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// Ceph runs the command ceph on the cluster and returns its output.
func (c *Cluster) Ceph(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.ceph(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *Cluster) ceph(args ...string) (string, error) {
	return output(nil, "ceph", append([]string{"-c", c.Conf, "--connect-timeout", "60"}, args...)...)
}

// ClientConf returns a ceph.conf like Conf, but for a client that has another
// keyring.
func (c *Cluster) ClientConf(t testing.TB, keyring string) string {
	t.Helper()
	data, err := os.ReadFile(c.Conf)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "keyring = ") {
			lines[i] = "keyring = " + keyring
		}
	}
	conf := filepath.Join(t.TempDir(), "ceph.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// Pool creates a pool of 8 placement groups and removes it when the test ends.
func (c *Cluster) Pool(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:10])
	c.Ceph(t, "osd", "pool", "create", name)
	t.Cleanup(func() {
		if _, err := c.ceph("osd", "pool", "rm", name, name, "--yes-i-really-really-mean-it"); err != nil {
			t.Logf("remove pool %s: %v", name, err)
		}
	})
	return name
}

// Namespace returns a pool that the tests of this binary share, and the name
// of a namespace in it that nobody used. It takes no time after the first.
func (c *Cluster) Namespace(t testing.TB) (pool, namespace string) {
	t.Helper()
	name := c.pool.get(t, func(name string) error {
		_, err := c.ceph("osd", "pool", "create", name)
		return err
	})
	return name, strings.ToLower(rand.Text()[:10])
}

// CodedPool returns an erasure-coded pool that the tests of this binary share,
// of two chunks and one of parity. The cluster needs three OSDs.
func (c *Cluster) CodedPool(t testing.TB) string {
	t.Helper()
	return c.coded.get(t, func(name string) error {
		_, err := c.ceph("osd", "erasure-code-profile", "set", "two-and-one", "k=2", "m=1", "crush-failure-domain=osd")
		if err == nil {
			_, err = c.ceph("osd", "pool", "create", name, "8", "8", "erasure", "two-and-one")
		}
		return err
	})
}

// KillOSD ends an OSD by SIGKILL.
func (c *Cluster) KillOSD(t testing.TB, id int) {
	t.Helper()
	if err := c.killOSD(id); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) killOSD(id int) error {
	if c.memory {
		return errors.New("cephtest: this OSD keeps its objects in memory: use MainDurable or StartOwn")
	}
	return c.run(nil, "kill", c.Dir, fmt.Sprintf("osd.%d", id))
}

// StartOSD starts an OSD that was killed and waits until it serves.
func (c *Cluster) StartOSD(t testing.TB, id int) {
	t.Helper()
	if err := c.run(nil, "up", c.Dir, fmt.Sprintf("osd.%d", id)); err != nil {
		t.Fatal(err)
	}
}

// RestartOSD kills an OSD and starts it again. Unlike KillOSD and StartOSD it
// may be called by any goroutine.
func (c *Cluster) RestartOSD(id int) error {
	return errors.Join(c.killOSD(id), c.run(nil, "up", c.Dir, fmt.Sprintf("osd.%d", id)))
}

// WaitHealthy waits until every OSD is up and every placement group is active
// and clean.
func (c *Cluster) WaitHealthy(t testing.TB) {
	t.Helper()
	var out string
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out = c.Ceph(t, "status", "--format", "json")
		if healthy(out) {
			return
		}
	}
	t.Fatalf("the cluster is not healthy after %s: %s", timeout, out)
}

func healthy(status string) bool {
	var s struct {
		OSDs struct {
			All int `json:"num_osds"`
			Up  int `json:"num_up_osds"`
		} `json:"osdmap"`
		PGs struct {
			All    int `json:"num_pgs"`
			States []struct {
				Name  string `json:"state_name"`
				Count int    `json:"count"`
			} `json:"pgs_by_state"`
		} `json:"pgmap"`
	}
	if err := json.Unmarshal([]byte(status), &s); err != nil || s.OSDs.Up < s.OSDs.All {
		return false
	}
	clean := 0
	for _, state := range s.PGs.States {
		if strings.HasPrefix(state.Name, "active+clean") {
			clean += state.Count
		}
	}
	return clean == s.PGs.All
}

// Complaints returns what the cluster itself says is wrong with what it keeps:
// its health, and lines of the OSDs' logs since they were last started. An
// object of which there is one copy, and that an OSD finds corrupt, does not fail
// reads: they are never answered.
func (c *Cluster) Complaints() string {
	out, err := c.ceph("health", "detail")
	if err != nil {
		out = err.Error()
	}
	logs, _ := filepath.Glob(filepath.Join(c.Dir, "osd.*.log")) // the pattern is valid
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return out + "\n" + err.Error()
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "_verify_csum") || strings.Contains(line, "bad crc") || strings.Contains(line, "full-object") || strings.Contains(line, "slow request") {
				out += line
			}
		}
	}
	return out
}
