package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// answer is what became of a request.
type answer int

const (
	acked    answer = iota
	refused         // for a reason that passes: the op did not happen
	unmet           // If-None-Match: likewise
	cut             // no answer: it may have happened or not
	notBegun        // no answer, but to a request before the one that counts
)

var (
	errWrong    = errors.New("wrong answer") // one that a correct gateway does not give
	errNotBegun = errors.New("cut before the op")
	errHalf     = errors.New("half an answer")
)

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, args...))
}

// judge decides what an error says. Its own error is an answer that a correct
// gateway does not give; without power any failure is correct.
func (w *worker) judge(o *op, err error) (answer, error) {
	o.end = time.Now()
	var api smithy.APIError
	switch {
	case err == nil:
		o.acked = true
		return acked, nil
	case errors.Is(err, errWrong):
		return cut, err
	case !errors.As(err, &api) || api.ErrorCode() == "UnknownError" || w.dark.Load():
		if errors.Is(err, errNotBegun) {
			return notBegun, nil
		}
		return cut, nil
	case api.ErrorCode() == "SlowDown" || api.ErrorCode() == "ServiceUnavailable":
		return refused, nil
	case api.ErrorCode() == "PreconditionFailed" && o.exclusive:
		return unmet, nil
	}
	return cut, fmt.Errorf("%w: %w", errWrong, err)
}

// send asks for an op, once, and completes it with what is known about it
// then: what it writes before it is asked for, its version id from the answer.
func (w *worker) send(ctx context.Context, k *key, o *op, from *key) error {
	o.begin = time.Now()
	switch o.kind {
	case put:
		return w.put(ctx, k, o)
	case copyObject:
		return w.copy(ctx, k, from, o)
	case multipart:
		return w.multipart(ctx, k, o)
	case tag:
		return w.tag(ctx, k, o)
	}
	return w.remove(ctx, k, o)
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
	o.etag, o.size = md5Hex(body), int64(len(body))
	in := &s3.PutObjectInput{Bucket: &k.bucket, Key: &k.name, Body: bytes.NewReader(body)}
	if o.exclusive {
		in.IfNoneMatch = aws.String("*")
	}
	if w.rand.IntN(8) == 0 {
		o.tags = fmt.Sprintf("put=%d", w.n)
		in.Tagging = &o.tags
	}
	out, err := w.s3.PutObject(ctx, in)
	if err != nil {
		return err
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.ETag)
}

func (w *worker) copy(ctx context.Context, k, from *key, o *op) error {
	o.etag, o.size, o.tags = from.current().etag, from.current().size, from.current().tags
	source := from.bucket + "/" + url.PathEscape(from.name)
	out, err := w.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &k.bucket, Key: &k.name, CopySource: &source})
	if err != nil {
		return err
	}
	if out.CopyObjectResult == nil {
		return errHalf
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.CopyObjectResult.ETag)
}

// multipart uploads one or two parts (the last may be small), the first one
// twice now and then: the latter counts.
func (w *worker) multipart(ctx context.Context, k *key, o *op) error {
	up, err := w.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &k.bucket, Key: &k.name})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	sizes := []int{1000 + w.rand.IntN(100_000)}
	if w.rand.IntN(4) == 0 {
		sizes = []int{5 << 20, 1000}
	}
	if w.rand.IntN(3) == 0 {
		_, err := w.s3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &k.bucket, Key: &k.name, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(w.body(150_000)),
		})
		if err != nil {
			return fmt.Errorf("%w: %w", errNotBegun, err)
		}
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
			return fmt.Errorf("%w: %w", errNotBegun, err)
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
	if out.ETag == nil {
		return errHalf
	}
	o.versionID = aws.ToString(out.VersionId)
	return wantETag(o, out.ETag)
}

func (w *worker) remove(ctx context.Context, k *key, o *op) error {
	in := &s3.DeleteObjectInput{Bucket: &k.bucket, Key: &k.name}
	if o.kind == removeVersion {
		in.VersionId = &o.versionID
	}
	out, err := w.s3.DeleteObject(ctx, in)
	if err != nil {
		return err
	}
	id, marker := aws.ToString(out.VersionId), aws.ToBool(out.DeleteMarker)
	switch {
	case o.kind == removeVersion && id != o.versionID:
		return wrong("deleted version %q", id)
	case o.kind == remove && k.versioned && !marker:
		return wrong("no delete marker")
	}
	o.versionID = id
	return nil
}

func (w *worker) tag(ctx context.Context, k *key, o *op) error {
	name, value := "n", fmt.Sprint(w.id, "-", w.n)
	o.tags = name + "=" + value
	in := &s3.PutObjectTaggingInput{
		Bucket: &k.bucket, Key: &k.name, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: &name, Value: &value}}},
	}
	if k.versioned {
		in.VersionId = &o.versionID
	}
	_, err := w.s3.PutObjectTagging(ctx, in)
	return err
}

func wantETag(o *op, got *string) error {
	if unquote(aws.ToString(got)) != o.etag {
		return wrong("ETag = %s, want %s", aws.ToString(got), o.etag)
	}
	return nil
}
