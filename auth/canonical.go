package auth

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// param is one parameter of a query, decoded.
type param struct {
	name, value string
}

// parseQuery splits a raw query. Only '&' separates; '+' is a blank.
// Errors: *Error (InvalidURI).
func parseQuery(to []param, raw string) ([]param, error) {
	for len(raw) > 0 {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return to, refuse(CodeInvalidURI, "the query holds a bad percent escape")
		}
		to = append(to, param{name, value})
	}
	return to, nil
}

// canonical builds the canonical request and what is signed of it. It is
// recycled.
type canonical struct {
	r       *http.Request
	sig     *signature4
	params  []param
	encoded []param  // params as they stand in the canonical query
	asSent  bool     // values of one name in the order in which they were sent
	names   []string // signed headers
	request []byte   // the canonical request
	toSign  []byte
}

// A canonical that grew beyond this many bytes is not recycled.
const maxRecycled = 64 << 10

var canonicals = sync.Pool{New: func() any { return new(canonical) }}

// newCanonical prepares to check r against sig.
// Errors: *Error.
func newCanonical(r *http.Request, sig *signature4) (*canonical, error) {
	c := canonicals.Get().(*canonical)
	c.r, c.sig = r, sig
	var err error
	if c.params, err = parseQuery(c.params[:0], r.URL.RawQuery); err != nil {
		c.free()
		return nil, err
	}
	c.names = c.names[:0]
	for name := range strings.SplitSeq(sig.signedHeaders, ";") {
		c.names = append(c.names, name)
	}
	if err := c.checkHeaders(); err != nil {
		c.free()
		return nil, err
	}
	return c, nil
}

func (c *canonical) free() {
	c.r, c.sig = nil, nil
	clear(c.params)
	clear(c.encoded)
	clear(c.names)
	if cap(c.request) <= maxRecycled {
		canonicals.Put(c)
	}
}

