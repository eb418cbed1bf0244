package s3api

import (
	"context"
	"strings"

	"herald/store"
)

// maxListKeys is the longest page that S3 gives.
const maxListKeys = 1000

// listRequest is what all listings have in common.
type listRequest struct {
	prefix, delimiter string
	maxKeys           int
	encodeURL         bool
}

func parseListRequest(q query, maxName string) (listRequest, error) {
	l := listRequest{prefix: q.get("prefix"), delimiter: q.get("delimiter")}
	var err error
	if l.maxKeys, err = q.number(maxName, maxListKeys); err != nil {
		return l, err
	}
	l.maxKeys = min(l.maxKeys, maxListKeys)
	switch enc := q.get("encoding-type"); {
	case enc == "":
	case strings.EqualFold(enc, "url"):
		l.encodeURL = true
	default:
		return l, invalidArgument("encoding-type", enc, "The only encoding-type is url.")
	}
	// RGW's extension; an ordered listing is a valid unordered one.
	if strings.EqualFold(q.get("allow-unordered"), "true") && l.delimiter != "" {
		return l, invalidArgument("allow-unordered", q.get("allow-unordered"), "allow-unordered excludes a delimiter.")
	}
	return l, nil
}

// key returns a key as the client asked to see it.
func (l *listRequest) key(s string) string {
	if l.encodeURL {
		return urlEncoded(s)
	}
	return s
}

// plainPrefix is the prefix as version 1 repeats it: RGW does not encode it
// there, and boto3 does not decode it. What XML cannot hold is encoded still.
func (l *listRequest) plainPrefix() string {
	for i := range len(l.prefix) {
		if c := l.prefix[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return l.key(l.prefix)
		}
	}
	return l.prefix
}

func (l *listRequest) options(marker string) store.ListOptions {
	return store.ListOptions{Prefix: l.prefix, Delimiter: l.delimiter, Marker: marker, Max: l.maxKeys}
}

// listObjects is version 1.
func (s *Server) listObjects(ctx context.Context, r *request) (*response, error) {
	l, err := parseListRequest(r.query, "max-keys")
	if err != nil {
		return nil, err
	}
	marker := r.query.get("marker")
	page, err := r.bucket.List(ctx, l.options(marker))
	if err != nil {
		return nil, err
	}
	w := s.newListWriter(ctx, r, "ListBucketResult", l)
	w.elem("Prefix", l.plainPrefix())
	w.elem("Marker", l.key(marker))
	if page.Truncated && l.delimiter != "" {
		w.elem("NextMarker", l.key(page.NextMarker))
	}
	w.limits(page.Truncated)
	for i := range page.Entries {
		w.object(&page.Entries[i], true)
	}
	return w.finish(page), nil
}

// listObjectsV2 is version 2.
func (s *Server) listObjectsV2(ctx context.Context, r *request) (*response, error) {
	l, err := parseListRequest(r.query, "max-keys")
	if err != nil {
		return nil, err
	}
	token, hasToken := r.query.lookup("continuation-token")
	marker, err := decodeToken(token)
	if err != nil {
		return nil, err
	}
	startAfter := r.query.get("start-after")
	if token == "" {
		marker = startAfter
	}
	page, err := r.bucket.List(ctx, l.options(marker))
	if err != nil {
		return nil, err
	}
	w := s.newListWriter(ctx, r, "ListBucketResult", l)
	w.elem("Prefix", l.key(l.prefix))
	w.optional("StartAfter", l.key(startAfter))
	if hasToken {
		w.elem("ContinuationToken", token)
	}
	if page.Truncated {
		w.elem("NextContinuationToken", encodeToken(page.NextMarker))
	}
	w.number("KeyCount", int64(len(page.Entries)+len(page.CommonPrefixes)))
	w.limits(page.Truncated)
	withOwner := strings.EqualFold(r.query.get("fetch-owner"), "true")
	for i := range page.Entries {
		w.object(&page.Entries[i], withOwner)
	}
	return w.finish(page), nil
}

