//go:build rados

package rados

import (
	"context"

	"herald/store"
)

// body is what an object is committed with: bytes in memory, or segments.
type body struct {
	tag      store.OpID
	data     []byte
	segments []segment
	size     int64
	stored   int64 // bytes of data, if they are compressed
}

// put makes a body the current version of a key. What was begun for it and is
// of tails is, after an error other than ErrUnknownOutcome, for the caller to
// give up. body is complete when what was begun is ready.
func (b *bucket) put(ctx context.Context, key string, body *body, opts *store.CommitOptions, from *begun) (store.Outcome, error) {
	var prior []byte // attributes
	attrs := encodeAttrs(opts.Attrs)
	c := change{b: b, key: key, tag: body.tag, op: opts.Op, begun: from, put: true}
	if opts.Versioning != store.Enabled {
		c.want.omap = []string{keyVersion + store.NullVersion}
	}
	c.decide = func(e *edit) (outcome, error) {
		cur := object(e.current)
		if err := opts.Cond.CheckWrite(conditionInfo(cur)); err != nil {
			return outcome{}, err
		}
		prior = e.attrs
		v := &version{size: body.size, etag: opts.ETag, segments: body.segments, stored: body.stored}
		v.seq = b.d.clock.next(e.seq)
		v.modTime = int64(v.seq)
		if !opts.ModTime.IsZero() {
			v.modTime = opts.ModTime.UnixNano()
		}
		err := e.put(v, opts.Versioning, attrs, body.data)
		return outcome{changed: true, seq: v.seq, info: v, prior: cur, latest: true}, err
	}
	out, _, err := c.run(ctx)
	if err != nil {
		return store.Outcome{}, b.failed("commit", key, err)
	}
	out.Info.Attrs = opts.Attrs
	return b.withPrior(out, prior), nil
}

// withPrior adds the attributes of the version that was current before.
func (b *bucket) withPrior(out store.Outcome, attrs []byte) store.Outcome {
	if out.Prior == nil {
		return out
	}
	var err error
	if out.Prior.Attrs, err = decodeAttrs(attrs); err != nil {
		b.d.log.Warn("attributes of what was current before", "bucket", b.name, "key", out.Prior.Key, "err", err)
	}
	return out
}

// put makes v the current version, with a new id or as the null version.
func (e *edit) put(v *version, versioning store.Versioning, attrs, data []byte) error {
	e.number(v.seq)
	cur := e.next.current
	if versioning == store.Enabled {
		v.id = newVersionID(v.seq, e.tag)
		if cur != nil {
			e.archive()
		}
	} else {
		v.id = store.NullVersion
		switch {
		case cur == nil:
		case cur.id == store.NullVersion:
			e.drop()
		default:
			e.archive()
		}
		if err := e.dropNull(); err != nil {
			return err
		}
	}
	e.install(v, attrs, data)
	return nil
}

// object is v, or nil for a delete marker.
func object(v *version) *version {
	if v == nil || v.marker {
		return nil
	}
	return v
}

// conditionInfo is what conditions look at; nil for nil.
func conditionInfo(v *version) *store.Info {
	if v == nil {
		return nil
	}
	return v.info("", true, nil)
}
