package s3api

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"

	"github.com/minio/crc64nvme"
)

// algorithm is a checksum's algorithm; the zero algorithm is none.
type algorithm uint8

const (
	noAlgorithm algorithm = iota
	algCRC32
	algCRC32C
	algCRC64NVME
	algSHA1
	algSHA256
)

// Types of checksums of multipart objects: over the parts' checksums, or over
// the whole object.
const (
	typeComposite  = "COMPOSITE"
	typeFullObject = "FULL_OBJECT"
)

const (
	hChecksumAlgorithm    = "X-Amz-Checksum-Algorithm"
	hChecksumType         = "X-Amz-Checksum-Type"
	hSDKChecksumAlgorithm = "X-Amz-Sdk-Checksum-Algorithm"
	hTrailer              = "X-Amz-Trailer"
	checksumHeaderPrefix  = "X-Amz-Checksum-"
)

// algorithms describes each algorithm; it is never written.
var algorithms = [...]struct {
	name    string // as in x-amz-checksum-algorithm
	header  string // canonical
	element string // in documents
	size    int    // bytes
}{
	algCRC32:     {"CRC32", "X-Amz-Checksum-Crc32", "ChecksumCRC32", 4},
	algCRC32C:    {"CRC32C", "X-Amz-Checksum-Crc32c", "ChecksumCRC32C", 4},
	algCRC64NVME: {"CRC64NVME", "X-Amz-Checksum-Crc64nvme", "ChecksumCRC64NVME", 8},
	algSHA1:      {"SHA1", "X-Amz-Checksum-Sha1", "ChecksumSHA1", 20},
	algSHA256:    {"SHA256", "X-Amz-Checksum-Sha256", "ChecksumSHA256", 32},
}

const algorithmCount = len(algorithms)

func (a algorithm) String() string  { return algorithms[a].name }
func (a algorithm) header() string  { return algorithms[a].header }
func (a algorithm) element() string { return algorithms[a].element }
func (a algorithm) size() int       { return algorithms[a].size }

// linear tells whether the checksum of a whole follows from those of its parts.
func (a algorithm) linear() bool { return a >= algCRC32 && a <= algCRC64NVME }

// parseAlgorithm reads an algorithm's name; S3 takes any case.
func parseAlgorithm(name string) (algorithm, bool) {
	for a := algCRC32; int(a) < algorithmCount; a++ {
		if strings.EqualFold(name, a.String()) {
			return a, true
		}
	}
	return noAlgorithm, false
}

// checksumOfHeader returns the algorithm of a header such as
// x-amz-checksum-crc32, in any case.
func checksumOfHeader(name string) (algorithm, bool) {
	for a := algCRC32; int(a) < algorithmCount; a++ {
		if strings.EqualFold(name, a.header()) {
			return a, true
		}
	}
	return noAlgorithm, false
}

// castagnoli is never written.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashPools keep hashers, by algorithm.
var hashPools = [algorithmCount]sync.Pool{
	algCRC32:     {New: func() any { return crc32.NewIEEE() }},
	algCRC32C:    {New: func() any { return crc32.New(castagnoli) }},
	algCRC64NVME: {New: func() any { return crc64nvme.New() }},
	algSHA1:      {New: func() any { return sha1.New() }},
	algSHA256:    {New: func() any { return sha256.New() }},
}

// newHash returns a fresh hasher, which freeHash takes back.
func (a algorithm) newHash() hash.Hash {
	h := hashPools[a].Get().(hash.Hash)
	h.Reset()
	return h
}

func (a algorithm) freeHash(h hash.Hash) { hashPools[a].Put(h) }

// sum returns the checksum of data.
func (a algorithm) sum(data []byte) []byte {
	h := a.newHash()
	defer a.freeHash(h)
	_, _ = h.Write(data) // hashes never fail
	return h.Sum(nil)
}

// validChecksum tells whether s is a checksum of the algorithm in base64.
func (a algorithm) validChecksum(s string) bool {
	_, ok := a.decode(s)
	return ok
}

func (a algorithm) decode(s string) ([]byte, bool) {
	if len(s) != base64.StdEncoding.EncodedLen(a.size()) {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) == a.size()
}

