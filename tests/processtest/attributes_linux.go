package processtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// attributes make a process end with this one, and have it and those that it
// starts in a group: Redis has another process write its file anew.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// kill kills a process with its group.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) } // it may have ended

// Apart are the attributes of a process that outlives this one: it is in a
// session of its own, so that what kills the tests does not kill it.
func Apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// untilHalted waits until all threads stand still, which they do some time
// after the signal.
func (p *Process) untilHalted() error {
	for !p.Ended() {
		running, err := p.running()
		if err != nil || running == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return os.ErrProcessDone
}

// running is how many threads do not stand still.
func (p *Process) running() (n int, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The state follows the name in parentheses; proc(5).
		_, state, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
		if len(state) > 0 && !bytes.ContainsRune([]byte("TtZX"), rune(state[0])) {
			n++
		}
	}
	return n, err
}
