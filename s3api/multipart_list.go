package s3api

import (
	"context"
	"errors"

	"herald/auth"
	"herald/store"
)

// maxListParts is the longest page of parts or uploads that S3 gives.
const maxListParts = 1000

// listParts answers ListParts: to the bucket's owner, and to whom the object
// will be readable.
func (s *Server) listParts(ctx context.Context, r *request) (*response, error) {
	target, err := r.upload()
	if err != nil {
		return nil, r.uploadFailure(err)
	}
	limit, err := r.query.number("max-parts", maxListParts)
	if err != nil {
		return nil, err
	}
	limit = min(limit, maxListParts)
	after, err := r.query.number("part-number-marker", 0)
	if err != nil {
		return nil, err
	}
	u, parts, more, err := target.ListParts(ctx, r.key, target.uploadID, after, limit)
	if err != nil {
		return nil, r.uploadFailure(err)
	}
	if !mayUse(r.user, r.bucket.Info) {
		if err := s.allowObject(ctx, r.user, r.bucket.Info, u.Attrs, auth.PermRead); err != nil {
			return nil, err
		}
	}
	x := newXML("ListPartsResult", nsS3)
	x.elem("Bucket", r.bucketName)
	x.elem("Key", r.key)
	x.elem("UploadId", target.uploadID)
	s.uploader(ctx, x, u)
	x.number("PartNumberMarker", int64(after))
	if len(parts) > 0 {
		x.number("NextPartNumberMarker", int64(parts[len(parts)-1].Number))
	}
	x.number("MaxParts", int64(limit))
	x.bool("IsTruncated", more && len(parts) > 0)
	sum := uploadChecksumOf(u)
	for i := range parts {
		writePart(x, &parts[i], sum)
	}
	x.end("ListPartsResult")
	return x.response(), nil
}

// uploadFailure tells nobody that there is no upload who may not know which
// there are.
func (r *request) uploadFailure(err error) error {
	missing := errors.Is(err, store.ErrNoSuchUpload) || errors.Is(err, codeNoSuchUpload)
	if missing && !mayList(r.user, r.bucket.Info) {
		return codeAccessDenied
	}
	return err
}

// uploader writes what ListParts and ListMultipartUploads tell of an upload.
func (s *Server) uploader(ctx context.Context, x *xmlWriter, u *store.Upload) {
	s.owner(ctx, x, "Initiator", u.Attrs[attrInitiator])
	s.owner(ctx, x, "Owner", u.Attrs[store.AttrOwner])
	class := u.Attrs[store.AttrStorageClass]
	if class == "" {
		class = classStandard
	}
	x.elem("StorageClass", class)
	if sum := uploadChecksumOf(u); sum.chosen {
		x.elem("ChecksumAlgorithm", sum.alg.String())
		x.elem("ChecksumType", sum.typ)
	}
}

func writePart(x *xmlWriter, p *store.Part, sum uploadChecksum) {
	x.open("Part")
	x.number("PartNumber", int64(p.Number))
	x.time("LastModified", p.ModTime)
	x.etag(p.ETag)
	x.number("Size", p.Size)
	if sum.chosen {
		x.optional(sum.alg.element(), partChecksum(p, sum.alg))
	}
	x.end("Part")
}

// listMultipartUploads answers ListMultipartUploads.
func (s *Server) listMultipartUploads(ctx context.Context, r *request) (*response, error) {
	uploads, err := r.bucket.Uploads()
	if err != nil {
		return nil, err
	}
	l, err := parseListRequest(r.query, "max-uploads")
	if err != nil {
		return nil, err
	}
	opts := store.UploadListOptions{
		Prefix: l.prefix, Delimiter: l.delimiter, Max: l.maxKeys,
		KeyMarker: r.query.get("key-marker"), UploadIDMarker: r.query.get("upload-id-marker"),
	}
	if opts.KeyMarker == "" {
		opts.UploadIDMarker = "" // S3 ignores it without a key
	}
	page, err := uploads.ListUploads(ctx, opts)
	if err != nil {
		return nil, err
	}
	x := newXML("ListMultipartUploadsResult", nsS3)
	x.elem("Bucket", r.bucketName)
	x.elem("KeyMarker", l.key(opts.KeyMarker))
	x.elem("UploadIdMarker", opts.UploadIDMarker)
	x.elem("Prefix", l.key(l.prefix))
	x.optional("Delimiter", l.key(l.delimiter))
	if l.encodeURL {
		x.elem("EncodingType", "url")
	}
	x.number("MaxUploads", int64(l.maxKeys))
	x.bool("IsTruncated", page.Truncated)
	if page.Truncated {
		x.elem("NextKeyMarker", l.key(page.NextKeyMarker))
		x.elem("NextUploadIdMarker", page.NextUploadIDMarker)
	}
	for i := range page.Uploads {
		u := &page.Uploads[i]
		x.open("Upload")
		x.elem("Key", l.key(u.Key))
		x.elem("UploadId", u.ID)
		s.uploader(ctx, x, u)
		x.time("Initiated", u.Initiated)
		x.end("Upload")
	}
	for _, p := range page.CommonPrefixes {
		x.open("CommonPrefixes")
		x.elem("Prefix", l.key(p))
		x.end("CommonPrefixes")
	}
	x.end("ListMultipartUploadsResult")
	return x.response(), nil
}
