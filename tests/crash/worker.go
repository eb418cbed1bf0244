package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"herald/tests/gatewaytest"
)

func newS3(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
		Retryer:      aws.NopRetryer{}, // every op is asked for once
	})
}

// worker is one client with keys of its own.
type worker struct {
	s3   *s3.Client
	rand *rand.Rand
	id   int
	n    int // ops begun; makes every content unique
	keys []*key
}

func newWorker(endpoint string, id int, seed uint64) *worker {
	w := &worker{s3: newS3(endpoint), rand: rand.New(rand.NewPCG(seed, uint64(id))), id: id}
	for i := range 3 {
		for _, bucket := range []string{plainBucket, versionedBucket} {
			name := fmt.Sprintf("client-%02d/key %d", id, i)
			if i == 2 {
				name = fmt.Sprintf("client-%02d", id) // also a directory
			}
			w.keys = append(w.keys, &key{bucket: bucket, name: name, versioned: bucket == versionedBucket})
		}
	}
	return w
}

// run changes keys at random until ctx ends; an op that was begun is not
// cancelled: only a kill cuts it.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		k := w.keys[w.rand.IntN(len(w.keys))]
		if k.pending != nil {
			continue // not before it was read again
		}
		if err := w.change(k); err != nil {
			return err
		}
		if w.allPending() {
			return nil
		}
	}
	return nil
}

func (w *worker) allPending() bool {
	for _, k := range w.keys {
		if k.pending == nil {
			return false
		}
	}
	return true
}

// change does one op. Its error is an answer that a correct gateway does not
// give.
func (w *worker) change(k *key) error {
	w.n++
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o := &op{}
	var err error
	switch dice := w.rand.IntN(100); {
	case dice < 55:
		err = w.put(ctx, k, o)
	case dice < 65 && w.source(k) != nil:
		err = w.copy(ctx, k, w.source(k), o)
	case dice < 70:
		err = w.multipart(ctx, k, o)
	default:
		err = w.remove(ctx, k, o)
	}
	if o.kind == remove && o.etag == "" && !k.versioned {
		return w.refused(k, o, err, true) // nothing was there: no change, no event
	}
	if err == nil {
		o.acked, o.came = true, true
		k.ops = append(k.ops, o)
		return nil
	}
	return w.refused(k, o, err, false)
}

// refused decides what an error says: a definite answer (the op did not
// happen), or none (a kill may have cut it).
func (w *worker) refused(k *key, o *op, err error, nothing bool) error {
	var api smithy.APIError
	switch {
	case nothing:
		if errors.As(err, &api) && api.ErrorCode() != "SlowDown" && api.ErrorCode() != "ServiceUnavailable" {
			return fmt.Errorf("%s %s/%s: %w", o.kind, k.bucket, k.name, err)
		}
		return nil
	case errors.As(err, &api) && (api.ErrorCode() == "SlowDown" || api.ErrorCode() == "ServiceUnavailable"):
		return nil
	case errors.As(err, &api) && api.ErrorCode() != "UnknownError":
		return fmt.Errorf("%s %s/%s: %w", o.kind, k.bucket, k.name, err)
	}
	k.pending = o
	return nil
}

func (w *worker) body(size int) []byte {
	head := fmt.Appendf(nil, "client %d op %d ", w.id, w.n)
	size = max(size, len(head))
	start := w.rand.IntN(len(noise) - size)
	return append(head, noise[start:start+size-len(head)]...)
}

func (w *worker) put(ctx context.Context, k *key, o *op) error {
	size := 100 + w.rand.IntN(8000)
	if w.rand.IntN(10) == 0 {
		size = 200_000 + w.rand.IntN(300_000) // staged in a file, not in the journal
	}
	body := w.body(size)
	o.kind, o.etag, o.size = put, md5Hex(body), int64(len(body))
	out, err := w.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &k.bucket, Key: &k.name, Body: bytes.NewReader(body)})
	if err != nil {
		return err
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.ETag)
}

// source is another key with an object to copy from, with other content than
// what is there: a copy that changes nothing could not be told from none.
func (w *worker) source(k *key) *key {
	for _, other := range w.keys {
		if other == k || other.pending != nil || other.current() == nil {
			continue
		}
		if cur := k.current(); cur == nil || cur.etag != other.current().etag {
			return other
		}
	}
	return nil
}

func (w *worker) copy(ctx context.Context, k, from *key, o *op) error {
	o.kind, o.etag, o.size = copyObject, from.current().etag, from.current().size
	source := from.bucket + "/" + url.PathEscape(from.name)
	out, err := w.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &k.bucket, Key: &k.name, CopySource: &source})
	if err != nil {
		return err
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.CopyObjectResult.ETag)
}

// multipart uploads one or two parts (the last may be small).
func (w *worker) multipart(ctx context.Context, k *key, o *op) error {
	o.kind = multipart
	up, err := w.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &k.bucket, Key: &k.name})
	if err != nil {
		return notBegun(err)
	}
	sizes := []int{1000 + w.rand.IntN(100_000)}
	if w.rand.IntN(4) == 0 {
		sizes = []int{5 << 20, 1000}
	}
	var parts []types.CompletedPart
	var sums []byte
	for i, size := range sizes {
		body := w.body(size)
		number := int32(i + 1)
		out, err := w.s3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &k.bucket, Key: &k.name, UploadId: up.UploadId, PartNumber: &number, Body: bytes.NewReader(body),
		})
		if err != nil {
			return notBegun(err)
		}
		sums = append(sums, md5Sum(body)...)
		o.size += int64(len(body))
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &number})
	}
	o.etag = fmt.Sprintf("%s-%d", md5Hex(sums), len(parts))
	out, err := w.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &k.bucket, Key: &k.name, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		return err
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.ETag)
}

