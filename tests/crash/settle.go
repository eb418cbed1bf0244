package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// settle reads every key again and compares it with what was acknowledged; an
// op that was cut is found to have come true, or not.
func (w *worker) settle(ctx context.Context, got *deliveries) error {
	for _, k := range w.keys {
		if err := w.settleKey(ctx, k); err != nil {
			_, all := got.of(k.id())
			return fmt.Errorf("P1: %s: %w\n%s", k.id(), err, k.describe(all))
		}
	}
	for _, bucket := range w.buckets.all() {
		if err := w.compareListing(ctx, bucket, got); err != nil {
			return fmt.Errorf("P1: %w", err)
		}
	}
	return nil
}

// compareListing compares the listing of the worker's keys, which must be
// settled, with the model.
func (w *worker) compareListing(ctx context.Context, bucket string, got *deliveries) error {
	out, err := w.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String(w.prefix())})
	if err != nil {
		return err
	}
	listed := map[string]string{}
	for _, o := range out.Contents {
		listed[aws.ToString(o.Key)] = unquote(aws.ToString(o.ETag))
	}
	for _, k := range w.keys {
		if k.bucket != bucket {
			continue
		}
		etag := ""
		if cur := k.current(); cur != nil {
			etag = cur.etag
		}
		if listed[k.name] != etag {
			_, all := got.of(k.id())
			return fmt.Errorf("%s is listed with ETag %q, want %q\n%s", k.id(), listed[k.name], etag, k.describe(all))
		}
		delete(listed, k.name)
	}
	if len(listed) > 0 {
		return fmt.Errorf("keys listed that nobody made: %v", listed)
	}
	return nil
}

func (w *worker) settleKey(ctx context.Context, k *key) error {
	s, err := w.look(ctx, k)
	if err != nil {
		return err
	}
	if o := k.pending; o != nil {
		came, err := w.cameTrue(ctx, k, o, s)
		if err != nil {
			return err
		}
		if came {
			k.apply(o)
		}
		k.pending = nil
	}
	return w.compare(ctx, k, s)
}

// seen is what is there of a key.
type seen struct {
	etag             string // of the object; "": none
	objects, markers []listed
	latest           string // version id
}

// listed is a version or a delete marker in a listing.
type listed struct{ id, etag string }

func (w *worker) look(ctx context.Context, k *key) (s seen, err error) {
	out, err := w.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &k.bucket, Key: &k.name})
	var missing *types.NoSuchKey
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return s, err
	default:
		body, err := io.ReadAll(out.Body)
		_ = out.Body.Close() // read whole
		if err != nil {
			return s, err
		}
		s.etag = unquote(aws.ToString(out.ETag))
		if !validBody(s.etag, body) {
			return s, fmt.Errorf("%d bytes do not have the MD5 of their ETag %s", len(body), s.etag)
		}
	}
	if !k.versioned {
		return s, nil
	}
	return s, w.list(ctx, k, &s)
}

// list reads a key's versions, newest first. The SDK separates objects and
// markers, which loses their order among each other, but for the latest.
func (w *worker) list(ctx context.Context, k *key, s *seen) error {
	in := &s3.ListObjectVersionsInput{Bucket: &k.bucket, Prefix: &k.name}
	for {
		page, err := w.s3.ListObjectVersions(ctx, in)
		if err != nil {
			return err
		}
		for _, m := range page.DeleteMarkers {
			s.see(k, &s.markers, m.Key, m.VersionId, nil, m.IsLatest)
		}
		for _, v := range page.Versions {
			s.see(k, &s.objects, v.Key, v.VersionId, v.ETag, v.IsLatest)
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
}

func (s *seen) see(k *key, list *[]listed, name, id, etag *string, latest *bool) {
	if aws.ToString(name) != k.name {
		return // another key with this prefix
	}
	*list = append(*list, listed{aws.ToString(id), unquote(aws.ToString(etag))})
	if aws.ToBool(latest) {
		s.latest += aws.ToString(id) // two would match none
	}
}

// cameTrue decides about an op that was cut. In a plain bucket the object
// tells: contents are unique, and a copy never repeats what is there.
func (w *worker) cameTrue(ctx context.Context, k *key, o *op, s seen) (bool, error) {
	switch {
	case o.kind == tag:
		tags, err := w.tags(ctx, k, o.versionID)
		return tags == o.tags, err
	case o.kind == removeVersion:
		gone := func(v listed) bool { return v.id == o.versionID }
		return !slices.ContainsFunc(s.objects, gone) && !slices.ContainsFunc(s.markers, gone), nil
	case k.versioned:
		if k.find(s.latest) >= 0 || s.latest == "" {
			return false, nil
		}
		o.versionID = s.latest
		return true, nil
	case o.kind == remove:
		return s.etag == "", nil
	}
	return s.etag == o.etag, nil
}

// compare compares what is there with the model.
func (w *worker) compare(ctx context.Context, k *key, s seen) error {
	etag := ""
	if cur := k.current(); cur != nil {
		etag = cur.etag
	}
	if s.etag != etag {
		return fmt.Errorf("has ETag %q, want %q", s.etag, etag)
	}
	if err := k.compareVersions(s); err != nil {
		return err
	}
	for i, v := range k.versions {
		if v.marker || v.tags == "" && i < len(k.versions)-1 {
			continue
		}
		tags, err := w.tags(ctx, k, v.id)
		if err != nil {
			return fmt.Errorf("tags of version %q: %w", v.id, err)
		}
		if tags != v.tags {
			return fmt.Errorf("version %q has tags %q, want %q", v.id, tags, v.tags)
		}
	}
	return nil
}

func (k *key) compareVersions(s seen) error {
	if !k.versioned {
		return nil
	}
	var objects, markers []listed
	latest := ""
	for _, v := range slices.Backward(k.versions) {
		if v.marker {
			markers = append(markers, listed{v.id, ""})
		} else {
			objects = append(objects, listed{v.id, v.etag})
		}
	}
	if len(k.versions) > 0 {
		latest = k.versions[len(k.versions)-1].id
	}
	if !slices.Equal(s.objects, objects) || !slices.Equal(s.markers, markers) || s.latest != latest {
		return fmt.Errorf("has versions %v, markers %v, latest %q; want %v, %v, %q", s.objects, s.markers, s.latest, objects, markers, latest)
	}
	return nil
}

// tags reads the tags of an object, or of a version, as "key=value".
func (w *worker) tags(ctx context.Context, k *key, versionID string) (string, error) {
	in := &s3.GetObjectTaggingInput{Bucket: &k.bucket, Key: &k.name}
	if k.versioned {
		in.VersionId = &versionID
	}
	out, err := w.s3.GetObjectTagging(ctx, in)
	if err != nil {
		return "", err
	}
	return joinTags(out.TagSet), nil
}

func joinTags(set []types.Tag) string {
	var out []string
	for _, t := range set {
		out = append(out, aws.ToString(t.Key)+"="+aws.ToString(t.Value))
	}
	return strings.Join(out, "&")
}
