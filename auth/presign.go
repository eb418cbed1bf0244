package auth

import (
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxExpires is the longest life of a presigned URL, in seconds.
const maxExpires = 7 * 24 * 60 * 60

// presign4 are the parameters of a version 4 query.
type presign4 struct {
	algorithm, credential, date, expires, signedHeaders, signature string
	token, payload                                                 string
}

// verifyPresigned4 verifies a request whose query is signed.
func (v *Verifier) verifyPresigned4(r *http.Request) (*Verified, error) {
	p, err := parsePresign4(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	sig := signature4{
		signedHeaders: p.signedHeaders, signature: p.signature, timestamp: p.date,
		payload: p.payload, presigned: true,
	}
	if err := sig.parseCredential(p.credential); err != nil {
		return nil, err
	}
	if err := v.checkScope(r, &sig); err != nil {
		return nil, err
	}
	if err := v.checkExpiry(&sig, p.expires); err != nil {
		return nil, err
	}
	if p.token != "" || r.Header.Get(headerToken) != "" {
		return nil, errToken()
	}
	return v.verify4(r, &sig)
}

// parsePresign4 collects the parameters; each may be there once.
func parsePresign4(raw string) (*presign4, error) {
	params, err := parseQuery(nil, raw)
	if err != nil {
		return nil, err
	}
	p := new(presign4)
	fields := map[string]*string{
		"X-Amz-Algorithm": &p.algorithm, "X-Amz-Credential": &p.credential, "X-Amz-Date": &p.date,
		"X-Amz-Expires": &p.expires, "X-Amz-SignedHeaders": &p.signedHeaders,
		"X-Amz-Signature": &p.signature, headerToken: &p.token, headerContentSHA256: &p.payload,
	}
	for _, q := range params {
		to, ok := fields[q.name]
		if !ok {
			continue
		}
		if *to != "" {
			return nil, refuse(CodeQueryParameters, q.name+" is given twice")
		}
		*to = q.value
	}
	return p, p.check()
}

func (p *presign4) check() error {
	switch {
	case p.algorithm != algorithm4:
		return refuse(CodeQueryParameters, "X-Amz-Algorithm must be "+algorithm4)
	case p.credential == "" || p.date == "" || p.expires == "" || p.signedHeaders == "" || p.signature == "":
		return refuse(CodeQueryParameters, "a signed query needs X-Amz-Algorithm, X-Amz-Credential, "+
			"X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders and X-Amz-Expires")
	case !isHex(p.signature, sha256.Size):
		return refuse(CodeQueryParameters, "X-Amz-Signature is not 64 hexadecimal digits")
	}
	return nil
}

// checkExpiry compares the time of signing with the scope's and ours.
func (v *Verifier) checkExpiry(s *signature4, expires string) error {
	at, err := time.Parse(layout4, s.timestamp)
	if err != nil || at.Unix() < 0 {
		return refuse(CodeQueryParameters, "X-Amz-Date must have the form YYYYMMDDTHHMMSSZ")
	}
	if !strings.HasPrefix(s.timestamp, s.date) {
		return s.malformed("the credential's date " + s.date + " is not that of X-Amz-Date")
	}
	// A life out of bounds is AccessDenied to RGW, a bad parameter to S3.
	seconds, err := strconv.ParseInt(expires, 10, 64)
	switch {
	case err != nil && !isDigits(expires):
		return refuse(CodeQueryParameters, "X-Amz-Expires must be a number of seconds")
	case err == nil && seconds < 1:
		return refuse(CodeAccessDenied, "X-Amz-Expires must be positive")
	case err != nil || seconds > maxExpires:
		return refuse(CodeAccessDenied, "X-Amz-Expires must not be more than a week (604800 seconds)")
	}
	now := v.opts.Now()
	if at.Sub(now) > v.opts.MaxSkew {
		return refuse(CodeAccessDenied, "Request is not valid yet",
			Detail{"X-Amz-Date", s.timestamp}, Detail{"ServerTime", now.UTC().Format(time.RFC3339)})
	}
	if end := at.Add(time.Duration(seconds) * time.Second); now.After(end) {
		return refuse(CodeAccessDenied, "Request has expired",
			Detail{"X-Amz-Expires", expires},
			Detail{"Expires", end.UTC().Format(time.RFC3339)},
			Detail{"ServerTime", now.UTC().Format(time.RFC3339)})
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
