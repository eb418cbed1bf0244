//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
)

// sweepLoop sweeps all buckets until the driver is closed. Every gateway does
// that, by its own clock: what one leaves, another repairs.
func (d *Driver) sweepLoop(ctx context.Context) {
	for {
		timer := time.NewTimer(sweepEvery/2 + rand.N(sweepEvery))
		select {
		case <-timer.C:
		case <-d.bg.closing:
			timer.Stop()
			return
		}
		d.buffers.trim()
		if err := d.sweepBuckets(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("sweep buckets", "err", err)
		}
	}
}

// sweepBuckets sweeps all buckets that are not resting, also those that were
// deleted.
func (d *Driver) sweepBuckets(ctx context.Context) error {
	var errs []error
	err := eachPair(ctx, d.heads, oidRoot, "", rootBucket, func(p librados.Pair) bool {
		r, err := decodeBucket(p.Value)
		if err == nil && !d.index(r.bid).resting() {
			err = d.sweepBucket(ctx, p, r.bid)
		}
		if err == nil {
			err = d.sweepUploads(ctx, r.bid)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("bucket %q: %w", p.Key, err))
		}
		return !d.closing()
	})
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		errs = append(errs, err)
	}
	err = eachPair(ctx, d.heads, oidRoot, "", rootGone, func(p librados.Pair) bool {
		if err := d.sweepGone(ctx, p.Key); err != nil {
			errs = append(errs, fmt.Errorf("deleted bucket %q: %w", p.Key, err))
		}
		return !d.closing()
	})
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// sweepBucket sweeps a bucket that root has by a line. If it was deleted, who did
// that died before he took its name away.
func (d *Driver) sweepBucket(ctx context.Context, line librados.Pair, bid string) error {
	l, err := readLayout(ctx, d.heads, bid)
	if err == nil && l.Deleted {
		err = d.removeName(ctx, strings.TrimPrefix(line.Key, rootBucket), bid, line.Value)
	} else if err == nil {
		_, err = d.index(bid).sweep(ctx)
	}
	return ignoreNoBucket(err)
}

func (d *Driver) closing() bool {
	select {
	case <-d.bg.closing:
		return true
	default:
		return false
	}
}

// sweepGone removes what is left of a deleted bucket, and when nothing is, its
// line in root.
func (d *Driver) sweepGone(ctx context.Context, line string) error {
	bid := strings.TrimPrefix(line, rootGone)
	if d.index(bid).resting() {
		return nil
	}
	gone, err := d.index(bid).sweep(ctx)
	if err != nil || !gone {
		return err
	}
	op := librados.NewWrite()
	op.OmapRm(line)
	if _, err := d.heads.Operate(ctx, oidRoot, op, librados.FullForce); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.indexes, bid)
	delete(d.uploadSweeps, bid)
	return nil
}
