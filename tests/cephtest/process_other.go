//go:build !linux

package cephtest

import (
	"os/exec"
	"syscall"
)

func sessionAttributes() *syscall.SysProcAttr { return nil }

func runWithParent(cmd *exec.Cmd) error { return cmd.Run() }
