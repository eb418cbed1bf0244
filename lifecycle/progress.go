package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"time"

	"herald/queue"
	"herald/store"
)

// recordPrefix and a bucket's name are the name of its record.
const recordPrefix = "lc/"

// The states of a bucket, as radosgw-admin shows them.
const (
	StatusInitial    = "UNINITIAL"
	StatusProcessing = "PROCESSING"
	StatusFailed     = "FAILED"
	StatusComplete   = "COMPLETE"
)

// progress is the record "lc/BUCKET". Only who holds the bucket's lock writes
// it.
type progress struct {
	ID      string    `json:"id"`    // of the bucket
	Rules   uint64    `json:"rules"` // a hash of those that are carried out
	Started time.Time `json:"started"`
	Status  string    `json:"status"`
	// After is the last key that was dealt with, of a round that has not come to
	// its end: the next one begins behind it.
	After []byte `json:"after,omitempty"`
}

func hashOf(attr string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(attr)) // never fails
	return h.Sum64()
}

// load returns a bucket's record and its version. A record of a bucket that had
// the name before is as good as none.
func (w *Worker) load(ctx context.Context, b *store.BucketInfo) (progress, uint64, error) {
	p := progress{ID: b.ID, Status: StatusInitial}
	data, version, err := w.cfg.Store.Records().Get(ctx, recordPrefix+b.StoreName())
	if errors.Is(err, store.ErrNoSuchRecord) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	var found progress
	if json.Unmarshal(data, &found) != nil || found.ID != b.ID {
		return p, version, nil
	}
	return found, version, nil
}

// begin returns a round over a bucket, new or the rest of one that broke off; nil
// if none is wanted any more. The caller holds the bucket's lock.
func (w *Worker) begin(ctx context.Context, b *store.BucketInfo, want want) (*round, error) {
	rules, err := Parse(b.Attrs[Attr])
	if err != nil {
		return nil, err
	}
	const tries = 30
	for range tries {
		p, version, err := w.load(ctx, b)
		if err != nil || !want(b, &p) {
			return nil, err
		}
		if hash := hashOf(b.Attrs[Attr]); p.Rules != hash || p.Status == StatusComplete || p.Status == StatusInitial {
			p = progress{ID: b.ID, Rules: hash}
		}
		if p.Status != StatusProcessing {
			p.Started, p.Status = w.cfg.Clock.now().UTC(), StatusProcessing
		}
		r := &round{Worker: w, info: b, rules: rules, progress: p, version: version, counts: map[string]int{}}
		if err := r.save(ctx); !errors.Is(err, store.ErrRecordConflict) {
			return r, err
		}
		select { // what load gave was a moment old, and another gateway was faster
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, store.ErrRecordConflict
}

// save notes how far the round is. Errors: store.ErrRecordConflict: somebody else
// has the bucket now.
func (r *round) save(ctx context.Context) error {
	data, err := json.Marshal(&r.progress)
	if err != nil {
		return err
	}
	version, err := r.cfg.Store.Records().Put(ctx, recordPrefix+r.info.StoreName(), data, r.version)
	if err == nil {
		r.version = version
	}
	return err
}

// end notes what became of the round, unless the bucket is somebody else's by
// now, and returns what of err is to be told.
func (r *round) end(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errChanged):
		return nil // the next pass has the new rules, if there are any
	case errors.Is(err, queue.ErrLeaseLost), errors.Is(err, store.ErrRecordConflict):
		return err
	case errors.Is(err, errTurn):
		err = nil
	case ctx.Err() != nil: // whoever comes next goes on at once
	case err != nil:
		r.progress.Status = StatusFailed
	default:
		r.progress.Status, r.progress.After = StatusComplete, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, r.save(ctx))
}

// sweep drops the records of buckets that have had no rules for a day.
func (w *Worker) sweep(ctx context.Context, buckets []*store.BucketInfo) error {
	has := make(map[string]bool, len(buckets))
	for _, b := range buckets {
		has[recordPrefix+b.StoreName()] = true
	}
	records := w.cfg.Store.Records()
	names, err := records.List(ctx, recordPrefix, "", 0)
	if err != nil {
		return err
	}
	for _, name := range names {
		if has[name] {
			continue
		}
		data, version, err := records.Get(ctx, name)
		if err != nil {
			continue // it went meanwhile, or the next time will tell
		}
		var p progress
		if json.Unmarshal(data, &p) == nil && w.cfg.Clock.now().Sub(p.Started) < 24*time.Hour {
			continue // its bucket may be new: it was not listed then
		}
		err = records.Delete(ctx, name, version)
		if err != nil && !errors.Is(err, store.ErrNoSuchRecord) && !errors.Is(err, store.ErrRecordConflict) {
			return err
		}
	}
	return nil
}
