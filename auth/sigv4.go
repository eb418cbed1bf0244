package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm4  = "AWS4-HMAC-SHA256"
	terminator4 = "aws4_request"
	layout4     = "20060102T150405Z" // ISO 8601, basic

	serviceS3  = "s3"
	serviceSNS = "sns"

	headerContentSHA256 = "X-Amz-Content-Sha256"
	headerDate          = "X-Amz-Date"
	headerToken         = "X-Amz-Security-Token"

	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// signature4 is a version 4 signature as a request carries it.
type signature4 struct {
	accessKey string
	scope     string // "20060102/region/service/aws4_request"
	date      string // the parts of scope
	region    string
	service   string

	signedHeaders string // names, lower case, separated by ';'
	signature     string // 64 hexadecimal digits
	timestamp     string // in layout4
	payload       string // hash, or one of its stand-ins
	presigned     bool
}

// malformed4 is a refusal of a signature's form: header and query have their
// own codes.
func (s *signature4) malformed(message string, details ...Detail) *Error {
	if s.presigned {
		return refuse(CodeQueryParameters, message, details...)
	}
	return refuse(CodeHeaderMalformed, message, details...)
}

// verifyHeader4 verifies a request with "Authorization: AWS4-HMAC-SHA256
// fields".
func (v *Verifier) verifyHeader4(r *http.Request, fields string) (*Verified, error) {
	var sig signature4
	if err := sig.parseFields(fields); err != nil {
		return nil, err
	}
	if err := v.checkScope(r, &sig); err != nil {
		return nil, err
	}
	if err := v.checkTime(r, &sig); err != nil {
		return nil, err
	}
	if r.Header.Get(headerToken) != "" {
		return nil, errToken()
	}
	return v.verify4(r, &sig)
}

func errToken() *Error {
	return refuse(CodeInvalidToken, "the session token is not known here")
}

// parseFields reads "Credential=..., SignedHeaders=..., Signature=...", in any
// order.
func (s *signature4) parseFields(fields string) error {
	var credential string
	for field := range strings.SplitSeq(fields, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &s.signedHeaders
		case "Signature":
			to = &s.signature
		}
		if !ok || to == nil || *to != "" || value == "" {
			return s.malformed("the Authorization header needs Credential, SignedHeaders and Signature, once each")
		}
		*to = value
	}
	if credential == "" || s.signedHeaders == "" || s.signature == "" {
		return s.malformed("the Authorization header needs Credential, SignedHeaders and Signature, once each")
	}
	if !isHex(s.signature, sha256.Size) {
		return s.malformed("the signature is not 64 hexadecimal digits")
	}
	return s.parseCredential(credential)
}

