// Package brokertest runs real message brokers (RabbitMQ, Mosquitto) for tests:
// each as a process of its own on free loopback ports, with a directory of its
// own, ended with the test that started it.
package brokertest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/processtest"
)

// patience is how long a broker may take for anything on a busy machine.
const patience = 300 * time.Second

// Process is a broker's process.
type Process struct {
	t testing.TB
	p *processtest.Process
}

// run starts a process that dies with this one. Its output goes to the end of
// a file.
func run(t testing.TB, logFile string, env []string, name string, args ...string) *Process {
	t.Helper()
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	cmd.Dir = filepath.Dir(logFile)
	p, err := processtest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &Process{t, p}
}

// Kill ends the process at once, as a power failure.
func (p *Process) Kill() { p.p.Kill() }

// Pause halts the process: what it has open stays, and nothing is answered.
func (p *Process) Pause() { p.check(p.p.Pause()) }

// Resume lets a halted process go on.
func (p *Process) Resume() { p.check(p.p.Resume()) }

// Stop ends the process in order: it writes down what it has.
func (p *Process) Stop() {
	p.t.Helper()
	p.check(p.p.Signal(syscall.SIGTERM))
	select {
	case <-p.p.Done():
	case <-time.After(patience):
		p.t.Fatal("the broker does not stop")
	}
}

func (p *Process) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// program finds what one of the paths names, or skips the test.
func program(t testing.TB, what string, paths ...string) string {
	t.Helper()
	for _, p := range paths {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	gatewaytest.Missing(t, what+" (make deps installs it)")
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(gatewaytest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// eventually polls what a broker does by itself.
func eventually(t testing.TB, what string, p *Process, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		switch {
		case p != nil && p.p.Ended():
			t.Fatalf("the broker ended: %s", what)
		case time.Now().After(deadline):
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tail is the end of a file, for the reports of failed tests.
func tail(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(data[len(data)-min(len(data), 6000):])
}

// dialable tells whether somebody listens.
func dialable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func port(addr string) int {
	_, p, err := net.SplitHostPort(addr)
	n, convErr := strconv.Atoi(p)
	if errors.Join(err, convErr) != nil {
		return 0
	}
	return n
}
