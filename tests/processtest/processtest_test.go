package processtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// parentEnv tells the test binary to be a process that starts another.
const parentEnv = "HERALD_PROCESSTEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		os.Exit(parent())
	}
	if port := os.Getenv(takerEnv); port != "" {
		os.Exit(taker(port))
	}
	os.Exit(m.Run())
}

// parent starts a process that shares its output, halts it, and runs until its
// input ends.
func parent() int {
	child := exec.Command("cat")
	child.Stdout = os.Stdout
	in, err := child.StdinPipe() // stays open
	if err != nil {
		return 1
	}
	p, err := Start(child)
	if err != nil || p.Pause() != nil {
		return 1
	}
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(in)
	return 0
}

// A process ends with the one that started it, though that is killed, and though
// it is halted.
func TestStart_ParentDies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a process with its parent")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"=1")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // parent and child have it
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	p.Kill()
	if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil { // ends with the child
		t.Errorf("%q, %v", rest, err)
	}
}

// What a process started is killed with it.
func TestProcess_KillGroup(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has processes in groups of their own")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo started; wait")
	cmd.Stdout = w
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // both have it
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Fatalf("the shell says %q, %v", line, err)
	}
	p.Kill()
	if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil { // ends with the last one
		t.Errorf("%q, %v", rest, err)
	}
}

func TestProcess_Wait(t *testing.T) {
	if err := Run(exec.Command("true")); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := Run(exec.Command("false")); !errors.As(err, &exit) {
		t.Errorf("Run(false) = %v", err)
	}
	if _, err := Start(exec.Command("/nonexistent")); err == nil {
		t.Error("Start of what does not exist succeeded")
	}
	p, err := Start(exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Ended() {
		t.Error("it ended by itself")
	}
	p.Kill()
	if !p.Ended() || !errors.As(p.Wait(), &exit) || !errors.Is(p.Pause(), os.ErrProcessDone) {
		t.Errorf("after Kill: %v, %v, %v", p.Ended(), p.Wait(), p.Pause())
	}
	var none *Process
	none.Kill()
	if !none.Ended() || none.Wait() != nil {
		t.Error("a nil Process runs")
	}
}
