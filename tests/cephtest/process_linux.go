package cephtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// sessionAttributes put a process into a session of its own.
func sessionAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}

// runWithParent runs a command that is killed when this process ends. The
// kernel takes the end of the thread that started it for that, hence the lock.
func runWithParent(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}
