package s3api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"herald/auth"
	"herald/store"
)

const (
	hRange         = "Range"
	hIfRange       = "If-Range"
	hContentRange  = "Content-Range"
	hAcceptRanges  = "Accept-Ranges"
	hDeleteMarker  = "X-Amz-Delete-Marker"
	hPartsCount    = "X-Amz-Mp-Parts-Count"
	hTaggingCount  = "X-Amz-Tagging-Count"
	hChecksumMode  = "X-Amz-Checksum-Mode"
	maxPartNumber  = 10000
	checksumWanted = "ENABLED"
)

// Values of headers that many answers share; they are never written.
var (
	acceptRanges = []string{"bytes"}
	defaultTypes = []string{defaultType}
)

// getObject answers GetObject.
func (s *Server) getObject(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	reader, err := s.openObject(ctx, r, versionID)
	if err != nil {
		return nil, err
	}
	resp, err := r.readResponse(reader)
	if err != nil {
		_ = reader.Close() // read only
		return nil, err
	}
	return resp, nil
}

// headObject answers HeadObject: GetObject without opening the data.
func (s *Server) headObject(ctx context.Context, r *request) (*response, error) {
	versionID, err := r.versionID()
	if err != nil {
		return nil, err
	}
	info, err := s.statObject(ctx, r, versionID, auth.PermRead)
	if err != nil {
		return nil, err
	}
	return r.readResponse(described{info})
}

// described is a Reader of which nothing is read: of an answer to HEAD.
type described struct{ info *store.Info }

func (d described) Info() *store.Info                                 { return d.info }
func (described) ReadAt([]byte, int64) (int, error)                   { return 0, io.EOF }
func (described) WriteRangeTo(io.Writer, int64, int64) (int64, error) { return 0, io.EOF }
func (described) Close() error                                        { return nil }

// readFailure tells of delete markers: who asks for the key finds nothing, who
// asks for the marker itself must not read it. Where there is none that is said,
// too (RGW; S3 keeps silent). Who may not list the bucket is told none of this.
func (r *request) readFailure(err error, versionID string) error {
	if isMissing(err) && !mayList(r.user, r.bucket.Info) {
		return codeAccessDenied
	}
	var marker *store.DeleteMarkerError
	if !errors.As(err, &marker) {
		if errors.Is(err, store.ErrNoSuchKey) {
			return failWith(codeNoSuchKey, err).header(hDeleteMarker, "false")
		}
		return err
	}
	e := failWith(codeNoSuchKey, nil)
	if versionID != "" {
		e = failWith(codeMethodNotAllowed, nil).
			header("Allow", http.MethodDelete).
			header(hLastModified, httpTime(marker.Info.ModTime)).
			with("Method", r.http.Method).with("ResourceType", "DeleteMarker")
	}
	e = e.header(hDeleteMarker, "true")
	if v := r.shownVersion(marker.Info); v != "" {
		e = e.header(hVersionID, v)
	}
	return e
}

// readResponse checks conditions and range, and describes what is sent.
func (r *request) readResponse(reader store.Reader) (*response, error) {
	info, h := reader.Info(), r.http.Header
	cond := readConditions(h)
	if err := checkRead(&cond, info); err != nil {
		return nil, err
	}
	sel, err := r.selection(info)
	if err != nil {
		return nil, err
	}
	r.describeObject(info)
	if len(h[hChecksumMode]) > 0 || r.verified.Presigned {
		r.showChecksum(info, &sel)
	}
	if err := r.overrideHeaders(); err != nil {
		return nil, err
	}
	resp := &response{object: reader, off: sel.off, length: sel.length}
	if sel.partial {
		resp.status = http.StatusPartialContent
		r.setHeader(hContentRange, sel.contentRange(info.Size))
	}
	if sel.parts > 0 {
		r.setHeader(hPartsCount, strconv.Itoa(sel.parts))
	}
	return resp, nil
}

// selection is what a read asks for.
type selection struct {
	byteRange
	partial bool
	part    int // 0: none was asked for
	parts   int // how many the object has, if a part was asked for
	sum     []byte
	alg     algorithm // of sum
}

// selection reads the Range header or the partNumber parameter.
// Errors: InvalidRange, InvalidPartNumber, InvalidRequest, InvalidArgument.
func (r *request) selection(info *store.Info) (selection, error) {
	header := r.header(hRange)
	part, given := r.query.lookup("partNumber")
	switch {
	case given && header != "":
		return selection{}, fail(codeInvalidRequest, "Ask either for a range or for a part.")
	case given:
		return selectPart(info, part)
	case header == "" || !ifRange(r.header(hIfRange), info):
		return selection{byteRange: byteRange{0, info.Size}}, nil
	}
	rg, partial, err := parseRange(header, info.Size)
	return selection{byteRange: rg, partial: partial}, err
}

// ifRange tells whether a range may be given: the object is still the one that
// an If-Range header names (RFC 9110, 13.1.5).
func ifRange(header string, info *store.Info) bool {
	if header == "" {
		return true
	}
	if t, err := http.ParseTime(header); err == nil {
		return info.ModTime.Unix() == t.Unix()
	}
	return header == quoted(info.ETag)
}

