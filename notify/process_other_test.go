//go:build !linux

package notify

import "os/exec"

// startProcess starts a process that ends with its input.
func startProcess(cmd *exec.Cmd) (done chan error, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done = make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done, nil
}
