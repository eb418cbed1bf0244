package s3api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"herald/auth"
	"herald/notify"
	"herald/store"
)

// code is an S3 error code. It is an error by itself, so that a handler whose
// answer needs nothing more returns the code alone.
type code string

// Error returns the code.
func (c code) Error() string { return string(c) }

// descriptor is what the table says of a code.
type descriptor struct {
	status  int
	message string // for the client, unless the apiError has its own
	// names tells which of the request's names the answer repeats.
	names nameDetail
}

// nameDetail selects the elements with the request's own names in an error
// document.
type nameDetail uint8

const (
	nameBucket  nameDetail = 1 << iota // <BucketName>
	nameKey                            // <Key>
	nameVersion                        // <VersionId>
)

// detail is one more element of an error document.
type detail struct{ name, value string }

// apiError is an error with what the client is told beside its code. The cause
// goes to the log only.
type apiError struct {
	code    code
	message string // "": the table's
	details []detail
	headers []detail
	cause   error
}

// Error returns code and message, and the cause for the log.
func (e *apiError) Error() string {
	s := string(e.code)
	if e.message != "" {
		s += ": " + e.message
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *apiError) Unwrap() error { return e.cause }

// fail makes an error with a message of its own.
func fail(c code, format string, args ...any) *apiError {
	return &apiError{code: c, message: fmt.Sprintf(format, args...)}
}

// failWith makes an error that has a cause, which only the log shows. The
// client sees the table's message.
func failWith(c code, cause error) *apiError { return &apiError{code: c, cause: cause} }

// with adds an element to the error document.
func (e *apiError) with(name, value string) *apiError {
	e.details = append(e.details, detail{name, value})
	return e
}

// has tells whether the error document has an element already.
func (e *apiError) has(name string) bool {
	return slices.ContainsFunc(e.details, func(d detail) bool { return d.name == name })
}

// header adds a header to the answer, in canonical form.
func (e *apiError) header(name, value string) *apiError {
	e.headers = append(e.headers, detail{name, value})
	return e
}

// invalidArgument is InvalidArgument with the argument's name and value, as S3
// reports them.
func invalidArgument(name, value, format string, args ...any) *apiError {
	return fail(codeInvalidArgument, format, args...).
		with("ArgumentName", name).with("ArgumentValue", value)
}

// sentinels maps the errors of the packages below to codes.
var sentinels = []struct {
	err  error
	code code
}{
	{store.ErrNoSuchKey, codeNoSuchKey},
	{store.ErrPreconditionFailed, codePreconditionFailed},
	{store.ErrNotModified, codeNotModified},
	{store.ErrNoSuchBucket, codeNoSuchBucket},
	{store.ErrNoSuchVersion, codeNoSuchVersion},
	{store.ErrNoSuchUpload, codeNoSuchUpload},
	{store.ErrInvalidPart, codeInvalidPart},
	{store.ErrBucketAlreadyExists, codeBucketAlreadyExists},
	{store.ErrBucketNotEmpty, codeBucketNotEmpty},
	{store.ErrInvalidBucketName, codeInvalidBucketName},
	{store.ErrKeyTooLong, codeKeyTooLong},
	{store.ErrDeleteMarker, codeNoSuchKey},
	{store.ErrNoSpace, codeInsufficientStorage},
	{store.ErrNotSupported, codeNotImplemented},
	{store.ErrOpBarred, codeServiceUnavailable},
	{store.ErrRecordConflict, codeOperationAborted},
	{notify.ErrFull, codeSlowDown},
	{notify.ErrTooManyListeners, codeSlowDown},
	{notify.ErrEventGone, codeEventGone},
	{notify.ErrNoSuchTopic, codeNotFound},
	{notify.ErrNoSuchNotification, codeNoSuchKey},
	{notify.ErrInvalidTopicName, codeInvalidArgument},
	{notify.ErrInvalidEndpoint, codeInvalidArgument},
	{notify.ErrInvalidAttribute, codeInvalidArgument},
	{notify.ErrInvalidARN, codeInvalidArgument},
	{notify.ErrUnknownEvent, codeInvalidArgument},
	{notify.ErrInvalidFilter, codeInvalidArgument},
	{io.ErrUnexpectedEOF, codeIncompleteBody},
	{os.ErrDeadlineExceeded, codeRequestTimeout},
	{context.Canceled, codeClientClosed},
	{context.DeadlineExceeded, codeServiceUnavailable},
}

// describe turns any error into what the client is told: the error table is
// the only source of codes, statuses and messages. What nobody foresaw is
// InternalError.
func describe(err error) (*apiError, descriptor) {
	e := asAPIError(err)
	d, ok := errorTable[e.code]
	if !ok {
		e = failWith(codeInternalError, err)
		d = errorTable[codeInternalError]
	}
	if e.message == "" {
		e.message = d.message
	}
	return e, d
}

// asAPIError returns a copy that the caller may change.
func asAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		c := *e
		if c.cause == nil && error(e) != err {
			c.cause = err
		}
		return &c
	}
	var c code
	if errors.As(err, &c) {
		return failWith(c, err)
	}
	var a *auth.Error
	if errors.As(err, &a) {
		e := &apiError{code: code(a.Code), message: a.Message, cause: err}
		for _, d := range a.Details {
			e.details = append(e.details, detail{d.Name, d.Value})
		}
		return e
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return failWith(codeMaxMessageLengthExceeded, err)
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return failWith(s.code, err)
		}
	}
	return failWith(codeInternalError, err)
}