// checksumSpec is what a client says of a body's checksum.
type checksumSpec struct {
	alg     algorithm // noAlgorithm: nothing
	value   string    // base64, from the header; "" if it comes in the trailer
	trailer bool
}

// parseChecksum reads the checksum headers of a request that has a body: one
// checksum at most, in a header or announced by x-amz-trailer, and of the
// algorithm that x-amz-sdk-checksum-algorithm names, if it names one.
// Errors: InvalidRequest.
func parseChecksum(h http.Header) (checksumSpec, error) {
	spec, err := checksumHeader(h)
	if err != nil {
		return spec, err
	}
	if err := spec.addTrailer(h[hTrailer]); err != nil {
		return spec, err
	}
	named := h[hSDKChecksumAlgorithm]
	if len(named) == 0 {
		return spec, nil
	}
	alg, ok := parseAlgorithm(named[0])
	switch {
	case !ok:
		return spec, errUnknownAlgorithm(hSDKChecksumAlgorithm)
	case spec.alg == noAlgorithm:
		return spec, fail(codeInvalidRequest, "x-amz-sdk-checksum-algorithm names an algorithm, but neither a header nor a trailer brings the checksum.")
	case spec.alg != alg:
		return spec, fail(codeInvalidRequest, "x-amz-sdk-checksum-algorithm names %s, but the checksum given is %s.", alg, spec.alg)
	}
	return spec, nil
}

// checksumHeader reads the x-amz-checksum-ALGORITHM header.
func checksumHeader(h http.Header) (spec checksumSpec, err error) {
	for name, values := range h {
		if !strings.HasPrefix(name, checksumHeaderPrefix) {
			continue
		}
		switch name {
		case hChecksumAlgorithm, hChecksumType, "X-Amz-Checksum-Mode":
			continue
		}
		alg, ok := checksumOfHeader(name)
		if !ok {
			return spec, errUnknownAlgorithm(name)
		}
		if spec.alg != noAlgorithm || len(values) > 1 {
			return spec, errManyChecksums()
		}
		spec = checksumSpec{alg: alg, value: values[0]}
	}
	return spec, spec.check()
}

func (c *checksumSpec) check() error {
	if c.alg != noAlgorithm && !c.alg.validChecksum(c.value) {
		return fail(codeInvalidRequest, "The value of the %s header is not a checksum of that kind in base64.", strings.ToLower(c.alg.header()))
	}
	return nil
}

// addTrailer takes the checksum that x-amz-trailer announces.
func (c *checksumSpec) addTrailer(lists []string) error {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				continue
			}
			alg, ok := checksumOfHeader(name)
			if !ok {
				return fail(codeInvalidRequest, "x-amz-trailer announces something that is not supported.")
			}
			if c.alg != noAlgorithm {
				return errManyChecksums()
			}
			*c = checksumSpec{alg: alg, trailer: true}
		}
	}
	return nil
}

// verify compares the checksum computed of a body, in base64, with what the
// client said of it; trailer is asked once the body was read to its end.
// Errors: BadDigest, MalformedTrailerError, InvalidRequest.
func (c *checksumSpec) verify(computed string, trailer func() http.Header) error {
	want := c.value
	if c.trailer {
		t := trailer()
		if want = t.Get(c.alg.header()); want == "" {
			return fail(codeMalformedTrailer, "The trailer lacks the checksum that was announced.")
		}
		if !c.alg.validChecksum(want) {
			return fail(codeInvalidRequest, "The trailer %s is not a checksum of that kind in base64.", strings.ToLower(c.alg.header()))
		}
	}
	if want != computed {
		return badChecksum(c.alg)
	}
	return nil
}

func badChecksum(a algorithm) error {
	return fail(codeBadDigest, "The %s checksum given is not that of the data received.", a)
}

func errManyChecksums() error {
	return fail(codeInvalidRequest, "Give one x-amz-checksum- header or trailer; several are not allowed.")
}

func errUnknownAlgorithm(header string) error {
	return fail(codeInvalidRequest, "%s names no checksum algorithm that is supported; these are CRC32, CRC32C, CRC64NVME, SHA1 and SHA256.", strings.ToLower(header))
}

// encodeSum is the form of checksums in headers and documents.
func encodeSum(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }
