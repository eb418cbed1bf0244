//go:build rados

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"herald/queue"
	queuerados "herald/queue/rados"
	librados "herald/rados"
	"herald/store"
	storerados "herald/store/rados"
)

// hasRADOS tells whether the binary has the drivers that need librados.
const hasRADOS = true

// openRADOS opens queues in a Ceph cluster.
func openRADOS(ctx context.Context, u queueURL, c *config, log *slog.Logger) (queue.Driver, error) {
	conf, user := c.queueRADOS()
	opts := queuerados.Options{
		ConfFile:  conf,
		User:      user,
		Pool:      u.pool,
		Namespace: u.namespace,
		Logger:    log,
	}
	if c.QueueRADOSRGWCompatible {
		d, err := queuerados.OpenRGW(ctx, opts, queuerados.RGWNamesAuto)
		if err != nil {
			return nil, explainRADOS(err, opts.User, opts.Pool, opts.Namespace, "docs/queues.md")
		}
		return d, nil
	}
	d, err := queuerados.Open(ctx, opts)
	if err != nil {
		return nil, explainRADOS(err, opts.User, opts.Pool, opts.Namespace, "docs/queues.md")
	}
	return d, nil
}

// queueRADOS is how the queues' cluster is reached: unless the options say
// otherwise, as that of the store.
func (c *config) queueRADOS() (conf, user string) {
	return cmp.Or(c.QueueRADOSConf, c.StoreRADOSConf), cmp.Or(c.QueueRADOSUser, c.StoreRADOSUser)
}

// explainRADOS says what the errors of Ceph's authentication mean, which are
// bare numbers.
func explainRADOS(err error, user, pool, namespace, docs string) error {
	var e *librados.Error
	if !errors.As(err, &e) {
		return err
	}
	user = "client." + cmp.Or(strings.TrimPrefix(user, "client."), "admin")
	connect := e.Op == "connect"
	switch {
	case connect && errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: the cluster has no %s with this key, or the user lacks mon 'allow r'", err, user)
	case connect && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: no keyring is where ceph.conf names one for %s", err, user)
	case connect && errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: the keyring of %s cannot be read", err, user)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %s lacks osd 'allow rwx pool=%s namespace=%s', or more: see %s", err, user, pool, namespace, docs)
	case e.Op == "open pool" && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: the cluster has no such pool; gateway rados init makes what is missing", err)
	}
	return err
}

// radosFault precedes the names of the store's fault points.
const radosFault = "rados."

// openRADOSStore opens objects in a Ceph cluster.
func (g *gateway) openRADOSStore(u storeURL) (store.Driver, error) {
	opts := storerados.Options{
		Config: librados.Config{ConfFile: g.config.StoreRADOSConf, User: strings.TrimPrefix(g.config.StoreRADOSUser, "client.")},
		Pool:   u.pool, Namespace: u.namespace, DataPool: g.config.StoreRADOSDataPool, Logger: g.log,
	}
	if g.fault != nil {
		opts.Fault = func(point string) error { g.fault(radosFault + point); return nil }
	}
	ctx := context.Background()
	d, err := storerados.Open(ctx, opts)
	if err == nil {
		if err = d.Check(ctx); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if err != nil {
		return nil, explainRADOS(err, opts.Config.User, u.pool, u.namespace, "docs/rados.md")
	}
	g.registry.MustRegister(radosMetrics(d.Stats)...)
	return d, nil
}

// radosMetrics tell what the store's connection to its cluster does.
func radosMetrics(stats func() librados.Stats) []prometheus.Collector {
	gauge := func(name, help string, value func(librados.Stats) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value(stats())) })
	}
	counter := func(name, help string, value func(librados.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(stats())) })
	}
	return []prometheus.Collector{
		gauge("herald_rados_in_flight", "Operations of the store that the cluster has not answered.",
			func(s librados.Stats) int { return s.InFlight }),
		gauge("herald_rados_waiting", "Goroutines that wait for room to begin an operation.",
			func(s librados.Stats) int { return s.Waiting }),
		counter("herald_rados_operations_total", "Operations that the cluster answered.",
			func(s librados.Stats) uint64 { return s.Done }),
		counter("herald_rados_abandoned_total", "Operations whose answer nobody waited for any more.",
			func(s librados.Stats) uint64 { return s.Abandoned }),
		counter("herald_rados_blocking_calls_total", "Calls of librados that held a thread of the system: at the start and in fsck, never in a request.",
			func(s librados.Stats) uint64 { return s.Blocking }),
	}
}
