package linear

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithymiddleware "github.com/aws/smithy-go/middleware"
)

// manyVersions is how many a key has before most deletes are of versions.
const manyVersions = 10

// hint is what clients tell each other about a key, which need not be so any
// more: ETags for conditions, versions to delete.
type hint struct {
	mu       sync.Mutex // guards what follows
	etag     string
	versions []string
}

func (h *hint) learn(v version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.etag != "" {
		h.etag = v.etag
	}
	if v.id != "" && !slices.Contains(h.versions, v.id) {
		h.versions = append(h.versions, v.id)
	}
}

// pick returns a version id, mostly one that nobody picked.
func (h *hint) pick(r *rand.Rand) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.versions) == 0 {
		return ""
	}
	i := r.IntN(len(h.versions))
	if r.IntN(2) == 0 {
		i = len(h.versions) - 1
	}
	id := h.versions[i]
	if r.IntN(5) > 0 {
		h.versions = slices.Delete(h.versions, i, i+1)
	}
	return id
}

func (h *hint) last() (etag string, versions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.etag, len(h.versions)
}

// worker is one client.
type worker struct {
	world *world
	id    int
	rand  *rand.Rand
}

// run does ops until ctx ends; one that was begun is not cancelled.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		if w.rand.IntN(40) == 0 {
			w.list()
			continue
		}
		k := w.world.pick(w.rand)
		o := &op{key: k, client: w.id, gateway: w.rand.IntN(len(w.world.gateways)), id: w.world.ids.Add(1)}
		w.choose(o)
		if !w.do(o) {
			time.Sleep(time.Duration(5+w.rand.IntN(20)) * time.Millisecond) // that gateway is not there
		}
	}
}

// list lists a bucket. That is a read of each of its keys, at some moment.
func (w *worker) list() {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	bucket, gateway := plainBucket, w.rand.IntN(len(w.world.gateways))
	if w.rand.IntN(2) == 0 {
		bucket = versionedBucket
	}
	call := w.world.now()
	listed, err := listObjects(ctx, w.world.clients[gateway], bucket, int32(10+w.rand.IntN(50)))
	ret := w.world.now()
	if what, code := judge(err); what == faulty {
		w.world.violation("list %s: %s", bucket, code)
	}
	if err != nil {
		return
	}
	for _, k := range w.world.keys {
		if k.bucket != bucket {
			continue
		}
		o := &op{id: w.world.ids.Add(1), kind: entry, key: k, client: w.id, gateway: gateway, call: call, ret: ret}
		if etag, ok := listed[k.name]; ok {
			o.got = []version{{etag: etag}}
		}
		delete(listed, k.name)
		w.world.add(o)
	}
	if len(listed) > 0 {
		w.world.violation("gateway %d lists keys of %s that nobody made: %v", gateway, bucket, listed)
	}
}

// choose draws what an op does.
func (w *worker) choose(o *op) {
	etag, versions := w.world.hints[o.key].last()
	switch dice := w.rand.IntN(100); {
	case dice < 32:
		o.kind = read
	case dice < 54:
		o.kind = put
	case dice < 62:
		o.kind, o.ifNoneMatch = put, true
	case dice < 70 && etag != "":
		o.kind, o.ifMatch = put, etag
	case dice < 80:
		o.kind = copyObject
	case dice < 84:
		o.kind = multipart
	default:
		o.kind = remove
	}
	if o.kind == remove && o.key.versioned && (versions > manyVersions || w.rand.IntN(2) == 0) {
		if o.version = w.world.hints[o.key].pick(w.rand); o.version != "" {
			o.kind = removeVersion
		}
	}
	if versions > 3*manyVersions && o.kind != read {
		o.kind, o.ifMatch, o.ifNoneMatch = removeVersion, "", false
		o.version = w.world.hints[o.key].pick(w.rand)
	}
}

