package notify

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(gatewayEnv); config != "" {
		os.Exit(gatewayMain(config)) // not a test, but a process that one started
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("herald/tests/redistest.start.func1.1"), // lives as long as the test binary
	)
}
