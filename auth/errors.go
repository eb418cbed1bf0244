package auth

import "errors"

// Sentinels of Users.
var (
	ErrNoSuchUser = errors.New("no such user")
	ErrUserExists = errors.New("user already exists")
	ErrNoSuchKey  = errors.New("no such access key")
	ErrKeyExists  = errors.New("access key already exists")
	ErrInvalidKey = errors.New("invalid access or secret key")
	ErrInvalidID  = errors.New("invalid user id")

	ErrNoSuchAccount = errors.New("no such account")
	ErrAccountExists = errors.New("account already exists")
)

// The S3 error codes of this package's errors.
const (
	CodeAccessDenied          = "AccessDenied"
	CodeAmbiguousEmail        = "AmbiguousGrantByEmailAddress"
	CodeHeaderMalformed       = "AuthorizationHeaderMalformed"
	CodeQueryParameters       = "AuthorizationQueryParametersError"
	CodeIncompleteBody        = "IncompleteBody"
	CodeInvalidAccessKeyID    = "InvalidAccessKeyId"
	CodeInvalidArgument       = "InvalidArgument"
	CodeInvalidChunkSize      = "InvalidChunkSizeError"
	CodeInvalidPolicyDocument = "InvalidPolicyDocument"
	CodeInvalidRequest        = "InvalidRequest"
	CodeInvalidToken          = "InvalidToken"
	CodeInvalidURI            = "InvalidURI"
	CodeLimitExceeded         = "LimitExceeded"
	CodeMalformedPolicy       = "MalformedPolicyDocument"
	CodeMalformedTrailer      = "MalformedTrailerError"
	CodeMissingContentLength  = "MissingContentLength"
	CodeNotImplemented        = "NotImplemented"
	CodeRequestTimeTooSkewed  = "RequestTimeTooSkewed"
	CodeSHA256Mismatch        = "XAmzContentSHA256Mismatch"
	CodeSignatureDoesNotMatch = "SignatureDoesNotMatch"
	CodeUnresolvableEmail     = "UnresolvableGrantByEmailAddress"
	CodeUserSuspended         = "UserSuspended"
	CodeEntityTooLarge        = "EntityTooLarge"
)

// Error is a refusal that the client may see in full.
type Error struct {
	Code    string   // S3's error code
	Message string   // for people
	Details []Detail // further elements of the error document, in order
}

// Detail is one further element of an error document.
type Detail struct{ Name, Value string }

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is makes errors.Is(err, &Error{Code: c}) true for errors of that code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

func refuse(code, message string, details ...Detail) *Error {
	return &Error{Code: code, Message: message, Details: details}
}
