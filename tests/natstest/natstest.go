// Package natstest starts real NATS servers for tests: each on a free loopback
// port with a directory of its own, ended with the test that started it.
package natstest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herald/tests/processtest"
)

// patience is how long a server may take for anything, on a busy machine.
const patience = 180 * time.Second

// Options of a server. The zero value is valid: a server with JetStream, open to
// everybody.
type Options struct {
	// Config is added to the server's configuration.
	Config string
	// NoJetStream leaves JetStream out.
	NoJetStream bool
	// Connect are options of the test's own connections.
	Connect []nats.Option
}

// Server is one NATS server. Its methods fail the test.
type Server struct {
	Addr string // host:port
	Dir  string

	t       testing.TB
	program string
	opts    Options
	logs    string // file

	mu      sync.Mutex // guards what follows
	process *processtest.Process
}

// Start starts a server, and ends it with the test.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		program = "/usr/sbin/nats-server"
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("missing: nats-server")
		}
		t.Skip("missing: nats-server")
	}
	addr, err := processtest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: addr, Dir: t.TempDir(), t: t, program: program, opts: opts}
	s.logs = filepath.Join(s.Dir, "log")
	config := "listen: " + s.Addr + "\n"
	if !opts.NoJetStream {
		config += fmt.Sprintf("jetstream { store_dir: %q, max_file_store: 1GB }\n", filepath.Join(s.Dir, "jetstream"))
	}
	if err := os.WriteFile(s.config(), []byte(config+opts.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if b, err := os.ReadFile(s.logs); err == nil && t.Failed() {
			t.Logf("the log of nats-server %s ends with:\n%s", s.Addr, b[len(b)-min(len(b), 4000):])
		}
	})
	s.Restart()
	return s
}

func (s *Server) config() string { return filepath.Join(s.Dir, "nats.conf") }

// Restart starts the server, which has ended, on its port and directory, and
// waits until it takes connections.
func (s *Server) Restart() {
	s.t.Helper()
	p, err := processtest.Start(exec.Command(s.program, "-c", s.config(), "-l", s.logs))
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if p.Ended() {
			b, _ := os.ReadFile(s.logs) // says why
			s.t.Fatalf("nats-server ended at once:\n%s", b)
		}
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("nats-server does not listen: %v", err)
		}
	}
}

// Kill ends the process at once, as a crash would.
func (s *Server) Kill() { s.running().Kill() }

// Pause halts the process, and Resume lets it go on.
func (s *Server) Pause() { s.check(s.running().Pause()) }

// Resume lets a halted process go on.
func (s *Server) Resume() { s.check(s.running().Resume()) }

func (s *Server) running() *processtest.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// URL names the server.
func (s *Server) URL() string { return "nats://" + s.Addr }

// Conn returns a connection that ends with the test. It reconnects.
func (s *Server) Conn() *nats.Conn {
	s.t.Helper()
	opts := append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.Timeout(patience)}, s.opts.Connect...)
	c, err := nats.Connect(s.URL(), opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// JetStream returns a connection's JetStream.
func (s *Server) JetStream() jetstream.JetStream {
	s.t.Helper()
	js, err := jetstream.New(s.Conn())
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

// Stream makes a stream, or changes it.
func (s *Server) Stream(js jetstream.JetStream, config jetstream.StreamConfig) jetstream.Stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	for ctx.Err() == nil { // just started, JetStream may not be ready
		var stream jetstream.Stream
		if stream, err = js.CreateOrUpdateStream(ctx, config); err == nil {
			return stream
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("make stream %s: %v", config.Name, err)
	return nil
}

// Messages returns all that a stream has.
func (s *Server) Messages(stream jetstream.Stream) []*jetstream.RawStreamMsg {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if err != nil {
			s.t.Fatalf("message %d of stream %s: %v", seq, info.Config.Name, err)
		}
		out = append(out, msg)
	}
	return out
}

// Connections is how many clients the server has, but for the test's own, by
// their names.
func (s *Server) Connections(name string) int {
	s.t.Helper()
	n := 0
	for _, c := range s.clients() {
		if c == name {
			n++
		}
	}
	return n
}
