//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"herald/queue"
	librados "herald/rados"
)

var _ queue.Checker = (*RGW)(nil)

// Check examines one queue. Kinds of findings: "class" (the class's sum of
// reservations takes room that it should not, or less than it should), "marks"
// (of entries that are gone), "registry" (radosgw does not know of the queue),
// and, not repairable, "ring" (entries cannot be listed) and "reserved" (an
// intent cannot be read).
func (r *RGW) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	if _, _, ok := rgwObjects(name); !ok {
		return r.own.Check(ctx, name, repair)
	}
	if err := r.own.enter(); err != nil {
		return nil, err
	}
	defer r.own.leave()
	q, err := r.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("check queue %s: %w", name, err)
	}
	c := &rgwCheck{q: q, repair: repair}
	for _, step := range []func(context.Context) error{c.class, c.registry, c.ring, c.intents} {
		if err := step(ctx); err != nil {
			return c.found, fmt.Errorf("check queue %s: %w", name, noQueue(err))
		}
	}
	return c.found, nil
}

// rgwCheck is one Check under way.
type rgwCheck struct {
	q      *rgwQueue
	repair bool
	found  []queue.Finding
}

func (c *rgwCheck) report(kind string, repaired bool, format string, args ...any) {
	c.found = append(c.found, queue.Finding{Queue: c.q.name, Kind: kind, Detail: fmt.Sprintf(format, args...), Repaired: repaired})
}

// class compares the class's sum of reservations. That it grows by ten bytes
// with each that ends is usual on older OSDs, and is set right when the queue
// is full.
func (c *rgwCheck) class(ctx context.Context) error {
	r, object := c.q.r, c.q.object
	class, err := r.readClass(ctx, object)
	if err != nil {
		return err
	}
	usual := (class.head.end - headSize) / 16
	if class.head.reserved >= class.sum-1 && class.head.reserved-class.sum+1 <= usual {
		return nil
	}
	if c.repair {
		if err := r.setReserved(ctx, object, class, class.sum); err != nil {
			return err
		}
	}
	c.report("class", c.repair, "%d bytes are reserved, counted %d", class.head.reserved, class.sum)
	return nil
}

// registry looks whether radosgw knows of a queue that we made.
func (c *rgwCheck) registry(ctx context.Context) error {
	op := librados.NewRead()
	step := op.OmapGetByKeys(c.q.object)
	_, err := c.q.r.operate(ctx, rgwRegistry, op, 0)
	if err != nil && !errors.Is(err, syscall.ENOENT) || len(step.Pairs) > 0 {
		return err
	}
	if c.repair {
		if err := c.q.r.enlist(ctx, c.q.name, c.q.object, true); err != nil {
			return err
		}
	}
	c.report("registry", c.repair, "%s is not in %s", c.q.object, rgwRegistry)
	return nil
}

// ring lists all entries, and looks for marks of others.
func (c *rgwCheck) ring(ctx context.Context) error {
	first, err := c.q.page(ctx, 0, 1)
	if err == nil {
		_, err = c.q.count(ctx, first)
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errNoEntry) {
		c.report("ring", false, "entries cannot be listed: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	var stale []string
	for at := range first.marks {
		if c.isStale(first, at) {
			stale = append(stale, markKey(at))
		}
	}
	if len(stale) == 0 {
		return nil
	}
	if c.repair {
		op := c.q.write()
		op.OmapRm(stale...)
		if _, err := c.q.operate(ctx, op, 0); err != nil {
			return err
		}
	}
	c.report("marks", c.repair, "%d marks of entries that are not there", len(stale))
	return nil
}

// isStale tells whether no entry is at a place of which something is noted.
// What was acked since the page was read is not known here any more.
func (c *rgwCheck) isStale(p *rgwPage, at uint64) bool {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	known := len(c.q.index.at) > 0 && c.q.index.at[0] <= at && at < c.q.index.end
	_, there := c.q.index.next(at)
	return at < p.front || known && !there
}

func (c *rgwCheck) intents(ctx context.Context) error {
	err := c.q.eachIntent(ctx, func(queue.ID, rgwHeld) {})
	if errors.Is(err, errReservation) {
		c.report("reserved", false, "%v", err)
		return nil
	}
	return err
}