// parseCredential reads "access key/date/region/service/aws4_request".
func (s *signature4) parseCredential(credential string) error {
	rest, last, ok4 := cutLast(credential)
	rest, service, ok3 := cutLast(rest)
	rest, region, ok2 := cutLast(rest)
	accessKey, date, ok1 := cutLast(rest)
	if !ok1 || !ok2 || !ok3 || !ok4 || accessKey == "" {
		return s.malformed("the credential does not have the form KEY/DATE/REGION/SERVICE/aws4_request")
	}
	if last != terminator4 {
		return s.malformed("the credential does not end with aws4_request")
	}
	if len(date) != len("20060102") {
		return s.malformed("the credential's date does not have the form YYYYMMDD")
	}
	s.accessKey, s.date, s.region, s.service = accessKey, date, region, service
	s.scope = credential[len(accessKey)+1:]
	return nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func isHex(s string, bytes int) bool {
	if len(s) != 2*bytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func (v *Verifier) checkScope(r *http.Request, s *signature4) error {
	if want := v.opts.Region; want != "" && s.region != want {
		return s.malformed("the region '"+s.region+"' is wrong; expecting '"+want+"'", Detail{"Region", want})
	}
	// All that sns serves are forms for the root; see readForm.
	isForm := r.Method == http.MethodPost && (r.URL.Path == "/" || r.URL.Path == "")
	if s.service != serviceS3 && (s.service != serviceSNS || !isForm) {
		return s.malformed("the service '" + s.service + "' is not served here; expecting 's3', or 'sns' for forms")
	}
	return nil
}

// checkTime finds the time of a header-signed request, and compares it with
// the scope's and with ours.
func (v *Verifier) checkTime(r *http.Request, s *signature4) error {
	var at time.Time
	var err error
	if text := r.Header.Get(headerDate); text != "" {
		at, err = time.Parse(layout4, text)
		s.timestamp = text
	} else {
		at, err = parseDate(r.Header.Get("Date"))
		s.timestamp = at.UTC().Format(layout4)
	}
	if err != nil || at.Unix() < 0 {
		return errDate()
	}
	if s.timestamp[:len(s.date)] != s.date {
		return s.malformed("the credential's date " + s.date + " is not that of the request, " + s.timestamp[:len(s.date)])
	}
	return v.checkSkew(at)
}

func errDate() *Error {
	return refuse(CodeAccessDenied, "a signed request needs a valid Date or x-amz-date header")
}

// parseDate reads the forms of a Date header, and that of x-amz-date.
func parseDate(text string) (time.Time, error) {
	at, err := http.ParseTime(text)
	if err == nil {
		return at, nil
	}
	for _, layout := range [...]string{time.RFC1123Z, layout4, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, err
}

func (v *Verifier) checkSkew(at time.Time) error {
	now := v.opts.Now()
	if d := now.Sub(at); d <= v.opts.MaxSkew && d >= -v.opts.MaxSkew {
		return nil
	}
	return refuse(CodeRequestTimeTooSkewed, "the request's time is too far from the gateway's",
		Detail{"RequestTime", at.UTC().Format(layout4)},
		Detail{"ServerTime", now.UTC().Format(time.RFC3339)},
		Detail{"MaxAllowedSkewMilliseconds", strconv.FormatInt(v.opts.MaxSkew.Milliseconds(), 10)})
}

// verify4 verifies a signature whose form, scope and time are good.
func (v *Verifier) verify4(r *http.Request, sig *signature4) (*Verified, error) {
	id, key, err := v.authenticate(r, sig.accessKey)
	if err != nil {
		return nil, err
	}
	out := &Verified{Identity: id, Service: sig.service, Presigned: sig.presigned}
	body, err := sig.findPayload(r)
	if err != nil {
		return nil, err
	}
	c, err := newCanonical(r, sig)
	if err != nil {
		return nil, err
	}
	defer c.free()
	signingKey, cached := v.keys.get(key, sig)
	if err := c.match(signingKey); err != nil {
		return nil, err
	}
	if !cached {
		v.keys.remember(key, sig, signingKey)
	}
	if err := id.admit(); err != nil {
		return nil, err
	}
	if body != nil {
		out.Body, out.DecodedLength, out.PayloadSigned = body, int64(body.Len()), true
		return out, nil
	}
	var chain *chunkChain
	if sig.payload == streamSigned || sig.payload == streamSignedTrailer {
		chain = &chunkChain{key: *signingKey, timestamp: sig.timestamp, scope: sig.scope, previous: sig.signature}
	}
	out.PayloadSigned = chain != nil || isLiteral(sig.payload)
	return out, out.setPayload(r, sig.payload, chain)
}

// findPayload finds what stands for the payload in the canonical request.
// When it had to read the body for that it returns it.
func (s *signature4) findPayload(r *http.Request) (*strings.Reader, error) {
	if s.payload == "" {
		s.payload = r.Header.Get(headerContentSHA256)
	}
	switch {
	case s.payload != "":
		return nil, nil
	case s.service == serviceS3 && s.presigned:
		s.payload = unsignedPayload
		return nil, nil
	case s.service == serviceS3:
		return nil, refuse(CodeInvalidRequest, "a signed request needs the header x-amz-content-sha256")
	case r.ContentLength == 0:
		s.payload = emptySHA256
		return nil, nil
	}
	text, err := readForm(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(text))
	s.payload = hex.EncodeToString(sum[:])
	return strings.NewReader(text), nil
}

// readForm reads a body that must be hashed before its sender is known.
func readForm(r *http.Request) (string, error) {
	tooLarge := refuse(CodeEntityTooLarge, "the form is longer than 1 MiB")
	if r.ContentLength > MaxFormBody {
		return "", tooLarge
	}
	var b strings.Builder
	n, err := io.Copy(&b, io.LimitReader(r.Body, MaxFormBody+1))
	if err != nil {
		return "", bodyError(err)
	}
	if n > MaxFormBody {
		return "", tooLarge
	}
	return b.String(), nil
}

// equalSignatures compares in a time that does not tell where they differ.
func equalSignatures(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
