// Package store is the contract between Herald's S3 front end and the places
// where objects live. A driver (store/posix, store/rados) implements Driver
// and Bucket; s3api, lifecycle and admin use the concrete type Service, which
// adds validation, bucket attributes and generic fallbacks.
//
// Promises that every driver keeps, each tested by store/storetest:
//
//   - A change is durable when the call that made it returns: it survives
//     SIGKILL of the gateway and loss of power (unless the driver was opened
//     in a relaxed mode and says so).
//   - An object is visible whole or not at all. Writer.Commit, Bucket.Remove,
//     Bucket.Update and Uploads.Complete are linearization points: conditions
//     are checked under the same guard under which the change is made.
//   - An op that was given an id has an outcome, written in the same atomic
//     step as the change and kept until it is forgotten.
//   - For one key, Outcome.Seq grows from change to change, across restarts
//     and whatever the clock does.
//
// Buckets' and objects' sub-resources (tags, ACL, policy, notification, ...)
// are attributes, not methods.
package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"time"
)

// Driver is one place that holds buckets. All methods may be called
// concurrently. Bucket names arrive validated by Service; a driver only has to
// keep them apart. The bucket of a tenant is named "tenant:bucket"; ':' is in
// no S3 bucket name.
type Driver interface {
	// CreateBucket makes an empty bucket. It is durable on return.
	// Errors: ErrBucketAlreadyExists.
	CreateBucket(ctx context.Context, name string) error
	// OpenBucket returns a handle that stays valid until the bucket is
	// deleted; afterwards its methods answer ErrNoSuchBucket. It is cheap.
	// Errors: ErrNoSuchBucket.
	OpenBucket(ctx context.Context, name string) (Bucket, error)
	// DeleteBucket removes a bucket that holds no object, no version, no
	// delete marker. Uploads that were begun are dropped with it.
	// Errors: ErrNoSuchBucket, ErrBucketNotEmpty.
	DeleteBucket(ctx context.Context, name string) error
	// ListBuckets returns all buckets in byte order of their names.
	ListBuckets(ctx context.Context) ([]BucketEntry, error)
	// Records returns the gateway's own small documents.
	Records() Records
	// Outcomes tells what became of ops.
	Outcomes() Outcomes
	// Close waits for what runs, makes everything durable and releases the
	// directory or the cluster.
	Close() error
}

// BucketEntry is one bucket in Driver.ListBuckets.
type BucketEntry struct {
	Name    string
	Created time.Time // as far as the driver knows; Service prefers its own record
}

// Bucket holds objects. A version is addressed by its id; the empty id means
// the current version, "null" the null version.
type Bucket interface {
	// Create begins an object. Nothing is visible before Writer.Commit.
	// The caller must end the Writer by Commit or Abort.
	Create(ctx context.Context, key string, hint CreateHint) (Writer, error)
	// Open opens one version for reading. The caller closes the Reader.
	// Errors: ErrNoSuchKey, ErrNoSuchVersion, ErrDeleteMarker (a
	// *DeleteMarkerError with the marker's Info: the version addressed is one).
	Open(ctx context.Context, key, versionID string) (Reader, error)
	// Stat is Open without the data. Errors as Open.
	Stat(ctx context.Context, key, versionID string) (*Info, error)
	// Update replaces attributes of one version atomically and durably,
	// without touching data, ETag, ModTime or order. f gets a copy of the
	// current attributes and returns the new ones, or an error that Update
	// passes on with nothing changed. f runs under the key's guard: it must
	// not block or call the store. Errors: as Open.
	Update(ctx context.Context, key, versionID string, f func(*Info) (Attrs, error)) (*Info, error)
	// Remove deletes, or adds a delete marker, as RemoveOptions says. To
	// remove what is not there is no error: the Outcome then has Changed
	// false. Errors: ErrPreconditionFailed, ErrOpBarred.
	Remove(ctx context.Context, key, versionID string, opts RemoveOptions) (Outcome, error)
	// List returns a page in byte order of keys. Its cost depends on the
	// page, not on the bucket.
	List(ctx context.Context, opts ListOptions) (*Page, error)
}

// CreateHint is what is known about an object before its data comes.
type CreateHint struct {
	Size int64 // bytes; -1 when unknown
	// Compression is how the bytes are to be kept: one of those that the driver
	// knows (Compressor), or "": as they are. It may be another for each object;
	// what is read is always what was written. OpenBucket fills it in.
	Compression string
	// Op is the op that the object is going to be committed with, if that is known
	// already: a driver may make ready for it. It may be committed with another.
	Op OpID
}

