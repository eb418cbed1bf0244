package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
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

// opTimeout is longer than any op takes: only a kill cuts it.
const opTimeout = 5 * time.Minute

// manyVersions is how many a key has before old ones are mostly deleted.
const manyVersions = 12

// worker is one client with keys of its own, and a part in the hot ones.
type worker struct {
	s3   *s3.Client
	rand *rand.Rand
	id   int
	n    int // ops begun; makes every content unique
	keys []*key
	hot  []*hotKey
	heat int          // how many of a hundred ops are on hot keys
	dark *atomic.Bool // the power was cut

	buckets buckets // where the keys are
}

func newWorker(endpoint string, id int, seed uint64, b buckets, hot []*hotKey, dark *atomic.Bool) *worker {
	w := &worker{s3: newS3(endpoint), rand: rand.New(rand.NewPCG(seed, uint64(id))), id: id, buckets: b, hot: hot, heat: 12, dark: dark}
	for i := range 3 {
		for _, bucket := range w.buckets.all() {
			name := fmt.Sprintf("%s/key %d", w.prefix(), i)
			if i == 2 {
				name = w.prefix() // also a directory
			}
			w.keys = append(w.keys, &key{bucket: bucket, name: name, versioned: bucket == w.buckets.versioned})
		}
	}
	return w
}

// prefix is that of the worker's keys.
func (w *worker) prefix() string { return fmt.Sprintf("client-%02d", w.id) }

// run changes keys at random until ctx ends; an op that was begun is not
// cancelled.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.change(); err != nil {
			return err
		}
	}
	return nil
}

// change does one op. Its error is an answer that a correct gateway does not
// give.
func (w *worker) change() error {
	w.n++
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	switch dice := w.rand.IntN(100); {
	case dice < w.heat:
		return w.changeHot(ctx)
	case dice < w.heat+4:
		return w.removeMany(ctx)
	}
	k := w.keys[w.rand.IntN(len(w.keys))]
	if k.pending != nil {
		return nil // not before it was read again
	}
	o, from := w.choose(k)
	return w.finish(k, o, w.send(ctx, k, o, from))
}

// choose makes up an op on a key of its own, and the source of a copy.
func (w *worker) choose(k *key) (o *op, from *key) {
	if len(k.versions) > manyVersions && w.rand.IntN(5) > 0 {
		return w.removal(k, true), nil
	}
	from = w.source(k)
	switch dice := w.rand.IntN(100); {
	case dice < 45:
		return &op{kind: put}, nil
	case dice < 52:
		return &op{kind: put, exclusive: true}, nil
	case dice < 62 && from != nil:
		return &op{kind: copyObject}, from
	case dice < 67:
		return &op{kind: multipart}, nil
	case dice < 77 && k.current() != nil:
		v := k.current()
		for i := w.rand.IntN(len(k.versions)); k.versioned && i < len(k.versions); i++ {
			if !k.versions[i].marker {
				v = &k.versions[i]
				break
			}
		}
		return &op{kind: tag, versionID: v.id}, nil
	}
	return w.removal(k, w.rand.IntN(2) == 0), nil
}

// removal makes up a delete: of a version, where there is one, or of the
// object. The latest is deleted often, so that the one before it returns.
func (w *worker) removal(k *key, version bool) *op {
	if !version || !k.versioned || len(k.versions) == 0 {
		o := &op{kind: remove}
		if cur := k.current(); cur != nil {
			o.etag, o.size = cur.etag, cur.size
		}
		return o
	}
	if last := k.ops[len(k.ops)-1]; last.kind == removeVersion && w.rand.IntN(8) == 0 {
		return &op{kind: removeVersion, versionID: last.versionID} // once more: changes nothing
	}
	v := k.versions[len(k.versions)-1]
	if w.rand.IntN(2) == 0 {
		v = k.versions[w.rand.IntN(len(k.versions))]
	}
	return &op{kind: removeVersion, versionID: v.id, etag: v.etag, size: v.size}
}

// source is another key with an object to copy from, with other content than
// what is there: a copy that changes nothing could not be told from none.
func (w *worker) source(k *key) *key {
	start := w.rand.IntN(len(w.keys))
	for i := range w.keys {
		other := w.keys[(start+i)%len(w.keys)]
		if other == k || other.pending != nil || other.current() == nil {
			continue
		}
		if cur := k.current(); cur == nil || cur.etag != other.current().etag {
			return other
		}
	}
	return nil
}

// finish does to the model what an answer says. Its error is a violation.
func (w *worker) finish(k *key, o *op, err error) error {
	a, err := w.judge(o, err)
	idle := k.idle(o)
	switch {
	case err != nil:
	case a == acked && o.exclusive && idle:
		err = wrong("an object is there")
	case a == unmet && !idle:
		err = wrong("If-None-Match failed, no object is there")
	case a == acked && !idle:
		k.apply(o)
	case a == cut && !idle:
		k.pending = o
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", o.kind, k.id(), err, k.describe(nil))
	}
	return nil
}

// removeMany deletes several of its own keys and versions in one request.
func (w *worker) removeMany(ctx context.Context) error {
	bucket := w.keys[w.rand.IntN(len(w.keys))].bucket
	ops := map[*key]*op{}
	in := &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{}}
	for _, k := range w.keys {
		if k.bucket != bucket || k.pending != nil || w.rand.IntN(3) == 0 {
			continue
		}
		o := w.removal(k, w.rand.IntN(2) == 0)
		id := types.ObjectIdentifier{Key: &k.name}
		if o.kind == removeVersion {
			id.VersionId = aws.String(o.versionID)
		}
		o.begin, ops[k] = time.Now(), o
		in.Delete.Objects = append(in.Delete.Objects, id)
	}
	if len(ops) == 0 {
		return nil
	}
	out, err := w.s3.DeleteObjects(ctx, in)
	for k, o := range ops {
		if err := w.finish(k, o, removed(k, o, out, err)); err != nil {
			return fmt.Errorf("DeleteObjects: %w", err)
		}
	}
	return nil
}

// removed finds what an answer to DeleteObjects says about one key.
func removed(k *key, o *op, out *s3.DeleteObjectsOutput, err error) error {
	if err != nil {
		return err
	}
	if len(out.Deleted)+len(out.Errors) == 0 {
		return errHalf
	}
	for _, e := range out.Errors {
		if aws.ToString(e.Key) == k.name {
			return &smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)}
		}
	}
	for _, d := range out.Deleted {
		switch {
		case aws.ToString(d.Key) != k.name:
		case o.kind == removeVersion && aws.ToString(d.VersionId) != o.versionID:
			return wrong("deleted version %q, want %q", aws.ToString(d.VersionId), o.versionID)
		case o.kind == remove && k.versioned:
			if o.versionID = aws.ToString(d.DeleteMarkerVersionId); o.versionID == "" {
				return wrong("no delete marker")
			}
			return nil
		default:
			return nil
		}
	}
	return wrong("the key is not in the answer")
}
