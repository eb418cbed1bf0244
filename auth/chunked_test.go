package auth

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

const testCRC = "x-amz-checksum-crc32"

// testChain is the chain of a request that was signed at now.
func testChain() *chunkChain {
	return &chunkChain{
		key:       *deriveKey(testSecret, "20260304", "eu-west-1", "s3"),
		timestamp: now.Format(layout4), scope: "20260304/eu-west-1/s3/aws4_request",
		previous: strings.Repeat("ab", 32),
	}
}

// encodeChunks writes an aws-chunked body; signed if chain is not nil.
func encodeChunks(chain *chunkChain, trailer [][2]string, chunks ...string) string {
	var b strings.Builder
	for _, data := range append(chunks, "") {
		b.WriteString(strconv.FormatInt(int64(len(data)), 16))
		if chain != nil {
			sum, _ := hex.DecodeString(hashOf(data))
			chain.next(chunkAlgorithm, sum, "")
			b.WriteString(";chunk-signature=" + chain.previous)
		}
		b.WriteString("\r\n")
		if data != "" {
			b.WriteString(data + "\r\n")
		}
	}
	var lines string
	for _, t := range trailer {
		lines += t[0] + ":" + t[1] + "\n"
		b.WriteString(t[0] + ":" + t[1] + "\r\n")
	}
	if chain != nil && trailer != nil {
		sum, _ := hex.DecodeString(hashOf(lines))
		chain.next(trailerAlgorithm, sum, "")
		b.WriteString(trailerSignature + ":" + chain.previous + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

func names(trailer [][2]string) []string {
	var out []string
	for _, t := range trailer {
		out = append(out, t[0])
	}
	return out
}

func TestChunkReader_AllFormsAtEverySplit(t *testing.T) {
	big, small := strings.Repeat("0123456789abcdef", 512), "tail"
	crc := [][2]string{{testCRC, "AAAAAA=="}}
	tests := []struct {
		name    string
		signed  bool
		trailer [][2]string
		chunks  []string
	}{
		{"unsigned", false, nil, []string{small, "x", small}},
		{"unsigned, trailer", false, crc, []string{small, "x"}},
		{"unsigned, two trailers", false, [][2]string{{testCRC, "AAAAAA=="}, {"x-amz-checksum-sha1", "x"}}, []string{small}},
		{"signed", true, nil, []string{big, small}},
		{"signed, trailer", true, crc, []string{big, big, small}},
		{"signed, empty", true, nil, nil},
		{"signed, empty, trailer", true, crc, nil},
		{"unsigned, empty", false, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var enc, dec *chunkChain
			want := strings.Join(tt.chunks, "")
			step := 1 + len(want)/500
			var body string
			if tt.signed {
				enc = testChain()
			}
			body = encodeChunks(enc, tt.trailer, tt.chunks...)
			for split := 0; split <= len(body); split += step {
				if tt.signed {
					dec = testChain()
				}
				r := newChunkReader(&splitReader{body, split}, int64(len(want)), dec, names(tt.trailer), tt.trailer != nil)
				got, err := io.ReadAll(r)
				if err != nil || string(got) != want {
					t.Fatalf("split at %d: %d bytes, %v", split, len(got), err)
				}
				for _, tr := range tt.trailer {
					if r.trailers().Get(tr[0]) != tr[1] {
						t.Fatalf("trailers = %v", r.trailers())
					}
				}
			}
			if tt.signed {
				dec = testChain()
			}
			r := newChunkReader(strings.NewReader(body), int64(len(want)), dec, names(tt.trailer), tt.trailer != nil)
			if err := iotest.TestReader(r, []byte(want)); err != nil {
				t.Error(err)
			}
		})
	}
}

// splitReader gives a string in two reads.
type splitReader struct {
	s  string
	at int
}

func (s *splitReader) Read(p []byte) (int, error) {
	if s.s == "" {
		return 0, io.EOF
	}
	part := s.s
	if s.at > 0 && s.at < len(part) {
		part = part[:s.at]
	}
	n := copy(p, part)
	s.s, s.at = s.s[n:], s.at-n
	return n, nil
}

func TestChunkReader_TruncatedAnywhere(t *testing.T) {
	for _, signed := range []bool{false, true} {
		var enc *chunkChain
		if signed {
			enc = testChain()
		}
		trailer := [][2]string{{testCRC, "AAAAAA=="}}
		body := encodeChunks(enc, trailer, "some data")
		end := len(body) - 2 // without the last line end it is not whole
		for n := range end {
			var dec *chunkChain
			if signed {
				dec = testChain()
			}
			r := newChunkReader(strings.NewReader(body[:n]), 9, dec, names(trailer), true)
			_, err := io.Copy(io.Discard, r)
			if c := code(err); c != CodeIncompleteBody {
				t.Fatalf("signed %t, cut at %d: %v", signed, n, err)
			}
			if r.trailers() != nil {
				t.Fatal("a trailer of an incomplete body")
			}
		}
	}
}

func TestChunkReader_Refusals(t *testing.T) {
	crc := [][2]string{{testCRC, "AAAAAA=="}}
	good := encodeChunks(testChain(), crc, "data")
	flip := func(s, old, with string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%q is not in %q", old, s)
		}
		return strings.Replace(s, old, with, 1)
	}
	sigOf := func(s, before string) string { return s[strings.LastIndex(s, before)+len(before):][:64] }
	other := strings.Repeat("0", 64)
	tests := []struct {
		name   string
		signed bool
		length int64
		names  []string
		body   string
		want   string
	}{
		{"data changed", true, 4, []string{testCRC}, flip(good, "data", "dada"), CodeSignatureDoesNotMatch},
		{"first signature", true, 4, []string{testCRC}, flip(good, good[18:82], other), CodeSignatureDoesNotMatch},
		{"last chunk's signature", true, 4, []string{testCRC}, flip(good, sigOf(good, "chunk-signature="), other), CodeSignatureDoesNotMatch},
		{"trailer's signature", true, 4, []string{testCRC}, flip(good, sigOf(good, "trailer-signature:"), other), CodeSignatureDoesNotMatch},
		{"trailer changed", true, 4, []string{testCRC}, flip(good, "AAAA==", "BAAA=="), CodeSignatureDoesNotMatch},
		{"not announced", true, 4, nil, good, CodeMalformedTrailer},
		{"other announced", true, 4, []string{"x-amz-checksum-sha1"}, good, CodeMalformedTrailer},
		{"more announced", true, 4, []string{testCRC, "x-amz-checksum-sha1"}, good, CodeMalformedTrailer},
		{"longer than said", true, 3, []string{testCRC}, good, CodeIncompleteBody},
		{"shorter than said", true, 5, []string{testCRC}, good, CodeIncompleteBody},
		{"no chunk signature", true, 4, nil, "4\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"something behind", false, 4, nil, "4\r\ndata\r\n0\r\n\r\nmore", CodeIncompleteBody},
		{"trailer in plain form", false, 4, nil, "4\r\ndata\r\n0\r\nx-amz-checksum-crc32:x\r\n\r\n", CodeMalformedTrailer},
		{"trailer missing", false, 4, []string{testCRC}, "4\r\ndata\r\n0\r\n\r\n", CodeMalformedTrailer},
		{"trailer twice", false, 0, []string{testCRC}, "0\r\nx-amz-checksum-crc32:x\r\nx-amz-checksum-crc32:x\r\n\r\n", CodeMalformedTrailer},
		{"no colon", false, 0, []string{testCRC}, "0\r\nx-amz-checksum-crc32\r\n\r\n", CodeMalformedTrailer},
		{"signature in unsigned", false, 0, []string{testCRC}, "0\r\nx-amz-trailer-signature:00\r\n\r\n", CodeMalformedTrailer},
		{"chunk too long", false, 4, nil, "3\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"not hexadecimal", false, 4, nil, "4g\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"negative", false, 4, nil, "-4\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"prefix", false, 4, nil, "0x4\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"blank", false, 4, nil, " 4\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"huge", false, 4, nil, "ffffffffffffffffffff\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"no size", false, 4, nil, "\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"endless line", false, 4, nil, "4;" + strings.Repeat("x", 1<<20), CodeIncompleteBody},
		{"long line", false, 4, nil, "4;" + strings.Repeat("x", 2000) + "\r\ndata\r\n0\r\n\r\n", CodeIncompleteBody},
		{"many empty trailer lines", true, 0, []string{testCRC}, encodeChunks(testChain(), nil) + strings.Repeat("\r\n", 99), CodeMalformedTrailer},
		{"plain data", false, 4, nil, "data", CodeIncompleteBody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var chain *chunkChain
			if tt.signed {
				chain = testChain()
			}
			r := newChunkReader(strings.NewReader(tt.body), tt.length, chain, tt.names, tt.signed)
			_, err := io.Copy(io.Discard, r)
			if code(err) != tt.want {
				t.Errorf("Read = %v, want %s", err, tt.want)
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("the next Read = %v, want the same error", again)
			}
		})
	}
}

func TestChunkReader_SmallSignedChunks(t *testing.T) {
	body := encodeChunks(testChain(), nil, strings.Repeat("x", minSignedChunk-1), "y")
	r := newChunkReader(strings.NewReader(body), minSignedChunk, testChain(), nil, false)
	if _, err := io.Copy(io.Discard, r); code(err) != CodeInvalidChunkSize {
		t.Errorf("Read = %v", err)
	}
}

func TestChunkReader_BodyError(t *testing.T) {
	broken := errors.New("broken")
	r := newChunkReader(io.MultiReader(strings.NewReader("4\r\nda"), iotest.ErrReader(broken)), 4, nil, nil, false)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, broken) {
		t.Errorf("Read = %v", err)
	}
}

func TestSetPayload(t *testing.T) {
	encoded := encodeChunks(nil, nil, "data")
	tests := []struct {
		name, hash, body string
		headers          map[string]string
		want             string // data
		code             string
	}{
		{"literal", hashOf("data"), "data", nil, "data", ""},
		{"literal, upper case", strings.ToUpper(hashOf("data")), "data", nil, "data", ""},
		{"literal, wrong", hashOf("other"), "data", nil, "", CodeSHA256Mismatch},
		{"literal, empty body", hashOf("other"), "", nil, "", CodeSHA256Mismatch},
		{"empty", emptySHA256, "", nil, "", ""},
		{"unsigned", unsignedPayload, "data", nil, "data", ""},
		{"nonsense", "abc", "data", nil, "", CodeInvalidArgument},
		{"lower case", "unsigned-payload", "data", nil, "", CodeInvalidArgument},
		{"ecdsa", streamECDSA + "-TRAILER", "data", nil, "", CodeNotImplemented},
		{"no decoded length", streamUnsignedTrailer, encoded, nil, "", CodeMissingContentLength},
		{"bad decoded length", streamUnsignedTrailer, encoded, map[string]string{headerDecodedLength: "+4"}, "", CodeInvalidArgument},
		{"negative decoded length", streamUnsignedTrailer, encoded, map[string]string{headerDecodedLength: "-4"}, "", CodeInvalidArgument},
		{"chunks", streamUnsignedTrailer, encoded, map[string]string{headerDecodedLength: "4"}, "data", ""},
		{"chunks by length", unsignedPayload, encoded, map[string]string{headerDecodedLength: "4"}, "data", ""},
		{"chunks by encoding", unsignedPayload, encoded, map[string]string{headerDecodedLength: "4", "Content-Encoding": "gzip, AWS-Chunked"}, "data", ""},
		{"encoding alone", unsignedPayload, "data", map[string]string{"Content-Encoding": "aws-chunked"}, "data", ""},
		{"encoding alone, with hash", hashOf("data"), "data", map[string]string{"Content-Encoding": "gzip, aws-chunked"}, "data", ""},
		{"empty lines without end", streamUnsignedTrailer, encoded + strings.Repeat("\r\n", 1000), map[string]string{headerDecodedLength: "4"}, "", CodeIncompleteBody},
		{"chunks with hash", hashOf(encoded), encoded, map[string]string{headerDecodedLength: "4"}, "data", ""},
		{"chunks with wrong hash", hashOf("data"), encoded, map[string]string{headerDecodedLength: "4"}, "", CodeSHA256Mismatch},
		{"odd trailer", streamUnsignedTrailer, encoded, map[string]string{headerDecodedLength: "4", headerTrailer: "x-amz-meta-a"}, "", CodeInvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sent(t, mustRequest(t, "PUT", "http://h/b/k", tt.body))
			for k, h := range tt.headers {
				r.Header.Set(k, h)
			}
			var v Verified
			err := v.setPayload(r, tt.hash, nil)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(v.Body)
			}
			if code(err) != tt.code || err == nil && string(got) != tt.want {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.code)
			}
			if err == nil && v.DecodedLength != int64(len(tt.want)) {
				t.Errorf("DecodedLength = %d", v.DecodedLength)
			}
		})
	}
}

