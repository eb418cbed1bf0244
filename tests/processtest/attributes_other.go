//go:build !linux

package processtest

import (
	"os"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

func kill(p *os.Process) { _ = p.Kill() } // it may have ended

// Apart are the attributes of a process that outlives this one.
func Apart() *syscall.SysProcAttr { return nil }

func (*Process) untilHalted() error { return nil }
