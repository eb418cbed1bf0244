package notifications

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// modes are synchronous and persistent delivery.
var modes = map[string][]string{"synchronous": nil, "persistent": {"persistent", "true"}}

// Rows test_notification_http, test_persistent_notification_http: one event
// per creation and per deletion, and the record's fields.
func TestNotificationHTTP(t *testing.T) {
	for mode, attrs := range modes {
		t.Run(mode, func(t *testing.T) {
			e := newEnv(t)
			r := newReceiver(t)
			bucket := e.bucket()
			e.notify(bucket, "n", e.topic("t", r.URL, attrs...), created, removed)
			names := keys("k", 50)
			var wg sync.WaitGroup
			for _, k := range names {
				wg.Go(func() { e.put(bucket, k, k) })
			}
			wg.Wait()
			for _, ev := range r.wantExactly(e, perEvent("ObjectCreated:Put", names)...) {
				checkRecord(t, bucket, ev)
			}
			r.reset()
			for _, k := range names {
				wg.Go(func() { e.delete(bucket, k) })
			}
			wg.Wait()
			for _, ev := range r.wantExactly(e, perEvent("ObjectRemoved:Delete", names)...) {
				checkRecord(t, bucket, ev)
			}
			if mode == "persistent" {
				e.drained("t")
			}
		})
	}
}

var (
	timeForm      = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)
	sequencerForm = regexp.MustCompile(`^[0-9A-F]{16}$`)
	idForm        = regexp.MustCompile(`^\d{10}\.\d{6}\.`)
)

// checkRecord checks the fields that all records share. Bodies are their keys.
func checkRecord(t *testing.T, bucket string, ev received) {
	t.Helper()
	o := ev.S3.Object
	switch {
	case ev.EventVersion != "2.2", ev.EventSource != "ceph:s3", ev.AwsRegion != "default",
		!timeForm.MatchString(ev.EventTime), ev.UserIdentity.PrincipalID != "root",
		ev.ResponseElements.RequestID == "", ev.ResponseElements.ID2 == "",
		ev.S3.S3SchemaVersion != "1.0", ev.S3.ConfigurationID != "n", ev.S3.Bucket.Name != bucket,
		ev.S3.Bucket.OwnerIdentity.PrincipalID != "root", ev.S3.Bucket.Arn != "arn:aws:s3:default::"+bucket,
		o.Size != int64(len(o.Key)), len(o.ETag) != 32, o.VersionID != "",
		!sequencerForm.MatchString(o.Sequencer), !idForm.MatchString(ev.EventID):
		t.Errorf("record = %s", ev.body)
	}
	if !strings.HasSuffix(ev.EventID, o.ETag) {
		t.Errorf("eventId %s does not end with the ETag %s", ev.EventID, o.ETag)
	}
	for _, field := range []string{`"metadata":[`, `"tags":[`, `"opaqueData":""`, `"sourceIPAddress":""`} {
		if !strings.Contains(ev.body, field) {
			t.Errorf("record lacks %s: %s", field, ev.body)
		}
	}
}

// Row test_notification_amqp (over HTTP): parallel uploads of 1 MB.
func TestNotificationParallel(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL), created, removed)
	body := strings.Repeat("x", 1<<20)
	etags := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, k := range keys("k", 100) {
		wg.Go(func() {
			out := e.put(bucket, k, body+k)
			mu.Lock()
			etags[k] = strings.Trim(*out.ETag, `"`)
			mu.Unlock()
		})
	}
	wg.Wait()
	for _, ev := range r.want(e, 100) {
		if o := ev.S3.Object; o.ETag != etags[o.Key] || o.Size != int64(len(body)+len(o.Key)) {
			t.Errorf("%s has ETag %s and size %d", o.Key, o.ETag, o.Size)
		}
	}
	r.reset()
	for k := range etags {
		wg.Go(func() { e.delete(bucket, k) })
	}
	wg.Wait()
	for _, ev := range r.wantExactly(e, perEvent("ObjectRemoved:Delete", keys("k", 100))...) {
		if o := ev.S3.Object; o.ETag != etags[o.Key] || o.Size != int64(len(body)+len(o.Key)) {
			t.Errorf("%s, deleted, has ETag %s and size %d", o.Key, o.ETag, o.Size)
		}
	}
}

