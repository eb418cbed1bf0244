//go:build rados

package outbox

import (
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
	"herald/queue/queuetest"
	"herald/queue/rados"
	"herald/tests/cephtest"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silence{})
	cephtest.Main(m)
}

func newRADOS(t testing.TB, opts Options) *harness {
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	h := newHarnessOn(t, namespace, opts, func(namespace string) (queue.Driver, error) {
		return rados.Open(context.Background(), rados.Options{ConfFile: c.Conf, Pool: pool, Namespace: namespace})
	})
	h.scale = 400 // each entry is moved alone: some flushes of journal and cluster; queue/rados has the large numbers
	return h
}

func TestQueue_RADOS(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Harness { return newRADOS(t, Options{Gather: time.Nanosecond}) })
}

func TestCrash_RADOS(t *testing.T) {
	t.Parallel()
	testCrash(t, func(t *testing.T, opts Options) *harness { return newRADOS(t, opts) })
}

func TestCrashAtRandom_RADOS(t *testing.T) {
	t.Parallel()
	testCrashAtRandom(t, 40, func(opts Options) *harness { return newRADOS(t, opts) }, func() {})
}
