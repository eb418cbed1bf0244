//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"herald/store"
)

// The kinds of findings. What is lost is never "repaired" by removing the rest
// of it.
const (
	// FindingIndexMissing: the index lacks a version that the head has.
	FindingIndexMissing store.FindingKind = "index-missing"
	// FindingIndexStale: the index tells something else of a version.
	FindingIndexStale store.FindingKind = "index-stale"
	// FindingIndexExtra: the index has a version that the head does not have.
	FindingIndexExtra store.FindingKind = "index-extra"
	// FindingIndexCorrupt: a line of the index cannot be read.
	FindingIndexCorrupt store.FindingKind = "index-corrupt"
	// FindingIndexSums: a shard counts other versions or bytes than it has.
	FindingIndexSums store.FindingKind = "index-sums"
	// FindingIndexLost: a bucket's layout, or a shard, is not there. It is made
	// anew from the heads.
	FindingIndexLost store.FindingKind = "index-lost"
	// FindingIndexStray: a shard, or a layout, that no bucket has.
	FindingIndexStray store.FindingKind = "index-stray"
	// FindingMark: a mark of a change that ended a day ago, or never will.
	FindingMark store.FindingKind = "mark-left"

	// FindingHeadCorrupt: a head cannot be read, or contradicts itself. Only
	// the number of its versions is repaired.
	FindingHeadCorrupt store.FindingKind = "head-corrupt"
	// FindingHeadLost: a key that is in the index has no head, not even that
	// of a removed key. Not repaired, and tails that seem to leak are not removed.
	FindingHeadLost store.FindingKind = "head-lost"
	// FindingHeadOrphan: a head with versions, in no bucket. Not repaired.
	FindingHeadOrphan store.FindingKind = "head-orphan"
	// FindingTombstone: the head of a removed key that nobody needs.
	FindingTombstone store.FindingKind = "tombstone-left"
	// FindingOutcome: an outcome, in a head, of an op that was forgotten.
	FindingOutcome store.FindingKind = "outcome-left"
	// FindingBar: a bar of what can happen no more.
	FindingBar store.FindingKind = "bar-left"
	// FindingGarbage: tails that are not used were noted a day ago.
	FindingGarbage store.FindingKind = "garbage-left"

	// FindingDataLost: bytes of an object, or of a part, are not there. Not
	// repaired.
	FindingDataLost store.FindingKind = "data-lost"
	// FindingETag: the data do not match the ETag. Not repaired.
	FindingETag store.FindingKind = "etag-mismatch"
	// FindingTailLeak: tails, or a list of references, that nothing uses, and
	// nothing notes.
	FindingTailLeak store.FindingKind = "tail-leak"
	// FindingReferenceLost: a copy, or the owner, does not hold the bytes that
	// it shares: they may get lost.
	FindingReferenceLost store.FindingKind = "reference-lost"
	// FindingReferenceCorrupt: who holds bytes, or what somebody holds, cannot be
	// read. Not repaired.
	FindingReferenceCorrupt store.FindingKind = "reference-corrupt"
	// FindingReferenceLeft: bytes are held by what knows nothing of it.
	FindingReferenceLeft store.FindingKind = "reference-left"

	// FindingUploadMissing: the index lacks an upload.
	FindingUploadMissing store.FindingKind = "upload-missing"
	// FindingUploadExtra: the index has an upload that is not there.
	FindingUploadExtra store.FindingKind = "upload-extra"
	// FindingUploadCorrupt: an upload cannot be read. Not repaired.
	FindingUploadCorrupt store.FindingKind = "upload-corrupt"
	// FindingUploadOrphan: an upload in no bucket. Not repaired where heads are
	// in none, either.
	FindingUploadOrphan store.FindingKind = "upload-orphan"

	// FindingBucketLeft: the name of a bucket that was deleted.
	FindingBucketLeft store.FindingKind = "bucket-left"
	// FindingDeletedLeft: a deleted bucket's line, when nothing of it is left.
	FindingDeletedLeft store.FindingKind = "deleted-left"
	// FindingRootCorrupt: a bucket's line cannot be read. Not repaired.
	FindingRootCorrupt store.FindingKind = "root-corrupt"
	// FindingOp: the line of an op that did not come true, and never will.
	FindingOp store.FindingKind = "op-left"
	// FindingOpCorrupt: a line of an op cannot be read.
	FindingOpCorrupt store.FindingKind = "op-corrupt"
	// FindingRecord: half a record. Not repaired.
	FindingRecord store.FindingKind = "record-torn"
	// FindingStray: an object whose name only begins as ours. Not repaired.
	FindingStray store.FindingKind = "stray"
)

const (
	fsckLooks    = 5    // at what is busy
	fsckSuspects = 4096 // that wait for their second look
	fsckWorkers  = 2    // groups of heads that are looked at beside each other
	fsckGroup    = 64   // heads
)

