package gatewaytest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"herald/tests/cephtest"
	"herald/tests/redistest"
)

// The environment chooses where the gateways of a test binary keep objects and
// queues, each gateway in a namespace of its own; a test's own flags win.
const (
	envStore = "HERALD_TEST_STORE" // posix (default), rados, or rados+ec: with an erasure-coded data pool
	envQueue = "HERALD_TEST_QUEUE" // embedded (default), redis or rados
)

// QueueLease and reservationStale are --queue-lease and --reservation-stale of
// gateways whose queues are on a server. They are short, so that tests that
// kill a gateway need not wait.
const (
	QueueLease       = 2 * time.Second
	reservationStale = 5 * time.Second
)

// Store returns what the environment chose: posix, rados or rados+ec.
func Store() string { return envOr(envStore, "posix") }

// Queue returns what the environment chose: embedded, redis or rados.
func Queue() string { return envOr(envQueue, "embedded") }

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// NeedTree skips a test of what only a store on posix has.
func NeedTree(t testing.TB, why string) {
	t.Helper()
	if Store() != "posix" {
		t.Skipf("only for the store posix: %s", why)
	}
}

// NeedEmbedded skips a test of what only embedded queues have.
func NeedEmbedded(t testing.TB, why string) {
	t.Helper()
	if Queue() != "embedded" {
		t.Skipf("only for embedded queues: %s", why)
	}
}

// placeEnv is the environment of a gateway whose objects and queues are where
// the tests are told. It starts what that needs, once for the test binary.
func placeEnv(t testing.TB) []string {
	t.Helper()
	if (Store() != "posix" || Queue() == "rados") && !hasRADOS {
		t.Fatalf("%s=%s and %s=%s need the tests built with -tags rados", envStore, Store(), envQueue, Queue())
	}
	return append(storeEnv(t), queueEnv(t)...)
}

func storeEnv(t testing.TB) []string {
	t.Helper()
	switch Store() {
	case "posix":
		return nil
	case "rados", "rados+ec":
		c := cephtest.Start(t)
		pool, namespace := c.Namespace(t)
		env := []string{"HERALD_STORE=rados://" + pool + "/" + namespace, "HERALD_STORE_RADOS_CONF=" + c.Conf}
		if Store() == "rados+ec" {
			env = append(env, "HERALD_STORE_RADOS_DATA_POOL="+c.CodedPool(t))
		}
		return env
	}
	t.Fatalf("%s=%s: want posix, rados or rados+ec", envStore, Store())
	return nil
}

func queueEnv(t testing.TB) []string {
	t.Helper()
	ages := []string{"HERALD_QUEUE_LEASE=" + QueueLease.String(), "HERALD_RESERVATION_STALE=" + reservationStale.String()}
	switch Queue() {
	case "embedded":
		return nil
	case "redis": // the store's id names the namespace
		return append(ages, "HERALD_QUEUE="+redistest.SharedURL(t))
	case "rados":
		c := cephtest.Start(t)
		pool, _ := c.Namespace(t)
		return append(ages, "HERALD_QUEUE=rados://"+pool, "HERALD_QUEUE_RADOS_CONF="+c.Conf)
	}
	t.Fatalf("%s=%s: want embedded, redis or rados", envQueue, Queue())
	return nil
}

// Place returns the environment that says where the gateway has its objects
// and queues, for other gateways (Options.Env) that are to share them. It is
// empty unless the tests were told so.
func (g *Gateway) Place() []string { return g.place }

// Command prepares another verb of the gateway, on its directory and where it
// has its objects and queues.
func (g *Gateway) Command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.binary, append([]string{verb, "--data", g.Data}, args...)...)
	cmd.Env = g.environ()
	return cmd
}

// environ is the environment of the gateway's processes.
func (g *Gateway) environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "HERALD_TEST_") { // the gateway refuses what it does not know
			env = append(env, e)
		}
	}
	return append(env, g.place...)
}
