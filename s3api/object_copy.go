package s3api

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/url"
	"strings"
	"unicode/utf8"

	"herald/auth"
	"herald/notify"
	"herald/store"
)

const (
	hCopySource          = "X-Amz-Copy-Source"
	hCopySourceRange     = "X-Amz-Copy-Source-Range"
	hCopySourceVersionID = "X-Amz-Copy-Source-Version-Id"
	hSourceOwner         = "X-Amz-Source-Expected-Bucket-Owner"
	hMetadataDirective   = "X-Amz-Metadata-Directive"
	hTaggingDirective    = "X-Amz-Tagging-Directive"
)

// copySource is what x-amz-copy-source names.
type copySource struct {
	tenant    string
	hasTenant bool
	bucket    string
	key       string
	versionID string
}

// parseCopySource reads "[/][tenant:]bucket/key[?versionId=id]", of which all
// before the question mark is URL-encoded. Errors: InvalidArgument.
func parseCopySource(header string) (copySource, error) {
	path, version, hasVersion := strings.Cut(header, "?versionId=")
	bad := invalidArgument("x-amz-copy-source", header, "x-amz-copy-source must be bucket/key, URL-encoded, with ?versionId= if need be.")
	path, err := url.PathUnescape(path)
	if err != nil || !utf8.ValidString(path) || hasVersion && version == "" {
		return copySource{}, bad
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if bucket == "" || key == "" || len(key) > store.MaxKeyLength {
		return copySource{}, bad
	}
	src := copySource{bucket: bucket, key: key, versionID: version}
	if tenant, name, ok := strings.Cut(bucket, ":"); ok {
		src.tenant, src.bucket, src.hasTenant = tenant, name, true
	}
	return src, nil
}

// source is the opened source of a copy.
type source struct {
	store.Reader
	copySource
	bucketInfo *store.BucketInfo
}

// openSource opens what x-amz-copy-source names, if the caller may read it and
// the copy-source conditions hold. The caller closes it.
func (s *Server) openSource(ctx context.Context, r *request) (*source, error) {
	name, err := parseCopySource(r.header(hCopySource))
	if err != nil {
		return nil, err
	}
	if !name.hasTenant {
		name.tenant = r.user.Tenant
	}
	b, err := s.store.OpenBucket(ctx, name.tenant, name.bucket)
	if err != nil {
		return nil, ofSource(err, name)
	}
	if want := r.header(hSourceOwner); want != "" && want != b.Info.Owner {
		return nil, codeAccessDenied
	}
	reader, err := b.Open(ctx, name.key, name.versionID)
	if isMissing(err) && !mayList(r.user, b.Info) {
		return nil, codeAccessDenied
	}
	if errors.Is(err, store.ErrDeleteMarker) && name.versionID != "" {
		return nil, fail(codeInvalidRequest, "The source of a copy may not be a delete marker.")
	}
	if err != nil {
		return nil, ofSource(err, name)
	}
	cond := copyConditions(r.http.Header)
	err = s.allowObject(ctx, r.user, b.Info, reader.Info().Attrs, auth.PermRead)
	if err = cmp.Or(err, checkCopySource(&cond, reader.Info())); err != nil {
		_ = reader.Close() // read only
		return nil, err
	}
	return &source{reader, name, b.Info}, nil
}

// ofSource names the source in an error, rather than the copy.
func ofSource(err error, name copySource) error {
	e := asAPIError(err)
	switch names := errorTable[e.code].names; {
	case names&nameKey != 0:
		e = e.with("Key", name.key)
	case names&nameBucket != 0:
		e = e.with("BucketName", name.bucket)
	}
	if name.versionID != "" && errorTable[e.code].names&nameVersion != 0 {
		e = e.with("VersionId", name.versionID)
	}
	return e
}

// shownVersion is the source's version id as the client sees it.
func (src *source) shownVersion() string { return versionIn(src.bucketInfo, src.Info()) }

// copyObject answers CopyObject. Where nothing must be hashed the driver
// copies, and ETag, checksum and parts are those of the source.
func (s *Server) copyObject(ctx context.Context, r *request) (*response, error) {
	src, err := s.openSource(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }() // read only
	info := src.Info()
	if info.Size > maxObjectBytes {
		return nil, fail(codeInvalidRequest, "The source is larger than one copy may be: 5 GiB.")
	}
	alg, err := copyAlgorithm(r, info)
	if err != nil {
		return nil, err
	}
	attrs, err := s.copyAttrs(ctx, r, src)
	if err != nil {
		return nil, err
	}
	cond := writeConditions(r.http.Header)
	if err := s.checkEarly(ctx, r, &cond); err != nil {
		return nil, err
	}
	out, err := s.commitCopy(ctx, r, src, attrs, alg, cond)
	if err != nil {
		return nil, err
	}
	if v := src.shownVersion(); v != "" {
		r.setHeader(hCopySourceVersionID, v)
	}
	r.setNewVersion(out.Info)
	return copyResult(out.Info, attrs).response(), nil
}

// commitCopy copies the data and makes the object; alg is the checksum to
// compute, noAlgorithm if that of the source stays.
func (s *Server) commitCopy(ctx context.Context, r *request, src *source, attrs store.Attrs, alg algorithm, cond store.Conditions) (store.Outcome, error) {
	info := src.Info()
	pending, w, err := s.begin(ctx, r, notify.ObjectCreatedCopy, attrs, info.Size)
	if err != nil {
		return store.Outcome{}, err
	}
	defer pending.Abort()
	defer func() { _ = w.Abort() }() // nothing after a commit
	opts := store.CommitOptions{Cond: cond, Versioning: r.bucket.Info.Versioning, ETag: info.ETag, Attrs: attrs}
	if alg == noAlgorithm {
		if err := copyWhole(w, io.NewSectionReader(src.Reader, 0, info.Size)); err != nil {
			return store.Outcome{}, err
		}
	} else {
		rehash := isForeign(info)
		d := newDigest(rehash, alg, noAlgorithm)
		defer d.free()
		if err := d.copyRange(w, src.Reader, byteRange{0, info.Size}); err != nil {
			return store.Outcome{}, err
		}
		setChecksum(attrs, alg, typeFullObject, d.checksum(alg))
		delete(attrs, attrParts)
		if rehash {
			opts.ETag = d.etag()
		}
	}
	return pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		opts.Op = op
		return w.Commit(ctx, opts)
	})
}

