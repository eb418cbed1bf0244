package s3api

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
	"time"
)

func TestDigest_CopyHashed(t *testing.T) {
	for _, size := range []int{0, 1, 4096, smallBuffer, smallBuffer + 1, mediumBuffer + 1, largeBuffer, largeBuffer + 1, 5*largeBuffer + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * i >> 3)
		}
		d := newDigest(true, algCRC32, algSHA256)
		var out bytes.Buffer
		if err := d.copyHashed(&out, iotest.OneByteReader(bytes.NewReader(data[:min(size, 5000)])), int64(min(size, 5000))); err != nil {
			t.Fatalf("copyHashed of bytes one by one = %v", err)
		}
		d.free()
		out.Reset()
		d = newDigest(true, algCRC32, algSHA256)
		if err := d.copyHashed(&out, iotest.HalfReader(bytes.NewReader(data)), int64(size)); err != nil {
			t.Fatalf("copyHashed of %d bytes = %v", size, err)
		}
		sum := md5.Sum(data)
		if !bytes.Equal(out.Bytes(), data) || d.etag() != hex.EncodeToString(sum[:]) ||
			d.checksum(algCRC32) != encodeSum(algCRC32.sum(data)) || d.checksum(algSHA256) != encodeSum(algSHA256.sum(data)) {
			t.Errorf("copyHashed of %d bytes: wrong data or digests", size)
		}
		d.free()
	}
}

func TestDigest_CopyHashedFailures(t *testing.T) {
	broken := errors.New("broken")
	for _, size := range []int64{100, 3*largeBuffer + 1} {
		full := make([]byte, size)
		tests := []struct {
			name   string
			src    io.Reader
			dst    io.Writer
			want   error
			source bool
		}{
			{"Short", bytes.NewReader(full[:size-1]), io.Discard, io.ErrUnexpectedEOF, true},
			{"Long", bytes.NewReader(append(full, 1)), io.Discard, errLongBody, true},
			{"FailsAtTheEnd", io.MultiReader(bytes.NewReader(full), iotest.ErrReader(broken)), io.Discard, broken, true},
			{"WriterFails", bytes.NewReader(full), failingWriter{broken}, broken, false},
		}
		for _, tt := range tests {
			d := newDigest(true, algCRC32C, noAlgorithm)
			err := d.copyHashed(tt.dst, tt.src, size)
			var src *sourceError
			if !errors.Is(err, tt.want) || errors.As(err, &src) != tt.source {
				t.Errorf("%s of %d bytes = %v, want %v", tt.name, size, err, tt.want)
			}
			d.free()
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestHTTPTime(t *testing.T) {
	for _, tm := range []time.Time{
		time.Unix(0, 0), time.Unix(1700000000, 999), time.Date(2000, 2, 29, 23, 59, 59, 0, time.FixedZone("x", 3600)),
		time.Date(9999, 12, 31, 1, 2, 3, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, want := httpTime(tm), tm.UTC().Format(http.TimeFormat); got != want {
			t.Errorf("httpTime(%v) = %q, want %q", tm, got, want)
		}
	}
}