func TestPlainBody_Short(t *testing.T) {
	raw := "PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\ndata"
	for _, hash := range []string{unsignedPayload, hashOf("data")} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		var v Verified
		if err := v.setPayload(r, hash, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, v.Body); code(err) != CodeIncompleteBody {
			t.Errorf("Read = %v", err)
		}
	}
}

func TestStripAWSChunked(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "aws-chunked": "", "gzip": "gzip", "aws-chunked,gzip": "gzip", "gzip, AWS-chunked": "gzip",
		"gzip, aws-chunked, br": "gzip,br", "gzip, br": "gzip, br",
	} {
		if got := StripAWSChunked(in); got != want {
			t.Errorf("StripAWSChunked(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzChunked feeds bodies, whole and split at every point: what comes out
// must not depend on the split, and never be more than was announced.
func FuzzChunked(f *testing.F) {
	crc := [][2]string{{testCRC, "AAAAAA=="}}
	f.Add([]byte(encodeChunks(nil, nil, "data")), int64(4), false, false)
	f.Add([]byte(encodeChunks(nil, crc, "da", "ta")), int64(4), false, true)
	f.Add([]byte(encodeChunks(testChain(), nil, "data")), int64(4), true, false)
	f.Add([]byte(encodeChunks(testChain(), crc, "data")), int64(4), true, true)
	f.Add([]byte("ffffffffffffffff\r\n"), int64(4), false, false)
	f.Add([]byte("0\r\nx-amz-checksum-crc32:\n\r\n\r\n"), int64(0), false, true)
	f.Fuzz(func(t *testing.T, body []byte, length int64, signed, trailing bool) {
		if length < 0 {
			return
		}
		read := func(src io.Reader) ([]byte, string) {
			var chain *chunkChain
			if signed {
				chain = testChain()
			}
			var names []string
			if trailing {
				names = []string{testCRC}
			}
			r := newChunkReader(src, length, chain, names, trailing)
			got, err := io.ReadAll(io.LimitReader(r, 1<<20))
			return got, fmt.Sprint(err)
		}
		want, wantErr := read(bytes.NewReader(body))
		if int64(len(want)) > length || len(want) > len(body) {
			t.Fatalf("%d bytes out of %d, announced %d", len(want), len(body), length)
		}
		if wantErr == "<nil>" && int64(len(want)) != length && len(want) < 1<<20 {
			t.Fatalf("ended well after %d of %d bytes", len(want), length)
		}
		step := 1 + len(body)/64
		for at := 1; at < len(body); at += step {
			got, err := read(&splitReader{string(body), at})
			if err != wantErr || !bytes.Equal(got, want) {
				t.Fatalf("split at %d: %q, %s; whole: %q, %s", at, got, err, want, wantErr)
			}
		}
	})
}

func BenchmarkChunkReader_Signed64K(b *testing.B) {
	data := strings.Repeat("x", 64<<10)
	body := encodeChunks(testChain(), nil, data, data, data, data)
	b.SetBytes(4 * 64 << 10)
	b.ReportAllocs()
	buf := make([]byte, 128<<10)
	for b.Loop() {
		r := newChunkReader(strings.NewReader(body), 4*64<<10, testChain(), nil, false)
		for {
			if _, err := r.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