// Row test_notification_multi_delete.
func TestNotificationMultiDelete(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL), removed)
	names := keys("k", 20)
	var ids []types.ObjectIdentifier
	for i, k := range names {
		e.put(bucket, k, strings.Repeat("x", i))
		ids = append(ids, types.ObjectIdentifier{Key: &k})
	}
	_, err := e.s3.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: ids}})
	e.check(err)
	for _, ev := range r.wantExactly(e, perEvent("ObjectRemoved:Delete", names)...) {
		if want := int64(slices.Index(names, ev.S3.Object.Key)); ev.S3.Object.Size != want {
			t.Errorf("%s has size %d, want %d", ev.S3.Object.Key, ev.S3.Object.Size, want)
		}
	}
}

// Row test_notification_cloudevents.
func TestNotificationCloudEvents(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "cloudevents", "true"), created)
	e.put(bucket, "k ä", "v")
	ev := r.want(e, 1)[0]
	for header, want := range map[string]string{
		"ce-specversion": "1.0", "ce-type": "com.amazonaws.ObjectCreated:Put", "ce-time": ev.EventTime,
		"ce-id":     ev.ResponseElements.RequestID + "." + ev.ResponseElements.ID2,
		"ce-source": "ceph:s3.default." + bucket, "Content-Type": "application/json",
		"ce-subject": "k%20%C3%A4",
	} {
		if got := ev.header.Get(header); got != want {
			t.Errorf("%s = %q, want %q", header, got, want)
		}
	}
}

// Row test_opaque_data.
func TestOpaqueData(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	opaque := `http://1.2.3.4:8888 "quoted" <&> ä`
	e.notify(bucket, "n", e.topic("t", r.URL, "OpaqueData", opaque), created)
	e.put(bucket, "k", "v")
	if got := r.want(e, 1)[0].OpaqueData; got != opaque {
		t.Errorf("opaqueData = %q, want %q", got, opaque)
	}
}

// Row test_creation_triggers_amqp (over HTTP).
func TestCreationTriggers(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL), "s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload")
	e.put(bucket, "put", "hello")
	_, err := e.s3.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String(bucket + "/put")})
	e.check(err)
	etag := e.multipart(bucket, "multipart", []byte(strings.Repeat("x", 5<<20)), []byte("end"))
	for _, ev := range r.wantExactly(e, "ObjectCreated:Put put", "ObjectCreated:Copy copy", "ObjectCreated:CompleteMultipartUpload multipart") {
		want := int64(5)
		if ev.S3.Object.Key == "multipart" {
			want = 5<<20 + 3
			if ev.S3.Object.ETag != etag {
				t.Errorf("ETag of the multipart object = %s, want %s", ev.S3.Object.ETag, etag)
			}
		}
		if ev.S3.Object.Size != want {
			t.Errorf("%s has size %d, want %d", ev.S3.Object.Key, ev.S3.Object.Size, want)
		}
	}
}

func (e *env) multipart(bucket, key string, parts ...[]byte) (etag string) {
	e.t.Helper()
	return e.multipartWith(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}, parts...)
}

func (e *env) multipartWith(in *s3.CreateMultipartUploadInput, parts ...[]byte) (etag string) {
	e.t.Helper()
	ctx := e.t.Context()
	up, err := e.s3.CreateMultipartUpload(ctx, in)
	e.check(err)
	var done []types.CompletedPart
	for i, p := range parts {
		out, err := e.s3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(p),
		})
		e.check(err)
		done = append(done, types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: out.ETag})
	}
	var out *s3.CompleteMultipartUploadOutput
	for range 2 { // the second finds a finished upload: no second event
		out, err = e.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
		})
		e.check(err)
	}
	return strings.Trim(*out.ETag, `"`)
}

// Row test_multipart_http: one event with the whole size.
func TestMultipartHTTP(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created)
	part := bytes.Repeat([]byte("x"), 5<<20)
	e.multipart(bucket, "k", part, part, part, part)
	e.drained("t")
	got := r.wantExactly(e, "ObjectCreated:CompleteMultipartUpload k")
	if got[0].S3.Object.Size != 20<<20 {
		t.Errorf("size = %d, want %d", got[0].S3.Object.Size, 20<<20)
	}
}

