package s3api

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"strconv"
	"strings"

	"herald/notify"
	"herald/store"
)

const (
	minPartBytes  = 5 << 20 // of all parts but the last (S3)
	hMPObjectSize = "X-Amz-Mp-Object-Size"
	// maxCompleteDocument holds 10,000 parts with a checksum each.
	maxCompleteDocument = 8 << 20
)

// completePart is one part as CompleteMultipartUpload names it.
type completePart struct {
	number int
	etag   string
	sums   [algorithmCount]string // base64; "" where none was given
}

// parseComplete reads a CompleteMultipartUpload document.
// Errors: MalformedXML, InvalidPart, InvalidPartOrder.
func parseComplete(doc *node) ([]completePart, error) {
	if doc.name != "CompleteMultipartUpload" && doc.name != "CompleteMultipartUploadRequest" {
		return nil, failWith(codeMalformedXML, errDocumentRoot)
	}
	parts := make([]completePart, 0, len(doc.children))
	for i := range doc.children {
		n := &doc.children[i]
		if n.name != "Part" {
			return nil, codeMalformedXML
		}
		p, err := parseCompletePart(n)
		if err != nil {
			return nil, err
		}
		last := len(parts) - 1
		switch {
		case last < 0 || p.number > parts[last].number:
			parts = append(parts, p)
		case p.number == parts[last].number:
			parts[last] = p // RGW: who uploads a part twice may name it twice
		default:
			return nil, codeInvalidPartOrder
		}
	}
	if len(parts) == 0 || len(parts) > maxPartNumber {
		return nil, fail(codeMalformedXML, "The document must name 1 to %d parts.", maxPartNumber)
	}
	return parts, nil
}

func parseCompletePart(n *node) (completePart, error) {
	number, ok := parseDecimal(n.childText("PartNumber"))
	p := completePart{number: int(number), etag: strings.ToLower(strings.Trim(n.childText("ETag"), `"`))}
	if !ok || p.etag == "" {
		return p, codeMalformedXML
	}
	if number < 1 || number > maxPartNumber {
		return p, invalidPart(&p)
	}
	for a := algCRC32; int(a) < algorithmCount; a++ {
		p.sums[a] = n.childText(a.element())
	}
	return p, nil
}

func invalidPart(p *completePart) error {
	return fail(codeInvalidPart, "").with("PartNumber", strconv.Itoa(p.number)).with("ETag", p.etag)
}

// multipartETag is the ETag of an object of these parts: the MD5 of their
// MD5s, and their number. Errors: InvalidPart.
func multipartETag(parts []completePart) (string, error) {
	h := md5.New()
	for i := range parts {
		sum, err := hex.DecodeString(parts[i].etag)
		if err != nil || len(sum) != md5.Size {
			return "", invalidPart(&parts[i])
		}
		_, _ = h.Write(sum) // hashes never fail
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), nil
}

// completeMultipartUpload answers CompleteMultipartUpload. Repeated after it
// succeeded it answers the same again, without an event.
func (s *Server) completeMultipartUpload(ctx context.Context, r *request) (*response, error) {
	target, err := r.upload()
	if err != nil {
		return nil, err
	}
	wanted, err := r.completeDocument()
	if err != nil {
		return nil, err
	}
	etag, err := multipartETag(wanted)
	if err != nil {
		return nil, err
	}
	u, parts, _, err := target.ListParts(ctx, r.key, target.uploadID, 0, maxPartNumber)
	if errors.Is(err, store.ErrNoSuchUpload) {
		return r.completedBefore(ctx, target, etag)
	}
	if err != nil {
		return nil, err
	}
	table, err := checkParts(wanted, parts, uploadChecksumOf(u))
	if err != nil {
		return nil, err
	}
	attrs, err := r.completeAttrs(u, table)
	if err != nil {
		return nil, err
	}
	attrs[attrUploadID] = target.uploadID
	out, err := s.commitUpload(ctx, r, target, wanted, store.CommitOptions{
		Cond: writeConditions(r.http.Header), Versioning: r.bucket.Info.Versioning, ETag: etag, Attrs: attrs,
	})
	if errors.Is(err, store.ErrNoSuchUpload) { // another request was faster
		return r.completedBefore(ctx, target, etag)
	}
	if err != nil {
		return nil, err
	}
	return r.completeResult(out.Info, etag, attrs), nil
}

// completeDocument reads the body. Its checksum headers are those of the
// object, not of the body.
func (r *request) completeDocument() ([]completePart, error) {
	data, err := io.ReadAll(io.LimitReader(r.reader(), maxCompleteDocument+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCompleteDocument {
		return nil, codeMaxMessageLengthExceeded
	}
	doc, err := parseXML(data)
	if err != nil {
		return nil, err
	}
	return parseComplete(doc)
}

// commitUpload makes the object and announces it.
func (s *Server) commitUpload(ctx context.Context, r *request, target partTarget, wanted []completePart, opts store.CommitOptions) (store.Outcome, error) {
	if err := s.checkEarly(ctx, r, &opts.Cond); err != nil {
		return store.Outcome{}, err
	}
	list := make([]store.CompletedPart, len(wanted))
	for i := range wanted {
		list[i] = store.CompletedPart{Number: wanted[i].number, ETag: wanted[i].etag}
	}
	pending, err := s.reserve(ctx, r, notify.ObjectCreatedCompleteMultipartUpload, opts.Attrs)
	if err != nil {
		return store.Outcome{}, err
	}
	defer pending.Abort()
	return pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		opts.Op = op
		return target.Complete(ctx, r.key, target.uploadID, list, opts)
	})
}

