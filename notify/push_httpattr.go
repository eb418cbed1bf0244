package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The arguments of HTTP endpoints that RGW does not have.
const (
	argCloudMode   = "cloudevents-mode"   // "binary" (default) or "structured"
	argHTTPHeaders = "http-headers"       // further fields: lines "Name: value", or JSON
	argHTTPToken   = "http-bearer-token"  //nolint:gosec // a name
	argHTTPKeys    = "http-signing-keys"  // "id:secret", the second one after a comma
	argHTTPReject  = "http-reject-status" // statuses that make a dead letter at once
	argHTTPVersion = "http-version"       // "1.1": no HTTP/2
)

const (
	// maxHTTPHeaders and maxHTTPHeaderBytes bound a topic's own fields.
	maxHTTPHeaders     = 32
	maxHTTPHeaderBytes = 16 << 10
	// maxSigningKeys is enough for a change of keys.
	maxSigningKeys = 4
	// minSigningSecret is the shortest secret, in bytes.
	minSigningSecret = 16
)

// headerField is a field of a header.
type headerField struct{ name, value string }

// httpReserved are fields that a topic cannot set: those of a single connection,
// those that say where the body ends, and those that have an argument of their
// own. It is never written.
var httpReserved = [...]string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Content-Length", "Content-Type", "Content-Encoding", "Host", "Expect",
	"Idempotency-Key", signatureField, "Traceparent", "Tracestate",
}

// checkHTTPArgs refuses arguments that could never be used. Its errors hold no
// values. Errors: ErrInvalidAttribute.
func checkHTTPArgs(args string) error {
	_, err := parseHTTPHeaders(argValue(args, argHTTPHeaders))
	if err == nil {
		_, err = parseSigningKeys(argValue(args, argHTTPKeys))
	}
	if err == nil {
		_, err = parseStatuses(argValue(args, argHTTPReject))
	}
	if err == nil && !fieldValue(argValue(args, argHTTPToken)) {
		err = errors.New(argHTTPToken + ": not fit for a header")
	}
	if mode := argValue(args, argCloudMode); err == nil && mode != "" && mode != "binary" && mode != "structured" {
		err = errors.New(argCloudMode + ` is neither "binary" nor "structured"`)
	}
	if v := argValue(args, argHTTPVersion); err == nil && v != "" && v != "1.1" && v != "2" {
		err = errors.New(argHTTPVersion + ` is neither "1.1" nor "2"`)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidAttribute, err)
	}
	return nil
}

// parseHTTPHeaders reads the argument http-headers: a JSON object of strings, or
// lines "Name: value". What it returns is in the order of names, and can be
// written into a header as it is. Errors hold no values.
func parseHTTPHeaders(s string) ([]headerField, error) {
	var fields []headerField
	if text := strings.TrimSpace(s); text == "" {
		return nil, nil
	} else if text[0] == '{' {
		var object map[string]string
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, errors.New(argHTTPHeaders + ": not a JSON object of strings")
		}
		for name, value := range object {
			fields = append(fields, headerField{name, value})
		}
	} else {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, errors.New(argHTTPHeaders + ": a line without a colon")
			}
			fields = append(fields, headerField{name, value})
		}
	}
	size := 0
	for i := range fields {
		f := &fields[i]
		f.value = strings.Trim(f.value, " \t")
		if err := checkField(f); err != nil {
			return nil, err
		}
		f.name = http.CanonicalHeaderKey(f.name)
		size += len(f.name) + len(f.value)
	}
	if len(fields) > maxHTTPHeaders || size > maxHTTPHeaderBytes {
		return nil, fmt.Errorf("%s: more than %d fields or %d bytes", argHTTPHeaders, maxHTTPHeaders, maxHTTPHeaderBytes)
	}
	slices.SortFunc(fields, func(a, b headerField) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].name == fields[i-1].name {
			return nil, fmt.Errorf("%s: %s is given twice", argHTTPHeaders, fields[i].name)
		}
	}
	return fields, nil
}

// checkField refuses what would break a request, or is not the topic's to set.
func checkField(f *headerField) error {
	if !fieldName(f.name) {
		return errors.New(argHTTPHeaders + ": a name that is none of a header field")
	}
	name := http.CanonicalHeaderKey(f.name)
	if slices.Contains(httpReserved[:], name) || strings.HasPrefix(name, "Ce-") {
		return fmt.Errorf("%s: %s cannot be set", argHTTPHeaders, name)
	}
	if !fieldValue(f.value) {
		return fmt.Errorf("%s: the value of %s is not fit for a header", argHTTPHeaders, name)
	}
	return nil
}

// fieldName: a token (RFC 9110).
func fieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// fieldValue: visible ASCII, spaces and tabs.
func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

// parseSigningKeys reads the argument http-signing-keys: "id:secret", several
// separated by commas.
func parseSigningKeys(s string) ([]signingKey, error) {
	var keys []signingKey
	if s == "" {
		return nil, nil
	}
	for text := range strings.SplitSeq(s, ",") {
		id, secret, ok := strings.Cut(strings.TrimSpace(text), ":")
		switch {
		case !ok || id == "" || len(id) > 64 || !plainToken(id):
			return nil, errors.New(argHTTPKeys + ": want id:secret, the id of letters, digits, '-', '_' and '.'")
		case len(secret) < minSigningSecret:
			return nil, fmt.Errorf("%s: the secret of %s is shorter than %d bytes", argHTTPKeys, id, minSigningSecret)
		case slices.ContainsFunc(keys, func(k signingKey) bool { return k.id == id }):
			return nil, fmt.Errorf("%s: %s is given twice", argHTTPKeys, id)
		}
		keys = append(keys, signingKey{id, []byte(secret)})
	}
	if len(keys) > maxSigningKeys {
		return nil, fmt.Errorf("%s: more than %d", argHTTPKeys, maxSigningKeys)
	}
	return keys, nil
}

func plainToken(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// statuses are some of HTTP's.
type statuses [600]bool

// parseStatuses reads the argument http-reject-status: "400,413" or "4xx". 408,
// 425 and 429 ask to come again, and are not in 4xx.
func parseStatuses(s string) (*statuses, error) {
	var set statuses
	for text := range strings.SplitSeq(s, ",") {
		text = strings.ToLower(strings.TrimSpace(text))
		switch n, err := strconv.Atoi(text); {
		case text == "":
		case text == "4xx":
			for i := 400; i < 500; i++ {
				set[i] = set[i] || i != http.StatusRequestTimeout && i != http.StatusTooEarly && i != http.StatusTooManyRequests
			}
		case err != nil || n < 300 || n >= len(set):
			return nil, errors.New(argHTTPReject + `: want statuses of 300 to 599, or "4xx"`)
		default:
			set[n] = true
		}
	}
	return &set, nil
}

func (s *statuses) has(status int) bool { return status >= 0 && status < len(s) && s[status] }
