package kafka

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// TestBacklog delivers events that wait, and tells how fast and with how much of
// a processor. HERALD_TEST_BACKLOG is their number.
func TestBacklog(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("HERALD_TEST_BACKLOG"))
	if err != nil {
		n = short(5000)
	}
	e := newEnv(t, "--log-level", "warn")
	bucket, topic := e.Bucket(), e.name("t")
	e.makeTopic(topic, 4)
	arn := e.topic(topic, "kafka://"+dead(t), "persistent", "true")
	e.Notify(bucket, arn)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("key-%06d", i)
	}
	e.putAll(bucket, names)
	before, start := e.processorTime(), time.Now()
	e.set(arn, "push-endpoint", "kafka://"+e.k.Plain)
	c := e.consume(topic)
	e.Eventually("all events", func() bool { return len(c.got()) >= n })
	wall, used := time.Since(start), e.processorTime()-before
	e.Drained(topic)
	t.Logf("%d events in %s: %.0f/s; the gateway used %s per event; its memory is %d MiB",
		n, wall.Round(time.Millisecond), float64(n)/wall.Seconds(), (used / time.Duration(n)).Round(100*time.Nanosecond), e.memory()>>20)
	c.wantEach(false, perEvent("ObjectCreated:Put", names)...)
}

// processorTime is how much the gateway has used of processors.
func (e *env) processorTime() time.Duration {
	e.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.G.PID()))
	if err != nil {
		gatewaytest.Missing(e.t, "/proc")
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.ParseInt(fields[11], 10, 64)
	e.check(err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	e.check(err)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}
