package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	headerDecodedLength = "X-Amz-Decoded-Content-Length"
	headerTrailer       = "X-Amz-Trailer"

	// The values of x-amz-content-sha256 that are no hash.
	unsignedPayload       = "UNSIGNED-PAYLOAD"
	streamSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamECDSA           = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
)

// setPayload finds out how the body comes, and sets Body, DecodedLength and
// Trailer. hash is x-amz-content-sha256; chain continues the request's own
// signature, for signed chunks; nil when there is none.
func (v *Verified) setPayload(r *http.Request, hash string, chain *chunkChain) error {
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	v.DecodedLength = r.ContentLength
	switch {
	case hash == unsignedPayload:
		if isChunked(r.Header) {
			return v.setChunked(r, body, nil, false)
		}
		v.Body = plainReader{body}
		return nil
	case hash == streamSigned, hash == streamSignedTrailer:
		if chain == nil {
			return refuse(CodeInvalidRequest, "signed chunks need a request that is signed with "+algorithm4)
		}
		return v.setChunked(r, body, chain, hash == streamSignedTrailer)
	case hash == streamUnsignedTrailer:
		return v.setChunked(r, body, nil, true)
	case strings.HasPrefix(hash, streamECDSA):
		return refuse(CodeNotImplemented, "asymmetric signatures are not supported")
	case isLiteral(hash):
		return v.setLiteral(r, body, hash)
	}
	return refuse(CodeInvalidArgument, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING- values, or a SHA-256 in hexadecimal digits",
		Detail{"ArgumentName", "x-amz-content-sha256"}, Detail{"ArgumentValue", hash})
}

func isLiteral(hash string) bool { return isHex(hash, sha256.Size) }

// isChunked tells whether a body is aws-chunked although its hash does not say
// so, as some clients have it. The token aws-chunked in Content-Encoding alone
// says nothing: a body without the length is taken as it comes (RGW).
func isChunked(h http.Header) bool { return h.Get(headerDecodedLength) != "" }

// StripAWSChunked takes the token aws-chunked from a Content-Encoding, which
// describes the transfer and not the object. What is left may be empty.
func StripAWSChunked(contentEncoding string) string {
	if !strings.Contains(strings.ToLower(contentEncoding), "aws-chunked") {
		return contentEncoding
	}
	var kept []string
	for token := range strings.SplitSeq(contentEncoding, ",") {
		token = strings.TrimSpace(token)
		if token != "" && !strings.EqualFold(token, "aws-chunked") {
			kept = append(kept, token)
		}
	}
	return strings.Join(kept, ",")
}

// setLiteral reads a body whose hash is known beforehand. It is the hash of
// the bytes on the wire.
func (v *Verified) setLiteral(r *http.Request, body io.Reader, hash string) error {
	want, err := hex.DecodeString(hash)
	if err != nil {
		return err // cannot be: the caller looked
	}
	if r.ContentLength == 0 {
		if !strings.EqualFold(hash, emptySHA256) {
			return errSHA256(hash, emptySHA256)
		}
		v.Body = http.NoBody
	} else {
		v.Body = &literalReader{r: body, h: sha256.New(), want: [sha256.Size]byte(want)}
	}
	if isChunked(r.Header) {
		return v.setChunked(r, v.Body, nil, false)
	}
	return nil
}

// setChunked reads an aws-chunked body; with a chain its signatures are
// checked, with trailers a trailer is expected if x-amz-trailer names one.
func (v *Verified) setChunked(r *http.Request, body io.Reader, chain *chunkChain, trailers bool) error {
	length, err := decodedLength(r)
	if err != nil {
		return err
	}
	names, err := trailerNames(r.Header)
	if err != nil {
		return err
	}
	if len(names) > 0 && chain != nil && !trailers {
		return refuse(CodeInvalidRequest, "x-amz-trailer needs an x-amz-content-sha256 that ends with -TRAILER")
	}
	c := newChunkReader(body, length, chain, names, trailers)
	v.Body, v.DecodedLength, v.Chunked, v.trailer = c, length, true, c.trailers
	return nil
}

// decodedLength reads x-amz-decoded-content-length, which chunks need.
func decodedLength(r *http.Request) (int64, error) {
	text := r.Header.Get(headerDecodedLength)
	if text == "" {
		return 0, refuse(CodeMissingContentLength, "a body in chunks needs the header x-amz-decoded-content-length")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || !isDigits(text) {
		return 0, refuse(CodeInvalidArgument, "x-amz-decoded-content-length is not a number of bytes",
			Detail{"ArgumentName", "x-amz-decoded-content-length"}, Detail{"ArgumentValue", text})
	}
	return n, nil
}

// trailerNames reads x-amz-trailer. Only checksums may trail.
func trailerNames(h http.Header) ([]string, error) {
	var names []string
	for _, list := range h[headerTrailer] {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" {
				continue
			}
			if !strings.HasPrefix(name, "x-amz-checksum-") || len(names) == maxTrailers {
				return nil, refuse(CodeInvalidRequest, "x-amz-trailer names something that may not trail")
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// plainReader reads a body as it is.
type plainReader struct{ r io.Reader }

func (p plainReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = bodyError(err)
	}
	return n, err
}

// literalReader checks a body's hash at its end.
type literalReader struct {
	r    io.Reader
	h    hash.Hash
	want [sha256.Size]byte
	err  error // sticky
}

func (l *literalReader) Read(b []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.r.Read(b)
	l.h.Write(b[:n])
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		l.err = bodyError(err)
		return n, l.err
	}
	l.err = io.EOF
	var got [sha256.Size]byte
	l.h.Sum(got[:0])
	if subtle.ConstantTimeCompare(got[:], l.want[:]) != 1 {
		l.err = errSHA256(hex.EncodeToString(l.want[:]), hex.EncodeToString(got[:]))
	}
	return n, l.err
}

func errSHA256(client, ours string) *Error {
	return refuse(CodeSHA256Mismatch, "x-amz-content-sha256 is not the hash of the body that arrived",
		Detail{"ClientComputedContentSHA256", client}, Detail{"S3ComputedContentSHA256", ours})
}

// bodyError names the end of a body that came too early; other errors pass.
func bodyError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errIncomplete("the body ended before its Content-Length")
	}
	return err
}

func errIncomplete(message string) *Error { return refuse(CodeIncompleteBody, message) }
