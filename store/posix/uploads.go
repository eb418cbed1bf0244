package posix

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// Multipart uploads.
//
//	.herald/uploads/<bucket>/<upload id>/upload        key, time and attributes (encodeUpload)
//	.herald/uploads/<bucket>/<upload id>/parts         a log of parts (uploads_log.go); small parts are in it
//	.herald/uploads/<bucket>/<upload id>/d<size>       parts of that size (and a shorter last one), each at its
//	                                                   offset in the object that will be: (number-1) * size
//	.herald/uploads/<bucket>/<upload id>/p<n>.<id>     any other part: of unknown size, or the second of its number
//	.herald/uploads/<bucket>/<upload id>/a.<id>        an object being assembled
//
// Complete takes the d file that has most of the object, copies into it what
// is elsewhere, and commits it as it is: of an upload with parts of equal size
// nothing is copied. Where that cannot be done (parts left out or of mixed
// sizes) the parts are copied into an a file.
//
// A committed part is never written over: one that replaces another goes to a
// file of its own. A place in a d file belongs to one writer at a time; while
// there is one, Complete leaves the file alone, so that nobody who is late
// writes into an object.
//
// Each change is a journal record, applied to the files of the upload without
// a flush: the beginning (kindUpload), a part (kindPart; its data were flushed
// before, or are in the record), the abort (kindUploadEnd). The end by
// Complete is part of the object's record (putEntry.upload). Replay applies
// them again; records of an upload that is no more do nothing, and who ends
// an upload again does no harm.
//
// Locks are taken in this order: an upload's, the bucket's life, a key's guard.

const (
	maxInlinePart = 64 << 10 // bytes of a part that go through the journal
	maxUploadID   = 128
	maxPartNumber = 10_000
)

// Kinds of journal records; see entryKind.
const (
	kindUpload    = kindUploads     // uploadEntry: an upload begins
	kindPart      = kindUploads + 1 // partEntry: a part comes, or replaces another
	kindUploadEnd = kindUploads + 2 // uploadEntry, without attributes: an upload is aborted
)

var _ store.Uploads = (*bucket)(nil)

