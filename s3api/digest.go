package s3api

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"sync"

	"herald/auth"
)

// md5Pool keeps hashers.
var md5Pool = sync.Pool{New: func() any { return md5.New() }}

// digest computes all that is computed of one body, in one pass: the MD5 for
// the ETag, and checksums.
type digest struct {
	md5  hash.Hash // nil: not wanted
	lane *lane     // of a large body that is not alone
	used bool      // copyHashed has begun
	sums [2]sum    // those with an algorithm are computed
}

type sum struct {
	alg algorithm
	h   hash.Hash
}

// newDigest returns a digest for MD5 and the given checksums; algorithms may
// be noAlgorithm or the same. free gives its hashers back.
func newDigest(withMD5 bool, a, b algorithm) *digest {
	d := &digest{}
	if withMD5 {
		d.md5 = md5Pool.Get().(hash.Hash)
		d.md5.Reset()
	}
	if b == a {
		b = noAlgorithm
	}
	for i, alg := range [...]algorithm{a, b} {
		if alg != noAlgorithm {
			d.sums[i] = sum{alg, alg.newHash()}
		}
	}
	return d
}

func (d *digest) free() {
	if d.md5 != nil && (d.lane == nil || d.lane.Hash == nil) {
		md5Pool.Put(d.md5)
	}
	if d.lane != nil {
		md5Lanes.leave(d.lane)
	}
	d.md5, d.lane = nil, nil
	for i := range d.sums {
		if s := &d.sums[i]; s.alg != noAlgorithm {
			s.alg.freeHash(s.h)
			*s = sum{}
		}
	}
}

// begin takes a lane for a large body, if nothing was hashed yet.
func (d *digest) begin(size int64) {
	if d.md5 == nil || d.used || size < laneBytes {
		d.used = true
		return
	}
	d.used = true
	if d.lane = md5Lanes.join(); d.lane.Hash != nil {
		md5Pool.Put(d.md5)
		d.md5 = d.lane.Hash
	}
}

func (d *digest) writeMD5(p []byte) {
	if d.md5 != nil {
		_, _ = d.md5.Write(p) // hashes never fail
	}
}

func (d *digest) writeSums(p []byte) {
	for i := range d.sums {
		if d.sums[i].h != nil {
			_, _ = d.sums[i].h.Write(p) // hashes never fail
		}
	}
}

// etag is the MD5 in hexadecimal digits.
func (d *digest) etag() string {
	var b [md5.Size]byte
	return hex.EncodeToString(d.md5.Sum(b[:0]))
}

// checksum is the checksum of an algorithm of this digest, in base64.
func (d *digest) checksum(a algorithm) string {
	for i := range d.sums {
		if d.sums[i].alg == a {
			var b [64]byte
			return encodeSum(d.sums[i].h.Sum(b[:0]))
		}
	}
	return ""
}

// Sizes of buffers. A body of up to largeBuffer bytes is read whole into one
// buffer; of a larger one pipeline blocks are under way: one being read, one
// being hashed, one between.
const (
	smallBuffer  = 16 << 10
	mediumBuffer = 128 << 10
	largeBuffer  = 1 << 20
	pipeline     = 3
)

