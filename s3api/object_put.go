package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"strconv"

	"herald/notify"
	"herald/store"
)

// putObject stores one object. Nothing is visible before its body arrived
// whole and was found to be what its digests say.
func (s *Server) putObject(ctx context.Context, r *request) (*response, error) {
	in, err := r.incoming()
	if err != nil {
		return nil, err
	}
	attrs, err := r.requestAttrs()
	if err != nil {
		return nil, err
	}
	cond := writeConditions(r.http.Header)
	if err := r.checkEarly(ctx, &cond); err != nil {
		return nil, err
	}
	pending, err := s.reserve(ctx, r, notify.ObjectCreatedPut, attrs)
	if err != nil {
		return nil, err
	}
	defer pending.Abort()
	w, err := r.bucket.Create(ctx, r.key, store.CreateHint{Size: in.size})
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Abort() }() // nothing after a commit

	alg := in.spec.alg
	if alg == noAlgorithm {
		alg = algCRC64NVME // as S3 does when the client chose none
	}
	d := newDigest(true, alg, noAlgorithm)
	defer d.free()
	if err := in.receive(ctx, r, w, d); err != nil {
		return nil, err
	}
	opts := store.CommitOptions{Cond: cond, Versioning: r.bucket.Info.Versioning, ETag: d.etag(), Attrs: attrs}
	setChecksum(attrs, alg, typeFullObject, d.checksum(alg))
	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		opts.Op = op
		return w.Commit(ctx, opts)
	})
	if err != nil {
		return nil, err
	}
	r.outHeader[hETag] = []string{quoted(opts.ETag)}
	r.setChecksum(attrs)
	r.setNewVersion(out.Info)
	return ok(), nil
}

// reserve makes room for the events of a change of the request's key.
func (s *Server) reserve(ctx context.Context, r *request, typ notify.EventType, attrs store.Attrs) (*notify.Pending, error) {
	return s.notify.Publisher().Reserve(ctx, notify.Change{
		Type: typ, Bucket: r.bucket.Info, Key: r.key, Attrs: attrs,
		Principal: r.principal(), RequestID: r.id, HostID: s.hostID,
	})
}

// setChecksum notes an object's checksum among its attributes.
func setChecksum(attrs store.Attrs, alg algorithm, typ, value string) {
	attrs[store.AttrChecksumAlgorithm] = alg.String()
	attrs[store.AttrChecksumType] = typ
	attrs[attrChecksum] = value
}

// setChecksum sets the headers that show the checksum of an object.
func (r *request) setChecksum(attrs store.Attrs) {
	alg, known := parseAlgorithm(attrs[store.AttrChecksumAlgorithm])
	value := attrs[attrChecksum]
	if !known || value == "" {
		return
	}
	r.setHeader(alg.header(), value)
	r.setHeader(hChecksumType, attrs[store.AttrChecksumType])
}

// checkEarly refuses a write whose conditions do not hold already, before its
// body comes. They are checked again under the key's guard at the commit.
func (r *request) checkEarly(ctx context.Context, cond *store.Conditions) error {
	if cond.IsZero() {
		return nil
	}
	info, err := r.bucket.Stat(ctx, r.key, "")
	if err != nil {
		info = nil // the commit knows better
	}
	return cond.CheckWrite(info)
}

// incoming is a body that is about to arrive, of PutObject or UploadPart.
type incoming struct {
	size int64
	md5  []byte // nil: not given
	spec checksumSpec
}

// incoming reads what the headers say of the body.
// Errors: MissingContentLength, EntityTooLarge, InvalidDigest, InvalidRequest.
func (r *request) incoming() (in incoming, err error) {
	in.size = r.size()
	h := r.http.Header
	if in.size < 0 || in.size == 0 && r.http.ProtoMajor < 2 && len(h[hContentLength]) == 0 && !r.verified.Chunked {
		return in, codeMissingContentLength
	}
	if in.size > maxObjectBytes {
		return in, fail(codeEntityTooLarge, "").
			with("ProposedSize", strconv.FormatInt(in.size, 10)).
			with("MaxSizeAllowed", strconv.FormatInt(maxObjectBytes, 10))
	}
	if in.md5, err = r.contentMD5(); err != nil {
		return in, err
	}
	in.spec, err = parseChecksum(h)
	return in, err
}

// receive copies the body to w, computes d of it, and compares with what the
// client said. Errors: IncompleteBody, BadDigest, MalformedTrailerError, and
// those of the signature and of the store.
func (in *incoming) receive(ctx context.Context, r *request, w store.Writer, d *digest) error {
	if err := d.copyHashed(w, r.reader(), in.size); err != nil {
		return bodyFailure(ctx, err)
	}
	if in.md5 != nil {
		var b [md5.Size]byte
		if got := d.md5.Sum(b[:0]); !bytes.Equal(got, in.md5) {
			return fail(codeBadDigest, "").
				with("ExpectedDigest", encodeSum(in.md5)).
				with("CalculatedDigest", encodeSum(got))
		}
	}
	if in.spec.alg == noAlgorithm {
		return nil
	}
	return in.spec.verify(d.checksum(in.spec.alg), r.verified.Trailer)
}
