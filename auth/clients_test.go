package auth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/minio/minio-go/v7"
	miniocred "github.com/minio/minio-go/v7/pkg/credentials"
)

// seen is what the test server made of the last request.
type seen struct {
	mu sync.Mutex
	// the rest is guarded by mu.
	hash    string // x-amz-content-sha256
	err     error
	body    string
	got     *Verified
	trailer http.Header
}

// serve verifies requests and reads their bodies, as a gateway would.
func serve(t *testing.T, tls bool) (*httptest.Server, *seen) {
	t.Helper()
	v := newTestVerifier(t, VerifierOptions{})
	s := new(seen)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hash, s.body, s.trailer = r.Header.Get(headerContentSHA256), "", nil
		s.got, s.err = v.Verify(r)
		if s.err == nil {
			var data []byte
			data, s.err = io.ReadAll(s.got.Body)
			s.body, s.trailer = string(data), s.got.Trailer()
			if s.err == nil && s.got.DecodedLength >= 0 && s.got.DecodedLength != int64(len(data)) {
				s.err = fmt.Errorf("%d bytes, announced %d", len(data), s.got.DecodedLength)
			}
		}
		if s.err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, s.err)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("ETag", `"x"`)
		if r.Method == "POST" && r.URL.Path == "/" {
			_, _ = io.WriteString(w, `<ListTopicsResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><ListTopicsResult><Topics/></ListTopicsResult></ListTopicsResponse>`)
		}
	})
	var srv *httptest.Server
	if tls {
		srv = httptest.NewTLSServer(h)
	} else {
		srv = httptest.NewServer(h)
	}
	t.Cleanup(srv.Close)
	return srv, s
}

func (s *seen) check(t *testing.T, op, hash, body string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.got == nil {
		t.Fatalf("%s: %v", op, s.err)
	}
	if s.hash != hash || s.body != body || s.got.UID() != "tester" {
		t.Errorf("%s: hash %q, %d bytes as %q; want %q, %d bytes", op, s.hash, len(s.body), s.got.UID(), hash, len(body))
	}
}

func sdk(srv *httptest.Server) *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), UsePathStyle: true, HTTPClient: srv.Client(),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, // as config.LoadDefaultConfig sets
		Credentials:                credentials.NewStaticCredentialsProvider(testAccess, testSecret, ""),
		RetryMaxAttempts:           1,
	})
}

func TestClients_SDK(t *testing.T) {
	big := strings.Repeat("0123456789", 30000)
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", tls), func(t *testing.T) {
			srv, seen := serve(t, tls)
			c, ctx := sdk(srv), t.Context()
			put := func(key, body string, alg types.ChecksumAlgorithm) {
				t.Helper()
				_, err := c.PutObject(ctx, &s3.PutObjectInput{
					Bucket: aws.String("bucket"), Key: aws.String(key), Body: strings.NewReader(body), ChecksumAlgorithm: alg,
					Metadata: map[string]string{"Some": "two  blanks"},
				})
				if err != nil {
					t.Fatalf("PutObject(%q): %v", key, err)
				}
			}
			hash := func(body string) string {
				if tls {
					return streamUnsignedTrailer
				}
				return hashOf(body)
			}
			put("plain", "data", "")
			seen.check(t, "PutObject", hash("data"), "data")
			if tls && seen.trailer.Get(testCRC) == "" {
				t.Errorf("trailer = %v", seen.trailer)
			}
			put("a b+c/ä!'()*;=@$,:&x//y/~z%41", big, types.ChecksumAlgorithmSha256)
			seen.check(t, "PutObject", hash(big), big)
			put("empty", "", types.ChecksumAlgorithmCrc32c)
			if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k")}); err != nil {
				t.Error(err)
			}
			seen.check(t, "DeleteObject", emptySHA256, "")
			_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("bucket"), Delete: &types.Delete{
				Objects: []types.ObjectIdentifier{{Key: aws.String("k")}},
			}})
			if err != nil || seen.err != nil {
				t.Errorf("DeleteObjects: %v, %v", err, seen.err)
			}
		})
	}
}

func TestClients_SDKPresign(t *testing.T) {
	srv, seen := serve(t, false)
	p := s3.NewPresignClient(sdk(srv))
	r, err := p.PresignPutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("bucket"), Key: aws.String("a b+ä/$&"), ContentType: aws.String("text/x"),
		Metadata: map[string]string{"a": "b"},
	}, s3.WithPresignExpires(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	req := mustRequest(t, r.Method, r.URL, "data")
	for k, v := range r.SignedHeader {
		if k != "Host" && k != "Content-Length" {
			req.Header[k] = v
		}
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	seen.check(t, "presigned PutObject", "", "data")
}

func TestClients_SNS(t *testing.T) {
	srv, seen := serve(t, false)
	c := sns.New(sns.Options{
		Region: "default", BaseEndpoint: aws.String(srv.URL), HTTPClient: srv.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(testAccess, testSecret, ""),
	})
	if _, err := c.ListTopics(t.Context(), &sns.ListTopicsInput{NextToken: aws.String("a b&c")}); err != nil {
		t.Fatal(err)
	}
	if seen.err != nil || seen.got.Service != "sns" || !strings.Contains(seen.body, "Action=ListTopics") || !seen.got.PayloadSigned {
		t.Errorf("ListTopics: %+v", seen)
	}
}

func TestClients_Minio(t *testing.T) {
	big := strings.Repeat("0123456789", 30000)
	for _, tt := range []struct {
		name     string
		v2, tls  bool
		trailers bool
		opts     minio.PutObjectOptions
		hash     string
	}{
		{"default", false, false, false, minio.PutObjectOptions{}, streamSigned},
		{"trailers", false, false, true, minio.PutObjectOptions{Checksum: minio.ChecksumCRC32C}, streamSignedTrailer},
		{"tls", false, true, false, minio.PutObjectOptions{}, unsignedPayload},
		{"tls, trailers", false, true, true, minio.PutObjectOptions{Checksum: minio.ChecksumCRC32C}, streamUnsignedTrailer},
		{"md5", false, true, false, minio.PutObjectOptions{SendContentMd5: true}, unsignedPayload},
		{"version 2", true, false, false, minio.PutObjectOptions{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, seen := serve(t, tt.tls)
			cred := miniocred.NewStaticV4(testAccess, testSecret, "")
			if tt.v2 {
				cred = miniocred.NewStaticV2(testAccess, testSecret, "")
			}
			c, err := minio.New(strings.TrimPrefix(strings.TrimPrefix(srv.URL, "http://"), "https://"), &minio.Options{
				Creds: cred, Secure: tt.tls, Transport: srv.Client().Transport, Region: "us-east-1",
				BucketLookup: minio.BucketLookupPath, TrailingHeaders: tt.trailers, MaxRetries: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{big, "data", ""} {
				_, err = c.PutObject(context.Background(), "bucket", "a b+ä/$&~x", bytes.NewReader([]byte(body)), int64(len(body)), tt.opts)
				if err != nil {
					t.Fatal(err)
				}
				seen.mu.Lock()
				hash := seen.hash
				seen.mu.Unlock()
				if body == "" {
					seen.check(t, "empty PutObject", hash, "") // the form is the client's choice
					continue
				}
				seen.check(t, "PutObject", tt.hash, body)
			}
		})
	}
}
