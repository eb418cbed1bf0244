//go:build !linux

package gatewaytest

import "syscall"

func processAttributes() *syscall.SysProcAttr { return nil }
