package auth

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // version 2 is defined with it
	"encoding/base64"
	"net"
	"net/http"
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
	if d := r.Header.Get(headerDate); d != "" {
		date = d
	}
	at, err := parseDate(date)
	if err != nil || at.Unix() < 0 {
		return nil, errDate()
	}
	if err := v.checkSkew(at); err != nil {
		return nil, err
	}
	signed := r.Header.Get("Date")
	if r.Header.Get(headerDate) != "" {
		signed = "" // it is among the x-amz- headers
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
	toSign := v.stringToSign2(r, params, date, r.URL.EscapedPath())
	if !equalSignatures(sign2(key.SecretKey, toSign), signature) {
		// Some clients sign another escaping than they send.
		again := v.stringToSign2(r, params, date, string(appendEscaped(nil, r.URL.Path, true)))
		if !equalSignatures(sign2(key.SecretKey, again), signature) {
			return nil, refuse(CodeSignatureDoesNotMatch,
				"the signature is not the one that the gateway calculates from the request and the secret key",
				Detail{"AWSAccessKeyId", accessKey}, Detail{"StringToSign", toSign},
				Detail{"SignatureProvided", signature})
		}
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

func sign2(secret, toSign string) string {
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(toSign))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// stringToSign2: method, Content-MD5, Content-Type, date, x-amz- headers,
// resource.
func (v *Verifier) stringToSign2(r *http.Request, params []param, date, path string) string {
	var b strings.Builder
	for _, line := range [...]string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date} {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	amzHeaders2(&b, r.Header)
	if bucket := hostBucket(r.Host, v.opts.Domains); bucket != "" {
		b.WriteString("/" + bucket)
	}
	if path == "" {
		path = "/"
	}
	b.WriteString(path)
	subresources2(&b, params)
	return b.String()
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

// hostBucket returns the bucket that a host of the form BUCKET.DOMAIN names,
// or "".
func hostBucket(host string, domains []string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(host)
	for _, d := range domains {
		if bucket, ok := strings.CutSuffix(host, "."+strings.ToLower(d)); ok && bucket != "" {
			return bucket
		}
	}
	return ""
}
