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

	"herald/queue"
	"herald/queue/rados"
	librados "herald/rados"
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
			return nil, explainRADOS(err, opts)
		}
		return d, nil
	}
	d, err := rados.Open(ctx, opts)
	if err != nil {
		return nil, explainRADOS(err, opts)
	}
	return d, nil
}

// explainRADOS says what the errors of Ceph's authentication mean, which are
// bare numbers.
func explainRADOS(err error, opts rados.Options) error {
	var e *librados.Error
	if !errors.As(err, &e) {
		return err
	}
	user := "client." + cmp.Or(strings.TrimPrefix(opts.User, "client."), "admin")
	connect := e.Op == "connect"
	switch {
	case connect && errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: the cluster has no %s with this key, or the user lacks mon 'allow r'", err, user)
	case connect && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: no keyring is where ceph.conf names one for %s", err, user)
	case connect && errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: the keyring of %s cannot be read", err, user)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %s lacks osd 'allow rwx pool=%s namespace=%s', or more: see docs/queues.md", err, user, opts.Pool, opts.Namespace)
	}
	return err
}
