package notify

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// bubble runs a test with virtual time. Under the race detector one goroutine
// runs at a time: all timers of a bubble share one state of the detector, and
// two that end at once destroy it (golang/go#78156; "ThreadSanitizer: CHECK
// failed", or SIGSEGV). Races are found all the same: the detector looks at
// what is ordered, not at what happens at once.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}
