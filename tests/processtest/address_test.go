package processtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// takerEnv tells the test binary to be a process that wants a port.
const takerEnv = "HERALD_PROCESSTEST_TAKE"

// taker takes a port, says whether it could, and runs until its input ends.
func taker(port string) int {
	n, err := strconv.Atoi(port)
	if err != nil {
		return 1
	}
	fmt.Println(take(n))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startTaker starts a process that takes a port, and returns what it says.
func startTaker(t *testing.T, port int) (said string, p *Process) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), takerEnv+"="+strconv.Itoa(port))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	p, err = Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	_ = w.Close() // the process has it
	said, err = bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return said, p
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An address is one process's while it lives, also while nobody listens there.
func TestFreeAddress_OtherProcess(t *testing.T) {
	addr, err := FreeAddress(1)
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(t, addr)
	for n := range 2 {
		if said, _ := startTaker(t, port+n); said != "false\n" {
			t.Errorf("another process takes port %d of %d: %s", n, port, said)
		}
	}
	for port = 10_000; ; port++ {
		said, p := startTaker(t, port)
		if said == "true\n" {
			if take(port) {
				t.Errorf("this process takes port %d of another", port)
			}
			p.Kill()
			if !take(port) {
				t.Errorf("port %d is still another process's, which has ended", port)
			}
			return
		}
		p.Kill()
	}
}

// A server may listen there, end, and listen again.
func TestFreeAddress_Listen(t *testing.T) {
	addr, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if take(portOf(t, addr)) {
			t.Errorf("%s is given twice", addr)
		}
		_ = l.Close()
	}
}
