package gatewaytest

import "syscall"

// processAttributes make the gateway end with the test that started it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
