package notify

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startProcess starts a process that ends with this one, even while it is
// stopped. The thread that starts it is what it ends with: that one is kept
// until the process was waited for.
func startProcess(cmd *exec.Cmd) (done chan error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done = make(chan error, 1)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	return done, <-started
}
