package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// bucketState is what a bucket is, or should be.
type bucketState struct {
	exists bool
	tags   string
}

// smallBucket is a bucket without objects, which comes and goes.
type smallBucket struct {
	name    string
	now     bucketState
	pending *bucketState // asked for, cut by a kill
}

// bucketWorker is a client that makes, tags and deletes buckets of its own.
type bucketWorker struct {
	*worker
	small []*smallBucket
}

func newBucketWorker(w *worker) *bucketWorker {
	b := &bucketWorker{worker: w}
	w.keys = nil
	for i := range 3 {
		b.small = append(b.small, &smallBucket{name: fmt.Sprintf("small-%d-%d", w.id, i)})
	}
	return b
}

func (w *bucketWorker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		w.n++
		b := w.small[w.n%len(w.small)]
		if b.pending != nil {
			select { // others may be free
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
			continue
		}
		if err := w.change(b); err != nil {
			return fmt.Errorf("bucket %s: %w", b.name, err)
		}
	}
	return nil
}

func (w *bucketWorker) change(b *smallBucket) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	next, err := bucketState{exists: true}, error(nil)
	switch {
	case !b.now.exists:
		_, err = w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.name})
	case w.rand.IntN(3) == 0:
		next.exists = false
		_, err = w.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &b.name})
	default:
		name, value := "n", fmt.Sprint(w.n)
		next.tags = name + "=" + value
		_, err = w.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{
			Bucket: &b.name, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: &name, Value: &value}}},
		})
	}
	a, err := w.judge(&op{}, err)
	switch a {
	case acked:
		b.now = next
	case cut:
		b.pending = &next
	}
	return err
}

// settle compares every bucket with what was acknowledged.
func (w *bucketWorker) settle(ctx context.Context, _ *deliveries) error {
	list, err := w.s3.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		return err
	}
	for _, b := range w.small {
		got, err := w.state(ctx, b.name)
		if err != nil {
			return fmt.Errorf("bucket %s: %w", b.name, err)
		}
		if b.pending != nil && got == *b.pending {
			b.now = got
		}
		b.pending = nil
		if got != b.now {
			return fmt.Errorf("P1: bucket %s is %+v, want %+v", b.name, got, b.now)
		}
		in := slices.ContainsFunc(list.Buckets, func(l types.Bucket) bool { return aws.ToString(l.Name) == b.name })
		if in != got.exists {
			return fmt.Errorf("P1: bucket %s: listed %v, exists %v", b.name, in, got.exists)
		}
	}
	return nil
}

func (w *bucketWorker) state(ctx context.Context, name string) (bucketState, error) {
	out, err := w.s3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &name})
	var api smithy.APIError
	switch {
	case err == nil:
		return bucketState{true, joinTags(out.TagSet)}, nil
	case errors.As(err, &api) && api.ErrorCode() == "NoSuchBucket":
		return bucketState{}, nil
	case errors.As(err, &api) && api.ErrorCode() == "NoSuchTagSet":
		return bucketState{exists: true}, nil
	}
	return bucketState{}, err
}
