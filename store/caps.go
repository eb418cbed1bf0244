package store

import (
	"context"
	"time"
)

// Uploads is the optional capability of a Bucket to take multipart uploads.
// Service asserts it, in one place.
type Uploads interface {
	// CreateUpload begins an upload; id is chosen by the caller (unique,
	// letters and digits) and attrs are kept for it until it completes.
	CreateUpload(ctx context.Context, u Upload) error
	// CreatePart begins one part. Committing it replaces a part of that
	// number; of CommitOptions only ETag and Attrs (the part's checksums)
	// count. Errors: ErrNoSuchUpload (also from Commit).
	CreatePart(ctx context.Context, key, uploadID string, number int, hint CreateHint) (Writer, error)
	// ListParts returns the upload and its parts with numbers above after, in
	// order, at most max, and whether there are more. Errors: ErrNoSuchUpload.
	ListParts(ctx context.Context, key, uploadID string, after, max int) (*Upload, []Part, bool, error)
	// ListUploads lists uploads by key, then by time of initiation; see
	// UploadListOptions.
	ListUploads(ctx context.Context, opts UploadListOptions) (*UploadPage, error)
	// Complete makes one object of the given parts, in their order. Sizes,
	// order and ETags were checked against ListParts by the caller; Complete
	// answers ErrInvalidPart if a part was replaced (another ETag) or is gone.
	// It removes the upload in the same atomic step. Errors: as
	// Writer.Commit, and ErrNoSuchUpload.
	Complete(ctx context.Context, key, uploadID string, parts []CompletedPart, opts CommitOptions) (Outcome, error)
	// AbortUpload drops an upload and its parts. Errors: ErrNoSuchUpload.
	AbortUpload(ctx context.Context, key, uploadID string) error
}

// Upload is a multipart upload that was begun.
type Upload struct {
	Key       string
	ID        string
	Initiated time.Time
	// Attrs are those the object will have, and the gateway's own notes on
	// the upload.
	Attrs Attrs
}

// Part is one uploaded part.
type Part struct {
	Number  int // 1 to 10000
	Size    int64
	ETag    string
	ModTime time.Time
	Attrs   Attrs
}

// CompletedPart names a part in Complete.
type CompletedPart struct {
	Number int
	ETag   string
}

// UploadListOptions selects a page of uploads: those after (KeyMarker,
// UploadIDMarker) in the order of key, then initiation; with an empty
// UploadIDMarker after all uploads of KeyMarker.
type UploadListOptions struct {
	Prefix, Delimiter         string
	KeyMarker, UploadIDMarker string
	Max                       int
}

// UploadPage is a page of uploads.
type UploadPage struct {
	Uploads            []Upload
	CommonPrefixes     []string
	Truncated          bool
	NextKeyMarker      string
	NextUploadIDMarker string
}

// Sharer is the optional capability of a Writer to refer to the bytes of another
// object rather than to copy them.
type Sharer interface {
	// Share takes length bytes from off of a Reader, if it can do so without
	// reading them: nothing was written yet, it is a Reader of the same driver,
	// and the bytes can be shared. Else it answers false, and has done nothing.
	// What is written afterwards follows them.
	Share(src Reader, off, length int64) (bool, error)
}

// Compressor is the optional capability of a Driver to keep objects compressed.
type Compressor interface {
	// Compressions are the values that CreateHint.Compression may have besides
	// "".
	Compressions() []string
}

// Checker is the optional capability of a Driver to answer for its health:
// nil when it can serve reads and writes.
type Checker interface {
	Check(ctx context.Context) error
}