// validUploadID tells whether an id may be the name of a directory.
func validUploadID(id string) bool {
	if id == "" || len(id) > maxUploadID {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// uploadDir is an upload's directory, relative to .herald.
func uploadDir(bucket, id string) string { return "uploads/" + bucket + "/" + id }

// CreateUpload implements store.Uploads. Its linearization point is the
// journal record.
func (b *bucket) CreateUpload(_ context.Context, u store.Upload) error {
	if err := store.ValidKey(u.Key); err != nil {
		return err
	}
	if !validUploadID(u.ID) {
		return fmt.Errorf("create upload of %s/%s: invalid id %q", b.name, u.Key, u.ID)
	}
	if err := b.enter(); err != nil {
		return err
	}
	defer b.leave()
	if err := b.d.writable(0); err != nil {
		return fmt.Errorf("create upload of %s/%s: %w", b.name, u.Key, err)
	}
	e := &uploadEntry{kind: kindUpload, bucket: b.name, dir: b.d.bucketIdentity(b.name), upload: u}
	return b.d.journaled("create upload of "+b.name+"/"+u.Key, func() error { return b.d.applyUpload(e) }, e.encode(nil))
}

// journaled writes a record, waits until it is durable, and applies it.
func (d *Driver) journaled(what string, apply func() error, record ...[]byte) error {
	t, err := d.flight.append(record...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := d.flight.wait(t); err != nil {
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	}
	d.fault("posix.upload.journaled")
	if err := apply(); err != nil {
		return d.breakDown(what, err)
	}
	d.fault("posix.upload.applied")
	d.flight.done(t)
	return nil
}

// ListParts implements store.Uploads.
func (b *bucket) ListParts(_ context.Context, key, uploadID string, after, limit int) (*store.Upload, []store.Part, bool, error) {
	m, err := b.upload(key, uploadID)
	if err != nil {
		return nil, nil, false, err
	}
	defer b.d.uploads.release(m)
	up := m.up
	numbers := m.numbers(after)
	more := len(numbers) > limit && limit > 0
	numbers = numbers[:min(len(numbers), max(limit, 0))]
	parts := make([]store.Part, 0, len(numbers))
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	for _, n := range numbers {
		parts = append(parts, m.parts[n].Part)
	}
	return &up, parts, more, nil
}

// numbers returns the numbers of the parts above after, in order.
func (m *multipart) numbers(after int) []int {
	m.partsMu.Lock()
	defer m.partsMu.Unlock()
	numbers := make([]int, 0, len(m.parts))
	for n := range m.parts {
		if n > after {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// AbortUpload implements store.Uploads. Its linearization point is the journal
// record. Parts that are being written are waited for only while they are
// being committed; later they find the upload gone.
func (b *bucket) AbortUpload(_ context.Context, key, uploadID string) error {
	m, err := b.upload(key, uploadID)
	if err != nil {
		return err
	}
	defer b.d.uploads.release(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := b.enter(); err != nil {
		return err
	}
	defer b.leave()
	if m.ended.Load() {
		return store.ErrNoSuchUpload
	}
	if err := b.d.writable(-1); err != nil && !errors.Is(err, store.ErrNoSpace) {
		return fmt.Errorf("abort upload of %s/%s: %w", b.name, key, err)
	}
	e := &uploadEntry{kind: kindUploadEnd, bucket: b.name, dir: b.d.bucketIdentity(b.name), upload: store.Upload{Key: key, ID: uploadID}}
	return b.d.journaled("abort upload of "+b.name+"/"+key, func() error { return b.d.dropUpload(b.name, uploadID) }, e.encode(nil))
}

// dropUpload ends an upload on disk and in memory: the last step of Complete
// and AbortUpload, also in replay.
func (d *Driver) dropUpload(bucket, id string) error {
	d.uploads.end(bucket, id)
	d.fault("posix.upload.ended")
	if err := removeTree(d.homeFD, uploadDir(bucket, id), true); err != nil {
		return fmt.Errorf("remove upload %s of bucket %s: %w", id, bucket, err)
	}
	d.uploads.ended(bucket, id)
	return nil
}

// dropUpload is what commit calls when it ends an upload, also in replay.
func (b *bucket) dropUpload(_, id string) error { return b.d.dropUpload(b.name, id) }

// dropUploads ends all uploads of a bucket that goes. Nobody uses the bucket.
func (d *Driver) dropUploads(bucket string) error {
	d.uploads.endedBucket(bucket)
	if err := removeTree(d.homeFD, "uploads/"+bucket, true); err != nil {
		return fmt.Errorf("remove uploads of bucket %s: %w", bucket, err)
	}
	return nil
}

// applyUpload makes an upload's directory.
func (d *Driver) applyUpload(e *uploadEntry) error {
	dir := uploadDir(e.bucket, e.upload.ID)
	for _, path := range []string{"uploads/" + e.bucket, dir} {
		if err := unix.Mkdirat(d.homeFD, path, 0o700); err != nil && err != unix.EEXIST {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	name, err := d.writeTemp(encodeUpload(&e.upload))
	if err != nil {
		return fmt.Errorf("write upload: %w", err)
	}
	if err := unix.Renameat(d.stagingFD, name, d.homeFD, dir+"/upload"); err != nil {
		return fmt.Errorf("write upload: %w", err)
	}
	d.uploads.begun(e.bucket, &e.upload)
	return nil
}

// replayUpload applies a record of uploads again.
func (d *Driver) replayUpload(kind entryKind, in *decoder) error {
	switch kind {
	case kindUpload, kindUploadEnd:
		e, err := decodeUploadEntry(kind, in)
		if err != nil || !d.sameBucket(e.bucket, e.dir) {
			return err
		}
		if kind == kindUpload {
			return d.applyUpload(e)
		}
		return d.dropUpload(e.bucket, e.upload.ID)
	case kindPart:
		e, err := decodePartEntry(in)
		if err != nil || !d.sameBucket(e.bucket, e.dir) {
			return err
		}
		m, err := d.uploads.get(d, e.bucket, e.id, true)
		if errors.Is(err, store.ErrNoSuchUpload) {
			return nil // it ended later on
		}
		if err != nil {
			return err
		}
		defer d.uploads.release(m)
		_, err = m.add(&e.part, e.data)
		return err
	}
	return errUnknownKind
}

// sameBucket tells whether a bucket is still the one that a record was about:
// removal of a bucket is no record.
func (d *Driver) sameBucket(name string, identity uint64) bool {
	return validBucket(name) && identity == d.bucketIdentity(name)
}

// upload returns an upload that must exist and be of that key; the caller
// releases it. Errors: store.ErrNoSuchUpload, store.ErrNoSuchBucket.
func (b *bucket) upload(key, id string) (*multipart, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	if !validUploadID(id) {
		return nil, store.ErrNoSuchUpload
	}
	m, err := b.d.uploads.get(b.d, b.name, id, false)
	if err != nil {
		return nil, err
	}
	if m.up.Key != key || m.ended.Load() {
		b.d.uploads.release(m)
		return nil, store.ErrNoSuchUpload
	}
	return m, nil
}

func timeOf(ns int64) time.Time { return time.Unix(0, ns).UTC() }