var (
	smallBuffers  = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	mediumBuffers = sync.Pool{New: func() any { return new([mediumBuffer]byte) }}
	largeBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// withBuffer runs f with a pooled buffer of at least n bytes, n being at most
// largeBuffer.
func withBuffer(n int64, f func([]byte) error) error {
	switch {
	case n <= smallBuffer:
		b := smallBuffers.Get().(*[smallBuffer]byte)
		defer smallBuffers.Put(b)
		return f(b[:])
	case n <= mediumBuffer:
		b := mediumBuffers.Get().(*[mediumBuffer]byte)
		defer mediumBuffers.Put(b)
		return f(b[:])
	default:
		b := largeBuffers.Get().(*[largeBuffer]byte)
		defer largeBuffers.Put(b)
		return f(b[:])
	}
}

// copyHashed copies exactly size bytes from src to dst, and reads src to its
// end, so that a source that verifies itself does. Errors of src are
// *sourceError, so that they can be told from those of dst.
func (d *digest) copyHashed(dst io.Writer, src io.Reader, size int64) error {
	d.begin(size)
	if size > largeBuffer {
		return d.copyPipelined(dst, src, size)
	}
	return withBuffer(size, func(buf []byte) error {
		buf = buf[:size]
		if err := readFull(src, buf); err != nil {
			return err
		}
		if err := expectEOF(src); err != nil {
			return err
		}
		d.writeMD5(buf)
		d.writeSums(buf)
		if len(buf) == 0 {
			return nil
		}
		_, err := dst.Write(buf)
		return err
	})
}

// copyPipelined overlaps MD5, which is slow, with reading and writing.
func (d *digest) copyPipelined(dst io.Writer, src io.Reader, size int64) error {
	free := make(chan *[largeBuffer]byte, pipeline)
	for range pipeline {
		free <- largeBuffers.Get().(*[largeBuffer]byte)
	}
	type block struct {
		buf *[largeBuffer]byte
		n   int
	}
	work := make(chan block, pipeline)
	done := make(chan struct{})
	go func() { // ends when work is closed; the caller waits for done
		defer close(done)
		for b := range work {
			d.writeMD5(b.buf[:b.n])
			free <- b.buf
		}
	}()
	defer func() {
		close(work)
		<-done
		for range pipeline {
			largeBuffers.Put(<-free)
		}
	}()
	for left := size; left > 0; {
		buf := <-free
		n := int(min(left, largeBuffer))
		if err := readFull(src, buf[:n]); err != nil {
			free <- buf
			return err
		}
		work <- block{buf, n}
		d.writeSums(buf[:n])
		if _, err := dst.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return expectEOF(src)
}

// copyUpTo is copyHashed for a source whose length is not known: it copies at
// most limit bytes and returns how many there were, limit+1 if there are more.
func (d *digest) copyUpTo(dst io.Writer, src io.Reader, limit int64) (int64, error) {
	var n int64
	err := withBuffer(min(limit, largeBuffer), func(buf []byte) error {
		for {
			got, err := io.ReadFull(src, buf)
			if n += int64(got); n > limit {
				n = limit + 1
				return nil
			}
			d.writeMD5(buf[:got])
			d.writeSums(buf[:got])
			if got > 0 {
				if _, err := dst.Write(buf[:got]); err != nil {
					return err
				}
			}
			switch err {
			case nil:
			case io.EOF:
				return nil
			case io.ErrUnexpectedEOF: // of src itself, or the end
				if _, err := src.Read(buf[:1]); err != io.EOF {
					return &sourceError{io.ErrUnexpectedEOF}
				}
				return nil
			default:
				return &sourceError{err}
			}
		}
	})
	return n, err
}

// readFull fills buf; an end before that is unexpected.
func readFull(src io.Reader, buf []byte) error {
	_, err := io.ReadFull(src, buf)
	switch err {
	case nil:
		return nil
	case io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return &sourceError{err}
}

// expectEOF reads the end of src.
func expectEOF(src io.Reader) error {
	var b [1]byte
	for {
		n, err := src.Read(b[:])
		switch {
		case n > 0:
			return &sourceError{errLongBody}
		case err == io.EOF:
			return nil
		case err != nil:
			return &sourceError{err}
		}
	}
}

var errLongBody = errors.New("there are more bytes than were announced")

// sourceError is an error of the reader of a copy.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// bodyFailure names what went wrong with a client's body: what is neither a
// refusal nor a stall is a connection that broke. Errors of the store pass.
func bodyFailure(ctx context.Context, err error) error {
	var src *sourceError
	if !errors.As(err, &src) {
		return err
	}
	var refused *auth.Error
	switch {
	case errors.As(err, &refused), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case ctx.Err() != nil:
		return failWith(codeClientClosed, err)
	default:
		return failWith(codeIncompleteBody, err)
	}
}
