//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	librados "herald/rados"
	"herald/store"
)

// Multipart uploads. An upload is an object, whose attribute "end" says whether
// it takes parts, is being completed, or has ended; every change of it compares
// that. The index has an entry for it as long as anything of it is left: the
// entry is written before the object and removed after it, so that a sweep
// finds what was left by those who died. What the entry stands for is read from
// the object.
//
// A part's bytes are tails of a TAG of their own, noted in the upload's omap
// before they are written (w/TAG). The operation that adds the part takes the
// note away, and notes the tails of the part that it replaces (g/TAG).
//
// Complete writes into the object which change of the head it is going to make,
// makes it (the commit point), and writes that it did. Who finds an upload that
// is being completed asks the head: the change may have been made. Who wants
// to go on with such an upload bars that change first.
//
// An upload that has ended is purged: tails that became no object, then the
// upload's object, then its entry in the index.

var _ store.Uploads = (*bucket)(nil)

const maxPartNumber = 10_000

// CreateUpload implements store.Uploads. Its linearization point is the
// creation of the object.
func (b *bucket) CreateUpload(ctx context.Context, u store.Upload) error {
	if err := store.ValidKey(u.Key); err != nil {
		return err
	}
	if !validUploadID(u.ID) {
		return fmt.Errorf("create upload of %s/%s: invalid id %q", b.name, u.Key, u.ID)
	}
	if err := b.absent(ctx, nil); err != nil {
		return err
	}
	if err := b.x.addUpload(ctx, uploadEntry{key: u.Key, initiated: u.Initiated, id: u.ID}); err != nil {
		return b.failed("create upload", u.Key, err)
	}
	if err := b.d.opts.Fault("upload.listed"); err != nil {
		return b.failed("create upload", u.Key, err)
	}
	tag := newTag()
	op := newUploadOp(&u, uploadEnd{state: uploadLive}, tag)
	_, err := b.d.heads.Operate(ctx, uploadName{b.bid, u.ID}.oid(), op, 0)
	if unsure(err) {
		detached, cancel := detached(ctx)
		defer cancel()
		if now, readErr := b.d.readUpload(detached, uploadName{b.bid, u.ID}); readErr == nil && string(now.parts) == string(tag[:]) {
			err = nil
		}
	}
	return b.failed("create upload", u.Key, err)
}

// newUploadOp makes an upload's object.
func newUploadOp(u *store.Upload, end uploadEnd, tag store.OpID) *librados.WriteOp {
	op := librados.NewWrite()
	op.Create(true)
	op.SetXattr(xattrUpload, encodeUpload(u))
	op.SetXattr(xattrEnd, end.encode())
	op.SetXattr(xattrParts, tag[:])
	return op
}

// upload reads an upload of a key that has not ended, as far as it knows of
// itself. Errors: store.ErrNoSuchUpload, store.ErrNoSuchBucket.
func (b *bucket) upload(ctx context.Context, key, id string, keys ...string) (*upload, error) {
	if !validUploadID(id) {
		return nil, store.ErrNoSuchUpload
	}
	u, err := b.d.readUpload(ctx, uploadName{b.bid, id}, keys...)
	if errors.Is(err, store.ErrNoSuchUpload) || err == nil && (u.info.Key != key || u.end.ended()) {
		return nil, b.absent(ctx, store.ErrNoSuchUpload)
	}
	if err != nil {
		return nil, err
	}
	return u, b.absent(ctx, nil) // its bucket may be gone already
}

func (e uploadEnd) ended() bool { return e.state == uploadCompleted || e.state == uploadAborted }

// ListParts implements store.Uploads.
func (b *bucket) ListParts(ctx context.Context, key, uploadID string, after, limit int) (*store.Upload, []store.Part, bool, error) {
	u, err := b.upload(ctx, key, uploadID)
	if err == nil {
		err = b.d.stillThere(ctx, u)
	}
	if err != nil {
		return nil, nil, false, err
	}
	var parts []store.Part
	var bad error
	more := false
	if limit > 0 {
		err = eachPair(ctx, b.d.heads, u.oid(), partKey(max(after, 0)), keyPart, func(pair librados.Pair) bool {
			if more = len(parts) == limit; more {
				return false
			}
			var p *part
			if p, bad = decodePart(pair); bad != nil {
				return false
			}
			parts = append(parts, p.Part)
			return true
		})
	}
	if err := errors.Join(err, bad); err != nil {
		return nil, nil, false, b.failed("list parts of", key, err)
	}
	return &u.info, parts, more, nil
}

// stillThere answers store.ErrNoSuchUpload if an upload has become an object.
func (d *Driver) stillThere(ctx context.Context, u *upload) error {
	if u.end.state != uploadCompleting {
		return nil
	}
	yes, _, err := d.cameTrue(ctx, u)
	if err == nil && yes {
		err = store.ErrNoSuchUpload
	}
	return err
}

