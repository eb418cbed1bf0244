package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// opTimeout is longer than any answer takes: gateways are halted for seconds.
const opTimeout = 5 * time.Minute

// object is what a key has.
type object struct {
	op   int64 // that wrote it
	etag string
}

// clientKey is a key of a client, which nobody else changes.
type clientKey struct {
	keyID
	cur *object // nil: nothing is there
}

// client changes keys of its own in one bucket.
type client struct {
	s3        *s3.Client
	h         *history
	gate      *sync.RWMutex // who locks it keeps all changes of the bucket out
	ids       *atomic.Int64
	rand      *rand.Rand
	pause     time.Duration // between two changes, about
	failed    func() bool   // the test: nothing need come back any more
	bucket    string
	name      string
	versioned bool
	fresh     bool // each key is written once
	expires   bool // and ended by a lifecycle rule
	keys      []*clientKey
}

// run changes keys until ctx ends. Its error is an answer that a correct gateway
// does not give.
func (c *client) run(ctx context.Context) error {
	for ctx.Err() == nil {
		c.gate.RLock()
		err := c.change()
		c.gate.RUnlock()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(c.rand.Int64N(int64(2 * c.pause)))):
		}
	}
	return nil
}

// request is one that changes a key.
type request struct {
	event string
	op    int64
	etag  string // of what it writes, if that was answered
	send  func(ctx context.Context, k *clientKey, r *request) error
}

func (c *client) change() error {
	k := &clientKey{keyID: keyID{c.bucket, fmt.Sprintf("%s/%d", c.name, c.ids.Add(1))}}
	if !c.fresh {
		k = c.keys[c.rand.IntN(len(c.keys))]
	}
	r := c.choose(k)
	r.op = c.ids.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	call := time.Now()
	err := r.send(ctx, k, r)
	switch what := judge(err); {
	case err == nil:
	case what == unsent:
		time.Sleep(100 * time.Millisecond) // the gateway is down
		return nil
	case what == faulty:
		return fmt.Errorf("%s %s: %w", r.event, k, err)
	case c.expires: // it may have ended before somebody looks
		c.add(k, r, call, true)
		return nil
	default:
		happened, err := c.settle(k, r)
		if err != nil || !happened {
			return err
		}
	}
	c.add(k, r, call, false)
	return nil
}

// add notes that a request did what it asks for; unsure: or did not.
func (c *client) add(k *clientKey, r *request, call time.Time, unsure bool) {
	ch := &change{events: []string{r.event}, op: r.op, etag: r.etag, call: call, ret: time.Now(), unsure: unsure}
	if strings.HasPrefix(r.event, "ObjectRemoved:") {
		ch.op, ch.etag = k.cur.op, k.cur.etag
		k.cur = nil
	} else {
		k.cur = &object{r.op, r.etag}
	}
	c.h.add(k.keyID, ch)
	if c.expires {
		c.h.add(k.keyID, &change{events: expired, op: r.op, etag: r.etag, call: call, ret: time.Now(), unsure: unsure})
	}
}

// choose makes a request up.
func (c *client) choose(k *clientKey) *request {
	dice := c.rand.IntN(100)
	from := c.keys[c.rand.IntN(len(c.keys))]
	switch {
	case c.fresh || dice < 45:
		return &request{event: "ObjectCreated:Put", send: c.put}
	case k.cur != nil && dice < 75:
		if c.versioned {
			return &request{event: "ObjectRemoved:DeleteMarkerCreated", send: c.remove}
		}
		return &request{event: "ObjectRemoved:Delete", send: c.remove}
	case from != k && from.cur != nil && dice < 90:
		return &request{event: "ObjectCreated:Copy", send: func(ctx context.Context, k *clientKey, r *request) error { return c.copy(ctx, k, from, r) }}
	case dice < 95:
		return &request{event: "ObjectCreated:CompleteMultipartUpload", send: c.upload}
	}
	return &request{event: "ObjectCreated:Put", send: c.put}
}

// metadata tells which request wrote an object.
func (r *request) metadata() map[string]string {
	return map[string]string{opHeader: strconv.FormatInt(r.op, 10)}
}

func (r *request) body() *strings.Reader {
	return strings.NewReader(fmt.Sprintf("object of request %d", r.op))
}

func (c *client) put(ctx context.Context, k *clientKey, r *request) error {
	out, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &k.bucket, Key: &k.key, Body: r.body(), Metadata: r.metadata()})
	if err == nil {
		r.etag = unquote(out.ETag)
	}
	return err
}

func (c *client) remove(ctx context.Context, k *clientKey, _ *request) error {
	_, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &k.bucket, Key: &k.key})
	return err
}

func (c *client) copy(ctx context.Context, k, from *clientKey, r *request) error {
	out, err := c.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &k.bucket, Key: &k.key, CopySource: aws.String(from.String()), MetadataDirective: types.MetadataDirectiveReplace, Metadata: r.metadata(),
	})
	if err == nil {
		r.etag = unquote(out.CopyObjectResult.ETag)
	}
	return err
}

func (c *client) upload(ctx context.Context, k *clientKey, r *request) error {
	up, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &k.bucket, Key: &k.key, Metadata: r.metadata()})
	if err != nil {
		return err
	}
	part, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &k.bucket, Key: &k.key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: r.body(),
	})
	if err != nil {
		return err
	}
	out, err := c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &k.bucket, Key: &k.key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
	})
	if err == nil {
		r.etag = unquote(out.ETag)
	}
	return err
}

func unquote(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// settle looks whether a request without an answer that says so was done.
func (c *client) settle(k *clientKey, r *request) (happened bool, err error) {
	there, err := c.look(k)
	if err != nil {
		return false, err
	}
	removed := strings.HasPrefix(r.event, "ObjectRemoved:")
	switch {
	case there != nil && there.op == r.op && !removed:
		r.etag = there.etag
		return true, nil
	case there == nil && removed:
		return true, nil
	case same(there, k.cur):
		return false, nil
	}
	return false, fmt.Errorf("%s: after %s #%d without an answer there is %+v, before it was %+v", k, r.event, r.op, there, k.cur)
}

func same(a, b *object) bool { return a == b || a != nil && b != nil && *a == *b }

// look reads what a key has, as soon as the gateway tells.
func (c *client) look(k *clientKey) (*object, error) {
	for deadline := time.Now().Add(opTimeout); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
		out, err := c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &k.bucket, Key: &k.key})
		cancel()
		var api smithy.APIError
		switch {
		case err == nil:
			op, err := strconv.ParseInt(out.Metadata[opHeader], 10, 64)
			return &object{op, unquote(out.ETag)}, err
		case errors.As(err, &api) && api.ErrorCode() == "NotFound":
			return nil, nil
		case judge(err) == faulty || time.Now().After(deadline) || c.failed():
			return nil, fmt.Errorf("%s: %w", k, err)
		}
	}
}

// outcome is what an error tells about a request.
type outcome int

const (
	unknown outcome = iota // it was done or not
	unsent                 // the gateway did not get it
	faulty                 // a correct gateway does not answer so
)

func judge(err error) outcome {
	var api smithy.APIError
	var dial *net.OpError
	var status interface{ HTTPStatusCode() int }
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return faulty
	case errors.As(err, &dial) && dial.Op == "dial":
		return unsent
	case !errors.As(err, &api) || api.ErrorCode() == "UnknownError" || api.ErrorCode() == "RequestTimeout":
		return unknown
	case errors.As(err, &status) && status.HTTPStatusCode() >= 500:
		return unknown
	}
	return faulty
}
