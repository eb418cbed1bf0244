package s3compat

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	mcredentials "github.com/minio/minio-go/v7/pkg/credentials"

	"herald/tests/gatewaytest"
)

// newAWS returns a client as the SDK makes it by default, but for the
// endpoint.
func newAWS(t *testing.T, g *gatewaytest.Gateway) *s3.Client {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, "")))
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint = &g.URL
		o.UsePathStyle = true
	})
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestAWSSDKGo(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	c := newAWS(t, g)
	ctx := t.Context()
	bucket, key := aws.String("sdk"), aws.String("a/key with ä")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))
	must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: strings.NewReader("hello"), Metadata: map[string]string{"m": "v"}, ContentType: aws.String("text/x"),
	}))
	out := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled}))
	body := must[[]byte](t)(io.ReadAll(out.Body))
	if string(body) != "hello" || out.Metadata["m"] != "v" || aws.ToString(out.ContentType) != "text/x" || aws.ToString(out.ChecksumCRC32) == "" {
		t.Errorf("GetObject = %q %v %v %v", body, out.Metadata, aws.ToString(out.ContentType), aws.ToString(out.ChecksumCRC32))
	}
	big := random(5, 20<<20)
	// A body that cannot seek: chunked, with a trailer.
	tm := transfermanager.New(c)
	must[*transfermanager.UploadObjectOutput](t)(tm.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: bucket, Key: aws.String("big"), Body: io.MultiReader(bytes.NewReader(big)),
	}))
	w := tmtypes.NewWriteAtBuffer(nil)
	must[*transfermanager.DownloadObjectOutput](t)(tm.DownloadObject(ctx, &transfermanager.DownloadObjectInput{
		Bucket: bucket, Key: aws.String("big"), WriterAt: w,
	}))
	if !bytes.Equal(w.Bytes(), big) {
		t.Errorf("downloaded %d bytes with MD5 %s, want %s", len(w.Bytes()), md5Hex(w.Bytes()), md5Hex(big))
	}
	must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("sdk/big")}))
	var keys []string
	for p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(1)}); p.HasMorePages(); {
		for _, o := range must[*s3.ListObjectsV2Output](t)(p.NextPage(ctx)).Contents {
			keys = append(keys, *o.Key)
		}
	}
	if got := strings.Join(keys, "|"); got != "a/key with ä|big|copy" {
		t.Errorf("keys = %q", got)
	}
	url := must[*v4.PresignedHTTPRequest](t)(s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}))
	if got := get(t, url.URL); string(got) != "hello" {
		t.Errorf("presigned GET = %q", got)
	}
	_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("none")})
	var missing *types.NoSuchKey
	if !errors.As(err, &missing) {
		t.Errorf("GetObject of a missing key = %v, want NoSuchKey", err)
	}
	del := must[*s3.DeleteObjectsOutput](t)(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: key}, {Key: aws.String("big")}, {Key: aws.String("copy")}},
	}}))
	if len(del.Deleted) != 3 || len(del.Errors) != 0 {
		t.Errorf("DeleteObjects = %+v", del)
	}
	must[*s3.DeleteBucketOutput](t)(c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}))
}

// TestVirtualHostStyle names the bucket in the host.
func TestVirtualHostStyle(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{Args: []string{"--domains", "s3.test"}})
	c := newAWS(t, g)
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("vhost")}))
	host := "http://s3.test:" + g.URL[strings.LastIndex(g.URL, ":")+1:]
	v := s3.New(c.Options(), func(o *s3.Options) {
		o.BaseEndpoint = &host
		o.UsePathStyle = false
		o.HTTPClient = &http.Client{Transport: loopback(g)}
	})
	must[*s3.PutObjectOutput](t)(v.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("vhost"), Key: aws.String("k"), Body: strings.NewReader("x")}))
	out := must[*s3.ListObjectsV2Output](t)(v.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("vhost")}))
	if len(out.Contents) != 1 || *out.Contents[0].Key != "k" {
		t.Errorf("ListObjectsV2 = %+v", out.Contents)
	}
}

func TestMinioGo(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	c := must[*minio.Client](t)(minio.New(strings.TrimPrefix(g.URL, "http://"), &minio.Options{
		Creds: mcredentials.NewStaticV4(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	}))
	ctx := t.Context()
	if err := c.MakeBucket(ctx, "minio", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	big := random(6, 20<<20)
	must[minio.UploadInfo](t)(c.PutObject(ctx, "minio", "big", bytes.NewReader(big), int64(len(big)), minio.PutObjectOptions{PartSize: 5 << 20}))
	must[minio.UploadInfo](t)(c.PutObject(ctx, "minio", "dir/small", strings.NewReader("hello"), 5, minio.PutObjectOptions{UserTags: map[string]string{"a": "b"}}))
	must[minio.UploadInfo](t)(c.PutObject(ctx, "minio", "dir/unknown size", strings.NewReader("hello"), -1, minio.PutObjectOptions{}))
	o := must[*minio.Object](t)(c.GetObject(ctx, "minio", "big", minio.GetObjectOptions{}))
	if got := must[[]byte](t)(io.ReadAll(o)); !bytes.Equal(got, big) {
		t.Errorf("GetObject has %d bytes, want %d", len(got), len(big))
	}
	var keys []string
	for o := range c.ListObjects(ctx, "minio", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	if got := strings.Join(keys, "|"); got != "big|dir/small|dir/unknown size" {
		t.Errorf("keys = %q", got)
	}
	must[minio.UploadInfo](t)(c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "minio", Object: "copy"}, minio.CopySrcOptions{Bucket: "minio", Object: "dir/small"}))
	tags, err := c.GetObjectTagging(ctx, "minio", "copy", minio.GetObjectTaggingOptions{})
	if err != nil || tags.ToMap()["a"] != "b" {
		t.Errorf("GetObjectTagging of the copy = %v, %v", tags, err)
	}
	u, err := c.PresignedGetObject(ctx, "minio", "copy", time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, u.String()); string(got) != "hello" {
		t.Errorf("presigned GET = %q", got)
	}
	for e := range c.RemoveObjects(ctx, "minio", c.ListObjects(ctx, "minio", minio.ListObjectsOptions{Recursive: true}), minio.RemoveObjectsOptions{}) {
		t.Errorf("RemoveObjects: %+v", e)
	}
	if err := c.RemoveBucket(ctx, "minio"); err != nil {
		t.Error(err)
	}
}

// TestLongMultipart uploads and reads 5 GiB (make long).
func TestLongMultipart(t *testing.T) {
	if os.Getenv("HERALD_LONG") == "" {
		t.Skip("5 GiB: make long")
	}
	g := gatewaytest.Start(t, gatewaytest.Options{})
	c := newAWS(t, g)
	bucket, key := aws.String("long"), aws.String("5 GiB")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket}))
	tm := transfermanager.New(c, func(o *transfermanager.Options) { o.PartSizeBytes = 64 << 20 })
	const size = 5 << 30
	must[*transfermanager.UploadObjectOutput](t)(tm.UploadObject(t.Context(), &transfermanager.UploadObjectInput{
		Bucket: bucket, Key: key, Body: io.LimitReader(newStream(), size),
	}))
	out := must[*s3.GetObjectOutput](t)(c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key}))
	defer out.Body.Close()
	got, want := newSum(), newSum()
	n := must[int64](t)(io.Copy(got, out.Body))
	must[int64](t)(io.Copy(want, io.LimitReader(newStream(), size)))
	if n != size || got.Sum64() != want.Sum64() {
		t.Errorf("read %d bytes with CRC %x, want %d with %x", n, got.Sum64(), size, want.Sum64())
	}
}