// fsckLimits are what a test makes smaller.
type fsckLimits struct {
	pause time.Duration // between two looks at what seems wrong
	old   time.Duration // what the sweeps remove is left if it is older
	young time.Duration // what is younger may be being made
}

var _ store.Fscker = (*Driver)(nil)

// Fsck implements store.Fscker. Heads are the truth: the index is repaired
// from them. Tails are compared with what heads, uploads and marks account
// for. It keeps 32 bytes in memory for each upload of bytes that has tails (and
// a part of that once more while it reads their names), and reads each head once,
// or twice if tails seem to leak.
//
// What seems wrong is looked at again after a pause; what is under way then is
// looked at later, and counted as busy if it never stands still.
func (d *Driver) Fsck(ctx context.Context, opts store.FsckOptions) (store.FsckStats, error) {
	return d.fsck(ctx, opts, fsckLimits{pause: 2 * time.Second, old: barAge + time.Hour, young: time.Hour})
}

func (d *Driver) fsck(ctx context.Context, opts store.FsckOptions, limits fsckLimits) (store.FsckStats, error) {
	if opts.Report == nil {
		opts.Report = func(store.Finding) {}
	}
	f := &fsck{d: d, opts: opts, limits: limits, buckets: make(map[string]*fsckBucket)}
	if err := f.run(ctx); err != nil {
		return f.stats, fmt.Errorf("fsck: %w", err)
	}
	return f.stats, nil
}

// fsck is one run of Fsck.
type fsck struct {
	d       *Driver
	opts    store.FsckOptions
	limits  fsckLimits
	buckets map[string]*fsckBucket // by id
	tails   *tailTable             // nil: tails are not accounted for now
	light   bool                   // tails are accounted for, and nothing else
	blind   atomic.Bool            // something that may use tails cannot be read

	reporting sync.Mutex // held while a finding is reported; guards stats
	stats     store.FsckStats

	mu       sync.Mutex // guards what follows
	suspects []*suspect
	odd      []stranger

	holding sync.Mutex // held while a list of references is written
}

// run goes over everything. The order matters: what a tail that was listed is
// used by moves from a mark or an upload to a head, so these are asked in that
// order, after the tails were listed.
func (f *fsck) run(ctx context.Context) error {
	f.tails = newTailTable()
	for _, step := range []func(context.Context) error{
		f.list, f.root, f.layouts, f.announced, f.heads, f.entries, f.leaks, f.references, f.sums, f.ops, f.records,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := f.lookAgain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// report reports a finding, repaired if that is asked for and repair (nil: it
// cannot be repaired) succeeds.
func (f *fsck) report(kind store.FindingKind, b *fsckBucket, key, detail string, repair func() error) {
	n := store.Finding{Kind: kind, Bucket: b.title(), Key: key, Detail: detail}
	if f.opts.Repair && repair != nil {
		if err := repair(); err != nil {
			n.Detail += " (repair: " + err.Error() + ")"
		} else {
			n.Repaired = true
		}
	}
	f.reporting.Lock()
	defer f.reporting.Unlock()
	f.stats.Findings++
	if n.Repaired {
		f.stats.Repaired++
	}
	f.opts.Report(n)
}

func (f *fsck) count(add func(s *store.FsckStats)) {
	f.reporting.Lock()
	defer f.reporting.Unlock()
	add(&f.stats)
}

// suspect is what seemed wrong.
type suspect struct {
	at    time.Time
	looks int
	// again looks again, and reports what is wrong for sure. Errors: errBusy.
	again func(ctx context.Context) error
}

// errBusy: it cannot be told now whether something is wrong.
var errBusy = errors.New("it is being changed")

// suspect has something looked at again later.
func (f *fsck) suspect(ctx context.Context, again func(ctx context.Context) error) error {
	f.mu.Lock()
	f.suspects = append(f.suspects, &suspect{at: time.Now(), again: again})
	full := len(f.suspects) >= fsckSuspects
	f.mu.Unlock()
	if full {
		return f.lookAgain(ctx)
	}
	return nil
}

// lookAgain looks again at all suspects.
func (f *fsck) lookAgain(ctx context.Context) error {
	f.mu.Lock()
	list := f.suspects
	f.suspects = nil
	f.mu.Unlock()
	for len(list) > 0 {
		wait(ctx, time.Until(list[len(list)-1].at.Add(f.limits.pause)))
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var mu sync.Mutex // guards busy
		var busy []*suspect
		err := each(list, func(s *suspect) error {
			err := s.again(ctx)
			if !errors.Is(err, errBusy) {
				return err
			}
			s.at = time.Now()
			if s.looks++; s.looks == fsckLooks {
				f.count(func(s *store.FsckStats) { s.Busy++ })
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			busy = append(busy, s)
			return nil
		})
		if err != nil {
			return err
		}
		list = busy
	}
	return nil
}
