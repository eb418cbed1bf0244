//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// errPartsWritten: an upload cannot be purged yet.
var errPartsWritten = errors.New("parts of the upload are still being written")

// purgeLater purges an upload that has ended, behind the answer.
func (d *Driver) purgeLater(u *upload) {
	d.bg.start(func(ctx context.Context) {
		err := d.opts.Fault("upload.ended")
		if err == nil {
			err = d.purge(ctx, u)
		}
		if err != nil && !errors.Is(err, errPartsWritten) {
			d.log.Warn("remove an upload", "upload", u.id, "err", err)
		}
	})
}

// purge removes what is left of an upload that has ended: tails that the object
// does not use, then the upload's object, then its entry in the index. Errors:
// errPartsWritten; the last of their writers, or a sweep, comes again.
func (d *Driver) purge(ctx context.Context, u *upload) error {
	left, err := d.leftovers(ctx, u)
	if err != nil {
		return fmt.Errorf("read upload %s: %w", u.id, err)
	}
	for tag, note := range left.stale {
		taken, err := d.dropNote(ctx, u.uploadName, tag, note, 0)
		if err != nil {
			return err
		}
		if taken {
			left.garbage = append(left.garbage, segment{tag: tag})
		} else {
			left.written = true
		}
	}
	err = each(left.garbage, func(s segment) error { return d.removeGarbage(ctx, u.bid, s) })
	if err != nil {
		return fmt.Errorf("remove parts of upload %s: %w", u.id, err)
	}
	if left.written {
		return errPartsWritten
	}
	if err := d.opts.Fault("upload.purged"); err != nil {
		return err
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrEnd, librados.Equal, u.end.encode())
	op.Remove()
	if _, err := d.heads.Operate(ctx, u.oid(), op, librados.FullForce); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("remove upload %s: %w", u.id, err)
	}
	if err := d.opts.Fault("upload.removed"); err != nil {
		return err
	}
	err = d.index(u.bid).removeUpload(ctx, uploadEntry{key: u.info.Key, initiated: u.info.Initiated, id: u.id})
	if errors.Is(err, store.ErrNoSuchBucket) { // its own sweep does it
		return nil
	}
	return err
}

// leftovers are what an upload has of no use.
type leftovers struct {
	garbage []segment             // tails; size 0: nobody knows how many
	stale   map[store.OpID][]byte // notes of parts whose writers must be dead
	written bool                  // some parts are being written
}

// leftovers finds tails that are of no use when an upload has ended; while it
// has not, only those of parts that were given up or replaced long ago.
func (d *Driver) leftovers(ctx context.Context, u *upload) (*leftovers, error) {
	l := &leftovers{stale: make(map[store.OpID][]byte)}
	used := map[int]bool{}
	var bad error
	err := eachPair(ctx, d.heads, u.oid(), "", "", func(p librados.Pair) bool {
		bad = l.add(u, p, &used)
		return bad == nil
	})
	return l, errors.Join(err, bad)
}

// add looks at a pair of an upload's omap. They come in order: keyUsed is
// first.
func (l *leftovers) add(u *upload, p librados.Pair, used *map[int]bool) (err error) {
	tag, ok := store.ParseOpID(p.Key[min(len(p.Key), 2):])
	switch {
	case p.Key == keyUsed && u.end.state == uploadCompleted:
		*used, err = decodeUsed(p.Value)
	case strings.HasPrefix(p.Key, keyPart):
		part, err := decodePart(p)
		if err != nil {
			return err
		}
		if u.end.ended() && !(*used)[part.Number] {
			l.garbage = append(l.garbage, garbageOf(part.runs())...)
		}
	case strings.HasPrefix(p.Key, keyGarbage) && ok:
		size, at, err := decodeNote(p.Value)
		if err != nil {
			return fmt.Errorf("note %q: %w", p.Key, err)
		}
		if u.end.ended() || time.Since(at) > noteAge {
			l.garbage = append(l.garbage, segment{tag: tag, size: size})
		}
	case strings.HasPrefix(p.Key, keyWriter) && ok:
		if ns, err := strconv.ParseInt(string(p.Value), 10, 64); err != nil || time.Since(time.Unix(0, ns)) > writerStale {
			l.stale[tag] = p.Value
		} else {
			l.written = true
		}
	}
	return err
}