// do asks for an op, and notes what became of it. It answers false when the
// gateway was not there.
func (w *worker) do(o *op) bool {
	limit := opTimeout
	if w.rand.IntN(40) == 0 { // a client that loses its patience
		limit = time.Duration(w.rand.IntN(300)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	o.call = w.world.now()
	switch o.kind {
	case read:
		return w.read(ctx, o)
	case copyObject:
		return w.copy(ctx, o)
	case multipart:
		return w.multipart(ctx, o)
	case put:
		return w.note(o, w.put(ctx, o))
	}
	return w.note(o, w.remove(ctx, o))
}

// note adds an op that changes something to the history.
func (w *worker) note(o *op, err error) bool {
	o.ret = w.world.now()
	var expected []string
	if o.ifNoneMatch || o.ifMatch != "" {
		expected = append(expected, codePreconditionFailed)
	}
	if o.ifMatch != "" {
		expected = append(expected, codeNoSuchKey)
	}
	what, code := judge(err, expected...)
	o.code = code
	switch what {
	case unsent:
		return false
	case refused:
		o.result = unmet
	case unknown:
		o.result = maybe
	case faulty:
		o.result = maybe
		w.world.violation("%s: %s", o.key, o)
	case answered:
		w.world.hints[o.key].learn(version{id: o.version, etag: o.etag})
	}
	w.world.add(o)
	return true
}

func (w *worker) client(o *op) *s3.Client { return w.world.clients[o.gateway] }

func (w *worker) read(ctx context.Context, o *op) bool {
	var v *version
	var err error
	if w.rand.IntN(2) == 0 {
		v, err = get(ctx, w.client(o), o.key, "")
	} else {
		v, err = head(ctx, w.client(o), o.key)
	}
	return w.noteRead(o, v, err)
}

// noteRead adds what somebody read to the history; a read without an answer
// says nothing.
func (w *worker) noteRead(o *op, v *version, err error) bool {
	o.ret = w.world.now()
	what, code := judge(err)
	o.code = code
	switch what {
	case unsent:
		return false
	case unknown:
		w.world.count(o)
		return true
	case faulty:
		w.world.violation("%s: %s", o.key, o)
		return true
	}
	if v != nil {
		o.got = []version{*v}
		w.world.hints[o.key].learn(*v)
	}
	w.world.add(o)
	return true
}

func metadataOf(o *op) map[string]string {
	return map[string]string{opHeader: strconv.FormatInt(o.id, 10)}
}

func (w *worker) put(ctx context.Context, o *op) error {
	body := w.body(o, 0, w.size())
	o.etag = md5Hex(body)
	in := &s3.PutObjectInput{Bucket: &o.key.bucket, Key: &o.key.name, Body: bytes.NewReader(body), Metadata: metadataOf(o)}
	if o.ifNoneMatch {
		in.IfNoneMatch = aws.String("*")
	}
	if o.ifMatch != "" {
		in.IfMatch = &o.ifMatch
	}
	o.call = w.world.now()
	out, err := w.client(o).PutObject(ctx, in)
	if err != nil {
		return err
	}
	return o.written(out.VersionId, out.ETag, out.ResultMetadata)
}

// written takes what an answer tells about what was written.
func (o *op) written(id, etag *string, answer smithymiddleware.Metadata) error {
	if o.kind != multipart { // which may have been done by a request before
		o.request, _ = middleware.GetRequestIDMetadata(answer)
	}
	if o.key.versioned {
		if o.version = aws.ToString(id); o.version == "" {
			return fmt.Errorf("%w: no version id", errContent)
		}
	}
	if got := unquote(etag); o.etag != "" && got != o.etag || got == "" {
		return fmt.Errorf("%w: ETag %q, want %q", errContent, got, o.etag)
	}
	o.etag = unquote(etag)
	return nil
}

// copy copies from another key. What it read of that is an op of its own.
func (w *worker) copy(ctx context.Context, o *op) bool {
	from := w.world.pick(w.rand)
	for from == o.key {
		from = w.world.pick(w.rand)
	}
	src := &op{id: w.world.ids.Add(1), kind: source, key: from, client: o.client, gateway: o.gateway, call: o.call}
	out, err := w.client(o).CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &o.key.bucket, Key: &o.key.name, CopySource: aws.String(from.bucket + "/" + url.PathEscape(from.name)),
		Metadata: metadataOf(o), MetadataDirective: types.MetadataDirectiveReplace,
	})
	if what, _ := judge(err, codeNoSuchKey); what == refused {
		return w.noteRead(src, nil, nil)
	}
	if err == nil && out.CopyObjectResult == nil {
		err = fmt.Errorf("%w: half an answer", errContent)
	}
	if err == nil {
		err = o.written(out.VersionId, out.CopyObjectResult.ETag, out.ResultMetadata)
	}
	if err == nil {
		src.ret, src.got = w.world.now(), []version{{etag: o.etag}}
		w.world.add(src)
	}
	return w.note(o, err)
}

