package redistest

import (
	"os/exec"
	"runtime"
	"sync"
)

// starter starts processes from one thread that lives as long as the test
// binary: a process that is to end with its parent ends with the very thread
// that started it.
type starter struct {
	once sync.Once
	work chan func()
}

// theStarter is shared by all tests; nothing of it changes once it runs.
var theStarter = &starter{work: make(chan func())}

func start(cmd *exec.Cmd) error {
	theStarter.once.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range theStarter.work {
				f()
			}
		}()
	})
	done := make(chan error, 1)
	theStarter.work <- func() { done <- cmd.Start() }
	return <-done
}
