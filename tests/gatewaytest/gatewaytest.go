// Package gatewaytest builds the gateway and runs it for black-box tests: as a
// process of its own, on free loopback ports, with a directory of its own. The
// environment may choose where all gateways of a test binary have objects and
// queues (HERALD_TEST_STORE, HERALD_TEST_QUEUE): see Store and Queue.
package gatewaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"herald/tests/processtest"
)

// The keys of user root in tests.
const (
	AccessKey = "HERALDTESTROOT000001"
	SecretKey = "root-secret-for-tests-only-0000000000001"
)

// startTimeout is how long a gateway may take to become ready: a first start
// on a busy machine writes its journal full.
const startTimeout = 180 * time.Second

var (
	buildOnce sync.Once
	binary    string
	errBuild  error
)

// Binary returns the gateway's binary, built with the tag faults and with those
// of the test, or the one that HERALD_GATEWAY names.
func Binary(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		if binary = os.Getenv("HERALD_GATEWAY"); binary != "" {
			return
		}
		removeOld()
		dir, err := os.MkdirTemp("", fmt.Sprintf("herald-gateway-%d-", os.Getpid()))
		if err != nil {
			errBuild = err
			return
		}
		if errBuild = lookAtSource(); errBuild != nil {
			return
		}
		binary = filepath.Join(dir, "gateway")
		out, err := exec.Command("go", "build", "-tags", tags, "-o", binary, "herald/cmd/gateway").CombinedOutput()
		if err != nil {
			errBuild = fmt.Errorf("build the gateway: %w\n%s", err, out)
		}
	})
	if errBuild != nil {
		t.Fatal(errBuild)
	}
	return binary
}

// lookAtSource opens what the gateway is built of. go test knows by that when a
// result that it has cached holds no more: a test does not import the gateway.
func lookAtSource() error {
	cmd := exec.Command("go", "list", "-tags", tags, "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}} {{.GoMod}}{{end}}{{end}}", "herald/cmd/gateway")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the gateway's packages: %w", err)
	}
	for _, name := range strings.Fields(string(out)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_ = f.Close() // read only
	}
	return nil
}

// removeOld removes the binaries of test processes that are no more: none can
// remove its own, which all of its tests use.
func removeOld() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "herald-gateway-*-*"))
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "herald-gateway-%d-", &pid); err != nil {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

// Options of a gateway under test. The zero value is valid.
type Options struct {
	Data  string   // directory; default: a fresh one
	Args  []string // more flags of serve
	Env   []string // more environment, NAME=value
	Build string   // binary; default: Binary
}

// Gateway is a running gateway.
type Gateway struct {
	URL  string // of the S3 endpoint, without a slash at the end
	Ops  string // of health and metrics, likewise
	Data string

	t      testing.TB
	opts   Options
	place  []string // environment: where objects and queues are
	binary string
	log    *syncBuffer

	mu      sync.Mutex // guards what follows
	process *processtest.Process
}

// Start builds and starts a gateway, waits until it is ready, and stops it
// when the test ends.
func Start(t testing.TB, opts Options) *Gateway {
	t.Helper()
	g := New(t, opts)
	if err := g.Run(); err != nil {
		t.Fatal(err)
	}
	return g
}

// New prepares a gateway without starting it.
func New(t testing.TB, opts Options) *Gateway {
	t.Helper()
	if opts.Data == "" {
		opts.Data = t.TempDir()
	}
	g := &Gateway{Data: opts.Data, t: t, opts: opts, place: placeEnv(t), binary: opts.Build, log: &syncBuffer{}}
	if g.binary == "" {
		g.binary = Binary(t)
	}
	g.URL = "http://" + FreeAddress(t)
	g.Ops = "http://" + FreeAddress(t)
	t.Cleanup(func() {
		_ = g.Stop()
		if t.Failed() {
			t.Logf("the gateway's log ends with:\n%s", g.Log(20_000))
		}
	})
	return g
}

// Run starts the process and waits until it is ready. After Stop or Kill it
// may be called again: addresses and directory stay.
func (g *Gateway) Run() error { return g.run("/readyz") }

// Launch is Run that does not wait until the gateway is ready, but only until
// it answers.
func (g *Gateway) Launch() error { return g.run("/healthz") }

func (g *Gateway) run(until string) error {
	args := append([]string{
		"serve", "--data", g.Data, "--listen", strings.TrimPrefix(g.URL, "http://"), "--ops", strings.TrimPrefix(g.Ops, "http://"),
		"--notify.endpoint-allow", "loopback", // where the tests' endpoints are; Args may say otherwise
	}, g.opts.Args...)
	cmd := exec.Command(g.binary, args...)
	cmd.Env = append(append(g.environ(), "HERALD_ROOT_ACCESS_KEY="+AccessKey, "HERALD_ROOT_SECRET_KEY="+SecretKey), g.opts.Env...)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	p, err := processtest.Start(cmd)
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	g.mu.Lock()
	g.process = p
	g.mu.Unlock()
	return g.waitFor(until, p)
}

// running is the process that was started last; nil: none was.
func (g *Gateway) running() *processtest.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process
}

