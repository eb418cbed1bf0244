//go:build !rados

package outbox

import (
	"os"
	"testing"

	"herald/tests/leaktest"
	"herald/tests/redistest"

	goredis "github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silence{})
	os.Exit(leaktest.Main(m, redistest.Redials()))
}