// selectPart finds a part of an object. One that was not made of parts is its
// own only part.
func selectPart(info *store.Info, number string) (selection, error) {
	n, err := parsePartNumber(number)
	if err != nil {
		return selection{}, err
	}
	table, err := decodeParts(info.Attrs[attrParts])
	if err != nil {
		return selection{}, err
	}
	sel := selection{part: n, parts: len(table.parts), alg: table.alg, partial: info.Size > 0}
	if sel.parts == 0 {
		if n > 1 {
			return sel, errPartNumber(n, 1)
		}
		sel.byteRange = byteRange{0, info.Size}
		return sel, nil
	}
	for i := range table.parts {
		p := &table.parts[i]
		if p.number == n {
			sel.length, sel.sum = p.size, p.sum
			sel.partial = info.Size > 0 && p.size > 0
			return sel, nil
		}
		sel.off += p.size
	}
	return sel, errPartNumber(n, sel.parts)
}

func errPartNumber(n, count int) error {
	return fail(codeInvalidPartNumber, "").
		with("PartNumberRequested", strconv.Itoa(n)).
		with("ActualPartCount", strconv.Itoa(count))
}

// parsePartNumber reads a part's number. Errors: InvalidArgument.
func parsePartNumber(s string) (int, error) {
	n, ok := parseDecimal(s)
	if !ok || n < 1 || n > maxPartNumber {
		return 0, invalidArgument("partNumber", s, "A part number is from 1 to %d.", maxPartNumber)
	}
	return int(n), nil
}

// showChecksum sets the checksum's headers if the client wants them and all
// that the checksum covers is sent: the object, or one of its parts.
func (r *request) showChecksum(info *store.Info, sel *selection) {
	if !strings.EqualFold(r.header(hChecksumMode), checksumWanted) &&
		!strings.EqualFold(r.query.get("x-amz-checksum-mode"), checksumWanted) {
		return
	}
	switch {
	case sel.parts > 0:
		if sel.sum != nil {
			r.setHeader(sel.alg.header(), encodeSum(sel.sum))
			r.setHeader(hChecksumType, info.Attrs[store.AttrChecksumType])
		}
	case !sel.partial || sel.part > 0:
		r.setChecksum(info.Attrs)
	}
}

// describeObject sets the headers that describe an object. It is on the path
// of every GET: the values' slices are cut from one, and names need no
// canonical form, which costs.
func (r *request) describeObject(info *store.Info) {
	h := r.outHeader
	values := make([]string, 0, 4+len(info.Attrs))
	set := func(name, value string) {
		values = append(values, value) // never grows beyond its capacity
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	h[hAcceptRanges] = acceptRanges
	h[hContentType] = defaultTypes
	set(hLastModified, httpTime(info.ModTime))
	set(hETag, quoted(info.ETag))
	if v := r.shownVersion(info); v != "" {
		set(hVersionID, v)
	}
	if info.IsLatest { // rules for others do not name a day: it depends on those that come
		r.setExpiration(info)
	}
	for name, value := range info.Attrs {
		switch {
		case strings.HasPrefix(name, metaPrefix):
			set(name, value)
		case strings.HasPrefix(name, "herald-"):
			if name == attrObjectTagging && value != "" {
				set(hTaggingCount, strconv.Itoa(1+strings.Count(value, "&")))
			}
		default:
			if shown := shownHeader(name); shown != "" {
				set(shown, value)
			}
		}
	}
}

// shownHeader returns the header in which an attribute is shown, or "".
func shownHeader(attr string) string {
	switch attr {
	case "content-type":
		return hContentType
	case "cache-control":
		return "Cache-Control"
	case "content-disposition":
		return "Content-Disposition"
	case "content-encoding":
		return "Content-Encoding"
	case "content-language":
		return "Content-Language"
	case "expires":
		return "Expires"
	case attrRedirect:
		return hRedirect
	case store.AttrStorageClass:
		return hStorageClass
	}
	return ""
}

// overrides are the parameters that replace headers of an answer. It is never
// written.
var overrides = map[string]string{
	"response-content-type":        hContentType,
	"response-content-language":    "Content-Language",
	"response-expires":             "Expires",
	"response-cache-control":       "Cache-Control",
	"response-content-disposition": "Content-Disposition",
	"response-content-encoding":    "Content-Encoding",
}

// overrideHeaders obeys response- parameters, which only signed requests may
// have. Errors: InvalidRequest.
func (r *request) overrideHeaders() error {
	for i := range r.query {
		if !strings.HasPrefix(r.query[i].key, "response-") {
			continue
		}
		name := overrides[r.query[i].key]
		if name == "" {
			continue
		}
		if r.user.Anonymous() {
			return fail(codeInvalidRequest, "Parameters that replace headers need a signed request.")
		}
		r.setHeader(name, r.query[i].value)
	}
	return nil
}
