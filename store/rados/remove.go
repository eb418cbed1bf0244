//go:build rados

package rados

import (
	"context"
	"fmt"
	"maps"

	"herald/store"
)

// Remove implements store.Bucket. Its linearization point is writeHead.
func (b *bucket) Remove(ctx context.Context, key, versionID string, opts store.RemoveOptions) (store.Outcome, error) {
	c := change{b: b, key: key, tag: newTag(), op: opts.Op, begun: &begun{}}
	c.want.omap = []string{keyVersion + store.NullVersion}
	mark := versionID == "" && opts.Versioning != store.Unversioned
	if !mark {
		c.want.newest = true
		if validVersionID(versionID) && versionID != store.NullVersion {
			c.want.omap = append(c.want.omap, keyVersion+versionID)
		}
	}
	c.decide = func(e *edit) (outcome, error) {
		if mark {
			return b.addMarker(e, &opts)
		}
		return b.removeVersion(e, versionID, &opts)
	}
	out, _, err := c.run(ctx)
	if err != nil {
		return store.Outcome{}, b.failed("remove", key, err)
	}
	return out, nil
}

// addMarker makes a delete marker the current version.
func (b *bucket) addMarker(e *edit, opts *store.RemoveOptions) (outcome, error) {
	cur := e.current
	if err := opts.Cond.CheckRemove(conditionInfo(cur)); err != nil {
		return outcome{}, err
	}
	v := &version{marker: true, seq: b.d.clock.next(e.seq)}
	v.modTime = int64(v.seq)
	err := e.put(v, opts.Versioning, nil, nil)
	return outcome{changed: true, seq: v.seq, info: v, prior: object(cur), latest: true, attrs: e.attrs}, err
}

// removeVersion removes a version for good; "": the current one, if it is an
// object.
func (b *bucket) removeVersion(e *edit, versionID string, opts *store.RemoveOptions) (outcome, error) {
	target, current := object(e.current), true
	attrs := e.attrs // of the target
	if versionID != "" {
		target = e.current
		if target == nil || target.id != versionID {
			var err error
			if target, attrs, err = e.noncurrent(versionID); err != nil {
				return outcome{}, err
			}
			current = false
		}
	}
	if err := opts.Cond.CheckRemove(conditionInfo(target)); err != nil {
		return outcome{}, err
	}
	out := outcome{seq: b.d.clock.next(e.seq)}
	if target == nil {
		if !e.op.IsZero() {
			e.number(out.seq)
		}
		return out, nil
	}
	e.number(out.seq)
	out.changed, out.info, out.latest = true, target, current
	e.listed = true
	out.attrs = attrs
	if !current {
		e.forget(target, attrs)
		e.discard(target)
		return out, nil
	}
	out.prior = object(target)
	e.drop()
	return out, e.promote()
}

// Update implements store.Bucket. Its linearization point is writeHead.
func (b *bucket) Update(ctx context.Context, key, versionID string, f func(*store.Info) (store.Attrs, error)) (*store.Info, error) {
	var info *store.Info
	c := change{b: b, key: key, tag: newTag(), begun: &begun{}}
	if versionID != "" {
		if !validVersionID(versionID) {
			return nil, b.absent(ctx, store.ErrNoSuchVersion)
		}
		c.want.omap = []string{keyVersion + versionID}
	}
	var own error // of f
	c.decide = func(e *edit) (outcome, error) {
		v, encoded, latest, err := e.find(versionID)
		if err != nil {
			return outcome{}, err
		}
		attrs, err := decodeAttrs(encoded)
		if err != nil {
			return outcome{}, fmt.Errorf("attributes: %w", err)
		}
		if attrs, own = f(v.info(key, latest, attrs)); own != nil {
			return outcome{}, own
		}
		attrs = maps.Clone(attrs)
		info = v.info(key, latest, attrs)
		e.update(v, latest, encoded, encodeAttrs(attrs), b.d.clock.next(e.seq))
		return outcome{}, nil
	}
	_, _, err := c.run(ctx)
	switch {
	case own != nil && err == own:
		return nil, own
	case err != nil:
		return nil, b.failed("update", key, err)
	}
	return info, nil
}