// ListUploads implements store.Uploads. The uploads of a page are read, as some
// may have ended: then the page may be short, and goes on after them.
func (b *bucket) ListUploads(ctx context.Context, opts store.UploadListOptions) (*store.UploadPage, error) {
	page := &store.UploadPage{}
	for {
		entries, err := b.x.listUploads(ctx, opts)
		if err != nil {
			return nil, b.failed("list uploads of", opts.Prefix, err)
		}
		live, err := b.d.liveUploads(ctx, b.bid, entries.uploads)
		if err != nil {
			return nil, b.failed("list uploads of", opts.Prefix, err)
		}
		page.Uploads = append(page.Uploads, live...)
		page.CommonPrefixes = append(page.CommonPrefixes, entries.commonPrefixes...)
		opts.Max -= len(live) + len(entries.commonPrefixes)
		page.Truncated = entries.truncated
		page.NextKeyMarker, page.NextUploadIDMarker = entries.nextKeyMarker, entries.nextIDMarker
		if !entries.truncated || opts.Max <= 0 {
			return page, nil
		}
		opts.KeyMarker, opts.UploadIDMarker = entries.nextKeyMarker, entries.nextIDMarker
	}
}

// liveUploads reads uploads, without those that have ended.
func (d *Driver) liveUploads(ctx context.Context, bid string, entries []uploadEntry) ([]store.Upload, error) {
	found := make([]*store.Upload, len(entries))
	numbers := make([]int, len(entries))
	for i := range numbers {
		numbers[i] = i
	}
	err := each(numbers, func(i int) error {
		u, err := d.readUpload(ctx, uploadName{bid, entries[i].id})
		if err == nil && u.end.ended() {
			return nil
		}
		if err == nil {
			err = d.stillThere(ctx, u)
		}
		if err == nil {
			found[i] = &u.info
		} else if errors.Is(err, store.ErrNoSuchUpload) {
			err = nil
		}
		return err
	})
	var live []store.Upload
	for _, u := range slices.DeleteFunc(found, func(u *store.Upload) bool { return u == nil }) {
		live = append(live, *u)
	}
	return live, err
}

// AbortUpload implements store.Uploads. Its linearization point is setEnd.
func (b *bucket) AbortUpload(ctx context.Context, key, uploadID string) error {
	unlock, err := b.d.locks.lock(ctx, uploadName{b.bid, uploadID}.lock())
	if err != nil {
		return err
	}
	defer unlock()
	for {
		u, err := b.take(ctx, key, uploadID)
		if err != nil {
			return err
		}
		done, err := b.d.setEnd(ctx, u, uploadEnd{state: uploadAborted}, nil)
		if err != nil {
			return b.failed("abort upload of", key, err)
		}
		if done {
			b.d.purgeLater(u)
			return nil
		}
	}
}

// completerPatience is how long a completion by another gateway is waited for
// before it is barred.
const completerPatience = 5 * time.Second

// take reads an upload that takes parts, as nobody completes it now. The caller
// holds its lock. Errors: store.ErrNoSuchUpload, store.ErrNoSuchBucket.
func (b *bucket) take(ctx context.Context, key, id string, keys ...string) (*upload, error) {
	var met uploadEnd
	var since time.Time
	for ; ; wait(ctx, 20*time.Millisecond) {
		u, err := b.upload(ctx, key, id, keys...)
		if err != nil || u.end.state == uploadLive {
			return u, err
		}
		if u.end != met {
			met, since = u.end, time.Now()
		}
		yes, _, err := b.d.cameTrue(ctx, u)
		if err == nil && (yes || u.end.gateway == b.d.gateway || time.Since(since) > completerPatience) {
			err = b.d.settleUpload(ctx, u)
		}
		if err != nil {
			return nil, b.failed("find out what became of the upload of", key, err)
		}
	}
}

// settleUpload ends a completion that was broken off: the upload is completed
// if the head was changed, and takes parts again if it was not, and never will
// be.
func (d *Driver) settleUpload(ctx context.Context, u *upload) error {
	for ; ; wait(ctx, time.Millisecond) {
		yes, h, err := d.cameTrue(ctx, u)
		if err != nil {
			return err
		}
		if yes {
			next := u.end
			next.state = uploadCompleted
			done, err := d.setEnd(ctx, u, next, nil)
			if done {
				d.purgeLater(u)
			}
			return err
		}
		// Whatever was read, noncurrent versions as well, is of the head
		// that the bar is put on.
		again, err := d.barAnnounced(ctx, h, u.end.tag)
		if err != nil {
			return err
		}
		if !again {
			_, err = d.setEnd(ctx, u, uploadEnd{state: uploadLive}, nil)
			return err
		}
	}
}

// cameTrue tells whether the change that completes an upload was made, as the
// head that is returned has it. A version uses the parts then, or they were
// noted as garbage when it went, until they were removed.
func (d *Driver) cameTrue(ctx context.Context, u *upload) (bool, *head, error) {
	note := keyGarbage + u.end.witness.String()
	h, err := d.readHead(ctx, headKey{u.bid, u.info.Key}, headRead{omap: []string{note}})
	if err != nil {
		return false, nil, fmt.Errorf("read head of %s/%q: %w", u.bid, u.info.Key, err)
	}
	if slices.Contains(h.recent, changeOf(u.end.tag)) || h.omap[note] != nil {
		return true, h, nil
	}
	if u.end.witness.IsZero() {
		return false, h, nil
	}
	if used, err := d.uses(ctx, h, u.end.witness); used || err != nil {
		return used, h, err
	}
	there, err := d.holds(ctx, tailsName{u.bid, u.end.witness})
	return !there && err == nil, h, err
}
