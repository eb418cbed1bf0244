// Package leaktest finds goroutines that outlive a package's tests.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is for goroutines that have been told to end, on a busy machine. It
// is shorter than any idle time after which one ends by itself.
const patience = 20 * time.Second

// Main runs the tests and returns the status to exit with: not 0 if one failed,
// or if a goroutine stays. It is goleak.VerifyTestMain, which waits for half a
// second only.
func Main(m *testing.M, options ...goleak.Option) int {
	if code := m.Run(); code != 0 {
		return code
	}
	for deadline := time.Now().Add(patience); ; {
		err := goleak.Find(options...)
		if err == nil {
			return 0
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines stay when all tests have ended:", err)
			return 1
		}
	}
}