// completedBefore answers a repeated Complete: the key's current object came
// from that upload and those parts. Errors: NoSuchUpload.
func (r *request) completedBefore(ctx context.Context, target partTarget, etag string) (*response, error) {
	info, err := r.bucket.Stat(ctx, r.key, "")
	if err != nil || info.Attrs[attrUploadID] != target.uploadID || info.ETag != etag {
		return nil, codeNoSuchUpload
	}
	return r.completeResult(info, etag, info.Attrs), nil
}

func (r *request) completeResult(info *store.Info, etag string, attrs store.Attrs) *response {
	r.setNewVersion(info)
	x := newXML("CompleteMultipartUploadResult", nsS3)
	x.elem("Location", r.origin()+r.http.URL.EscapedPath())
	x.elem("Bucket", r.bucketName)
	x.elem("Key", r.key)
	x.etag(etag)
	writeChecksum(x, attrs, true)
	x.end("CompleteMultipartUploadResult")
	return x.response()
}

// completed is what the parts of an upload amount to.
type completed struct {
	table partTable
	size  int64
	sum   uploadChecksum
	value string // the object's checksum; "" if a part has none
}

// checkParts compares the parts named with those that are there, and computes
// the object's checksum. Errors: InvalidPart, EntityTooSmall.
func checkParts(wanted []completePart, parts []store.Part, sum uploadChecksum) (*completed, error) {
	c := &completed{sum: sum, table: partTable{alg: sum.alg, parts: make([]partEntry, 0, len(wanted))}}
	i := 0
	for n := range wanted {
		w := &wanted[n]
		for i < len(parts) && parts[i].Number < w.number {
			i++
		}
		if i == len(parts) || parts[i].Number != w.number || !samePart(w, &parts[i]) {
			return nil, invalidPart(w)
		}
		p := &parts[i]
		if p.Size < minPartBytes && n < len(wanted)-1 {
			return nil, fail(codeEntityTooSmall, "").
				with("ProposedSize", strconv.FormatInt(p.Size, 10)).with("MinSizeAllowed", strconv.Itoa(minPartBytes)).
				with("PartNumber", strconv.Itoa(p.Number)).with("ETag", p.ETag)
		}
		value, ok := sum.alg.decode(partChecksum(p, sum.alg))
		if !ok {
			c.table.alg, value = noAlgorithm, nil
		}
		c.table.parts = append(c.table.parts, partEntry{number: p.Number, size: p.Size, sum: value})
		c.size += p.Size
	}
	c.seal()
	return c, nil
}

// samePart tells whether a part is the one that was named.
func samePart(w *completePart, p *store.Part) bool {
	if p.ETag != w.etag {
		return false
	}
	for a := algCRC32; int(a) < algorithmCount; a++ {
		if w.sums[a] != "" && w.sums[a] != partChecksum(p, a) {
			return false
		}
	}
	return true
}

// seal computes the object's checksum of those of its parts.
func (c *completed) seal() {
	parts := c.table.parts
	if c.table.alg == noAlgorithm { // of some part there is none: keep none
		for i := range parts {
			parts[i].sum = nil
		}
		return
	}
	if c.sum.typ == typeFullObject {
		crc := newCRCCombiner(c.sum.alg)
		for i := range parts {
			crc.add(parts[i].sum, parts[i].size)
		}
		c.value = encodeSum(crc.sum())
		return
	}
	h := c.sum.alg.newHash()
	defer c.sum.alg.freeHash(h)
	for i := range parts {
		_, _ = h.Write(parts[i].sum) // hashes never fail
	}
	c.value = encodeSum(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// completeAttrs are the attributes of the finished object, once what the
// request says of it was found true. Errors: InvalidRequest, BadDigest.
func (r *request) completeAttrs(u *store.Upload, c *completed) (store.Attrs, error) {
	if v := r.header(hMPObjectSize); v != "" {
		if n, ok := parseDecimal(v); !ok || n != c.size {
			return nil, fail(codeInvalidRequest, "x-amz-mp-object-size is not the size of the object: %d.", c.size)
		}
	}
	if v := r.header(hChecksumType); v != "" && !strings.EqualFold(v, c.sum.typ) {
		return nil, fail(codeInvalidRequest, "The upload was created for a checksum of type %s.", c.sum.typ)
	}
	if err := r.checkObjectChecksum(c); err != nil {
		return nil, err
	}
	attrs := maps.Clone(u.Attrs)
	maps.DeleteFunc(attrs, func(name, _ string) bool { return strings.HasPrefix(name, uploadNotePrefix) })
	if c.value != "" {
		setChecksum(attrs, c.sum.alg, c.sum.typ, c.value)
	}
	attrs[attrParts] = c.table.encode()
	return attrs, nil
}

// checkObjectChecksum compares the object's checksum with the one that the
// request brings, if it does.
func (r *request) checkObjectChecksum(c *completed) error {
	for a := algCRC32; int(a) < algorithmCount; a++ {
		v := r.header(a.header())
		if v == "" {
			continue
		}
		if a != c.sum.alg {
			return fail(codeInvalidRequest, "The upload was created for %s checksums.", c.sum.alg)
		}
		plain, _, _ := strings.Cut(c.value, "-")
		if !a.validChecksum(strings.TrimSuffix(v, "-"+strconv.Itoa(len(c.table.parts)))) {
			return fail(codeInvalidRequest, "The value of the %s header is not a checksum of that kind in base64.", strings.ToLower(a.header()))
		}
		if v != c.value && v != plain {
			return badChecksum(a)
		}
	}
	return nil
}
