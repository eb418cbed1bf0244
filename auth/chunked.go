package auth

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

const (
	// maxChunkLine bounds a chunk's header line and a trailer's line, in bytes.
	maxChunkLine = 1024
	// maxTrailers bounds their number.
	maxTrailers = 8
	// minSignedChunk is the least size of a signed chunk but the last (S3):
	// signatures of tiny chunks would cost more than their data.
	minSignedChunk = 8 << 10

	trailerSignature = "x-amz-trailer-signature"
)

// chunkChain continues a request's signature over its chunks: each signature
// covers the one before.
type chunkChain struct {
	key              [sha256.Size]byte
	timestamp, scope string
	previous         string // hexadecimal digits
	toSign           []byte // recycled
}

// next tells whether signature continues the chain over data with the hash
// sum, and moves on.
func (c *chunkChain) next(algorithm string, sum []byte, signature string) bool {
	b := append(c.toSign[:0], algorithm...)
	for _, line := range [...]string{c.timestamp, c.scope, c.previous} {
		b = append(b, '\n')
		b = append(b, line...)
	}
	if algorithm == chunkAlgorithm {
		b = append(b, "\n"+emptySHA256...)
	}
	b = append(b, '\n')
	b = hex.AppendEncode(b, sum)
	c.toSign = b
	mac := hmacSum(&c.key, b)
	want := hex.EncodeToString(mac[:])
	c.previous = want
	return equalSignatures(want, signature)
}

const (
	chunkAlgorithm   = "AWS4-HMAC-SHA256-PAYLOAD"
	trailerAlgorithm = "AWS4-HMAC-SHA256-TRAILER"
)

// chunkReader decodes aws-chunked bodies:
//
//	SIZE[;chunk-signature=HEX]\r\n DATA \r\n ... 0[;chunk-signature=HEX]\r\n
//	[NAME:VALUE\r\n ... [x-amz-trailer-signature:HEX\r\n]] \r\n
//
// Data are handed on as they come; they are good only when io.EOF was
// returned. It keeps nothing but a line.
type chunkReader struct {
	body  io.Reader
	src   *bufio.Reader // over body; nil before the first Read and after the last
	chain *chunkChain   // nil: chunks are not signed
	names []string      // of the trailers that must come
	// trailing tells that the form has a trailer part.
	trailing bool

	left      int64 // decoded bytes still to come in all
	inChunk   int64 // bytes still to come in this chunk
	size      int64 // of this chunk
	small     bool  // a chunk below the least size was seen: it must be the last
	signature string
	h         hash.Hash // of the chunk, when signed
	trailer   http.Header
	err       error // sticky; io.EOF when all was good
}

var chunkBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func newChunkReader(body io.Reader, length int64, chain *chunkChain, names []string, trailing bool) *chunkReader {
	c := &chunkReader{body: body, chain: chain, names: names, trailing: trailing || len(names) > 0, left: length}
	if chain != nil {
		c.h = sha256.New()
	}
	return c
}

// trailers returns what trailed, once Read returned io.EOF.
func (c *chunkReader) trailers() http.Header {
	if c.err != io.EOF {
		return nil
	}
	return c.trailer
}

// Read hands on data. Errors: *Error, or the body's own.
func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if c.src == nil {
		c.src = chunkBuffers.Get().(*bufio.Reader)
		c.src.Reset(c.body)
	}
	if c.inChunk == 0 {
		c.stop(c.nextChunk())
		if c.err != nil {
			return 0, c.err
		}
	}
	if int64(len(p)) > c.inChunk {
		p = p[:c.inChunk]
	}
	n, err := c.src.Read(p)
	if c.h != nil {
		c.h.Write(p[:n])
	}
	c.inChunk -= int64(n)
	c.left -= int64(n)
	if err != nil {
		c.stop(lineError(err))
		return n, c.err
	}
	if c.inChunk == 0 && n > 0 {
		c.stop(c.endChunk())
	}
	// A caller that got all data learns at once whether they were good, and
	// the connection is free for the next request.
	if c.err == nil && c.inChunk == 0 && c.left == 0 && n > 0 {
		c.stop(c.nextChunk())
	}
	return n, c.err
}

// stop keeps the first error, and gives the buffer back.
func (c *chunkReader) stop(err error) {
	if err == nil || c.err != nil {
		return
	}
	c.err = err
	c.src.Reset(nil)
	chunkBuffers.Put(c.src)
	c.src = nil
}

// nextChunk reads a chunk's header; behind the last one all that follows, and
// then it returns io.EOF.
func (c *chunkReader) nextChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, signature, err := c.parseHeader(line)
	if err != nil {
		return err
	}
	c.size, c.inChunk, c.signature = size, size, signature
	if size > c.left {
		return errIncomplete("the chunks hold more than x-amz-decoded-content-length")
	}
	if size == 0 {
		return c.finish()
	}
	if c.small {
		return refuse(CodeInvalidChunkSize, "only the last chunk may have less than 8192 bytes")
	}
	c.small = c.chain != nil && size < minSignedChunk
	return nil
}

