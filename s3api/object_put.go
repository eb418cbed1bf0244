package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"net"
	"strconv"
	"strings"

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
	attrs, err := s.requestAttrs(ctx, r)
	if err != nil {
		return nil, err
	}
	cond := writeConditions(r.http.Header)
	if err := s.checkEarly(ctx, r, &cond); err != nil {
		return nil, err
	}
	pending, w, err := s.begin(ctx, r, notify.ObjectCreatedPut, attrs, in.size)
	if err != nil {
		return nil, err
	}
	defer pending.Abort()
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
	change := s.change(r, typ)
	change.Key, change.Attrs = r.key, attrs
	return s.notify.Publisher().Reserve(ctx, change)
}

// begin is reserve, and makes the writer of the object: before there is room
// where that takes round trips, which are made beside each other then.
func (s *Server) begin(ctx context.Context, r *request, typ notify.EventType, attrs store.Attrs, size int64) (*notify.Pending, store.Writer, error) {
	var w store.Writer
	var err error
	create := func(op store.OpID) {
		w, err = r.bucket.Create(ctx, r.key, store.CreateHint{Size: size, Op: op})
	}
	change := s.change(r, typ)
	change.Key, change.Attrs, change.Begin = r.key, attrs, create
	pending, full := s.notify.Publisher().Reserve(ctx, change)
	if full == nil && w == nil && err == nil {
		create(store.OpID{})
	}
	switch {
	case full != nil && w != nil:
		return nil, nil, errors.Join(full, w.Abort())
	case full != nil:
		return nil, nil, full
	case err != nil:
		pending.Abort()
		return nil, nil, err
	}
	return pending, w, nil
}

// change is what all changes of a request have in common.
func (s *Server) change(r *request, typ notify.EventType) notify.Change {
	source, _, err := net.SplitHostPort(r.http.RemoteAddr)
	if err != nil {
		source = "" // not over TCP
	}
	return notify.Change{
		Type: typ, Bucket: r.bucket.Info, Principal: r.principal(), RequestID: r.id, HostID: s.hostID,
		TraceParent: r.header("Traceparent"), TraceState: strings.Join(r.http.Header["Tracestate"], ","), SourceIP: source,
	}
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
func (s *Server) checkEarly(ctx context.Context, r *request, cond *store.Conditions) error {
	if cond.IsZero() {
		return nil
	}
	if err := s.allowConditions(ctx, r, r.key, "", cond); err != nil {
		return err
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
