package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"herald/store"
)

const (
	// wantedName is the record that says whose events are wanted.
	wantedName = "live/wanted"
	// wantedPoll is how often a gateway looks what others want; after
	// wantedSeen all have: see store.Records.
	wantedPoll = 250 * time.Millisecond
	wantedSeen = time.Second + 2*wantedPoll
)

// wantedSet says whose events go to the log: until when, in seconds since 1970.
// It is never changed. Nil: nobody's.
type wantedSet struct {
	All     int64            `json:"all,omitempty"`
	Buckets map[string]int64 `json:"buckets,omitempty"` // by the store's name
}

// until tells until when events of a bucket ("": of all) are wanted.
func (w *wantedSet) until(bucket string) time.Time {
	if w == nil {
		return time.Time{}
	}
	at := w.All
	if bucket != "" {
		at = max(at, w.Buckets[bucket])
	}
	return time.Unix(at, 0)
}

// with returns the set with one more wish, without those that ended.
func (w *wantedSet) with(bucket string, until, now time.Time) *wantedSet {
	more := &wantedSet{All: until.Unix()}
	if bucket != "" {
		more = &wantedSet{Buckets: map[string]int64{bucket: until.Unix()}}
	}
	return w.and(more, now)
}

// and returns the wishes of both sets that have not ended. Wishes are prolonged
// only: it does not matter which of the two is newer.
func (w *wantedSet) and(other *wantedSet, now time.Time) *wantedSet {
	out := &wantedSet{Buckets: map[string]int64{}}
	for _, set := range [...]*wantedSet{w, other} {
		if set == nil {
			continue
		}
		if set.All > now.Unix() {
			out.All = max(out.All, set.All)
		}
		for name, at := range set.Buckets {
			if at > now.Unix() {
				out.Buckets[name] = max(out.Buckets[name], at)
			}
		}
	}
	return out
}

// ended tells whether nothing is wanted any more.
func (w *wantedSet) ended(now time.Time) bool {
	if w == nil {
		return true
	}
	for _, at := range w.Buckets {
		if at > now.Unix() {
			return false
		}
	}
	return w.All <= now.Unix()
}

// wants tells whether the event of a change goes to the log. With no listener
// it costs one load.
func (t *streams) wants(f *facts) bool {
	w := t.wanted.Load()
	return w != nil && time.Now().Before(w.until(f.storeName()))
}

// wantedLoop follows the wishes of all gateways until ctx is done.
func (t *streams) wantedLoop(ctx context.Context) {
	for {
		if err := t.readWanted(ctx); err != nil && ctx.Err() == nil {
			if _, ok := t.trouble.say(); ok {
				t.s.log.Warn("look who listens to events", "err", err)
			}
		}
		pause := wantedPoll
		if t.s.alone {
			pause = time.Second // our own wishes only, which are known at once
		}
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// readWanted takes over what the record says.
func (t *streams) readWanted(ctx context.Context) error {
	w, _, err := t.loadWanted(ctx)
	if err != nil {
		return err
	}
	t.setWanted(w)
	return nil
}

// setWanted adds to what is wanted: what somebody has read may be older than what
// is known.
func (t *streams) setWanted(w *wantedSet) {
	t.changing.Lock()
	defer t.changing.Unlock()
	now := time.Now()
	w = w.and(t.wanted.Load(), now)
	if w.ended(now) {
		if t.wanted.Swap(nil) != nil {
			t.write(&logEntry{Kind: kindEnd})
		}
		return
	}
	if t.wanted.Load() == nil {
		t.newRun()
		t.written.Store(true)
		t.write(&logEntry{Kind: kindAlive}) // its numbers begin before the first event
	}
	t.wanted.Store(w)
}

func (t *streams) loadWanted(ctx context.Context) (*wantedSet, uint64, error) {
	data, version, err := t.s.cfg.Records.Get(ctx, wantedName)
	if errors.Is(err, store.ErrNoSuchRecord) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	w := new(wantedSet)
	if err := json.Unmarshal(data, w); err != nil {
		return nil, version, nil // whoever listens writes it anew
	}
	return w, version, nil
}

// want has the events of a bucket ("": of all) logged for a while, by all
// gateways when it returns.
func (t *streams) want(ctx context.Context, bucket string) error {
	for {
		now := time.Now()
		w, version, err := t.loadWanted(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		left := w.until(bucket).Sub(now)
		if left > t.s.opt.ListenKeep*3/4 {
			t.setWanted(w)
			return t.settle(ctx, left)
		}
		next := w.with(bucket, now.Add(t.s.opt.ListenKeep).Add(time.Second), now)
		data, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		_, err = t.s.cfg.Records.Put(ctx, wantedName, data, version)
		if err == nil {
			t.setWanted(next)
			return t.settle(ctx, left)
		}
		if !errors.Is(err, store.ErrRecordConflict) {
			return fmt.Errorf("listen: %w", err)
		}
		if err := sleep(ctx, conflictRetry); err != nil {
			return err
		}
	}
}

// settle waits until other gateways know of a wish that had that long to go:
// those of a moment ago they know.
func (t *streams) settle(ctx context.Context, left time.Duration) error {
	if t.s.alone || left > 0 && left < t.s.opt.ListenKeep-wantedSeen {
		return nil
	}
	return sleep(ctx, wantedSeen)
}
