//go:build rados

package radosstore

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

// tails counts the RADOS objects of a namespace that hold bytes of large
// objects.
func tails(t *testing.T, conf, pool, namespace string) (n int) {
	t.Helper()
	out, err := exec.Command("rados", "-c", conf, "-p", pool, "-N", namespace, "ls").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		if strings.HasPrefix(name, "t.") {
			n++
		}
	}
	return n
}

// TestCopy has a client copy large objects, whole and part by part, with the
// source's checksum or another: no byte is written twice. Then the bucket is
// compressed, which no client sees.
func TestCopy(t *testing.T) {
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	g := gatewaytest.Start(t, gatewaytest.Options{Args: []string{"--store", "rados://" + pool + "/" + namespace, "--store.rados.conf", c.Conf}})
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &g.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	})
	ctx, bucket := t.Context(), aws.String("bucket")
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 9<<20/16) // three tails
	put := func(key string) {
		t.Helper()
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(data)}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(key string, want []byte) {
		t.Helper()
		got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s has %d bytes, or others (%v)", key, len(b), err)
		}
	}
	put("src")
	source := aws.String("bucket/src")
	if _, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: source}); err != nil {
		t.Fatal(err)
	}
	hashed, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("hashed"), CopySource: source, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	if err != nil || hashed.CopyObjectResult.ChecksumSHA256 == nil {
		t.Fatalf("a copy with another checksum: %+v, %v", hashed, err)
	}
	upload, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("parts")})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for n := range int32(2) {
		part, err := client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: upload.Key, UploadId: upload.UploadId, PartNumber: aws.Int32(n + 1), CopySource: source})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(n + 1), ETag: part.CopyPartResult.ETag})
	}
	_, err = client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: upload.Key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := tails(t, c.Conf, pool, namespace); n != 3 {
		t.Errorf("%d tails, want the 3 of the source", n)
	}
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("src")}); err != nil {
		t.Fatal(err)
	}
	read("copy", data)
	read("hashed", data)
	read("parts", append(bytes.Clone(data), data...))

	if out := g.MustAdmin("bucket", "compression", "--bucket", *bucket, "--set", "zstd"); !strings.Contains(out, `"zstd"`) {
		t.Errorf("bucket compression: %s", out)
	}
	put("compressed")
	read("compressed", data)
	info, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("compressed")})
	if err != nil || *info.ContentLength != int64(len(data)) {
		t.Errorf("HEAD = %+v, %v", info, err)
	}
	if err := g.Stop(); err != nil { // what is under way behind requests is done
		t.Error(err)
	}
	if n := tails(t, c.Conf, pool, namespace); n != 6 {
		t.Errorf("%d tails, want 3 that copies share and 3 that are compressed", n)
	}
}
