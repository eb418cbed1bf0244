package s3api

import (
	"math"
	"strconv"
	"strings"
)

// byteRange is a part of an object: length bytes from off.
type byteRange struct{ off, length int64 }

// contentRange is the Content-Range header for the range of an object of size
// bytes.
func (b byteRange) contentRange(size int64) string {
	buf := make([]byte, 0, 64)
	buf = append(buf, "bytes "...)
	buf = strconv.AppendInt(buf, b.off, 10)
	buf = append(buf, '-')
	buf = strconv.AppendInt(buf, b.off+b.length-1, 10)
	buf = append(buf, '/')
	buf = strconv.AppendInt(buf, size, 10)
	return string(buf)
}

// parseRange reads a Range header for an object of size bytes. A header that
// is not understood, or asks for several ranges, is as good as none (partial
// is false), as S3 and RFC 9110 have it. Errors: InvalidRange.
func parseRange(header string, size int64) (rg byteRange, partial bool, err error) {
	whole := byteRange{0, size}
	first, last, ok := splitRange(header)
	if !ok {
		return whole, false, nil
	}
	switch {
	case first < 0: // the last bytes
		n := min(last, size)
		if n == 0 {
			return whole, false, errRange(header, size)
		}
		return byteRange{size - n, n}, true, nil
	case first >= size:
		return whole, false, errRange(header, size)
	}
	last = min(last, size-1)
	return byteRange{first, last - first + 1}, true, nil
}

func errRange(header string, size int64) error {
	return fail(codeInvalidRange, "").
		with("RangeRequested", header).
		with("ActualObjectSize", strconv.FormatInt(size, 10)).
		header("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
}

// splitRange reads "bytes=FIRST-LAST"; first is -1 for a suffix of last bytes,
// and last the largest number when it is open.
func splitRange(header string) (first, last int64, ok bool) {
	unit, spec, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return 0, 0, false
	}
	a, b, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return 0, 0, false
	}
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if a == "" {
		last, ok = parseDecimal(b)
		return -1, last, ok
	}
	if first, ok = parseDecimal(a); !ok {
		return 0, 0, false
	}
	if b == "" {
		return first, math.MaxInt64, true
	}
	last, ok = parseDecimal(b)
	return first, last, ok && first <= last
}

// parseDecimal reads a number of digits only; what is too large becomes the
// largest int64.
func parseDecimal(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		if n > (math.MaxInt64-d)/10 {
			n = math.MaxInt64
		} else {
			n = n*10 + d
		}
	}
	return n, true
}

// parseCopyRange reads x-amz-copy-source-range, which must be one closed range
// inside the source. Errors: InvalidArgument, InvalidRange.
func parseCopyRange(header string, size int64) (byteRange, error) {
	spec, found := strings.CutPrefix(header, "bytes=")
	a, b, dash := strings.Cut(spec, "-")
	first, ok1 := parseDecimal(a)
	last, ok2 := parseDecimal(b)
	if !found || !dash || !ok1 || !ok2 || first > last {
		return byteRange{}, invalidArgument("x-amz-copy-source-range", header, "x-amz-copy-source-range must be bytes=FIRST-LAST.")
	}
	if last >= size {
		return byteRange{}, errRange(header, size)
	}
	return byteRange{first, last - first + 1}, nil
}
