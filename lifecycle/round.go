package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"herald/notify"
	"herald/queue"
	"herald/store"
)

// pageSize is how many versions or uploads are looked at together.
const pageSize = 1000

// maxWarnings is how many failures of a round are logged one by one.
const maxWarnings = 10

// Principal is who expires, in the records of events (RGW).
const Principal = "rgw lifecycle"

// round is one walk over a bucket.
type round struct {
	*Worker
	info     *store.BucketInfo // as it was when the round began
	rules    []Rule
	progress progress
	version  uint64 // of the record
	lease    queue.Lease
	renewed  time.Time
	until    time.Time // when the turn is over; zero: never
	counts   map[string]int
	bucket   *store.OpenBucket

	// Where the walk is, among the versions of one key.
	key     string
	newer   time.Time   // when the version before was made
	older   int         // noncurrent versions so far
	marker  *store.Info // the key's first version, if it is a delete marker and no other came yet
	started bool
}

// What ends a round early.
var (
	errChanged = errors.New("the bucket's rules were changed, or it is gone")
	errTurn    = errors.New("the turn is over")
)

// errOther: what was listed is not there any more, or not as it was.
var errOther = errors.New("changed meanwhile")

// run walks over the uploads and then the versions, from where the round before
// broke off. Errors: errChanged, errTurn, queue.ErrLeaseLost and
// store.ErrRecordConflict among others.
func (r *round) run(ctx context.Context) error {
	if len(r.progress.After) == 0 {
		if err := r.uploads(ctx); err != nil {
			return err
		}
	}
	return r.versions(ctx)
}

// look opens the bucket as it is now: a round takes long, and rules that were
// taken back must end nothing. Errors: errChanged.
func (r *round) look(ctx context.Context) error {
	b, err := r.cfg.Store.OpenBucket(ctx, r.info.Tenant, r.info.Name)
	if errors.Is(err, store.ErrNoSuchBucket) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if b.Info.ID != r.info.ID || b.Info.Attrs[Attr] != r.info.Attrs[Attr] {
		return errChanged
	}
	r.bucket = b
	return nil
}

// over is errTurn when the turn is over.
func (r *round) over() error {
	if !r.until.IsZero() && time.Now().After(r.until) {
		return errTurn
	}
	return nil
}

// alive keeps the lease, and notes how far the round is.
// Errors: queue.ErrLeaseLost, store.ErrRecordConflict.
func (r *round) alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	if now.Sub(r.renewed) < r.cfg.Lease/4 {
		return nil
	}
	if err := r.lease.Renew(ctx); err != nil {
		return err
	}
	r.renewed = now
	return r.save(ctx)
}

// versions walks over all versions, newest first within a key.
func (r *round) versions(ctx context.Context) error {
	opts := store.ListOptions{Versions: true, Max: pageSize, Marker: string(r.progress.After)}
	if err := r.look(ctx); err != nil {
		return err
	}
	for {
		page, err := r.bucket.List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list versions: %w", err)
		}
		for i := range page.Entries {
			if err := r.alive(ctx); err != nil {
				return err
			}
			if err := r.nextVersion(ctx, &page.Entries[i]); err != nil {
				return err
			}
		}
		if !page.Truncated {
			return r.endKey(ctx)
		}
		opts.Marker, opts.VersionMarker = page.NextMarker, page.NextVersionMarker
	}
}

// nextVersion decides about one version. Errors: errChanged, errTurn.
func (r *round) nextVersion(ctx context.Context, v *store.Info) error {
	if !r.started || v.Key != r.key {
		if err := r.endKey(ctx); err != nil {
			return err
		}
		r.started, r.key, r.newer, r.older = true, v.Key, v.ModTime, 0
		if v.DeleteMarker {
			r.marker = v
			return nil
		}
		return r.apply(ctx, v, place{latest: true})
	}
	r.marker = nil // it hides something
	at := place{since: r.newer, newer: r.older}
	r.newer = v.ModTime
	r.older++
	return r.apply(ctx, v, at)
}

// endKey decides about a delete marker that was all there is of its key, which
// is done with then. Errors: errChanged, errTurn.
func (r *round) endKey(ctx context.Context) error {
	if m := r.marker; m != nil {
		r.marker = nil
		if err := r.apply(ctx, m, place{latest: true, only: true}); err != nil {
			return err
		}
	}
	if !r.started {
		return nil
	}
	r.progress.After = []byte(r.key)
	return r.over()
}

// apply does what the rules want done with a version. Errors: errChanged.
func (r *round) apply(ctx context.Context, v *store.Info, at place) error {
	var attrs store.Attrs
	asked := false
	todo := r.cfg.Clock.decide(r.rules, v, at, func() store.Attrs {
		if !asked {
			asked = true
			if info, err := r.bucket.Stat(ctx, v.Key, v.VersionID); err == nil {
				attrs = info.Attrs
			}
		}
		return attrs
	})
	if todo == keep {
		return nil
	}
	if err := r.look(ctx); errors.Is(err, errChanged) {
		return err
	} else if err != nil {
		r.count("", v.Key, err)
		return nil
	}
	// What is there must be what was listed: the null version, too, is another
	// one after each change.
	cond := store.Conditions{IfMatch: v.ETag, IfMatchSize: &v.Size, IfMatchModTime: v.ModTime}
	switch todo {
	case expireCurrent:
		r.count("current", v.Key, r.remove(ctx, v.Key, "", cond, notify.ObjectLifecycleExpirationCurrent, notify.LifecycleExpirationDelete))
	case expireNoncurrent:
		err := r.notRestored(ctx, v)
		if err == nil {
			err = r.remove(ctx, v.Key, v.VersionID, cond, notify.ObjectLifecycleExpirationNonCurrent, notify.LifecycleExpirationDelete)
		}
		r.count("noncurrent", v.Key, err)
	case expireMarker:
		cond.IfMatch = `""` // a delete marker has no ETag, and an object has one
		r.count("marker", v.Key, r.remove(ctx, v.Key, v.VersionID, cond, notify.ObjectLifecycleExpirationDeleteMarker, notify.LifecycleExpirationDeleteMarkerCreated))
	}
	return nil
}

