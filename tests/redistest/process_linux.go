package redistest

import "syscall"

// processAttributes make a server end with the test that started it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// sessionAttributes put a process into a session of its own, so that what kills
// the tests does not kill it.
func sessionAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}
