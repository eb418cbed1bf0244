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
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	keys  signingKeys
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
	header := r.Header.Get("Authorization")
	kind := queryKind(r.URL.RawQuery)
	if kind != unsigned && header != "" {
		return nil, refuse(CodeInvalidArgument, "sign either in the Authorization header or in the query, not in both",
			Detail{"ArgumentName", "Authorization"}, Detail{"ArgumentValue", schemeOf(header)})
	}
	switch {
	case kind == version4:
		return v.verifyPresigned4(r)
	case kind == version2:
		return v.verifyPresigned2(r)
	case header == "":
		return anonymous(r)
	}
	switch scheme := schemeOf(header); scheme {
	case algorithm4:
		return v.verifyHeader4(r, header[len(scheme):])
	case algorithm2:
		return v.verifyHeader2(r, header[len(scheme):])
	default:
		return nil, refuse(CodeInvalidArgument, "this authorization type is not supported",
			Detail{"ArgumentName", "Authorization"}, Detail{"ArgumentValue", scheme})
	}
}

// schemeOf returns the first word of an Authorization header; never what
// follows it, which may be a secret.
func schemeOf(header string) string {
	scheme, _, _ := strings.Cut(header, " ")
	return scheme
}

// The ways in which a query can be signed.
const (
	unsigned = iota
	version2
	version4
)

// queryKind tells how a query is signed, if at all.
func queryKind(raw string) int {
	if !strings.Contains(raw, "Signature=") && !strings.Contains(raw, "X-Amz-") {
		return unsigned
	}
	var v2 bool
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		switch name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			return version4
		case "Signature", "AWSAccessKeyId":
			v2 = true
		}
	}
	if v2 {
		return version2
	}
	return unsigned
}

// anonymous is the answer for a request that nobody signed. Its payload may
// still have a hash or come in chunks.
func anonymous(r *http.Request) (*Verified, error) {
	v := &Verified{Service: serviceS3}
	hash := r.Header.Get(headerContentSHA256)
	if hash == "" {
		hash = unsignedPayload
	}
	return v, v.setPayload(r, hash, nil)
}

// authenticate looks up who has an access key.
func (v *Verifier) authenticate(r *http.Request, accessKey string) (Identity, Key, error) {
	u, key, err := v.users.ByAccessKey(r.Context(), accessKey)
	if errors.Is(err, ErrNoSuchKey) {
		return Identity{}, Key{}, refuse(CodeInvalidAccessKeyID, "nobody here has this access key",
			Detail{"AWSAccessKeyId", accessKey})
	}
	if err != nil {
		return Identity{}, Key{}, fmt.Errorf("verify: %w", err)
	}
	return Identity{User: u, AccessKey: accessKey}, key, nil
}

// admit refuses suspended users, whose signature was good.
func (id Identity) admit() error {
	if id.User.Suspended {
		return refuse(CodeUserSuspended, "the user is suspended")
	}
	return nil
}