// Writer takes the bytes of one object. It is used by one goroutine.
// A Writer may implement io.ReaderFrom; given an io.SectionReader over a
// Reader of the same driver it then copies inside the kernel or the cluster.
type Writer interface {
	io.Writer
	// Commit makes the object visible, all at once, and durable before it
	// returns. After an error nothing is visible, except when errors.Is(err,
	// ErrUnknownOutcome): then only Outcomes can tell.
	// Errors: ErrPreconditionFailed, ErrNoSuchBucket, ErrOpBarred,
	// ErrNoSpace, ErrUnknownOutcome.
	Commit(ctx context.Context, opts CommitOptions) (Outcome, error)
	// Abort throws the bytes away. After Commit it does nothing.
	Abort() error
}

// CommitOptions is what an object is committed with.
type CommitOptions struct {
	Op         OpID // zero: no outcome is kept
	Cond       Conditions
	Versioning Versioning
	ETag       string    // without quotes; required
	Attrs      Attrs     // all of the object's attributes
	ModTime    time.Time // zero: now, by the driver
}

// RemoveOptions says what Bucket.Remove does.
//
// With a version id that version is removed for good. Without one: Unversioned
// removes the object; Enabled adds a delete marker with a new id; Suspended
// removes the null version and adds a delete marker that is the null version.
type RemoveOptions struct {
	Op         OpID
	Cond       Conditions
	Versioning Versioning
}

// Versioning is the state of a bucket as the caller knows it. Drivers keep no
// such state: they do what each call says.
type Versioning uint8

// The states of versioning.
const (
	Unversioned Versioning = iota // never enabled
	Enabled
	Suspended
)

// NullVersion is the version id of an object that was written while versioning
// was not enabled.
const NullVersion = "null"

// Attrs are an object's attributes: system headers under their lower-case
// names ("content-type", "cache-control", ...), user metadata
// ("x-amz-meta-..."), and the gateway's own, which begin with "herald-"
// (tags, checksums, parts, ...). Values are arbitrary bytes.
type Attrs map[string]string

// Info describes one version of an object, or a delete marker.
type Info struct {
	Key string
	// VersionID is an id, or NullVersion for what was written while versioning
	// was not enabled. Whether clients see it depends on the bucket's state.
	VersionID    string
	IsLatest     bool
	DeleteMarker bool
	Size         int64  // bytes
	ETag         string // without quotes
	ModTime      time.Time
	// Seq orders the changes of one key: see Outcome.Seq.
	Seq   uint64
	Attrs Attrs
}

// Reader reads one version. It is not used concurrently, except ReadAt.
type Reader interface {
	// Info is the version's description, fixed when it was opened. The data
	// that follow belong to it, whatever happens to the key meanwhile.
	Info() *Info
	io.ReaderAt
	// WriteRangeTo copies length bytes from off to w, by sendfile where the
	// driver and w allow it.
	WriteRangeTo(w io.Writer, off, length int64) (int64, error)
	io.Closer
}

// ListOptions selects a page.
type ListOptions struct {
	Prefix    string
	Delimiter string
	// Marker: only keys (or common prefixes) strictly after it.
	Marker string
	// VersionMarker, with Versions: begin after this version of Marker. Empty:
	// after all versions of Marker.
	VersionMarker string
	Versions      bool // all versions and delete markers, newest first within a key
	Max           int  // entries and common prefixes together; 0 gives an empty page, not truncated
}

// Page is one page of a listing: entries and common prefixes, each in byte
// order.
type Page struct {
	// Entries need no Attrs but those in ListAttrs.
	Entries        []Info
	CommonPrefixes []string
	Truncated      bool
	// NextMarker and NextVersionMarker continue a truncated page: the last
	// key or common prefix given, and with Versions the last version id.
	NextMarker        string
	NextVersionMarker string
}

// Attributes that a listing shows, which drivers keep in their index.
const (
	AttrOwner             = "herald-owner"              // user id
	AttrStorageClass      = "x-amz-storage-class"       // as given; absent: STANDARD
	AttrChecksumAlgorithm = "herald-checksum-algorithm" // e.g. "CRC32"
	AttrChecksumType      = "herald-checksum-type"      // "FULL_OBJECT" or "COMPOSITE"
)

// ListAttrs are the attributes that Page.Entries carry.
var ListAttrs = [...]string{AttrOwner, AttrStorageClass, AttrChecksumAlgorithm, AttrChecksumType}

