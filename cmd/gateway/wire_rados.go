//go:build rados

package main

import (
	"context"
	"log/slog"

	"herald/queue"
	"herald/queue/rados"
)

// hasRADOS tells whether the binary has the drivers that need librados.
const hasRADOS = true

// openRADOS opens queues in a Ceph cluster.
func openRADOS(ctx context.Context, u queueURL, c *config, log *slog.Logger) (queue.Driver, error) {
	opts := rados.Options{
		ConfFile:  c.QueueRADOSConf,
		User:      c.QueueRADOSUser,
		Pool:      u.pool,
		Namespace: u.namespace,
		Logger:    log,
	}
	if c.QueueRADOSRGWCompatible {
		d, err := rados.OpenRGW(ctx, opts, rados.RGWNamesAuto)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	d, err := rados.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	return d, nil
}
