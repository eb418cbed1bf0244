//go:build rados

package rados

import (
	"sync/atomic"
	"testing"
	"time"

	"herald/store"
	"herald/store/storetest"
	"herald/tests/cephtest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// busyTime is how long the cluster, or what is done behind requests, may take for
// anything on a busy machine.
const busyTime = 5 * time.Minute

// testPlace is a namespace of its own on the shared cluster.
type testPlace struct{ conf, pool, data, namespace string }

func newPlace(t testing.TB) *testPlace {
	t.Helper()
	c := cephtest.Start(t)
	pool, ns := c.Namespace(t)
	return &testPlace{c.Conf, pool, pool, ns}
}

func (p *testPlace) open(t testing.TB, opts Options) *Driver {
	t.Helper()
	opts.Config.ConfFile = p.conf
	opts.Pool, opts.DataPool, opts.Namespace = p.pool, p.data, p.namespace
	d, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// crash ends a driver as a kill of its process would: what runs behind
// requests stops where it is.
func (d *Driver) crash(t testing.TB) {
	t.Helper()
	d.bg.cancel()
	d.bg.close(time.Minute)
	if err := d.conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestSuite runs the conformance suite on a real cluster. Every second object is
// compressed.
func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		p := newPlace(t)
		return storetest.Harness{
			Open:   func(t *testing.T) store.Driver { return packing{p.open(t, Options{}), new(atomic.Int64)} },
			Crash:  func(t *testing.T, d store.Driver) { d.(packing).crash(t) },
			Shared: true,
		}
	})
}