// OpID names one change: 128 bits, time-ordered, unique across gateways (a
// UUID version 7 without its fixed bits). The zero OpID means none.
type OpID [16]byte

// NewOpID returns a fresh id: 48 bits of milliseconds, then 80 random bits.
func NewOpID() OpID {
	var id OpID
	_, _ = rand.Read(id[6:]) // never fails since Go 1.24
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// IsZero tells whether id names no op.
func (id OpID) IsZero() bool { return id == OpID{} }

// String returns 32 hexadecimal digits.
func (id OpID) String() string { return hex.EncodeToString(id[:]) }

// ParseOpID is the inverse of String.
func ParseOpID(s string) (id OpID, ok bool) {
	if len(s) != 2*len(id) {
		return OpID{}, false
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return OpID{}, false
	}
	return id, true
}

// OpRef names an op and where it acts, so that a driver finds its outcome.
type OpRef struct {
	ID     OpID
	Bucket string // driver's name: "bucket" or "tenant:bucket"
	Key    string
}

// Outcome is what an op became.
type Outcome struct {
	// Changed is false when the op was carried out and changed nothing (a
	// delete of what was not there).
	Changed bool
	// Seq orders the changes of one key: it grows with each, across
	// restarts, whatever the clock does. Nanoseconds since 1970, or the
	// previous value plus one when the clock stands or goes back.
	Seq uint64
	// Info is what became visible: the new object or the delete marker. After
	// a removal for good it is the version that is gone. Nil when nothing
	// changed.
	Info *Info
	// Prior is the version that was current before: hidden by a delete
	// marker, overwritten, or removed. Nil when there was none (or it was a
	// delete marker), or when the change did not concern the current one.
	Prior *Info
	// After is the op of this key before this one, which another process may
	// have made: its events come first. Zero: there is none whose outcome was
	// kept. It may be one of this process that another has forgotten. Only
	// SharedOutcomes fill it.
	After OpID
}

// Outcomes tells, after a crash, what became of ops. Ops with a zero id have
// no outcome.
type Outcomes interface {
	// Settle returns the outcome of an op that came true. If it did not, the
	// answer is ErrNoSuchOp and, from then on, it never will: its commit
	// fails with ErrOpBarred before its linearization point. (Bars need not
	// outlive the process when ops do not either.) ErrUnknownOutcome: it cannot
	// be told yet; no bar is set.
	Settle(ctx context.Context, ref OpRef) (Outcome, error)
	// List returns ops with an outcome that was not forgotten, whose ids are
	// after the given one, in the order of ids, at most max (0: no bound). The
	// refs are for Forget: what it does not need may be empty.
	List(ctx context.Context, after OpID, max int) ([]OpRef, error)
	// Forget drops outcomes (and bars). Unknown ids are no error. It need not
	// be durable on return.
	Forget(ctx context.Context, refs ...OpRef) error
}

// SharedOutcomes is the optional capability of Outcomes of a store that several
// processes can have open at once. Outcome.After is filled, so that the ops of
// a key that were not forgotten form a chain, in the order of the changes.
type SharedOutcomes interface {
	Outcomes
	// Kept tells whether an op that came true is not forgotten, whichever
	// process made it or may have forgotten it. It bars nothing.
	Kept(ctx context.Context, id OpID) (bool, error)
}

// Records are the gateway's own small documents (users, topics, bucket
// attributes), by name: path-like, ASCII letters, digits and "-_.:$@/",
// at most 512 bytes. A value is at most 1 MiB. Another gateway on the same store
// sees a change within a second.
type Records interface {
	// Get returns a document and its version, which changes with each write
	// and is never used again for that name, also after Delete.
	// It may come from a cache that is at most a second old. The caller must
	// not change the bytes. Errors: ErrNoSuchRecord.
	Get(ctx context.Context, name string) (value []byte, version uint64, err error)
	// Put writes a document if its version is still the given one (0: it must
	// not exist), durably. Errors: ErrRecordConflict.
	Put(ctx context.Context, name string, value []byte, version uint64) (newVersion uint64, err error)
	// Delete removes a document if its version is still the given one,
	// durably. Errors: ErrNoSuchRecord, ErrRecordConflict.
	Delete(ctx context.Context, name string, version uint64) error
	// List returns names with the prefix after the marker, in byte order, at
	// most max (0: no bound).
	List(ctx context.Context, prefix, after string, max int) ([]string, error)
}
