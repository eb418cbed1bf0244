package posix

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

var _ store.Fscker = (*Driver)(nil)

// The kinds of findings.
const (
	// FindingIndexMissing: a version is not in the index.
	FindingIndexMissing store.FindingKind = store.FindingKind(missing)
	// FindingIndexStale: the index tells something else of a version.
	FindingIndexStale store.FindingKind = store.FindingKind(stale)
	// FindingIndexExtra: the index has a version, or a bucket, that is not there.
	FindingIndexExtra store.FindingKind = store.FindingKind(extra)
	// FindingIndexCorrupt: an entry of the index cannot be read.
	FindingIndexCorrupt store.FindingKind = "index-corrupt"
	// FindingAttrCorrupt: an object's attributes cannot be read; it is shown
	// as if another program had made it. Not repaired.
	FindingAttrCorrupt store.FindingKind = "attributes-corrupt"
	// FindingAttrLost: an object's side file is not there. Not repaired.
	FindingAttrLost store.FindingKind = "attributes-lost"
	// FindingUnreadable: a file or a directory cannot be read. Not repaired.
	FindingUnreadable store.FindingKind = "unreadable"
	// FindingETag: the data do not match the ETag. Not repaired.
	FindingETag store.FindingKind = "etag-mismatch"
	// FindingShadowed: a key's file at the escape place cannot be seen,
	// because there is another at its natural place.
	FindingShadowed store.FindingKind = "shadowed"
	// FindingVersionTwice: the current version is among the noncurrent ones.
	FindingVersionTwice store.FindingKind = "version-twice"
	// FindingNoCurrent: a key has noncurrent versions, but neither a current
	// one nor a delete marker: another program removed it. Not repaired.
	FindingNoCurrent store.FindingKind = "no-current"
	// FindingSideOrphan: a side file that belongs to no version.
	FindingSideOrphan store.FindingKind = "side-orphan"
	// FindingStray: a file in .herald that is not the gateway's.
	FindingStray store.FindingKind = "stray"
	// FindingBucketOrphan: files in .herald of a bucket that is not there.
	FindingBucketOrphan store.FindingKind = "bucket-orphan"
	// FindingStaging: a body that was staged long ago and never committed.
	FindingStaging store.FindingKind = "staging"
)

// stagingAge is how old an unused staged body is that will not be committed.
const stagingAge = 24 * time.Hour

// Fsck implements store.Fscker. It compares all that is in the tree, and the
// index, with each other; each finding is made under the key's guard. A repair
// corrects the index and removes what belongs to nothing; files that may be
// somebody's data are moved to .herald/lost instead.
func (d *Driver) Fsck(ctx context.Context, opts store.FsckOptions) (store.FsckStats, error) {
	f := &fsck{d: d, x: d.index, opts: opts}
	if f.opts.Report == nil {
		f.opts.Report = func(store.Finding) {}
	}
	err := f.run(ctx)
	if err == nil && opts.Repair {
		err = d.index.flush()
	}
	if err != nil {
		return f.stats, fmt.Errorf("fsck %s: %w", d.root, err)
	}
	return f.stats, nil
}

// fsck is one run of Fsck.
type fsck struct {
	d     *Driver
	x     *index
	opts  store.FsckOptions
	stats store.FsckStats

	// The bucket that is looked at.
	b  *bucket
	ib *indexBucket
}

func (f *fsck) run(ctx context.Context) error {
	buckets, err := f.d.ListBuckets(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(buckets))
	for _, e := range buckets {
		known[e.Name] = true
		if err := f.bucket(ctx, e.Name); err != nil {
			return fmt.Errorf("bucket %s: %w", e.Name, err)
		}
	}
	f.b, f.ib = nil, nil
	if err := f.orphanBuckets(known); err != nil {
		return err
	}
	return f.staging()
}

// report reports a finding, repaired if that is asked for and repair (nil: it
// cannot be repaired) succeeds.
func (f *fsck) report(kind store.FindingKind, key, detail string, repair func() error) {
	n := store.Finding{Kind: kind, Key: key, Detail: detail}
	if f.b != nil {
		n.Bucket = f.b.name
	}
	if f.opts.Repair && repair != nil {
		if err := repair(); err != nil {
			n.Detail += " (repair: " + err.Error() + ")"
		} else {
			n.Repaired = true
			f.stats.Repaired++
		}
	}
	f.stats.Findings++
	f.opts.Report(n)
}

// done is the repair of what was repaired where it was found.
func done() error { return nil }

// orphanBuckets finds what .herald, and the index, have of buckets that are
// not there.
func (f *fsck) orphanBuckets(known map[string]bool) error {
	f.d.bucketMu.Lock()
	defer f.d.bucketMu.Unlock()
	gone := func(name string) bool {
		_, err := statAt(f.d.rootFD, name, unix.AT_SYMLINK_NOFOLLOW)
		return !known[name] && absent(err)
	}
	for _, area := range []string{"keys", "versions", "meta", "uploads"} {
		list, err := names(f.d.homeFD, area)
		if err != nil && !absent(err) {
			return err
		}
		for _, name := range list {
			if gone(name) {
				path := home + "/" + area + "/" + name
				f.report(FindingBucketOrphan, "", path, func() error { return removeTree(f.d.rootFD, path, true) })
			}
		}
	}
	for _, name := range f.x.names() {
		if gone(name) {
			f.report(FindingIndexExtra, "", "bucket "+name, func() error { return f.x.bucketGone(name) })
		}
	}
	return nil
}

// staging finds old bodies that nobody will commit.
func (f *fsck) staging() error {
	list, err := names(f.d.stagingFD, ".")
	if err != nil {
		return err
	}
	for _, name := range list {
		st, err := statAt(f.d.stagingFD, name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || !st.regular() || time.Since(time.Unix(0, st.mtime)) < stagingAge {
			continue
		}
		f.report(FindingStaging, "", name, func() error { return unix.Unlinkat(f.d.stagingFD, name, 0) })
	}
	return nil
}

// lose moves a file to .herald/lost, under a new name that ends in the old.
func (f *fsck) lose(l location) func() error {
	return func() error {
		if err := unix.Mkdirat(f.d.homeFD, "lost", 0o700); err != nil && err != unix.EEXIST {
			return err
		}
		base, rel := f.b.base(l.area, l.path())
		name := newName() + "-" + l.name
		if len(name) > maxComponent {
			name = name[:maxComponent]
		}
		return unix.Renameat(base, rel, f.d.homeFD, "lost/"+name)
	}
}
