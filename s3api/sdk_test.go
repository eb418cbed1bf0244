package s3api

//lint:file-ignore SA1019 deprecated, but what most programs upload with

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// sdk is a client of alice's with the SDK's own defaults.
func (f *fixture) sdk() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(f.http.URL), UsePathStyle: true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, // as a loaded configuration has it
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials:                credentials.NewStaticCredentialsProvider(testAccessKey("alice"), testSecretKey("alice"), ""),
	})
}

func wantCode(t *testing.T, err error, c code) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != string(c) {
		t.Errorf("error = %v, want %s", err, c)
	}
}

func TestSDK_Objects(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	c, ctx, bkt := f.sdk(), context.Background(), aws.String("bkt")
	key := aws.String("a b/ü+%")
	put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bkt, Key: key, Body: bytes.NewReader([]byte("hello")),
		Metadata: map[string]string{"a": "b"}, Tagging: aws.String("x=y"), ContentEncoding: aws.String("br")})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(put.ETag) != etagOf("hello") || aws.ToString(put.ChecksumCRC32) == "" {
		t.Errorf("PutObject = %+v", put)
	}
	get, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bkt, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(get.Body) // the SDK compares the checksum
	if err != nil || string(body) != "hello" || get.Metadata["a"] != "b" || aws.ToInt32(get.TagCount) != 1 || aws.ToString(get.ContentEncoding) != "br" {
		t.Errorf("GetObject = %q, %v, %+v", body, err, get)
	}
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bkt, Key: aws.String("copy"), CopySource: aws.String("bkt/a%20b/%C3%BC%2B%25")}); err != nil {
		t.Error(err)
	}
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bkt, Key: key, Body: bytes.NewReader(nil), IfNoneMatch: aws.String("*")})
	wantCode(t, err, codePreconditionFailed)
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bkt, Key: aws.String("none")})
	wantCode(t, err, codeNoSuchKey)
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bkt, Key: key}); err != nil {
		t.Error(err)
	}
	_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bkt, Key: key})
	wantCode(t, err, "NotFound")
}

func TestSDK_Algorithms(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	c, ctx, bkt := f.sdk(), context.Background(), aws.String("bkt")
	for _, alg := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
		key := aws.String(string(alg))
		// Not seekable: an unsigned body in chunks, the checksum in its trailer.
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bkt, Key: key, ChecksumAlgorithm: alg, Body: bytes.NewReader([]byte(big))})
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		attrs, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bkt, Key: key,
			ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesChecksum, types.ObjectAttributesObjectSize}})
		if err != nil || attrs.Checksum == nil || aws.ToInt64(attrs.ObjectSize) != int64(len(big)) {
			t.Errorf("%s: GetObjectAttributes = %+v, %v", alg, attrs, err)
		}
		get, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bkt, Key: key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if body, err := io.ReadAll(get.Body); err != nil || string(body) != big {
			t.Errorf("%s: %d bytes, %v", alg, len(body), err)
		}
	}
}

func TestSDK_Manager(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	data := bytes.Repeat([]byte(big), 4) // above the 16 MiB from which it uploads parts of 8 MiB
	data = append(data, "rest"...)
	tm := transfermanager.New(f.sdk())
	out, err := tm.UploadObject(context.Background(), &transfermanager.UploadObjectInput{Bucket: aws.String("bkt"), Key: aws.String("k"),
		Body: struct{ io.Reader }{bytes.NewReader(data)}, ContentType: aws.String("x/y")})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.ChecksumCRC32) == "" || !strings.HasSuffix(strings.Trim(aws.ToString(out.ETag), `"`), "-3") {
		t.Errorf("UploadObject = ETag %s, CRC32 %s", aws.ToString(out.ETag), aws.ToString(out.ChecksumCRC32))
	}
	buf := tmtypes.NewWriteAtBuffer(nil)
	if _, err := tm.DownloadObject(context.Background(), &transfermanager.DownloadObjectInput{Bucket: aws.String("bkt"), Key: aws.String("k"), WriterAt: buf}); err != nil || !bytes.Equal(buf.Bytes(), data) {
		t.Errorf("DownloadObject = %d bytes, %v", len(buf.Bytes()), err)
	}
}

func TestSDK_Presign(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	p := s3.NewPresignClient(f.sdk())
	put, err := p.PresignPutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("bkt"), Key: aws.String("k"), ContentType: aws.String("a/b")})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(put.Method, put.URL, bytes.NewReader([]byte("hello")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = put.SignedHeader.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("PUT = %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	get, err := p.PresignGetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("bkt"), Key: aws.String("k"), ResponseContentType: aws.String("c/d")})
	if err != nil {
		t.Fatal(err)
	}
	resp, err = http.Get(get.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "hello" || resp.Header.Get("Content-Type") != "c/d" {
		t.Errorf("GET = %q, %v", body, resp.Header)
	}
}