// Rows test_metadata_filter_http, test_metadata_amqp: the filter on put, copy,
// copy with other metadata, multipart and delete.
func TestMetadataFilter(t *testing.T) {
	for mode, attrs := range modes {
		t.Run(mode, func(t *testing.T) {
			e := newEnv(t)
			r := newReceiver(t)
			bucket := e.bucket()
			arn := e.topic("t", r.URL, attrs...)
			filter := `<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event><Filter><S3Metadata><FilterRule><Name>x-amz-meta-meta1</Name><Value>This is my metadata value</Value></FilterRule></S3Metadata></Filter>`
			if status, body := e.putDocument(bucket, document("n", arn, filter)); status != 200 {
				t.Fatalf("PUT = %d %s", status, body)
			}
			match := map[string]string{"meta1": "This is my metadata value"}
			put := func(key string, meta map[string]string) {
				_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Metadata: meta, Body: strings.NewReader(key)})
				e.check(err)
			}
			copyTo := func(to, from string, meta map[string]string) {
				in := &s3.CopyObjectInput{Bucket: &bucket, Key: &to, CopySource: aws.String(bucket + "/" + from)}
				if meta != nil {
					in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, meta
				}
				_, err := e.s3.CopyObject(t.Context(), in)
				e.check(err)
			}
			put("match", match)
			put("other", map[string]string{"meta1": "something else"})
			put("none", nil)
			copyTo("copied", "match", nil)
			copyTo("replaced", "none", match)
			copyTo("lost", "match", map[string]string{"meta2": "x"})
			e.multipartWith(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("multipart"), Metadata: match}, []byte("x"))
			got := r.wantExactly(e, "ObjectCreated:Put match", "ObjectCreated:Copy copied", "ObjectCreated:Copy replaced", "ObjectCreated:CompleteMultipartUpload multipart")
			for _, ev := range got {
				if !slices.Contains(ev.S3.Object.Metadata, struct{ Key, Val string }{"x-amz-meta-meta1", "This is my metadata value"}) {
					t.Errorf("metadata = %v", ev.S3.Object.Metadata)
				}
			}
			r.reset()
			for _, k := range []string{"match", "other", "none", "copied", "replaced", "lost", "multipart"} {
				e.delete(bucket, k)
			}
			got = r.wantExactly(e, perEvent("ObjectRemoved:Delete", []string{"match", "copied", "replaced", "multipart"})...)
			for _, ev := range got {
				if len(ev.S3.Object.Metadata) != 1 {
					t.Errorf("metadata of a delete = %v", ev.S3.Object.Metadata)
				}
			}
		})
	}
}

// Row test_tags_amqp (over HTTP).
func TestTags(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	arn := e.topic("t", r.URL, "persistent", "true")
	filter := `<Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event><Filter><S3Tags>` +
		`<FilterRule><Name>hello</Name><Value>world</Value></FilterRule><FilterRule><Name>ka</Name><Value>boom</Value></FilterRule></S3Tags></Filter>`
	if status, body := e.putDocument(bucket, document("n", arn, filter)); status != 200 {
		t.Fatalf("PUT = %d %s", status, body)
	}
	for k, tags := range map[string]string{"all": "hello=world&ka=boom", "more": "hello=world&ka=boom&hello=again&x=%20y", "other": "hello=again&ka=boom", "one": "hello=world", "none": ""} {
		_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &k, Tagging: &tags, Body: strings.NewReader(k)})
		e.check(err)
	}
	_, err := e.s3.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String(bucket + "/all")})
	e.check(err)
	got := r.wantExactly(e, "ObjectCreated:Put all", "ObjectCreated:Put more", "ObjectCreated:Copy copy")
	for _, ev := range got {
		if !slices.Contains(ev.S3.Object.Tags, struct{ Key, Val string }{"hello", "world"}) {
			t.Errorf("tags of %s = %v", ev.S3.Object.Key, ev.S3.Object.Tags)
		}
	}
	r.reset()
	for _, k := range []string{"all", "more", "other", "one", "none", "copy"} {
		e.delete(bucket, k)
	}
	r.wantExactly(e, perEvent("ObjectRemoved:Delete", []string{"all", "more", "copy"})...)
}

