package redistest

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"herald/tests/processtest"
)

// shared is the server of SharedURL.
type shared struct {
	once   sync.Once // guards what follows
	server *Server
	stdin  io.WriteCloser // of the process that removes the directory; open until this one ends
	err    error
}

// theShared is the one of this test binary.
var theShared = &shared{}

// SharedURL returns the URL, without a namespace, of a server that all tests of
// this binary share. It ends with the test binary, and its directory with it.
func SharedURL(t testing.TB) string {
	t.Helper()
	need(t)
	theShared.once.Do(func() { theShared.start(t) })
	if theShared.server == nil {
		t.Fatalf("the shared server did not start: %v", theShared.err)
	}
	return theShared.server.URL()
}

// start starts the server. Only until it is ready does it belong to the test
// that happens to be the first.
func (s *shared) start(t testing.TB) {
	t.Helper()
	var dir string
	if dir, s.err = os.MkdirTemp("", "herald-redis-"); s.err != nil {
		return
	}
	server := &Server{Addr: freeAddress(t), Dir: dir, t: t}
	// A process that waits for the end of its input removes the directory
	// when this one ends, however it does.
	sweep := exec.Command("sh", "-c", `cat >/dev/null; sleep 1; rm -rf "$1"`, "sh", dir)
	sweep.SysProcAttr = processtest.Apart()
	if s.stdin, s.err = sweep.StdinPipe(); s.err != nil {
		return
	}
	if s.err = sweep.Start(); s.err != nil {
		return
	}
	server.run()
	s.server = server
}
