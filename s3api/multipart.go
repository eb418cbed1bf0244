package s3api

import (
	"context"
	"io"
	"strings"

	"herald/store"
)

// Notes on an upload among its attributes, which its object does not get.
const (
	attrInitiator       = "herald-upload-initiator"
	attrUploadAlgorithm = "herald-upload-checksum-algorithm" // absent: the client chose none
	attrUploadType      = "herald-upload-checksum-type"
	uploadNotePrefix    = "herald-upload-"
	// partSumPrefix begins the attributes that hold a part's checksums:
	// "herald-sum-CRC32".
	partSumPrefix = "herald-sum-"
)

// uploadChecksum is the kind of checksum of an upload.
type uploadChecksum struct {
	alg    algorithm
	typ    string
	chosen bool // by the client; else it is S3's default, which is not shown
}

// parseUploadChecksum reads the headers of CreateMultipartUpload: composite
// goes with all but CRC64NVME, full-object with the CRCs.
// Errors: InvalidRequest.
func parseUploadChecksum(name, typ string) (uploadChecksum, error) {
	if name == "" {
		if typ != "" {
			return uploadChecksum{}, fail(codeInvalidRequest, "x-amz-checksum-type needs x-amz-checksum-algorithm.")
		}
		return uploadChecksum{alg: algCRC64NVME, typ: typeFullObject}, nil
	}
	alg, ok := parseAlgorithm(name)
	if !ok {
		return uploadChecksum{}, errUnknownAlgorithm(hChecksumAlgorithm)
	}
	c := uploadChecksum{alg: alg, typ: strings.ToUpper(typ), chosen: true}
	switch {
	case c.typ == "" && alg == algCRC64NVME:
		c.typ = typeFullObject
	case c.typ == "":
		c.typ = typeComposite
	case c.typ != typeComposite && c.typ != typeFullObject:
		return c, fail(codeInvalidRequest, "x-amz-checksum-type must be COMPOSITE or FULL_OBJECT.")
	case c.typ == typeComposite && alg == algCRC64NVME, c.typ == typeFullObject && !alg.linear():
		return c, fail(codeInvalidRequest, "The checksum type %s does not go with the algorithm %s.", c.typ, alg)
	}
	return c, nil
}

// uploadChecksumOf returns what was chosen when an upload was created.
func uploadChecksumOf(u *store.Upload) uploadChecksum {
	alg, ok := parseAlgorithm(u.Attrs[attrUploadAlgorithm])
	if !ok {
		return uploadChecksum{alg: algCRC64NVME, typ: typeFullObject}
	}
	return uploadChecksum{alg, u.Attrs[attrUploadType], true}
}

// createMultipartUpload answers CreateMultipartUpload. No event tells of it.
func (s *Server) createMultipartUpload(ctx context.Context, r *request) (*response, error) {
	uploads, err := r.bucket.Uploads()
	if err != nil {
		return nil, err
	}
	attrs, err := s.requestAttrs(ctx, r)
	if err != nil {
		return nil, err
	}
	sum, err := parseUploadChecksum(r.header(hChecksumAlgorithm), r.header(hChecksumType))
	if err != nil {
		return nil, err
	}
	if err := r.discardBody(); err != nil {
		return nil, err
	}
	attrs[attrInitiator] = r.principal()
	if sum.chosen {
		attrs[attrUploadAlgorithm], attrs[attrUploadType] = sum.alg.String(), sum.typ
		r.setHeader(hChecksumAlgorithm, sum.alg.String())
		r.setHeader(hChecksumType, sum.typ)
	}
	id := store.NewOpID().String()
	u := store.Upload{Key: r.key, ID: id, Initiated: s.now().UTC(), Attrs: attrs}
	if err := uploads.CreateUpload(ctx, u); err != nil {
		return nil, err
	}
	x := newXML("InitiateMultipartUploadResult", nsS3)
	x.elem("Bucket", r.bucketName)
	x.elem("Key", r.key)
	x.elem("UploadId", id)
	x.end("InitiateMultipartUploadResult")
	return x.response(), nil
}

// maxIgnoredBody is how much of a body is read that has no meaning.
const maxIgnoredBody = 1 << 20

// discardBody reads a body that should not be there, so that its signature is
// checked.
func (r *request) discardBody() error {
	if r.size() == 0 {
		return nil
	}
	if n, err := drainAll(io.LimitReader(r.reader(), maxIgnoredBody)); err != nil {
		return err
	} else if n == maxIgnoredBody {
		return codeMaxMessageLengthExceeded
	}
	return nil
}

// partTarget is what a request on an upload addresses.
type partTarget struct {
	store.Uploads
	uploadID string
}

// upload returns the upload that the request names, which may not exist.
// Errors: NoSuchUpload, for what cannot be an id.
func (r *request) upload() (partTarget, error) {
	uploads, err := r.bucket.Uploads()
	if err != nil {
		return partTarget{}, err
	}
	id := r.query.get("uploadId")
	if _, ok := store.ParseOpID(id); !ok {
		return partTarget{}, codeNoSuchUpload
	}
	return partTarget{uploads, strings.ToLower(id)}, nil
}

