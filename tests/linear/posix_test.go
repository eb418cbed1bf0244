package linear

import (
	"os"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// runTime is how long to run, and how long a round is, about: HERALD_LINEAR_TIME,
// or an hour with HERALD_LONG, or less.
func runTime(t *testing.T) (all, each time.Duration) {
	t.Helper()
	all, each = time.Minute, 20*time.Second
	if testing.Short() {
		all, each = 25*time.Second, 12*time.Second
	}
	if os.Getenv("HERALD_LONG") != "" {
		all = time.Hour
	}
	if s := os.Getenv("HERALD_LINEAR_TIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		all = d
	}
	return all, each
}

// TestLinear_POSIX has one gateway over files, which is killed and halted.
func TestLinear_POSIX(t *testing.T) {
	_, each := runTime(t)
	g := gatewaytest.Start(t, gatewaytest.Options{Args: commonArgs()})
	newWorld(t, []*gatewaytest.Gateway{g}, nil).live(each, each)
}

// commonArgs are flags of every gateway.
func commonArgs() []string { return []string{"--log-level", "info", "--reservation-stale", "5s"} }
