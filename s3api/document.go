package s3api

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
)

// maxDocument is the longest XML body of a small operation, in bytes (RGW:
// rgw_max_put_param_size).
const maxDocument = 1 << 20

const hContentMD5 = "Content-Md5"

var errDocumentRoot = errors.New("the document is not of the expected kind")

// document reads the request's body, at most limit bytes, verifies what was
// said of it (signature, Content-MD5, checksums) and parses it. The root
// element must have the given name. Errors: MalformedXML, MissingRequestBody,
// MaxMessageLengthExceeded, BadDigest, InvalidDigest, and those of the
// signature.
func (r *request) document(limit int64, root string) (*node, error) {
	data, err := r.readAll(limit)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, codeMissingRequestBody
	}
	doc, err := parseXML(data)
	if err != nil {
		return nil, err
	}
	if doc.name != root {
		return nil, failWith(codeMalformedXML, errDocumentRoot)
	}
	return doc, nil
}

// readAll reads a small body and verifies it.
func (r *request) readAll(limit int64) ([]byte, error) {
	if r.size() > limit {
		return nil, codeMaxMessageLengthExceeded
	}
	want, err := r.contentMD5()
	if err != nil {
		return nil, err
	}
	spec, err := parseChecksum(r.http.Header)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r.reader(), limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, codeMaxMessageLengthExceeded
	}
	if want != nil {
		if got := md5.Sum(data); !bytes.Equal(got[:], want) {
			return nil, fail(codeBadDigest, "").
				with("ExpectedDigest", base64.StdEncoding.EncodeToString(want)).
				with("CalculatedDigest", base64.StdEncoding.EncodeToString(got[:]))
		}
	}
	if spec.alg != noAlgorithm {
		err = spec.verify(encodeSum(spec.alg.sum(data)), r.verified.Trailer)
	}
	return data, err
}

// contentMD5 returns the digest that the client sent, or nil.
// Errors: InvalidDigest.
func (r *request) contentMD5() ([]byte, error) {
	values := r.http.Header[hContentMD5]
	if len(values) == 0 {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil || len(sum) != md5.Size {
		return nil, fail(codeInvalidDigest, "").with("Content-MD5", values[0])
	}
	return sum, nil
}

// vouched tells whether anything shows that the body arrives as it was sent: a
// digest, a checksum, or a signature that covers it.
func (r *request) vouched() bool {
	if r.verified.PayloadSigned || r.header(hContentMD5) != "" {
		return true
	}
	spec, err := parseChecksum(r.http.Header)
	return err != nil || spec.alg != noAlgorithm // an error is reported when the body is read
}
