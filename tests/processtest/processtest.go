// Package processtest runs processes for tests: each ends with the test binary,
// however that one ends, even while it is halted.
package processtest

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a process that ends with this one. A nil Process is one that has
// ended. It may be used concurrently.
type Process struct {
	p    *os.Process
	done chan struct{} // closed when it was waited for
	err  error         // what waiting for it said; set before done is closed
}

// Start starts a process.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = attributes()
	p := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the process dies with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.p = cmd.Process
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Run starts a process and waits until it has ended.
func Run(cmd *exec.Cmd) error {
	p, err := Start(cmd)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits until the process has ended, and returns an error unless it exited
// with 0.
func (p *Process) Wait() error {
	if p == nil {
		return nil
	}
	<-p.done
	return p.err
}

// PID is the process id.
func (p *Process) PID() int { return p.p.Pid }

// Signal sends a signal. Errors: os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	return p.p.Signal(sig)
}

// Kill ends the process and those that it started at once, as the crash of a
// machine would, and waits for it.
func (p *Process) Kill() {
	if !p.Ended() {
		kill(p.p)
	}
	_ = p.Wait() // it was killed
}

// Pause halts the process, and returns when it stands still: what it has open
// stays, and nothing is answered.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return p.untilHalted()
}

// Resume lets a halted process go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }
