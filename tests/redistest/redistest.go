// Package redistest starts real Redis servers for tests: one alone, a Cluster,
// a pair under a Sentinel, with TLS, with an ACL. Each has a free loopback port
// and a directory of its own, writes and flushes its append-only file with
// every command, and ends with the test.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"herald/tests/processtest"
)

// startTimeout is how long a server may take until it answers, on a busy
// machine and with much to load.
const startTimeout = 180 * time.Second

// Server is one Redis server. Its methods fail the test.
type Server struct {
	Addr string // host:port
	Dir  string

	t    testing.TB
	args []string
	tls  *tls.Config // of clients; nil without TLS

	mu      sync.Mutex // guards what follows
	process *processtest.Process
}

// Start starts a server alone. args are more of its options, for example
// "--appendfsync", "everysec"; later ones win.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := prepare(t, args)
	s.run()
	return s
}

// prepare chooses a port, and stops the server when the test ends.
func prepare(t testing.TB, args []string) *Server {
	t.Helper()
	need(t)
	s := &Server{Addr: freeAddress(t), Dir: t.TempDir(), t: t, args: args}
	t.Cleanup(func() {
		s.KillNine()
		if t.Failed() {
			t.Logf("the log of redis %s ends with:\n%s", s.Addr, s.Log(4000))
		}
	})
	return s
}

// need skips the test where there is no redis-server; in CI (environment
// CI=true) that is a failure.
func need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("missing: redis-server")
	}
	t.Skip("missing: redis-server")
}

// freeAddress returns a loopback address whose port, and the one 10,000 above
// it, where a Cluster's nodes talk, are free.
func freeAddress(t testing.TB) string {
	t.Helper()
	addr, err := processtest.FreeAddress(10_000)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func (s *Server) port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// command is the server's command line.
func (s *Server) command() []string {
	args := []string{
		"--dir", s.Dir, "--logfile", s.logFile(), "--bind", "127.0.0.1", "--port", s.port(), "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--repl-diskless-sync-delay", "0",
		"--repl-ping-replica-period", "1", "--proto-max-bulk-len", "512mb",
	}
	return append(args, s.args...)
}

func (s *Server) logFile() string { return filepath.Join(s.Dir, "redis.log") }

// run starts the process and waits until it answers.
func (s *Server) run() {
	s.t.Helper()
	cmd := exec.Command("redis-server", s.command()...)
	if err := s.launch(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.waitReady()
}

// launch starts the process.
func (s *Server) launch(cmd *exec.Cmd) error {
	p, err := processtest.Start(cmd)
	if err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

func (s *Server) waitReady() {
	s.t.Helper()
	s.mu.Lock()
	p := s.process
	s.mu.Unlock()
	c := s.client(lookTimeout)
	defer func() { _ = c.Close() }()
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		select {
		case <-p.Done():
			s.t.Fatalf("redis %s ended at once:\n%s", s.Addr, s.Log(4000))
		case <-time.After(10 * time.Millisecond):
		}
		err = c.Ping(context.Background()).Err()
		if err == nil || isAnswer(err) {
			return
		}
	}
	s.t.Fatalf("redis %s does not answer: %v\n%s", s.Addr, err, s.Log(4000))
}

// isAnswer is whether the server itself refused, for lack of a password or
// because it follows another; not while it loads.
func isAnswer(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && !bytes.HasPrefix([]byte(e.Error()), []byte("LOADING"))
}

// KillNine ends the process at once, as a crash would.
func (s *Server) KillNine() { s.running().Kill() }

// Stop ends the process in order.
func (s *Server) Stop() {
	p := s.running()
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	_ = p.Wait()                  // how it ended is in its log
}

func (s *Server) running() *processtest.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Restart starts the ended server again, on its port and directory.
func (s *Server) Restart() {
	s.t.Helper()
	s.mend()
	s.run()
}

// RestartTorn is Restart without what a careful operator does before: the file
// of a server that was killed while it wrote may end amid a transaction. Redis
// then keeps the transaction's beginning in the file, and does it with the next
// one when it starts once more (valkey-io/valkey#4342).
func (s *Server) RestartTorn() {
	s.t.Helper()
	s.run()
}

// mend takes the beginning of a transaction off the end of the server's file.
func (s *Server) mend() {
	s.t.Helper()
	for _, file := range s.files(".manifest") {
		cmd := exec.Command("redis-check-aof", "--fix", file)
		cmd.Stdin = strings.NewReader("y\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("redis-check-aof: %v\n%s", err, out)
		}
	}
}

// files returns those that the server appends to, or that list them. Redis 6
// has none in a directory.
func (s *Server) files(suffix string) []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*"+suffix))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// Tear cuts n bytes off the file of a server that has ended, as if it had been
// killed while it wrote them.
func (s *Server) Tear(n int64) {
	s.t.Helper()
	files := s.files(".incr.aof")
	if len(files) != 1 {
		s.t.Fatalf("files of redis: %v", files)
	}
	info, err := os.Stat(files[0])
	if err == nil {
		err = os.Truncate(files[0], info.Size()-n)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Pause halts the process, and Resume lets it go on.
func (s *Server) Pause() { s.check(s.running().Pause()) }

// Resume lets a halted process go on.
func (s *Server) Resume() { s.check(s.running().Resume()) }

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Client returns a client of this server alone, which does not repeat
// anything, and waits for answers as long as a server may take that has to flush
// its file on a busy disk. The caller closes it.
func (s *Server) Client() *redis.Client { return s.client(startTimeout) }

// lookTimeout is how long one look at a server takes that may be halted; it is
// repeated.
const lookTimeout = 3 * time.Second

func (s *Server) client(timeout time.Duration) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Addr, TLSConfig: s.tls, MaxRetries: -1, DisableIdentity: true,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
	})
}

// Do sends one command and returns its reply.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	c := s.Client()
	defer func() { _ = c.Close() }()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("redis %s: %v = %v", s.Addr, args, err)
	}
	return v
}

// Promote makes a replica a master.
func (s *Server) Promote() {
	s.t.Helper()
	s.Do("REPLICAOF", "NO", "ONE")
}

// URL names the server, with database 0.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Log returns the end of the server's log.
func (s *Server) Log(max int) string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b[len(b)-min(len(b), max):])
}

// Rewritten waits until the server has written its file anew, which a gateway
// asks for once after each start of it, and which goes on beside: the files of the
// directory change with it.
func (s *Server) Rewritten() {
	s.t.Helper()
	Eventually(s.t, "the file is written anew", func() bool {
		info := s.Do("INFO", "persistence").(string)
		return !strings.Contains(info, "aof_last_rewrite_time_sec:-1\r") && strings.Contains(info, "aof_rewrite_in_progress:0\r") &&
			strings.Contains(info, "aof_rewrite_scheduled:0\r")
	})
}

// Eventually waits until ok answers true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", startTimeout, what)
}