// notBegunError: the connection broke before the op that changes the key was
// asked for.
type notBegunError struct{ smithy.GenericAPIError }

func notBegun(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		return err
	}
	return &notBegunError{smithy.GenericAPIError{Code: "SlowDown", Message: err.Error()}}
}

func (w *worker) remove(ctx context.Context, k *key, o *op) error {
	o.kind = remove
	if cur := k.current(); cur != nil {
		o.etag, o.size = cur.etag, cur.size
	}
	out, err := w.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &k.bucket, Key: &k.name})
	if err != nil {
		return err
	}
	o.versionID = aws.ToString(out.VersionId)
	if k.versioned && !aws.ToBool(out.DeleteMarker) {
		return &smithy.GenericAPIError{Code: "Wrong", Message: "no delete marker"}
	}
	return nil
}

func wantETag(o *op, got *string) error {
	if unquote(aws.ToString(got)) != o.etag {
		return &smithy.GenericAPIError{Code: "Wrong", Message: fmt.Sprintf("ETag = %s, want %s", aws.ToString(got), o.etag)}
	}
	return nil
}

// settle reads every key again and compares it with what was acknowledged; an
// op that was cut is found to have come true, or not.
func (w *worker) settle(ctx context.Context) error {
	for _, k := range w.keys {
		if err := w.settleKey(ctx, k); err != nil {
			return fmt.Errorf("P1: %s/%s: %w", k.bucket, k.name, err)
		}
	}
	return nil
}

func (w *worker) settleKey(ctx context.Context, k *key) error {
	etag, body, err := w.read(ctx, k)
	if err != nil {
		return err
	}
	if etag != "" && len(body) > 0 && !validBody(etag, body) {
		return fmt.Errorf("%d bytes do not have the MD5 of their ETag %s", len(body), etag)
	}
	versions := []version(nil)
	if k.versioned {
		if versions, err = w.versions(ctx, k); err != nil {
			return err
		}
	}
	if o := k.pending; o != nil {
		k.pending = nil
		if k.cameTrue(o, etag, versions) {
			o.came = true
			k.ops = append(k.ops, o)
		}
	}
	want := ""
	if cur := k.current(); cur != nil {
		want = cur.etag
	}
	if etag != want {
		return fmt.Errorf("has ETag %q, want %q; last ops: %s", etag, want, k.history(5))
	}
	return k.checkVersions(versions)
}

// cameTrue decides about an op that was cut. In a plain bucket the object
// tells; contents are unique, but a copy may repeat what is there already.
func (k *key) cameTrue(o *op, etag string, versions []version) bool {
	if k.versioned {
		if len(versions) != len(k.ops)+1 {
			return false
		}
		o.versionID = versions[0].id
		return true
	}
	if o.kind == remove {
		return etag == "" && k.current() != nil
	}
	return etag == o.etag
}

func (k *key) history(n int) (s string) {
	for _, o := range k.ops[max(0, len(k.ops)-n):] {
		s += o.describe(k.versioned) + "; "
	}
	return s
}

func (w *worker) read(ctx context.Context, k *key) (etag string, body []byte, err error) {
	out, err := w.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &k.bucket, Key: &k.name})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	defer out.Body.Close()
	body, err = io.ReadAll(out.Body)
	return unquote(aws.ToString(out.ETag)), body, err
}

// version is a version or a delete marker in a listing.
type version struct {
	id, etag string // etag "" for a marker
}

// versions lists a key's versions, newest first.
func (w *worker) versions(ctx context.Context, k *key) ([]version, error) {
	var out []version
	in := &s3.ListObjectVersionsInput{Bucket: &k.bucket, Prefix: &k.name}
	for {
		page, err := w.s3.ListObjectVersions(ctx, in)
		if err != nil {
			return nil, err
		}
		// The SDK separates versions and markers; time and id restore the
		// order well enough only together with the model, so compare as sets
		// per kind below, and the newest by IsLatest.
		for _, m := range page.DeleteMarkers {
			if aws.ToString(m.Key) == k.name {
				out = insert(out, version{id: aws.ToString(m.VersionId)}, aws.ToBool(m.IsLatest))
			}
		}
		for _, v := range page.Versions {
			if aws.ToString(v.Key) == k.name {
				out = insert(out, version{aws.ToString(v.VersionId), unquote(aws.ToString(v.ETag))}, aws.ToBool(v.IsLatest))
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return out, nil
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
}

func insert(list []version, v version, latest bool) []version {
	if latest {
		return append([]version{v}, list...)
	}
	return append(list, v)
}

// checkVersions compares a key's versions with its history: the newest first,
// the others as a set.
func (k *key) checkVersions(got []version) error {
	if !k.versioned {
		return nil
	}
	if len(got) != len(k.ops) {
		return fmt.Errorf("has %d versions, want %d; last ops: %s", len(got), len(k.ops), k.history(5))
	}
	etags := map[string]string{}
	for _, v := range got {
		etags[v.id] = v.etag
	}
	for i, o := range k.ops {
		etag, ok := etags[o.versionID]
		if want := o.versionETag(); !ok || etag != want {
			return fmt.Errorf("version %q has ETag %q (found %v), want %q", o.versionID, etag, ok, want)
		}
		if i == len(k.ops)-1 && got[0].id != o.versionID {
			return fmt.Errorf("the latest version is %q, want %q", got[0].id, o.versionID)
		}
	}
	return nil
}

func (o *op) versionETag() string {
	if o.kind == remove {
		return ""
	}
	return o.etag
}