// dropUpload removes what is left of an upload in a deleted bucket; the index
// calls it, and removes its entry.
func (d *Driver) dropUpload(ctx context.Context, bid, _, id string) error {
	for {
		u, err := d.readUpload(ctx, uploadName{bid, id})
		if errors.Is(err, store.ErrNoSuchUpload) {
			return nil
		}
		if err != nil {
			return err
		}
		if u.end.ended() {
			return d.purge(ctx, u)
		}
		end := uploadEnd{state: uploadAborted}
		if u.end.state == uploadCompleting {
			yes, _, err := d.cameTrue(ctx, u)
			if err != nil {
				return err
			}
			if yes {
				end = u.end
				end.state = uploadCompleted
			} // else it never will: no change of the bucket does
		}
		if _, err := d.setEnd(ctx, u, end, nil); err != nil {
			return err
		}
	}
}

// How often a gateway looks at all uploads of a bucket; after an error it does
// so sooner, but not at once.
const (
	uploadSweepEvery = 10 * time.Minute
	uploadSweepAgain = time.Minute
)

// sweepUploads goes on with what others left of a bucket's uploads when they
// died.
func (d *Driver) sweepUploads(ctx context.Context, bid string) error {
	d.mu.Lock()
	due := time.Since(d.uploadSweeps[bid]) > uploadSweepEvery
	if due {
		d.uploadSweeps[bid] = time.Now()
	}
	d.mu.Unlock()
	if !due {
		return nil
	}
	err := d.sweepUploadsNow(ctx, bid)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.uploadSweeps[bid] = time.Now().Add(uploadSweepAgain - uploadSweepEvery)
	}
	return err
}

// sweepUploadsNow looks at all uploads, also if some cannot be dealt with; it
// returns the first error.
func (d *Driver) sweepUploadsNow(ctx context.Context, bid string) (failed error) {
	for opts := (store.UploadListOptions{Max: 1000}); ; {
		page, err := d.index(bid).listUploads(ctx, opts)
		if errors.Is(err, store.ErrNoSuchBucket) {
			return nil
		}
		if err != nil {
			return err
		}
		err = each(page.uploads, func(e uploadEntry) error {
			err := d.sweepUpload(ctx, bid, &e)
			if errors.Is(err, errPartsWritten) {
				return nil
			}
			return err
		})
		failed = cmp.Or(failed, err)
		if !page.truncated || d.closing() || ctx.Err() != nil {
			return failed
		}
		opts.KeyMarker, opts.UploadIDMarker = page.nextKeyMarker, page.nextIDMarker
	}
}

// sweepUpload looks at one upload: it settles a completion that was broken off,
// purges what has ended, and removes what was given up long ago.
func (d *Driver) sweepUpload(ctx context.Context, bid string, e *uploadEntry) error {
	n := uploadName{bid, e.id}
	unlock, err := d.locks.lock(ctx, n.lock())
	if err != nil {
		return err
	}
	defer unlock()
	u, err := d.readUpload(ctx, n)
	if errors.Is(err, store.ErrNoSuchUpload) {
		return d.fenceUpload(ctx, n, e)
	}
	if err != nil {
		return err
	}
	if u.end.state == uploadCompleting {
		if yes, _, err := d.cameTrue(ctx, u); err != nil {
			return err
		} else if !yes {
			wait(ctx, completerPatience)
		}
		now, err := d.readUpload(ctx, n)
		if err != nil || now.end != u.end {
			return nil // it goes on; the next sweep looks again
		}
		return d.settleUpload(ctx, u)
	}
	if u.end.ended() {
		return d.purge(ctx, u)
	}
	left, err := d.leftovers(ctx, u)
	if err != nil {
		return err
	}
	for tag, note := range left.stale {
		if taken, err := d.dropNote(ctx, n, tag, note, 0); err != nil || !taken {
			return err
		}
		left.garbage = append(left.garbage, segment{tag: tag})
	}
	return each(left.garbage, func(s segment) error { return d.removePart(ctx, n, s) })
}

// createPatience is how old an upload is whose creator must have made its
// object, if he lives.
const createPatience = 10 * time.Minute

// fenceUpload removes the entry of an upload that has no object: it was purged,
// or its creator died, or takes so long that creation must fail now.
func (d *Driver) fenceUpload(ctx context.Context, n uploadName, e *uploadEntry) error {
	if time.Since(e.initiated) < createPatience {
		return nil
	}
	u := &upload{
		uploadName: n, info: store.Upload{Key: e.key, ID: e.id, Initiated: e.initiated},
		end: uploadEnd{state: uploadAborted},
	}
	_, err := d.heads.Operate(ctx, n.oid(), newUploadOp(&u.info, u.end, newTag()), librados.FullForce)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.purge(ctx, u)
}
