//go:build !rados

package outbox

import (
	"testing"

	"herald/tests/redistest"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silence{})
	goleak.VerifyTestMain(m, redistest.Redials())
}