// notRestored makes sure that a version is not its key's current one by now:
// whoever removed those above it wants it back. Errors: errOther.
func (r *round) notRestored(ctx context.Context, v *store.Info) error {
	cur, err := r.bucket.Stat(ctx, v.Key, "")
	var marker *store.DeleteMarkerError
	switch {
	case errors.As(err, &marker):
		cur = marker.Info
	case errors.Is(err, store.ErrNoSuchKey):
		return nil
	case err != nil:
		return err
	}
	if cur.VersionID == v.VersionID {
		return errOther
	}
	return nil
}

// count notes what became of an expiration. One that failed is tried again in
// the next round.
func (r *round) count(what, key string, err error) {
	switch {
	case errors.Is(err, errOther), errors.Is(err, store.ErrPreconditionFailed), errors.Is(err, store.ErrNoSuchUpload):
		return
	case err != nil:
		what = "failed"
		if r.counts[what] < maxWarnings {
			r.log.Warn("lifecycle", "bucket", r.info.StoreName(), "key", key, "err", err)
		}
	}
	r.counts[what]++
	r.done.WithLabelValues(what).Inc()
}

// remove deletes with the events of a lifecycle. Errors: errOther.
func (r *round) remove(ctx context.Context, key, versionID string, cond store.Conditions, typ, also notify.EventType) error {
	b := r.bucket
	pending, err := r.reserve(ctx, key, versionID, typ, also)
	if err != nil {
		return err
	}
	defer pending.Abort()
	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		return b.Remove(ctx, key, versionID, store.RemoveOptions{Op: op, Cond: cond, Versioning: b.Info.Versioning})
	})
	if err == nil && !out.Changed {
		return errOther
	}
	return err
}

func (r *round) reserve(ctx context.Context, key, versionID string, typ, also notify.EventType) (*notify.Pending, error) {
	return r.cfg.Notify.Publisher().Reserve(ctx, notify.Change{
		Type: typ, Also: also, Bucket: r.bucket.Info, Key: key, VersionID: versionID, Principal: Principal, RequestID: "0",
	})
}

// uploads ends those that nobody finished.
func (r *round) uploads(ctx context.Context) error {
	wanted := false
	for i := range r.rules {
		wanted = wanted || r.rules[i].Enabled && r.rules[i].AbortDays > 0
	}
	if !wanted {
		return nil
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	ups, err := r.bucket.Uploads()
	if errors.Is(err, store.ErrNotSupported) {
		return nil
	}
	if err != nil {
		return err
	}
	opts := store.UploadListOptions{Max: pageSize}
	for {
		page, err := ups.ListUploads(ctx, opts)
		if err != nil {
			return fmt.Errorf("list uploads: %w", err)
		}
		for i := range page.Uploads {
			if err := r.alive(ctx); err != nil {
				return err
			}
			u := &page.Uploads[i]
			if !r.stale(u) {
				continue
			}
			if err := r.look(ctx); err != nil {
				return err
			}
			r.count("upload", u.Key, r.abort(ctx, ups, u))
			if err := r.over(); err != nil {
				return err
			}
		}
		if !page.Truncated {
			return nil
		}
		opts.KeyMarker, opts.UploadIDMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

func (r *round) stale(u *store.Upload) bool {
	now := r.cfg.Clock.now()
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.Enabled && rule.AbortDays > 0 && strings.HasPrefix(u.Key, rule.Filter.Prefix) && !now.Before(r.cfg.Clock.dueAt(u.Initiated, rule.AbortDays)) {
			return true
		}
	}
	return false
}

// abort ends one upload. Its event is that of no change of an object: nobody
// can find out after a crash whether it came true, so it is lost when the
// gateway dies between the two.
func (r *round) abort(ctx context.Context, ups store.Uploads, u *store.Upload) error {
	pending, err := r.reserve(ctx, u.Key, "", notify.ObjectLifecycleExpirationAbortMultipartUpload, 0)
	if err != nil {
		return err
	}
	defer pending.Abort()
	_, err = pending.Do(ctx, func(ctx context.Context, _ store.OpID) (store.Outcome, error) {
		if err := ups.AbortUpload(ctx, u.Key, u.ID); err != nil {
			return store.Outcome{}, err
		}
		now := r.cfg.Clock.now()
		info := &store.Info{Key: u.Key, Attrs: u.Attrs, ModTime: now}
		return store.Outcome{Changed: true, Seq: uint64(now.UnixNano()), Info: info}, nil
	})
	return err
}
