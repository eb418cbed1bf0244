//go:build faults

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"herald/journal"
	"herald/notify"
	"herald/queue/outbox"
	"herald/store/posix"
)

// faultVerbs are the verbs that only this build has.
func faultVerbs() map[string]verb { return map[string]verb{"fault-points": printFaultPoints} }

// printFaultPoints prints every name that HERALD_FAULT may have.
func printFaultPoints(_ context.Context, _, _ []string, stdout, _ io.Writer) (int, error) {
	for _, points := range [][]string{journal.FaultPoints(), posix.FaultPoints(), notify.FaultPoints(), outbox.FaultPoints(), radosFaultPoints()} {
		for _, p := range points {
			fmt.Fprintln(stdout, p)
		}
	}
	return 0, nil
}

// faultHook ends the process, as by kill -9, at the fault point that
// HERALD_FAULT names: "POINT" at once, "POINT:N" the Nth time it is reached.
func faultHook() func(string) {
	want, count, _ := strings.Cut(os.Getenv("HERALD_FAULT"), ":")
	if want == "" {
		return nil
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		n = 1
	}
	var reached atomic.Int64
	return func(point string) {
		if point == want && reached.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
}