// parseHeader reads "SIZE[;chunk-signature=HEX]". An unsigned chunk may carry
// extensions, which mean nothing.
func (c *chunkReader) parseHeader(line []byte) (size int64, signature string, err error) {
	digits, extension, _ := bytes.Cut(line, []byte(";"))
	if len(digits) == 0 || len(digits) > 15 {
		return 0, "", errIncomplete("a chunk's size is malformed")
	}
	for _, d := range digits {
		v := unhex(d)
		if v < 0 {
			return 0, "", errIncomplete("a chunk's size is malformed")
		}
		size = size<<4 | int64(v)
	}
	if c.chain == nil {
		return size, "", nil
	}
	value, ok := bytes.CutPrefix(extension, []byte("chunk-signature="))
	if !ok || !isHex(string(value), sha256.Size) {
		return 0, "", errIncomplete("a chunk has no signature")
	}
	return size, string(value), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// endChunk reads what is behind a chunk's data, and checks its signature.
func (c *chunkReader) endChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	if len(line) != 0 {
		return errIncomplete("a chunk is longer than its size says")
	}
	return c.checkChunk()
}

func (c *chunkReader) checkChunk() error {
	if c.chain == nil {
		return nil
	}
	var sum [sha256.Size]byte
	if !c.chain.next(chunkAlgorithm, c.h.Sum(sum[:0]), c.signature) {
		return refuse(CodeSignatureDoesNotMatch, "a chunk's signature is not the one that the gateway calculates")
	}
	c.h.Reset()
	return nil
}

// finish reads what follows the last chunk's header. It returns io.EOF when
// all is good.
func (c *chunkReader) finish() error {
	if c.left > 0 {
		return errIncomplete("the chunks hold less than x-amz-decoded-content-length")
	}
	if err := c.checkChunk(); err != nil {
		return err
	}
	if c.trailing {
		if err := c.readTrailer(); err != nil {
			return err
		}
	} else if line, err := c.line(); err != nil {
		return err
	} else if len(line) != 0 {
		return refuse(CodeMalformedTrailer, "there is a trailer that was not announced")
	}
	// Clients differ in how many empty lines they end with; nothing else may
	// follow.
	for range maxChunkLine {
		b, err := c.src.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return lineError(err)
		case b != '\r' && b != '\n':
			return errIncomplete("something follows the last chunk")
		}
	}
	return errIncomplete("too many empty lines follow the last chunk")
}

// readTrailer reads "name:value" lines up to an empty one, and the trailer's
// signature when chunks are signed. Before the signature an empty line may
// stand, as S3's own example has it.
func (c *chunkReader) readTrailer() error {
	c.trailer = make(http.Header, len(c.names))
	h := sha256.New()
	signed := c.chain == nil
	for lines := 0; ; lines++ {
		line, err := c.line()
		if err != nil {
			return err
		}
		if len(line) == 0 && signed {
			break
		}
		if lines > 2*maxTrailers {
			return errTrailer("it has too many lines")
		}
		if len(line) == 0 {
			continue
		}
		name, value, err := c.trailerLine(string(line))
		if err != nil {
			return err
		}
		if name != trailerSignature {
			h.Write([]byte(name + ":" + value + "\n"))
			c.trailer[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
			continue
		}
		if signed || !c.chain.next(trailerAlgorithm, h.Sum(nil), value) {
			return refuse(CodeSignatureDoesNotMatch, "the trailer's signature is not the one that the gateway calculates")
		}
		signed = true
	}
	if len(c.trailer) != len(c.names) {
		return errTrailer("what x-amz-trailer announced is missing")
	}
	return nil
}

// trailerLine reads one line of the trailer; it must have been announced, and
// come once.
func (c *chunkReader) trailerLine(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	switch {
	case !ok:
		return "", "", errTrailer("a line is not NAME:VALUE")
	case name == trailerSignature && c.chain != nil:
		return name, value, nil
	case !slices.Contains(c.names, name):
		return "", "", errTrailer("x-amz-trailer did not announce " + name)
	case c.trailer.Get(name) != "":
		return "", "", errTrailer(name + " comes twice")
	}
	return name, value, nil
}

func errTrailer(what string) *Error {
	return refuse(CodeMalformedTrailer, "the trailer is malformed: "+what)
}

// line reads a line without its end. It is valid until the next read.
func (c *chunkReader) line() ([]byte, error) {
	line, err := c.src.ReadSlice('\n')
	if err != nil {
		return nil, lineError(err)
	}
	if len(line) > maxChunkLine {
		return nil, errIncomplete("a chunk's header is too long")
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// lineError names the end of a body inside of its framing; the body's own
// errors pass.
func lineError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errIncomplete("the body ended inside of a chunk")
	case errors.Is(err, bufio.ErrBufferFull):
		return errIncomplete("a chunk's header is too long")
	}
	return err
}
