package auth

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // version 2 is defined with it
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// algorithm2 is the scheme of version 2, which RGW's own tests sign their
// topic requests with, and old clients everything.
const algorithm2 = "AWS"

// verifyHeader2 verifies "Authorization: AWS accesskey:signature".
func (v *Verifier) verifyHeader2(r *http.Request, fields string) (*Verified, error) {
	accessKey, signature, ok := strings.Cut(strings.TrimSpace(fields), ":")
	if !ok || accessKey == "" || signature == "" {
		return nil, refuse(CodeInvalidArgument, "the Authorization header does not have the form AWS KEY:SIGNATURE",
			Detail{"ArgumentName", "Authorization"})
	}
	date := r.Header.Get("Date")
	signed := date
	if amz, ok := r.Header[headerDate]; ok {
		date, signed = amz[0], "" // it is among the x-amz- headers
	}
	at, err := parseDate(date)
	if err != nil || at.Unix() < 0 {
		return nil, errDate()
	}
	if err := v.checkSkew(at); err != nil {
		return nil, err
	}
	return v.verify2(r, accessKey, signature, signed, false)
}

// verifyPresigned2 verifies ?AWSAccessKeyId=&Expires=&Signature=.
func (v *Verifier) verifyPresigned2(r *http.Request) (*Verified, error) {
	params, err := parseQuery(nil, r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	var accessKey, expires, signature string
	for _, p := range params {
		switch p.name {
		case "AWSAccessKeyId":
			accessKey = p.value
		case "Expires":
			expires = p.value
		case "Signature":
			signature = p.value
		}
	}
	if accessKey == "" || expires == "" || signature == "" {
		return nil, refuse(CodeAccessDenied, "a signed query needs Signature, Expires and AWSAccessKeyId")
	}
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return nil, refuse(CodeAccessDenied, "Expires must be a number of seconds since 1970")
	}
	if now := v.opts.Now(); now.Unix() > seconds {
		return nil, refuse(CodeAccessDenied, "Request has expired",
			Detail{"Expires", time.Unix(min(seconds, 1<<40), 0).UTC().Format(time.RFC3339)},
			Detail{"ServerTime", now.UTC().Format(time.RFC3339)})
	}
	return v.verify2(r, accessKey, signature, expires, true)
}

