package store

import "errors"

// Sentinels; those that a client can see are named as S3's error codes.
var (
	ErrNoSuchBucket        = errors.New("no such bucket")
	ErrBucketAlreadyExists = errors.New("bucket already exists")
	ErrBucketNotEmpty      = errors.New("bucket not empty")
	ErrNoSuchKey           = errors.New("no such key")
	ErrNoSuchVersion       = errors.New("no such version")
	ErrNoSuchUpload        = errors.New("no such upload")
	ErrInvalidPart         = errors.New("invalid part")
	ErrKeyTooLong          = errors.New("key longer than 1024 bytes")
	ErrInvalidBucketName   = errors.New("invalid bucket name")
	ErrPreconditionFailed  = errors.New("precondition failed")
	ErrNotModified         = errors.New("not modified")
	ErrNoSpace             = errors.New("no space left")

	// ErrDeleteMarker: the version addressed is a delete marker.
	ErrDeleteMarker = errors.New("delete marker")

	ErrNoSuchRecord   = errors.New("no such record")
	ErrRecordConflict = errors.New("record was changed meanwhile")

	// ErrNoSuchOp: the op did not come true, and never will.
	ErrNoSuchOp = errors.New("no such op")
	// ErrOpBarred: the op was settled as not having happened; it must not.
	ErrOpBarred = errors.New("op was barred")
	// ErrUnknownOutcome: an I/O error came so late that only Outcomes can
	// tell whether the change happened.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrNotSupported: the driver lacks an optional capability.
	ErrNotSupported = errors.New("not supported by this store")
)

// DeleteMarkerError is ErrDeleteMarker with the marker's description.
type DeleteMarkerError struct{ Info *Info }

func (e *DeleteMarkerError) Error() string { return ErrDeleteMarker.Error() }

// Is makes errors.Is(err, ErrDeleteMarker) true.
func (e *DeleteMarkerError) Is(target error) bool { return target == ErrDeleteMarker }
