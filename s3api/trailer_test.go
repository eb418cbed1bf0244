package s3api

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// putTrailer sends a body in unsigned chunks with a trailer, as it is given.
func (f *fixture) putTrailer(path, trailerName, decodedLength, body string) answer {
	f.t.Helper()
	req, err := http.NewRequest(http.MethodPut, f.http.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	const hash = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	req.Header.Set("X-Amz-Content-Sha256", hash)
	req.Header.Set("X-Amz-Decoded-Content-Length", decodedLength)
	req.Header.Set("Content-Encoding", "aws-chunked")
	if trailerName != "" {
		req.Header.Set("X-Amz-Trailer", trailerName)
	}
	creds := aws.Credentials{AccessKeyID: testAccessKey("alice"), SecretAccessKey: testSecretKey("alice")}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, req, hash, "s3", "us-east-1", time.Now()); err != nil {
		f.t.Fatal(err)
	}
	return f.send(f.http.Client().Do, req)
}

func TestPutObject_Trailers(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	crc := encodeSum(algCRC32.sum([]byte("hello")))
	const name = "x-amz-checksum-crc32"
	tests := []struct {
		name            string
		trailer, length string
		body            string
		code            code // "": 200
	}{
		{"Good", name, "5", "5\r\nhello\r\n0\r\n" + name + ":" + crc + "\r\n\r\n", ""},
		{"TwoChunks", name, "5", "2\r\nhe\r\n3\r\nllo\r\n0\r\n" + name + ":" + crc + "\r\n\r\n", ""},
		{"NoTrailer", "", "5", "5\r\nhello\r\n0\r\n\r\n", ""},
		{"OfAnother", name, "5", "5\r\nhello\r\n0\r\n" + name + ":AAAAAA==\r\n\r\n", codeBadDigest},
		{"Invalid", name, "5", "5\r\nhello\r\n0\r\n" + name + ":AA\r\n\r\n", codeInvalidRequest},
		{"Missing", name, "5", "5\r\nhello\r\n0\r\n\r\n", codeMalformedTrailer},
		{"Truncated", name, "5", "5\r\nhello\r\n", codeIncompleteBody},
		{"LengthLies", name, "6", "5\r\nhello\r\n0\r\n" + name + ":" + crc + "\r\n\r\n", codeIncompleteBody},
		{"UnknownTrailer", "x-amz-checksum-md4", "5", "5\r\nhello\r\n0\r\nx-amz-checksum-md4:AA\r\n\r\n", codeInvalidRequest},
		{"NotANumber", name, "-5", "5\r\nhello\r\n0\r\n\r\n", codeInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			path := "/bkt/" + tt.name
			a := f.putTrailer(path, tt.trailer, tt.length, tt.body)
			if tt.code == "" {
				if a.status != http.StatusOK {
					t.Fatalf("PUT = %d %s", a.status, a.body)
				}
				got := f.want(200, call{method: "GET", path: path})
				wantHeader(t, got, "Content-Encoding", "")
				if got.body != "hello" {
					t.Errorf("body = %q", got.body)
				}
				return
			}
			if a.status < 400 || !strings.Contains(a.body, "<Code>"+string(tt.code)+"</Code>") {
				t.Errorf("PUT = %d %s, want %s", a.status, a.body, tt.code)
			}
			f.wantError(404, codeNoSuchKey, call{method: "GET", path: path})
		})
	}
}
