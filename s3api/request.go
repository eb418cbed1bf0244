package s3api

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"herald/auth"
	"herald/lifecycle"
	"herald/store"
)

// request is one request as handlers see it: matched, authenticated,
// authorized. Only the pipeline reads its http field's URL and writes its
// answer; a handler reads headers, query and body, and sets headers of its
// answer in outHeader.
type request struct {
	http  *http.Request
	route *route
	// op is the operation's S3 name for log and metrics; a handler that
	// dispatches further (the topic API) sets it.
	op string
	id string // x-amz-request-id

	query query
	// tenant and bucketName address the bucket, at bucket and object level;
	// key is empty at bucket level.
	tenant         string
	explicitTenant bool
	bucketName     string
	key            string

	// user sent the request; auth.AnonymousUser if nobody signed it. It is never
	// nil once a handler runs.
	user *auth.User
	// verified holds the body: Body checks signatures and hashes while it is
	// read to its end.
	verified *auth.Verified
	// bucket is open at bucket and object level (not for CreateBucket).
	bucket *store.OpenBucket

	// outHeader are the headers of the answer, in canonical form. After an
	// error only those of the error are sent.
	outHeader http.Header

	body *countedBody

	lifecycle *lifecycle.Cache // the server's
}

// header returns a request header; name must be in canonical form.
func (r *request) header(name string) string {
	if v := r.http.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// setHeader sets a header of the answer; name must be in canonical form.
func (r *request) setHeader(name, value string) { r.outHeader[name] = []string{value} }

// principal is the acting user: "uid", "tenant$uid" or "anonymous"; "" when it
// is not known who that is.
func (r *request) principal() string {
	if r.user == nil {
		return ""
	}
	return r.user.UID()
}

// owner is who owns what the request makes: the acting user, or its account.
func (r *request) owner() string { return r.user.Owner() }

// origin is scheme and host of the request's URL.
func (r *request) origin() string {
	if r.http.TLS != nil {
		return "https://" + r.http.Host
	}
	return "http://" + r.http.Host
}

// reader is the request's body: decoded, and verified once it was read to its
// end.
func (r *request) reader() io.Reader { return r.verified.Body }

// size is the length of the decoded body in bytes; -1 when unknown.
func (r *request) size() int64 { return r.verified.DecodedLength }

// param is one parameter of a query.
type param struct{ key, value string }

// query holds a URL's parameters, unescaped, in their order.
type query []param

var errBadQuery = errors.New("query is not well escaped")

// parseQuery splits and unescapes a raw query. Errors: errBadQuery.
func parseQuery(raw string) (query, error) {
	if raw == "" {
		return nil, nil
	}
	q := make(query, 0, strings.Count(raw, "&")+1)
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		key, err := unescapeQuery(k)
		if err != nil {
			return nil, err
		}
		value, err := unescapeQuery(v)
		if err != nil {
			return nil, err
		}
		q = append(q, param{key, value})
	}
	return q, nil
}

func unescapeQuery(s string) (string, error) {
	if strings.ContainsAny(s, "%+") {
		u, err := url.QueryUnescape(s)
		if err != nil {
			return "", errBadQuery
		}
		s = u
	}
	if !utf8.ValidString(s) {
		return "", errBadQuery
	}
	return s, nil
}

// get returns the value of the first parameter of that name.
func (q query) get(key string) string {
	v, _ := q.lookup(key)
	return v
}

// has tells whether there is a parameter of that name.
func (q query) has(key string) bool {
	_, ok := q.lookup(key)
	return ok
}

func (q query) lookup(key string) (string, bool) {
	for i := range q {
		if q[i].key == key {
			return q[i].value, true
		}
	}
	return "", false
}

// all returns the values of all parameters of that name.
func (q query) all(key string) []string {
	var out []string
	for i := range q {
		if q[i].key == key {
			out = append(out, q[i].value)
		}
	}
	return out
}

// number returns a parameter as a whole number from 0 to 2^31-1; absent, or
// empty, it is def. Errors: InvalidArgument.
func (q query) number(key string, def int) (int, error) {
	v := q.get(key)
	if v == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, invalidArgument(key, v, "%s must be a whole number from 0 to 2147483647.", key)
	}
	return int(n), nil
}

// target is what a request's host and path address.
type target struct {
	level     level
	hasTenant bool
	tenant    string
	bucket    string
	key       string
}

// parseTarget splits host and path: virtual-host style when the host is below
// one of the domains, else path style. A bucket may be written
// "tenant:bucket".
func parseTarget(domains []string, host, path string) (target, error) {
	if !strings.HasPrefix(path, "/") || !utf8.ValidString(path) {
		return target{}, codeInvalidURI
	}
	rest := path[1:]
	bucket := auth.HostBucket(host, domains)
	if bucket == "" {
		bucket, rest, _ = strings.Cut(rest, "/")
		if bucket == "" {
			if rest != "" {
				return target{}, codeInvalidBucketName
			}
			return target{level: levelService}, nil
		}
	}
	t := target{level: levelBucket, bucket: bucket, key: rest}
	if rest != "" {
		t.level = levelObject
		if len(rest) > store.MaxKeyLength {
			return target{}, fail(codeKeyTooLong, "").
				with("Size", strconv.Itoa(len(rest))).
				with("MaxSizeAllowed", strconv.Itoa(store.MaxKeyLength))
		}
	}
	if tenant, name, ok := strings.Cut(bucket, ":"); ok {
		t.hasTenant, t.tenant, t.bucket = true, tenant, name
	}
	return t, nil
}
