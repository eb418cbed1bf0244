package store

import "context"

// Fscker is the optional capability of a Driver to look whether what it keeps
// fits together.
type Fscker interface {
	// Fsck looks at all that the driver keeps. It may run beside requests, of
	// this gateway and of others: what is under way is not a finding. It
	// returns an error only if it cannot go on; what is wrong with the store it
	// reports.
	Fsck(ctx context.Context, opts FsckOptions) (FsckStats, error)
}

// FsckOptions says what Fsck does; the zero value only looks.
type FsckOptions struct {
	// Repair mends what is found, as far as nothing of a client's can get lost
	// by that.
	Repair bool
	// Deep reads all data of objects whose ETag tells their MD5, and compares.
	Deep bool
	// Report is called with each finding, by one goroutine at a time. Default:
	// none.
	Report func(Finding)
}

// FindingKind is what is wrong. Each driver has kinds of its own, and says what
// they mean.
type FindingKind string

// Finding is one thing that Fsck found wrong.
type Finding struct {
	Kind     FindingKind
	Bucket   string // driver's name; "" where it concerns none
	Key      string
	Detail   string // version id, path, ...
	Repaired bool
}

// FsckStats counts what Fsck looked at.
type FsckStats struct {
	Buckets  int
	Objects  int64 // current ones
	Foreign  int64 // of them, made or changed by other programs
	Versions int64 // noncurrent ones, and delete markers
	Uploads  int64 // multipart uploads that were not ended, where a driver counts them
	Bytes    int64 // of current objects
	Busy     int64 // what was not compared, as it never stood still
	Findings int64
	Repaired int64
}