// verify2 verifies a signature whose form and time are good. date is what
// stands in the date's line of what is signed.
func (v *Verifier) verify2(r *http.Request, accessKey, signature, date string, presigned bool) (*Verified, error) {
	if r.Header.Get(headerToken) != "" {
		return nil, errToken()
	}
	id, key, err := v.authenticate(r, accessKey)
	if err != nil {
		return nil, err
	}
	params, err := parseQuery(nil, r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	headers := r.Header
	if presigned {
		if headers, err = withQueryHeaders2(headers, params); err != nil {
			return nil, err
		}
	}
	var toSign string // of the path as it was sent
	good := false
	for _, path := range slices.Backward(paths2(r.URL)) {
		toSign = v.stringToSign2(r, headers, params, date, path)
		good = good || equalSignatures(sign2(key.SecretKey, toSign), signature)
	}
	if !good || ambiguous2(params) || presigned && listens(params) {
		return nil, refuse(CodeSignatureDoesNotMatch,
			"the signature is not the one that the gateway calculates from the request and the secret key",
			Detail{"AWSAccessKeyId", accessKey}, Detail{"StringToSign", toSign},
			Detail{"SignatureProvided", signature})
	}
	if err := id.admit(); err != nil {
		return nil, err
	}
	out := &Verified{Identity: id, Service: serviceS3, Presigned: presigned}
	hash := r.Header.Get(headerContentSHA256)
	if hash == "" {
		hash = unsignedPayload
	}
	return out, out.setPayload(r, hash, nil)
}

// paths2 lists the forms of a path that clients sign: as it was sent, escaped
// as S3 would, and that of a bucket with a slash at its end (botocore).
func paths2(u *url.URL) []string {
	sent := u.EscapedPath()
	list := []string{sent}
	if canonical := string(appendEscaped(nil, u.Path, true)); canonical != sent {
		list = append(list, canonical)
	}
	if len(u.Path) > 1 && strings.LastIndexByte(u.Path, '/') == 0 {
		list = append(list, sent+"/")
	}
	return list
}

func sign2(secret, toSign string) string {
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(toSign))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// stringToSign2: method, Content-MD5, Content-Type, date, x-amz- headers,
// resource.
func (v *Verifier) stringToSign2(r *http.Request, headers http.Header, params []param, date, path string) string {
	var b strings.Builder
	for _, line := range [...]string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date} {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	amzHeaders2(&b, headers)
	if bucket := HostBucket(r.Host, v.opts.Domains); bucket != "" {
		b.WriteString("/" + bucket)
	}
	if path == "" {
		path = "/"
	}
	b.WriteString(path)
	subresources2(&b, params)
	return b.String()
}

// withQueryHeaders2 adds to the headers those x-amz- headers that a presigned
// URL carries as parameters: signers of version 2 put them there and sign them
// as headers. A real header goes first. Errors: *Error.
func withQueryHeaders2(h http.Header, params []param) (http.Header, error) {
	all := h
	for _, p := range params {
		if len(p.name) < 6 || !strings.EqualFold(p.name[:6], "x-amz-") {
			continue
		}
		name := http.CanonicalHeaderKey(p.name)
		switch {
		case name == headerToken:
			return nil, errToken()
		case strings.ContainsAny(p.name, ": \r\n"), strings.ContainsAny(p.value, "\r\n"):
			return nil, refuse(CodeSignatureDoesNotMatch, "a header among the parameters is malformed")
		case len(h[name]) > 0:
			continue
		}
		if len(all) == len(h) {
			all = h.Clone()
		}
		all[name] = append(all[name], p.value)
	}
	return all, nil
}

// ambiguous2 tells whether a parameter's value would look like further
// parameters in what version 2 signs, where values stand as they are. The
// signer may have meant those.
func ambiguous2(params []param) bool {
	for _, p := range params {
		if !signed2(p.name) {
			continue
		}
		_, rest, more := strings.Cut(p.value, "&")
		for more {
			var part string
			part, rest, more = strings.Cut(rest, "&")
			if name, _, _ := strings.Cut(part, "="); signed2(name) {
				return true
			}
		}
	}
	return false
}

// listens tells whether a query asks for live events, which version 2 does not
// sign: whoever has a URL for a listing could add it.
func listens(params []param) bool {
	return slices.ContainsFunc(params, func(p param) bool { return p.name == "events" })
}

func amzHeaders2(b *strings.Builder, h http.Header) {
	var names []string
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for _, name := range names {
		b.WriteString(strings.ToLower(name) + ":")
		for i, value := range h[name] {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.TrimSpace(value))
		}
		b.WriteByte('\n')
	}
}

// subresources2 appends the parameters that version 2 signs, in the order of
// their names, values as they are.
func subresources2(b *strings.Builder, params []param) {
	kept := slices.DeleteFunc(slices.Clone(params), func(p param) bool { return !signed2(p.name) })
	slices.SortStableFunc(kept, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i, p := range kept {
		if i == 0 {
			b.WriteByte('?')
		} else {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		if p.value != "" {
			b.WriteString("=" + p.value)
		}
	}
}

// signed2 tells whether version 2 signs a parameter: the sub-resources of
// S3's, RGW's and botocore's lists, and the response overrides.
func signed2(name string) bool {
	switch name {
	case "accelerate", "acl", "analytics", "cors", "delete", "encryption", "inventory", "lifecycle",
		"location", "logging", "metrics", "notification", "object-lock", "partNumber", "policy",
		"policyStatus", "publicAccessBlock", "replication", "requestPayment", "restore", "select",
		"select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId",
		"versioning", "versions", "website",
		"response-cache-control", "response-content-disposition", "response-content-encoding",
		"response-content-language", "response-content-type", "response-expires":
		return true
	}
	return false
}

// HostBucket returns the bucket that a host of the form BUCKET.DOMAIN names,
// in lower case, or "". Of nested domains the longest counts; a host that is
// one of the domains names no bucket.
func HostBucket(host string, domains []string) string {
	if len(domains) == 0 {
		return ""
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	bucket, longest := "", -1
	for _, d := range domains {
		n := len(host) - len(d)
		switch {
		case len(d) <= longest || n < 0 || !strings.EqualFold(host[n:], d):
		case n == 0:
			return ""
		case n > 1 && host[n-1] == '.':
			bucket, longest = host[:n-1], len(d)
		}
	}
	return strings.ToLower(bucket)
}
