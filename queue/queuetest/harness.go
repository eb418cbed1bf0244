package queuetest

import (
	"os"
	"testing"
	"time"

	"herald/queue"
)

// Harness gives the suite a driver over one place, empty at first.
type Harness interface {
	// Driver returns the driver that is open now.
	Driver() queue.Driver
	// Reopen closes the driver and opens one again on the same place.
	Reopen(t *testing.T)
	// Crash drops the driver as the end of its process would, and opens one
	// again; it may crash the server as well. It answers false, and does
	// nothing, where that is impossible.
	Crash(t *testing.T) bool
	// Settle makes durable what was done so far, as a write to the store
	// after it would. A driver that is durable by itself does nothing.
	Settle(t *testing.T)
	// Advance moves the driver's clock, or sleeps.
	Advance(d time.Duration)
	// Now is the driver's clock.
	Now() time.Time
}

// What follows are optional capabilities of a Harness. A case that needs one
// is skipped where it is missing, and says so.

// Scaler is a Harness whose driver is slow: the suite divides its big counts by
// Scale (at least 1), but not with HERALD_LONG=1 in the environment.
type Scaler interface {
	Scale() int
}

// Sharer is a Harness whose driver several processes can have open at once.
type Sharer interface {
	// Second opens another driver over the same place, as another gateway
	// would, with connections of its own. Its clock is Now plus shift: for the
	// times it is given and returns, and for Lease.Expires. It stays open
	// across Reopen and Crash of the first, and is closed when the test ends.
	Second(t *testing.T, shift time.Duration) queue.Driver
}

// Lossy is a Harness that can lose answers.
type Lossy interface {
	// LoseReplies has the next n requests of Driver that change a queue or a
	// lock done by the server, and their answers lost: the connection is cut
	// behind the request, or the answer is replaced by a timeout. A retry is a
	// request, too. The number takes the place of what was left; 0 stops it.
	// It returns at once, may be called while the driver works, and holds
	// across Reopen and Crash.
	LoseReplies(t *testing.T, n int)
	// Lost is how many answers were lost so far.
	Lost() int
}

// Cutter is a Harness that can cut the driver's connections.
type Cutter interface {
	// Cut cuts all connections of Driver at once, at whatever point of
	// whatever requests; new ones work. It may be called while the driver
	// works.
	Cut(t *testing.T)
}

// Drifter is a Harness that can make a queue's figures wrong, as a bug would.
type Drifter interface {
	// Drift falsifies something that the driver keeps count of in the queue,
	// under its feet, and returns the Kind of finding that Check must report,
	// or "" when it keeps count of nothing. Repair must set it right. Each
	// call of the same test may drift another figure; Drift answers "" when it
	// has been through all.
	Drift(t *testing.T, name string) string
}

// long tells whether counts are never divided.
func long() bool { return os.Getenv("HERALD_LONG") == "1" }

// Scaled divides a count where time is short (-short, the race detector) or
// the driver is slow (Scaler); what is left is at least 1. With HERALD_LONG=1
// it is the count itself.
func Scaled(h Harness, n int) int {
	if long() {
		return n
	}
	if testing.Short() || raceEnabled {
		n /= 20
	}
	if s, ok := h.(Scaler); ok {
		n /= max(s.Scale(), 1)
	}
	return max(n, 1)
}

// Second opens another driver (see Sharer), or skips the test.
func Second(t *testing.T, h Harness, shift time.Duration) queue.Driver {
	t.Helper()
	s, ok := h.(Sharer)
	if !ok {
		t.Skip("only one process can have this driver open (no queuetest.Sharer)")
	}
	return s.Second(t, shift)
}

// NeedLossy returns the harness as one that loses answers, or skips the test.
func NeedLossy(t *testing.T, h Harness) Lossy {
	t.Helper()
	l, ok := h.(Lossy)
	if !ok {
		t.Skip("no answer of this driver can be lost (no queuetest.Lossy)")
	}
	return l
}