// Row test_versioning_amqp (over HTTP): every version has its event.
func TestVersioning(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.versionedBucket()
	e.notify(bucket, "n", e.topic("t", r.URL), created)
	var want []string
	for i := range 3 {
		want = append(want, *e.put(bucket, "k", fmt.Sprint(i)).VersionId)
	}
	out, err := e.s3.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("k"), CopySource: aws.String(bucket + "/k?versionId=" + want[0])})
	e.check(err)
	want = append(want, *out.VersionId)
	var got []string
	for _, ev := range r.want(e, 4) {
		got = append(got, ev.S3.Object.VersionID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

// Row test_versioned_deletion_amqp (over HTTP).
func TestVersionedDeletion(t *testing.T) {
	e := newEnv(t)
	all, markers, deletes := newReceiver(t), newReceiver(t), newReceiver(t)
	bucket := e.versionedBucket()
	e.notify(bucket, "all", e.topic("all", all.URL), removed)
	e.notify(bucket, "markers", e.topic("markers", markers.URL), "s3:ObjectRemoved:DeleteMarkerCreated")
	e.notify(bucket, "deletes", e.topic("deletes", deletes.URL), "s3:ObjectRemoved:Delete")
	v1 := *e.put(bucket, "k", "one").VersionId
	v2 := *e.put(bucket, "k", "two!").VersionId
	marker := *e.delete(bucket, "k").VersionId
	for _, v := range []string{marker, v2, v1} {
		_, err := e.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k"), VersionId: &v})
		e.check(err)
	}
	describe := func(r *receiver, n int) (out []string) {
		for _, ev := range r.want(e, n) {
			out = append(out, fmt.Sprintf("%s %s %d", ev.EventName, ev.S3.Object.VersionID, ev.S3.Object.Size))
		}
		return out
	}
	made := "ObjectRemoved:DeleteMarkerCreated " + marker + " 4" // the size of what it hides
	gone := []string{"ObjectRemoved:Delete " + marker + " 0", "ObjectRemoved:Delete " + v2 + " 4", "ObjectRemoved:Delete " + v1 + " 3"}
	if got, want := describe(markers, 1), []string{made}; !slices.Equal(got, want) {
		t.Errorf("markers = %q, want %q", got, want)
	}
	if got := describe(deletes, 3); !slices.Equal(got, gone) {
		t.Errorf("deletes = %q, want %q", got, gone)
	}
	if got, want := describe(all, 4), append([]string{made}, gone...); !slices.Equal(got, want) {
		t.Errorf("all = %q, want %q", got, want)
	}
}

// TestNothingChangedNoEvent: the delete of a key that is not there changes
// nothing and has no event.
func TestNothingChangedNoEvent(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL), created, removed)
	e.delete(bucket, "missing")
	_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("k"), Body: strings.NewReader("x"), IfMatch: aws.String("none")})
	if err == nil {
		t.Error("PutObject with If-Match on a missing key succeeded")
	}
	e.put(bucket, "last", "x")
	r.wantExactly(e, "ObjectCreated:Put last")
}

// Row test_ps_s3_notification_concurrent_put_eventtime: racing overwrites
// never have a zero time; and the sequencer grows with each.
func TestConcurrentPut(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created)
	for range 5 {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { e.put(bucket, "k", fmt.Sprint(i)) })
		}
		wg.Wait()
	}
	last := ""
	for _, ev := range r.want(e, 100) {
		at, err := time.Parse(time.RFC3339Nano, ev.EventTime)
		if err != nil || at.Year() < 2020 {
			t.Errorf("eventTime = %s, %v", ev.EventTime, err)
		}
		if ev.S3.Object.Sequencer <= last {
			t.Errorf("sequencer %s after %s", ev.S3.Object.Sequencer, last)
		}
		last = ev.S3.Object.Sequencer
	}
	out, err := e.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("k")})
	e.check(err)
	got := r.all()
	if want := strings.Trim(*out.ETag, `"`); got[len(got)-1].S3.Object.ETag != want {
		t.Errorf("the last event has ETag %s, the object %s", got[len(got)-1].S3.Object.ETag, want)
	}
}

// Row test_ps_s3_x_amz_request_id_on_master: the record names the request.
func TestRequestID(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", "http://127.0.0.1:9/", "persistent", "true"), created, removed)
	_, put, _ := e.raw("s3", "PUT", "/"+bucket+"/k", []byte("x"), "")
	_, del, _ := e.raw("s3", "DELETE", "/"+bucket+"/k", nil, "")
	var dump []struct {
		Entry struct{ Event record }
	}
	e.adminJSON(&dump, "topic", "dump", "--topic", "t")
	if len(dump) != 2 {
		t.Fatalf("topic dump has %d entries, want 2", len(dump))
	}
	for i, want := range []string{put.Get("X-Amz-Request-Id"), del.Get("X-Amz-Request-Id")} {
		if got := dump[i].Entry.Event.ResponseElements.RequestID; got != want || want == "" {
			t.Errorf("x-amz-request-id of %s = %q, want %q", dump[i].Entry.Event.EventName, got, want)
		}
	}
}