// multipart uploads two parts and completes the upload, which is the op. It
// asks again, at any gateway, if there is no answer.
func (w *worker) multipart(ctx context.Context, o *op) bool {
	client := w.client(o)
	up, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &o.key.bucket, Key: &o.key.name, Metadata: metadataOf(o),
	})
	if err != nil {
		return w.noteBefore(o, err)
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &o.key.bucket, Key: &o.key.name, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{},
	}
	var sums []byte
	for i, size := range []int{partSize, 1 + w.rand.IntN(200_000)} {
		body := w.body(o, i+1, size)
		sums = append(sums, md5Sum(body)...)
		number := int32(i + 1)
		part, err := client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, PartNumber: &number, Body: bytes.NewReader(body),
		})
		if err != nil {
			w.abort(o, in.UploadId)
			return w.noteBefore(o, err)
		}
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{ETag: part.ETag, PartNumber: &number})
	}
	o.etag = hex.EncodeToString(md5Sum(sums)) + "-2"
	return w.complete(ctx, o, in)
}

// noteBefore takes the answer to a request that changes no object.
func (w *worker) noteBefore(o *op, err error) bool {
	o.ret = w.world.now()
	what, code := judge(err)
	o.code = code
	if what == faulty {
		w.world.violation("%s: before the op: %s", o.key, o)
	}
	if what == unknown {
		w.world.count(o)
	}
	return what != unsent
}

func (w *worker) complete(ctx context.Context, o *op, in *s3.CompleteMultipartUploadInput) bool {
	o.call = w.world.now()
	out, err := w.client(o).CompleteMultipartUpload(ctx, in)
	what, _ := judge(err)
	for range 3 {
		if what != unknown || w.rand.IntN(4) == 0 {
			break
		}
		time.Sleep(time.Duration(w.rand.IntN(500)) * time.Millisecond)
		var again error
		out, again = w.world.clients[w.rand.IntN(len(w.world.clients))].CompleteMultipartUpload(ctx, in)
		switch what, _ = judge(again, "NoSuchUpload"); what {
		case unsent, refused: // it was completed, or aborted by the gateway that found it so
			what = unknown
		default:
			err = again
		}
	}
	if what == unsent {
		w.abort(o, in.UploadId)
	}
	if err == nil {
		err = o.written(out.VersionId, out.ETag, out.ResultMetadata)
	}
	return w.note(o, err)
}

// abort tries to abort an upload, at any gateway. What remains is no fault.
func (w *worker) abort(o *op, id *string) {
	if w.rand.IntN(3) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	_, err := w.world.clients[w.rand.IntN(len(w.world.clients))].AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &o.key.bucket, Key: &o.key.name, UploadId: id,
	})
	if what, code := judge(err, "NoSuchUpload"); what == faulty {
		w.world.violation("%s: abort: %s", o.key, code)
	}
}

func (w *worker) remove(ctx context.Context, o *op) error {
	in := &s3.DeleteObjectInput{Bucket: &o.key.bucket, Key: &o.key.name}
	if o.kind == removeVersion {
		in.VersionId = &o.version
	}
	out, err := w.client(o).DeleteObject(ctx, in)
	if err != nil {
		return err
	}
	o.request, _ = middleware.GetRequestIDMetadata(out.ResultMetadata)
	id := aws.ToString(out.VersionId)
	switch {
	case o.request == "":
		return fmt.Errorf("%w: no request id", errContent)
	case o.kind == removeVersion && id != o.version:
		return fmt.Errorf("%w: deleted version %q", errContent, id)
	case o.kind == remove && o.key.versioned && (id == "" || !aws.ToBool(out.DeleteMarker)):
		return fmt.Errorf("%w: no delete marker", errContent)
	case o.kind == remove && o.key.versioned:
		o.version = id
	}
	return nil
}
