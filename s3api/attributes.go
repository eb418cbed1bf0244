package s3api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"herald/auth"
	"herald/store"
)

// Attributes of objects that only the gateway reads; see store.Attrs.
const (
	attrChecksum = "herald-checksum" // base64, "-N" after it when composite
	attrParts    = "herald-parts"    // of an object made by multipart: partTable
	attrUploadID = "herald-upload-id"

	attrRedirect   = "x-amz-website-redirect-location"
	metaPrefix     = "x-amz-meta-"
	metaHeader     = "X-Amz-Meta-"
	maxMetadata    = 2048 // bytes of names and values (S3)
	defaultType    = "binary/octet-stream"
	classStandard  = "STANDARD"
	maxObjectBytes = 5 << 30 // of one PUT, part or copy (S3)
)

// Names of headers, canonical except for hETag: S3 spells it so, and there are
// clients that look for it so.
const (
	hETag         = "ETag"
	hLastModified = "Last-Modified"
	hACL          = "X-Amz-Acl"
	hStorageClass = "X-Amz-Storage-Class"
	hRedirect     = "X-Amz-Website-Redirect-Location"
	hTagging      = "X-Amz-Tagging"
)

// systemHeaders are the headers that S3 stores with an object, in canonical
// form, with the names of their attributes. It is never written.
var systemHeaders = map[string]string{
	"Content-Type":        "content-type",
	"Cache-Control":       "cache-control",
	"Content-Disposition": "content-disposition",
	"Content-Encoding":    "content-encoding",
	"Content-Language":    "content-language",
	"Expires":             "expires",
	hRedirect:             attrRedirect,
}

// storageClasses are those that S3 knows; all are stored alike. It is never
// written.
var storageClasses = map[string]bool{
	classStandard: true, "REDUCED_REDUNDANCY": true, "STANDARD_IA": true, "ONEZONE_IA": true,
	"INTELLIGENT_TIERING": true, "GLACIER": true, "GLACIER_IR": true, "DEEP_ARCHIVE": true,
	"OUTPOSTS": true, "SNOW": true, "EXPRESS_ONEZONE": true,
}

// requestAttrs are the attributes that an object gets from the headers of the
// request that makes it, tags, owner and ACL included. Headers that ask for what
// is not supported are refused. Errors: NotImplemented, InvalidArgument,
// InvalidStorageClass, MetadataTooLarge, InvalidTag, and those of aclOf.
func (s *Server) requestAttrs(ctx context.Context, r *request) (store.Attrs, error) {
	return s.attrsOf(ctx, r, r.http.Header)
}

// attrsOf is requestAttrs of headers that came otherwise.
func (s *Server) attrsOf(ctx context.Context, r *request, h http.Header) (store.Attrs, error) {
	attrs := make(store.Attrs, 8)
	attrs[store.AttrOwner] = r.owner()
	if err := addMetadata(attrs, h); err != nil {
		return nil, err
	}
	granted, err := checkWriteHeaders(h)
	if err != nil {
		return nil, err
	}
	acl, err := s.aclOf(ctx, r, h, granted, r.owner(), r.bucket.Info.Owner)
	if err != nil {
		return nil, err
	}
	if acl != "" {
		attrs[attrObjectACL] = acl
	}
	if err := addStorageClass(attrs, h); err != nil {
		return nil, err
	}
	return attrs, addTags(attrs, h)
}

// addMetadata takes system headers and user metadata.
func addMetadata(attrs store.Attrs, h http.Header) error {
	size := 0
	for name, values := range h {
		if meta, ok := strings.CutPrefix(name, metaHeader); ok {
			value := strings.Join(values, ",")
			size += len(meta) + len(value)
			attrs[metaPrefix+strings.ToLower(meta)] = value
		} else if attr := systemHeaders[name]; attr != "" && values[0] != "" {
			attrs[attr] = values[0]
		}
	}
	if size > maxMetadata {
		return codeMetadataTooLarge
	}
	if v, ok := attrs["content-encoding"]; ok {
		if v = auth.StripAWSChunked(v); v != "" {
			attrs["content-encoding"] = v
		} else {
			delete(attrs, "content-encoding")
		}
	}
	if v := attrs[attrRedirect]; v != "" && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
		return invalidArgument("x-amz-website-redirect-location", v, "A redirect must begin with /, http:// or https://.")
	}
	return nil
}

func addStorageClass(attrs store.Attrs, h http.Header) error {
	switch class := first(h, hStorageClass); {
	case class == "" || class == classStandard:
	case !storageClasses[class]:
		return codeInvalidStorageClass
	default:
		attrs[store.AttrStorageClass] = class
	}
	return nil
}