// copyWhole lets the driver copy, if it can.
func copyWhole(w io.Writer, data *io.SectionReader) error {
	n, err := io.Copy(w, data)
	if err == nil && n != data.Size() {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// copyRange copies a range of a source that must be hashed. Where the driver can
// refer to the bytes, they are only read.
func (d *digest) copyRange(w store.Writer, src store.Reader, rg byteRange) error {
	dst := io.Writer(w)
	if s, ok := w.(store.Sharer); ok {
		shared, err := s.Share(src, rg.off, rg.length)
		if err != nil {
			return err
		}
		if shared {
			dst = io.Discard
		}
	}
	return d.copyHashed(dst, io.NewSectionReader(src, rg.off, rg.length), rg.length)
}

// isForeign tells whether another program made the object: its ETag is not
// that of its data.
func isForeign(info *store.Info) bool { return info.Attrs[store.AttrChecksumAlgorithm] == "" }

// copyAlgorithm returns the checksum that a copy must compute: the one asked
// for, if the source has not it already; noAlgorithm if nothing need be
// hashed. Errors: InvalidRequest.
func copyAlgorithm(r *request, info *store.Info) (algorithm, error) {
	name := r.header(hChecksumAlgorithm)
	if name == "" {
		if isForeign(info) {
			return algCRC64NVME, nil
		}
		return noAlgorithm, nil
	}
	alg, ok := parseAlgorithm(name)
	if !ok {
		return noAlgorithm, errUnknownAlgorithm(hChecksumAlgorithm)
	}
	if info.Attrs[store.AttrChecksumAlgorithm] == alg.String() && info.Attrs[store.AttrChecksumType] == typeFullObject {
		return noAlgorithm, nil
	}
	return alg, nil
}

// copyAttrs are the attributes of a copy: metadata and tags of the source or,
// as the directives say, of the request; storage class, redirect and ACL are
// never the source's. Errors: as requestAttrs, InvalidRequest.
func (s *Server) copyAttrs(ctx context.Context, r *request, src *source) (store.Attrs, error) {
	replaceMeta, err := directive(r, hMetadataDirective)
	if err != nil {
		return nil, err
	}
	replaceTags, err := directive(r, hTaggingDirective)
	if err != nil {
		return nil, err
	}
	attrs, err := s.requestAttrs(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.isSelfCopy(src) && !replaceMeta && r.header(hStorageClass) == "" && r.header(hRedirect) == "" && r.header(hChecksumAlgorithm) == "" {
		return nil, fail(codeInvalidRequest, "A copy of an object onto itself must change its metadata, storage class or redirect.")
	}
	if !replaceMeta {
		maps.DeleteFunc(attrs, func(name, _ string) bool { return isMetadata(name) })
	}
	if !replaceTags {
		delete(attrs, attrObjectTagging)
	}
	for name, value := range src.Info().Attrs {
		if isMetadata(name) && !replaceMeta || name == attrObjectTagging && !replaceTags || isDataAttr(name) {
			attrs[name] = value
		}
	}
	return attrs, nil
}

func (r *request) isSelfCopy(src *source) bool {
	return src.versionID == "" && src.key == r.key && src.bucket == r.bucketName && src.tenant == r.tenant
}

// isMetadata tells whether an attribute is governed by the metadata directive.
func isMetadata(name string) bool {
	return strings.HasPrefix(name, metaPrefix) || name != attrRedirect && name != store.AttrStorageClass && shownHeader(name) != ""
}

// isDataAttr tells whether an attribute describes the bytes.
func isDataAttr(name string) bool {
	switch name {
	case store.AttrChecksumAlgorithm, store.AttrChecksumType, attrChecksum, attrParts:
		return true
	}
	return false
}

// directive reads a COPY or REPLACE header. Errors: InvalidArgument.
func directive(r *request, name string) (replace bool, err error) {
	switch v := r.header(name); v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	default:
		return false, invalidArgument(strings.ToLower(name), v, "A directive is COPY or REPLACE.")
	}
}

// copyResult is the answer to CopyObject.
func copyResult(info *store.Info, attrs store.Attrs) *xmlWriter {
	x := newXML("CopyObjectResult", nsS3)
	x.time("LastModified", info.ModTime)
	x.etag(info.ETag)
	writeChecksum(x, attrs, true)
	x.end("CopyObjectResult")
	return x
}

// writeChecksum writes the elements of an object's checksum, if it has one.
func writeChecksum(x *xmlWriter, attrs store.Attrs, withType bool) {
	alg, known := parseAlgorithm(attrs[store.AttrChecksumAlgorithm])
	value := attrs[attrChecksum]
	if !known || value == "" {
		return
	}
	x.elem(alg.element(), value)
	if withType {
		x.elem("ChecksumType", attrs[store.AttrChecksumType])
	}
}