// listObjectVersions: versions and delete markers, newest first within a key.
func (s *Server) listObjectVersions(ctx context.Context, r *request) (*response, error) {
	l, err := parseListRequest(r.query, "max-keys")
	if err != nil {
		return nil, err
	}
	keyMarker, versionMarker := r.query.get("key-marker"), r.query.get("version-id-marker")
	if versionMarker != "" && keyMarker == "" {
		return nil, invalidArgument("version-id-marker", versionMarker, "A version-id-marker needs a key-marker.")
	}
	opts := l.options(keyMarker)
	opts.Versions, opts.VersionMarker = true, versionMarker
	page, err := r.bucket.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	w := s.newListWriter(ctx, r, "ListVersionsResult", l)
	w.elem("Prefix", l.key(l.prefix))
	w.elem("KeyMarker", l.key(keyMarker))
	w.elem("VersionIdMarker", versionMarker)
	if page.Truncated {
		w.elem("NextKeyMarker", l.key(page.NextMarker))
		w.optional("NextVersionIdMarker", page.NextVersionMarker)
	}
	w.limits(page.Truncated)
	for i := range page.Entries {
		w.version(&page.Entries[i])
	}
	return w.finish(page), nil
}

// listWriter writes the document of a listing.
type listWriter struct {
	*xmlWriter
	listRequest
	root        string
	bucketOwner string
	// The last owner written and its display name: mostly there is one.
	lastOwner, lastName string
	lookup              func(uid string) string
}

func (s *Server) newListWriter(ctx context.Context, r *request, root string, l listRequest) *listWriter {
	w := &listWriter{
		xmlWriter: newXML(root, nsS3), listRequest: l, root: root,
		bucketOwner: r.bucket.Info.Owner,
		lookup:      func(uid string) string { return s.displayName(ctx, uid) },
	}
	w.elem("Name", r.bucketName)
	return w
}

// limits writes what was asked for and whether there is more.
func (w *listWriter) limits(truncated bool) {
	w.number("MaxKeys", int64(w.maxKeys))
	w.optional("Delimiter", w.key(w.delimiter))
	if w.encodeURL {
		w.elem("EncodingType", "url")
	}
	w.bool("IsTruncated", truncated)
}

// object writes an entry of ListObjects.
func (w *listWriter) object(e *store.Info, withOwner bool) {
	w.open("Contents")
	w.elem("Key", w.key(e.Key))
	w.described(e)
	if withOwner {
		w.owner(e)
	}
	w.end("Contents")
}

// version writes an entry of ListObjectVersions.
func (w *listWriter) version(e *store.Info) {
	name := "Version"
	if e.DeleteMarker {
		name = "DeleteMarker"
	}
	w.open(name)
	w.elem("Key", w.key(e.Key))
	id := e.VersionID
	if id == "" {
		id = store.NullVersion
	}
	w.elem("VersionId", id)
	w.bool("IsLatest", e.IsLatest)
	w.described(e)
	w.owner(e)
	w.end(name)
}

func (w *listWriter) described(e *store.Info) {
	w.time("LastModified", e.ModTime)
	if e.DeleteMarker {
		return
	}
	w.etag(e.ETag)
	if a := e.Attrs[store.AttrChecksumAlgorithm]; a != "" {
		w.elem("ChecksumAlgorithm", a)
		w.optional("ChecksumType", e.Attrs[store.AttrChecksumType])
	}
	w.number("Size", e.Size)
	class := e.Attrs[store.AttrStorageClass]
	if class == "" {
		class = "STANDARD"
	}
	w.elem("StorageClass", class)
}

func (w *listWriter) owner(e *store.Info) {
	uid := e.Attrs[store.AttrOwner]
	if uid == "" {
		uid = w.bucketOwner
	}
	if uid != w.lastOwner || w.lastName == "" {
		w.lastOwner, w.lastName = uid, w.lookup(uid)
	}
	w.open("Owner")
	w.elem("ID", uid)
	w.elem("DisplayName", w.lastName)
	w.end("Owner")
}

func (w *listWriter) finish(page *store.Page) *response {
	for _, p := range page.CommonPrefixes {
		w.open("CommonPrefixes")
		w.elem("Prefix", w.key(p))
		w.end("CommonPrefixes")
	}
	w.end(w.root)
	return w.response()
}