func addTags(attrs store.Attrs, h http.Header) error {
	v := first(h, hTagging)
	if v == "" {
		return nil
	}
	set, err := parseTagging(v, maxObjectTags)
	if err != nil {
		return err
	}
	if len(set) > 0 {
		attrs[attrObjectTagging] = set.encode()
	}
	return nil
}

// notImplementedHeaders are beginnings of headers that ask for what is not
// there: to ignore encryption or locks would be a lie. It is never written.
var notImplementedHeaders = [...]string{
	"X-Amz-Server-Side-Encryption", "X-Amz-Copy-Source-Server-Side-Encryption",
	"X-Amz-Object-Lock-", "X-Amz-Write-Offset-Bytes",
}

// checkWriteHeaders refuses headers that ask for what is not supported, and
// tells whether there are x-amz-grant- headers. Errors: NotImplemented.
func checkWriteHeaders(h http.Header) (granted bool, err error) {
	for name := range h {
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		for _, prefix := range notImplementedHeaders {
			if strings.HasPrefix(name, prefix) {
				return false, fail(codeNotImplemented, "The header %s is not supported.", strings.ToLower(name)).with("Header", strings.ToLower(name))
			}
		}
		granted = granted || strings.HasPrefix(name, grantPrefix)
	}
	return granted, nil
}

// signingParameters are the x-amz- parameters of a presigned URL that are no
// headers. It is never written.
var signingParameters = map[string]bool{
	"X-Amz-Algorithm": true, "X-Amz-Credential": true, "X-Amz-Date": true, "X-Amz-Expires": true,
	"X-Amz-Signedheaders": true, "X-Amz-Signature": true, "X-Amz-Security-Token": true,
	"X-Amz-Content-Sha256": true, "X-Amz-Copy-Source": true,
}

// adoptHeaders takes x-amz- headers that a presigned URL carries as parameters,
// where signers put them; a real header goes first.
func (r *request) adoptHeaders() {
	if !r.verified.Presigned {
		return
	}
	for _, p := range r.query {
		if len(p.key) < 6 || !strings.EqualFold(p.key[:6], "x-amz-") {
			continue
		}
		name := http.CanonicalHeaderKey(p.key)
		if !signingParameters[name] && len(r.http.Header[name]) == 0 {
			r.http.Header[name] = []string{p.value}
		}
	}
}

// versionID returns the version that a request names; "" when it names none.
// Errors: InvalidArgument.
func (r *request) versionID() (string, error) {
	v, ok := r.query.lookup("versionId")
	if ok && (v == "" || len(v) > 1024) {
		return "", invalidArgument("versionId", v, "This is no version id.")
	}
	return v, nil
}

// shownVersion is the version id as the client sees it: "null" for what was
// written before versioning was enabled, nothing if it never was.
func (r *request) shownVersion(info *store.Info) string {
	return versionIn(r.bucket.Info, info)
}

func versionIn(b *store.BucketInfo, info *store.Info) string {
	switch {
	case b.Versioning == store.Unversioned:
		return ""
	case info.VersionID == "":
		return store.NullVersion
	}
	return info.VersionID
}

// setNewVersion sets x-amz-version-id after a write: S3 and RGW name only
// versions with an id of their own there, not the null version.
func (r *request) setNewVersion(info *store.Info) {
	r.setExpiration(info)
	if r.bucket.Info.Versioning == store.Enabled {
		r.setVersion(info)
	}
}

func quoted(etag string) string { return `"` + etag + `"` }

// httpTime is a time in headers. Formatting by hand takes a fifth of what
// time.Format does, and every GET needs it.
func httpTime(t time.Time) string {
	const days, months = "SunMonTueWedThuFriSat", "JanFebMarAprMayJunJulAugSepOctNovDec"
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.Format(http.TimeFormat)
	}
	hour, minute, second := t.Clock()
	d, m := 3*int(t.Weekday()), 3*int(month-1)
	two := func(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }
	b := make([]byte, 0, len(http.TimeFormat))
	b = append(b, days[d:d+3]...)
	b = append(b, ", "...)
	b = append(two(b, day), ' ')
	b = append(b, months[m:m+3]...)
	b = append(b, ' ')
	b = append(two(two(b, year/100), year%100), ' ')
	b = append(two(b, hour), ':')
	b = append(two(b, minute), ':')
	b = append(two(b, second), " GMT"...)
	return string(b)
}
