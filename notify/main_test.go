package notify

import (
	"os"
	"testing"

	"herald/tests/leaktest"
	"herald/tests/redistest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(gatewayEnv); config != "" {
		os.Exit(gatewayMain(config)) // not a test, but a process that one started
	}
	os.Exit(leaktest.Main(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		redistest.Redials(),
	))
}