// describe returns the upload itself. Errors: ErrNoSuchUpload.
func (t partTarget) describe(ctx context.Context, key string) (*store.Upload, error) {
	u, _, _, err := t.ListParts(ctx, key, t.uploadID, maxPartNumber, 1)
	return u, err
}

// uploadPart answers UploadPart.
func (s *Server) uploadPart(ctx context.Context, r *request) (*response, error) {
	number, err := parsePartNumber(r.query.get("partNumber"))
	if err != nil {
		return nil, err
	}
	in, err := r.incoming()
	if err != nil {
		return nil, err
	}
	if _, err := checkWriteHeaders(r.http.Header); err != nil {
		return nil, err
	}
	target, err := r.upload()
	if err != nil {
		return nil, err
	}
	u, err := target.describe(ctx, r.key)
	if err != nil {
		return nil, err
	}
	sum := uploadChecksumOf(u)
	if sum.chosen && in.spec.alg != noAlgorithm && in.spec.alg != sum.alg {
		return nil, fail(codeInvalidRequest, "The upload was created for %s checksums; this part brings %s.", sum.alg, in.spec.alg)
	}
	w, err := target.CreatePart(ctx, r.key, target.uploadID, number, store.CreateHint{Size: in.size})
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Abort() }() // nothing after a commit
	d := newDigest(true, sum.alg, in.spec.alg)
	defer d.free()
	if err := in.receive(ctx, r, w, d); err != nil {
		return nil, err
	}
	if _, err := commitPart(ctx, w, d); err != nil {
		return nil, err
	}
	r.outHeader[hETag] = []string{quoted(d.etag())}
	shown := in.spec.alg
	if shown == noAlgorithm {
		shown = sum.alg
	}
	r.setHeader(shown.header(), d.checksum(shown))
	return ok(), nil
}

// commitPart makes a part of what was written, with the checksums of its
// digest. The client cannot cancel it any more.
func commitPart(ctx context.Context, w store.Writer, d *digest) (store.Outcome, error) {
	attrs := make(store.Attrs, len(d.sums))
	for i := range d.sums {
		if alg := d.sums[i].alg; alg != noAlgorithm {
			attrs[partSumPrefix+alg.String()] = d.checksum(alg)
		}
	}
	return w.Commit(context.WithoutCancel(ctx), store.CommitOptions{ETag: d.etag(), Attrs: attrs})
}

// partChecksum returns a part's checksum in base64, or "".
func partChecksum(p *store.Part, alg algorithm) string { return p.Attrs[partSumPrefix+alg.String()] }

// uploadPartCopy answers UploadPartCopy.
func (s *Server) uploadPartCopy(ctx context.Context, r *request) (*response, error) {
	number, err := parsePartNumber(r.query.get("partNumber"))
	if err != nil {
		return nil, err
	}
	target, err := r.upload()
	if err != nil {
		return nil, err
	}
	u, err := target.describe(ctx, r.key)
	if err != nil {
		return nil, err
	}
	src, err := s.openSource(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }() // read only
	rg, err := r.copyRange(src.Info().Size)
	if err != nil {
		return nil, err
	}
	w, err := target.CreatePart(ctx, r.key, target.uploadID, number, store.CreateHint{Size: rg.length})
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Abort() }() // nothing after a commit
	sum := uploadChecksumOf(u)
	d := newDigest(true, sum.alg, noAlgorithm)
	defer d.free()
	if err := d.copyRange(w, src.Reader, rg); err != nil {
		return nil, err
	}
	if _, err := commitPart(ctx, w, d); err != nil {
		return nil, err
	}
	if v := src.shownVersion(); v != "" {
		r.setHeader(hCopySourceVersionID, v)
	}
	x := newXML("CopyPartResult", nsS3)
	x.time("LastModified", s.now())
	x.etag(d.etag())
	if sum.chosen {
		x.elem(sum.alg.element(), d.checksum(sum.alg))
	}
	x.end("CopyPartResult")
	return x.response(), nil
}

// copyRange is the part of the source that UploadPartCopy takes.
// Errors: InvalidArgument, InvalidRange, InvalidRequest.
func (r *request) copyRange(size int64) (byteRange, error) {
	rg := byteRange{0, size}
	if header := r.header(hCopySourceRange); header != "" {
		var err error
		if rg, err = parseCopyRange(header, size); err != nil {
			return rg, err
		}
	}
	if rg.length > maxObjectBytes {
		return rg, fail(codeInvalidRequest, "A part may have 5 GiB at most.")
	}
	return rg, nil
}

// abortMultipartUpload answers AbortMultipartUpload. No event tells of it.
func (s *Server) abortMultipartUpload(ctx context.Context, r *request) (*response, error) {
	target, err := r.upload()
	if err != nil {
		return nil, err
	}
	if err := target.AbortUpload(ctx, r.key, target.uploadID); err != nil {
		return nil, err
	}
	return noContent(), nil
}