// WaitReady waits until the gateway that runs is ready.
func (g *Gateway) WaitReady() error { return g.waitFor("/readyz", g.running()) }

func (g *Gateway) waitFor(path string, p *processtest.Process) error {
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		if p.Ended() {
			return fmt.Errorf("the gateway ended at its start: %w\n%s", p.Wait(), g.Log(4000))
		}
		resp, err := http.Get(g.Ops + path)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond) // readiness can only be polled
	}
	return fmt.Errorf("the gateway does not answer %s with 200 after %s\n%s", path, startTimeout, g.Log(4000))
}

// SetEnv replaces the additional environment of the next Run.
func (g *Gateway) SetEnv(env ...string) { g.opts.Env = env }

// SetArgs replaces the additional flags of the next Run.
func (g *Gateway) SetArgs(args ...string) { g.opts.Args = args }

// Done is closed when the process has ended.
func (g *Gateway) Done() <-chan struct{} { return g.running().Done() }

// PID is the process id.
func (g *Gateway) PID() int { return g.running().PID() }

// Kill ends the process by SIGKILL and waits for it.
func (g *Gateway) Kill() { g.running().Kill() }

// Pause halts the process, as a machine that is suspended.
func (g *Gateway) Pause() error { return g.running().Pause() }

// Resume lets a halted process go on.
func (g *Gateway) Resume() error { return g.running().Resume() }

// Stop ends the process by SIGTERM and waits for it. It is an error when the
// gateway does not exit with 0.
func (g *Gateway) Stop() error {
	p := g.running()
	if p == nil {
		return nil
	}
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.Done():
		return p.Wait()
	case <-time.After(startTimeout):
		p.Kill()
		return errors.New("the gateway did not end in time")
	}
}

// Log returns the end of what the gateway printed, at most max bytes.
func (g *Gateway) Log(max int) string { return g.log.tail(max) }

// Admin runs `gateway admin ARGS...` and returns its output and exit code.
func (g *Gateway) Admin(args ...string) (stdout string, code int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := g.Command(ctx, "admin", args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String() + errOut.String(), exit.ExitCode()
	case err != nil:
		g.t.Fatalf("gateway admin %q: %v", args, err)
	}
	return out.String(), 0
}

// MustAdmin is Admin that fails the test unless the exit code is 0.
func (g *Gateway) MustAdmin(args ...string) string {
	g.t.Helper()
	out, code := g.Admin(args...)
	if code != 0 {
		g.t.Fatalf("gateway admin %q = exit code %d\n%s", args, code, out)
	}
	return out
}

// FreeAddress returns a loopback address with a port that is free now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	addr, err := processtest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Missing skips the test because the machine lacks something, with a line
// that says so; in CI (environment CI=true) that is a failure.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// syncBuffer keeps the last megabyte that was written.
type syncBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if len(b.buf) > 2<<20 {
		b.buf = append(b.buf[:0], b.buf[len(b.buf)-1<<20:]...)
	}
	return len(p), nil
}

func (b *syncBuffer) tail(max int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf[len(b.buf)-min(max, len(b.buf)):])
}
