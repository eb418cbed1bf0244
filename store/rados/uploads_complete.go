//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"

	librados "herald/rados"
	"herald/store"
)

// Complete implements store.Uploads. Its linearization point is that of put. No
// byte is copied: the parts' tails become the object's.
func (b *bucket) Complete(ctx context.Context, key, uploadID string, parts []store.CompletedPart, opts store.CommitOptions) (store.Outcome, error) {
	unlock, err := b.d.locks.lock(ctx, uploadName{b.bid, uploadID}.lock())
	if err != nil {
		return store.Outcome{}, err
	}
	defer unlock()
	u, body, err := b.seal(ctx, key, uploadID, parts)
	if err == nil {
		err = b.d.opts.Fault("upload.sealed")
	}
	if err != nil {
		return store.Outcome{}, b.failed("complete upload of", key, err)
	}
	out, err := b.put(ctx, key, body, &opts, &begun{})
	if err != nil {
		return store.Outcome{}, b.unseal(ctx, u, err)
	}
	if err := b.d.opts.Fault("upload.committed"); err != nil {
		return out, nil
	}
	next := u.end
	next.state = uploadCompleted
	done, err := b.d.setEnd(ctx, u, next, nil) // unless another asked the head before
	if done {
		b.d.purgeLater(u)
	}
	if err != nil {
		b.d.log.Warn("end an upload that became an object", "bucket", b.name, "key", key, "upload", uploadID, "err", err)
	}
	return out, nil
}

// seal lets an upload take no more parts, and say which change of the head it
// is to become. Errors: store.ErrNoSuchUpload, store.ErrInvalidPart.
func (b *bucket) seal(ctx context.Context, key, id string, parts []store.CompletedPart) (*upload, *body, error) {
	keys := make([]string, len(parts))
	for i, p := range parts {
		keys[i] = partKey(p.Number)
	}
	for {
		u, err := b.take(ctx, key, id, keys...)
		if err != nil {
			return nil, nil, err
		}
		body, err := u.assemble(parts)
		if err != nil {
			return nil, nil, err
		}
		end := uploadEnd{state: uploadCompleting, tag: body.tag, gateway: b.d.gateway}
		if len(body.segments) > 0 {
			end.witness = body.segments[0].holder()
		}
		op := librados.NewWrite()
		op.CmpXattr(xattrParts, librados.Equal, u.parts)
		op.OmapSet(librados.Pair{Key: keyUsed, Value: encodeUsed(parts)})
		if done, err := b.d.setEnd(ctx, u, end, op); done || err != nil {
			return u, body, err
		}
	}
}

// assemble makes one body of parts. Errors: store.ErrInvalidPart.
func (u *upload) assemble(parts []store.CompletedPart) (*body, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("no parts: %w", store.ErrInvalidPart)
	}
	body := &body{tag: newTag()}
	seen := make(map[int]bool, len(parts))
	for _, c := range parts {
		value, ok := u.omap[partKey(c.Number)]
		if !ok || seen[c.Number] {
			return nil, fmt.Errorf("part %d: %w", c.Number, store.ErrInvalidPart)
		}
		seen[c.Number] = true
		p, err := decodePart(librados.Pair{Key: partKey(c.Number), Value: value})
		if err != nil {
			return nil, err
		}
		if p.ETag != c.ETag {
			return nil, fmt.Errorf("part %d: %w", c.Number, store.ErrInvalidPart)
		}
		body.segments = append(body.segments, p.runs()...)
		body.size += p.Size
	}
	return body, nil
}

// unseal lets an upload take parts again that did not become an object, and
// returns why. Where nobody knows whether it did, the upload remains as it is.
func (b *bucket) unseal(ctx context.Context, u *upload, cause error) error {
	if errors.Is(cause, store.ErrUnknownOutcome) {
		return cause
	}
	if _, err := b.d.setEnd(ctx, u, uploadEnd{state: uploadLive}, nil); err != nil {
		b.d.log.Warn("go on with an upload", "bucket", b.name, "key", u.info.Key, "upload", u.id, "err", err)
	}
	if errors.Is(cause, store.ErrNoSuchBucket) {
		return store.ErrNoSuchUpload // it went with its bucket
	}
	return cause
}