// checkHeaders holds a request to S3's rules: host is signed, and every
// x-amz-* header that is there.
func (c *canonical) checkHeaders() error {
	if !c.signs("host") {
		return c.sig.malformed("the host header must be signed")
	}
	var missing []string
	for name := range c.r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !c.signs(name) {
			missing = append(missing, strings.ToLower(name))
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	list := strings.Join(missing, ", ")
	return refuse(CodeAccessDenied, "these headers are in the request but were not signed: "+list,
		Detail{"HeadersNotSigned", list})
}

// signs tells whether a header is among the signed ones.
func (c *canonical) signs(name string) bool {
	for _, n := range c.names {
		if len(n) == len(name) && strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// match compares the signature with the one that the key gives. Errors: *Error
// (SignatureDoesNotMatch).
func (c *canonical) match(key *[sha256.Size]byte) error {
	now := c.r.Header["Accept-Encoding"]
	c.asSent = false
	c.build(now, "")
	if c.verify(key) {
		return nil
	}
	refusal := c.mismatch()
	// minio-go sorts the query by names alone: it matters to what has several
	// values, as the events of ListenBucketNotification have.
	if c.repeats() {
		c.asSent = true
		c.build(now, "")
		if c.verify(key) {
			return nil
		}
		c.asSent = false
	}
	// Plain signers sign the path as they send it, when that is not the way
	// in which S3 would escape it.
	if sent := c.r.URL.EscapedPath(); sent != string(appendEscaped(nil, c.r.URL.Path, true)) {
		c.build(now, sent)
		if c.verify(key) {
			return nil
		}
	}
	if !c.signs("accept-encoding") {
		return refusal
	}
	// Proxies rewrite Accept-Encoding: they append to it ("gzip(gfe)") or
	// put in their own. What the SDKs send is known.
	for _, was := range originalEncodings(c.r.Header.Get("Accept-Encoding")) {
		c.build([]string{was}, "")
		if c.verify(key) {
			return nil
		}
	}
	return refusal
}

// originalEncodings lists what Accept-Encoding may have been before a proxy
// rewrote it: its first element, and what SDKs send.
func originalEncodings(now string) []string {
	first, _, _ := strings.Cut(now, ",")
	was := []string{strings.TrimSpace(first), "identity", "gzip"}
	return slices.DeleteFunc(was, func(s string) bool { return s == now || s == "" })
}

func (c *canonical) verify(key *[sha256.Size]byte) bool {
	sum := sha256.Sum256(c.request)
	b := append(c.toSign[:0], algorithm4+"\n"...)
	b = append(b, c.sig.timestamp...)
	b = append(b, '\n')
	b = append(b, c.sig.scope...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, sum[:])
	c.toSign = b
	mac := hmacSum(key, b)
	var want [2 * sha256.Size]byte
	hex.Encode(want[:], mac[:])
	return equalSignatures(string(want[:]), c.sig.signature)
}

// mismatch tells the client what we signed, so that it can find the
// difference.
func (c *canonical) mismatch() error {
	message := "the signature is not the one that the gateway calculates from the request and the secret key"
	var missing []string
	for _, name := range c.names {
		if _, ok := c.value(name, nil); !ok {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		message += "; signed headers that did not arrive: " + strings.Join(missing, ", ")
	}
	return refuse(CodeSignatureDoesNotMatch, message,
		Detail{"AWSAccessKeyId", c.sig.accessKey},
		Detail{"StringToSign", string(c.toSign)},
		Detail{"SignatureProvided", c.sig.signature},
		Detail{"CanonicalRequest", string(c.request)})
}

// build writes the canonical request, with the given Accept-Encoding and, if
// it is not empty, the given path.
func (c *canonical) build(acceptEncoding []string, path string) {
	b := append(c.request[:0], c.r.Method...)
	b = append(b, '\n')
	if path != "" {
		b = append(b, path...)
	} else {
		b = c.appendPath(b)
	}
	b = append(b, '\n')
	b = c.appendQuery(b)
	b = append(b, '\n')
	for _, name := range c.names {
		b = appendLower(b, name)
		b = append(b, ':')
		values, _ := c.value(name, acceptEncoding)
		for i, v := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFolded(b, v)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, c.sig.signedHeaders...)
	b = append(b, '\n')
	c.request = append(b, c.sig.payload...)
}

// appendPath encodes the path: once for S3, whose keys are not normalised,
// twice for the other services.
func (c *canonical) appendPath(b []byte) []byte {
	path := c.r.URL.Path
	if path == "" {
		path = "/"
	}
	if c.sig.service != serviceS3 {
		path = string(appendEscaped(nil, path, true))
	}
	return appendEscaped(b, path, true)
}

// appendQuery writes the parameters, encoded, in the order of encoded names,
// then values; without the signature itself.
func (c *canonical) appendQuery(b []byte) []byte {
	c.encoded = c.encoded[:0]
	if len(c.params) == 0 {
		return b
	}
	for _, p := range c.params {
		if c.sig.presigned && p.name == "X-Amz-Signature" {
			continue
		}
		c.encoded = append(c.encoded, param{escape(p.name), escape(p.value)})
	}
	slices.SortStableFunc(c.encoded, func(a, b param) int {
		if d := strings.Compare(a.name, b.name); d != 0 || c.asSent {
			return d
		}
		return cmp.Compare(a.value, b.value)
	})
	for i, p := range c.encoded {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// repeats tells whether a parameter has several values. The canonical query was
// built.
func (c *canonical) repeats() bool {
	for i := 1; i < len(c.encoded); i++ {
		if c.encoded[i].name == c.encoded[i-1].name {
			return true
		}
	}
	return false
}

// value returns the values of a signed header, also of those that net/http
// keeps apart.
func (c *canonical) value(name string, acceptEncoding []string) ([]string, bool) {
	switch {
	case strings.EqualFold(name, "host"):
		return []string{c.r.Host}, true
	case strings.EqualFold(name, "accept-encoding") && acceptEncoding != nil:
		return acceptEncoding, true
	case strings.EqualFold(name, "transfer-encoding"):
		return c.r.TransferEncoding, len(c.r.TransferEncoding) > 0
	}
	if values, ok := c.r.Header[headerKey(name)]; ok {
		return values, true
	}
	if strings.EqualFold(name, "content-length") && c.r.ContentLength >= 0 {
		return []string{strconv.FormatInt(c.r.ContentLength, 10)}, true
	}
	return nil, false
}

// headerKey is http.CanonicalHeaderKey, without allocating for the names that
// today's clients sign.
func headerKey(name string) string {
	switch name {
	case "x-amz-content-sha256":
		return headerContentSHA256
	case "x-amz-date":
		return headerDate
	case "x-amz-decoded-content-length":
		return headerDecodedLength
	case "x-amz-trailer":
		return headerTrailer
	case "x-amz-sdk-checksum-algorithm":
		return "X-Amz-Sdk-Checksum-Algorithm"
	case "x-amz-checksum-crc32":
		return "X-Amz-Checksum-Crc32"
	case "x-amz-checksum-mode":
		return "X-Amz-Checksum-Mode"
	case "amz-sdk-invocation-id":
		return "Amz-Sdk-Invocation-Id"
	case "amz-sdk-request":
		return "Amz-Sdk-Request"
	}
	return http.CanonicalHeaderKey(name)
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendFolded trims a header's value and folds runs of blanks.
func appendFolded(b []byte, s string) []byte {
	s = strings.TrimSpace(s)
	for {
		i := strings.Index(s, "  ")
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i+1]...)
		s = strings.TrimLeft(s[i:], " ")
	}
}

const upperHex = "0123456789ABCDEF"

func unreserved(c byte) bool {
	return isAlnum(c) || c == '-' || c == '_' || c == '.' || c == '~'
}

// escape encodes all but the unreserved characters of RFC 3986.
func escape(s string) string {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return string(appendEscaped(nil, s, false))
		}
	}
	return s
}

// appendEscaped appends s, escaped; slashes of a path stay.
func appendEscaped(b []byte, s string, path bool) []byte {
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || path && c == '/' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', upperHex[c>>4], upperHex[c&15])
	}
	return b
}
