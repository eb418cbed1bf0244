package amqp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"herald/tests/endpointtest"
	"herald/tests/gatewaytest"
)

// client is a user of the gateway. Its methods fail the test.
type client struct {
	*endpointtest.Env
	t *testing.T
}

func (c *client) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) put(in *s3.PutObjectInput, body string) *s3.PutObjectOutput {
	c.t.Helper()
	in.Body = strings.NewReader(body)
	out, err := c.S3.PutObject(context.Background(), in)
	c.check(err)
	return out
}

func (c *client) copy(bucket, from, to string, meta map[string]string) *s3.CopyObjectOutput {
	c.t.Helper()
	in := &s3.CopyObjectInput{Bucket: &bucket, Key: &to, CopySource: aws.String(bucket + "/" + from)}
	if meta != nil {
		in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, meta
	}
	out, err := c.S3.CopyObject(context.Background(), in)
	c.check(err)
	return out
}

func (c *client) remove(bucket, key, version string) *s3.DeleteObjectOutput {
	c.t.Helper()
	in := &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	out, err := c.S3.DeleteObject(context.Background(), in)
	c.check(err)
	return out
}

func (c *client) multipart(in *s3.CreateMultipartUploadInput, parts ...string) {
	c.t.Helper()
	ctx := context.Background()
	up, err := c.S3.CreateMultipartUpload(ctx, in)
	c.check(err)
	var done []types.CompletedPart
	for i, p := range parts {
		n := aws.Int32(int32(i + 1))
		out, err := c.S3.UploadPart(ctx, &s3.UploadPartInput{Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, PartNumber: n, Body: strings.NewReader(p)})
		c.check(err)
		done = append(done, types.CompletedPart{PartNumber: n, ETag: out.ETag})
	}
	_, err = c.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	c.check(err)
}

// notify replaces a rule of a bucket: rules of other names stay, as in RGW.
func (c *client) notify(bucket, id, arn string, filter *types.NotificationConfigurationFilter, events ...types.Event) {
	c.t.Helper()
	_, err := c.S3.PutBucketNotificationConfiguration(context.Background(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{
			TopicConfigurations: []types.TopicConfiguration{{Id: &id, TopicArn: &arn, Events: events, Filter: filter}},
		},
	})
	c.check(err)
}

var created, removed = types.Event("s3:ObjectCreated:*"), types.Event("s3:ObjectRemoved:*")

// The rows that one broker and one gateway serve.
func rows(t *testing.T, b *broker) {
	env := endpointtest.New(t)
	c := &client{env, t}
	endpoint := "amqp://" + b.Addr
	topic := func(t *testing.T, name string, attributes ...string) (bucket, arn string) {
		t.Helper()
		c.t, b.t = t, t
		b.queue(name)
		arn, err := env.CreateTopic(name, endpoint, append([]string{"amqp-exchange", exchange, "amqp-ack-level", "routable"}, attributes...)...)
		c.check(err)
		return env.Bucket(), arn
	}
	t.Run("test_notification_amqp", func(t *testing.T) { notificationRow(t, c, b, topic) })
	t.Run("test_notification_filter_amqp", func(t *testing.T) {
		bucket, arn := topic(t, "filter")
		rule := func(name types.FilterRuleName, value string) types.FilterRule {
			return types.FilterRule{Name: name, Value: &value}
		}
		key := func(rules ...types.FilterRule) *types.NotificationConfigurationFilter {
			return &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: rules}}
		}
		c.notify(bucket, "f1", arn, key(rule("prefix", "hello")), created)
		c.notify(bucket, "f2", arn, key(rule("prefix", "world"), rule("suffix", "log")), created) // beside the first
		c.notify(bucket, "f3", arn, key(rule("regex", "([a-z]+)\\.txt")), created)
		for _, k := range []string{"hello.kaboom", "world1.log", "world2.logs", "world.log", "abc.txt", "a1.txt", "xabc.txt.x"} {
			c.put(&s3.PutObjectInput{Bucket: &bucket, Key: &k}, k)
		}
		for _, r := range b.wantNames("filter", "ObjectCreated:Put hello.kaboom", "ObjectCreated:Put world1.log", "ObjectCreated:Put world.log", "ObjectCreated:Put abc.txt") {
			want := map[string]string{"hello.kaboom": "f1", "world1.log": "f2", "world.log": "f2", "abc.txt": "f3"}[r.S3.Object.Key]
			if r.S3.ConfigurationID != want || r.AwsRegion != "default" || r.S3.Bucket.Arn != "arn:aws:s3:default::"+bucket {
				t.Errorf("record = %+v", r)
			}
		}
	})
	triggers := func(t *testing.T, name string, attributes ...string) {
		bucket, arn := topic(t, name, attributes...)
		c.notify(bucket, "n", arn, nil, "s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload")
		c.put(&s3.PutObjectInput{Bucket: &bucket, Key: aws.String("put")}, "hello")
		c.copy(bucket, "put", "copy", nil)
		c.multipart(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("multipart")}, strings.Repeat("x", 5<<20), "end")
		for _, r := range b.wantNames(name, "ObjectCreated:Put put", "ObjectCreated:Copy copy", "ObjectCreated:CompleteMultipartUpload multipart") {
			want := map[string]int64{"put": 5, "copy": 5, "multipart": 5<<20 + 3}[r.S3.Object.Key]
			if r.S3.Object.Size != want {
				t.Errorf("%s has size %d", r.S3.Object.Key, r.S3.Object.Size)
			}
		}
	}
	t.Run("test_creation_triggers_amqp", func(t *testing.T) { triggers(t, "triggers") })
	t.Run("test_multipart_ampq", func(t *testing.T) { triggers(t, "multipart", "persistent", "true") })
	t.Run("test_creation_triggers_ssl", func(t *testing.T) {
		plain := endpoint
		endpoint = "amqps://" + b.TLS
		triggers(t, "ssl", "ca-location", b.ca.File)
		triggers(t, "ssl-persistent", "ca-location", b.ca.File, "persistent", "true")
		endpoint = plain
	})
	t.Run("test_creation_triggers_external", func(t *testing.T) {
		if os.Getenv("AMQP_EXTERNAL_ENDPOINT") == "" {
			t.Skip("set AMQP_EXTERNAL_ENDPOINT to the URL of a broker of your own")
		}
		bucket := env.Bucket()
		arn, err := env.CreateTopic("external", os.Getenv("AMQP_EXTERNAL_ENDPOINT"), "amqp-exchange", "amq.topic", "persistent", "true")
		c.check(err)
		c.notify(bucket, "n", arn, nil, created)
		c.put(&s3.PutObjectInput{Bucket: &bucket, Key: aws.String("put")}, "hello")
		env.Drained("external")
	})
	t.Run("test_post_object_upload_amqp", func(t *testing.T) {
		bucket, arn := topic(t, "post")
		c.notify(bucket, "n", arn, nil, "s3:ObjectCreated:Post")
		c.postForm(bucket, "form", "data")
		if r := b.wantNames("post", "ObjectCreated:Post form"); r[0].S3.Object.Size != 4 {
			t.Errorf("size = %d", r[0].S3.Object.Size)
		}
	})
	t.Run("test_metadata", func(t *testing.T) { metadataRow(t, c, b, topic) })
	t.Run("test_tags_amqp", func(t *testing.T) { tagsRow(t, c, b, topic) })
	t.Run("test_versions", func(t *testing.T) { versionsRow(t, c, b, topic) })
	t.Run("test_persistent", func(t *testing.T) { persistentRow(t, c, b, topic) })
}

// makeTopic makes a topic and its queue, and a bucket.
type makeTopic func(t *testing.T, name string, attributes ...string) (bucket, arn string)

// notificationRow is test_notification_amqp: parallel uploads of a megabyte,
// and their deletion, sync and persistent.
func notificationRow(t *testing.T, c *client, b *broker, topic makeTopic) {
	for _, persistent := range []string{"false", "true"} {
		name := "parallel-" + persistent
		bucket, arn := topic(t, name, "persistent", persistent)
		c.notify(bucket, "n", arn, nil, created, removed)
		body := strings.Repeat("x", 1<<20)
		var mu sync.Mutex
		var wg sync.WaitGroup
		etags, want := map[string]string{}, []string{}
		for i := range 100 {
			key := fmt.Sprintf("k%d", i)
			want = append(want, "ObjectCreated:Put "+key, "ObjectRemoved:Delete "+key)
			wg.Go(func() {
				out := c.put(&s3.PutObjectInput{Bucket: &bucket, Key: &key}, body+key)
				mu.Lock()
				etags[key] = strings.Trim(*out.ETag, `"`)
				mu.Unlock()
			})
		}
		wg.Wait()
		for key := range etags {
			wg.Go(func() { c.remove(bucket, key, "") })
		}
		wg.Wait()
		for _, r := range b.wantNames(name, want...) {
			if o := r.S3.Object; o.ETag != etags[o.Key] || o.Size != int64(len(body)+len(o.Key)) {
				t.Errorf("%s %s has ETag %s and size %d", r.EventName, o.Key, o.ETag, o.Size)
			}
		}
	}
}

// postForm uploads as a browser does.
func (c *client) postForm(bucket, key, data string) {
	c.t.Helper()
	signed, err := s3.NewPresignClient(c.S3).PresignPostObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key})
	c.check(err)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range signed.Values {
		c.check(w.WriteField(name, value))
	}
	part, err := w.CreateFormFile("file", "a.txt")
	c.check(err)
	_, err = io.WriteString(part, data)
	c.check(err)
	c.check(w.Close())
	resp, err := http.Post(signed.URL, w.FormDataContentType(), &body)
	c.check(err)
	c.check(resp.Body.Close())
	if resp.StatusCode != http.StatusNoContent {
		c.t.Fatalf("POST = %d", resp.StatusCode)
	}
}

// metadataRow is test_metadata_amqp and test_metadata_filter_ampq.
func metadataRow(t *testing.T, c *client, b *broker, topic makeTopic) {
	bucket, arn := topic(t, "metadata")
	doc := `<NotificationConfiguration><TopicConfiguration><Id>n</Id><Topic>` + arn + `</Topic><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>` +
		`<Filter><S3Metadata><FilterRule><Name>x-amz-meta-meta1</Name><Value>This is my metadata value</Value></FilterRule></S3Metadata></Filter></TopicConfiguration></NotificationConfiguration>`
	c.putDocument(bucket, doc)
	match := map[string]string{"meta1": "This is my metadata value"}
	c.put(&s3.PutObjectInput{Bucket: &bucket, Key: aws.String("match"), Metadata: match}, "x")
	c.put(&s3.PutObjectInput{Bucket: &bucket, Key: aws.String("other"), Metadata: map[string]string{"meta1": "no"}}, "x")
	c.copy(bucket, "match", "copied", nil)
	c.copy(bucket, "other", "replaced", match)
	c.multipart(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("multipart"), Metadata: match}, "x")
	for _, r := range b.wantNames("metadata", "ObjectCreated:Put match", "ObjectCreated:Copy copied", "ObjectCreated:Copy replaced", "ObjectCreated:CompleteMultipartUpload multipart") {
		if !slices.Contains(r.S3.Object.Metadata, struct{ Key, Val string }{"x-amz-meta-meta1", "This is my metadata value"}) {
			t.Errorf("metadata = %v", r.S3.Object.Metadata)
		}
	}
	var want []string
	for _, k := range []string{"match", "other", "copied", "replaced", "multipart"} {
		c.remove(bucket, k, "")
		if k != "other" {
			want = append(want, "ObjectRemoved:Delete "+k)
		}
	}
	for _, r := range b.wantNames("metadata", want...) {
		if len(r.S3.Object.Metadata) != 1 {
			t.Errorf("metadata of a delete = %v", r.S3.Object.Metadata)
		}
	}
}

func tagsRow(t *testing.T, c *client, b *broker, topic makeTopic) {
	bucket, arn := topic(t, "tags")
	c.putDocument(bucket, `<NotificationConfiguration><TopicConfiguration><Id>n</Id><Topic>`+arn+`</Topic><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event><Filter><S3Tags>`+
		`<FilterRule><Name>hello</Name><Value>world</Value></FilterRule><FilterRule><Name>ka</Name><Value>boom</Value></FilterRule></S3Tags></Filter></TopicConfiguration></NotificationConfiguration>`)
	for k, tags := range map[string]string{"all": "hello=world&ka=boom", "more": "hello=world&ka=boom&hello=again&x=%20y", "other": "hello=again&ka=boom", "one": "hello=world", "none": ""} {
		c.put(&s3.PutObjectInput{Bucket: &bucket, Key: &k, Tagging: &tags}, k)
	}
	c.copy(bucket, "all", "copy", nil)
	for _, r := range b.wantNames("tags", "ObjectCreated:Put all", "ObjectCreated:Put more", "ObjectCreated:Copy copy") {
		if !slices.Contains(r.S3.Object.Tags, struct{ Key, Val string }{"hello", "world"}) {
			t.Errorf("tags of %s = %v", r.S3.Object.Key, r.S3.Object.Tags)
		}
	}
	for _, k := range []string{"all", "more", "other", "one", "none", "copy"} {
		c.remove(bucket, k, "")
	}
	b.wantNames("tags", "ObjectRemoved:Delete all", "ObjectRemoved:Delete more", "ObjectRemoved:Delete copy")
}

// versionsRow is test_versioning_amqp and test_versioned_deletion_amqp.
func versionsRow(t *testing.T, c *client, b *broker, topic makeTopic) {
	bucket, all := topic(t, "all")
	_, markers := topic(t, "markers")
	_, deletes := topic(t, "deletes")
	_, err := c.S3.PutBucketVersioning(context.Background(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	c.check(err)
	c.notify(bucket, "all", all, nil, created, removed)
	c.notify(bucket, "markers", markers, nil, "s3:ObjectRemoved:DeleteMarkerCreated")
	c.notify(bucket, "deletes", deletes, nil, "s3:ObjectRemoved:Delete")
	key := aws.String("k")
	v1 := *c.put(&s3.PutObjectInput{Bucket: &bucket, Key: key}, "one").VersionId
	v2 := *c.put(&s3.PutObjectInput{Bucket: &bucket, Key: key}, "two!").VersionId
	marker := *c.remove(bucket, "k", "").VersionId
	for _, v := range []string{marker, v2, v1} {
		c.remove(bucket, "k", v)
	}
	describe := func(queue string, n int) (out []string) {
		for _, r := range b.want(queue, n) {
			out = append(out, fmt.Sprintf("%s %s %d", r.EventName, r.S3.Object.VersionID, r.S3.Object.Size))
		}
		return out
	}
	made := "ObjectRemoved:DeleteMarkerCreated " + marker + " 4" // the size of what it hides
	gone := []string{"ObjectRemoved:Delete " + marker + " 0", "ObjectRemoved:Delete " + v2 + " 4", "ObjectRemoved:Delete " + v1 + " 3"}
	want := append([]string{"ObjectCreated:Put " + v1 + " 3", "ObjectCreated:Put " + v2 + " 4", made}, gone...)
	if got := describe("all", 6); !slices.Equal(got, want) {
		t.Errorf("all = %q, want %q", got, want)
	}
	if got := describe("markers", 1); !slices.Equal(got, []string{made}) {
		t.Errorf("markers = %q", got)
	}
	if got := describe("deletes", 3); !slices.Equal(got, gone) {
		t.Errorf("deletes = %q, want %q", got, gone)
	}
}

// persistentRow is test_persistent_notification_amqp,
// test_persistent_topic_stats_amqp and test_persistent_notification_large_amqp.
func persistentRow(t *testing.T, c *client, b *broker, topic makeTopic) {
	bucket, arn := topic(t, "persistent", "persistent", "true", "OpaqueData", strings.Repeat("o", 2<<10))
	wrong, err := c.CreateTopic("persistent", "amqp://127.0.0.1:1", "amqp-exchange", exchange, "persistent", "true")
	c.check(err)
	if wrong != arn {
		t.Errorf("ARNs %s and %s of one topic", arn, wrong)
	}
	c.notify(bucket, "n", arn, nil, created, removed)
	var want []string
	long := strings.Repeat("k", 900)
	for i := range 20 {
		key := fmt.Sprintf("%s%d", long, i)
		c.put(&s3.PutObjectInput{Bucket: &bucket, Key: &key}, "x")
		c.remove(bucket, key, "")
		want = append(want, "ObjectCreated:Put "+key, "ObjectRemoved:Delete "+key)
	}
	if n := c.Entries("persistent"); n != 40 {
		t.Errorf("%d entries wait for a dead broker, want 40", n)
	}
	opaque := strings.Repeat("o", 2<<10)
	_, err = c.CreateTopic("persistent", "amqp://"+b.Addr, "amqp-exchange", exchange, "persistent", "true", "OpaqueData", opaque)
	c.check(err)
	c.Drained("persistent")
	b.wantNames("persistent", want...)
	key := long + "last" // an entry beyond what is reserved as a rule
	c.put(&s3.PutObjectInput{Bucket: &bucket, Key: &key}, "x")
	if r := b.wantNames("persistent", "ObjectCreated:Put "+key); r[0].OpaqueData != opaque {
		t.Errorf("opaqueData has %d bytes", len(r[0].OpaqueData))
	}
}

// putDocument sends a notification configuration with RGW's own filters, which
// the SDK has not.
func (c *client) putDocument(bucket, doc string) {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPut, c.G.URL+"/"+bucket+"?notification", strings.NewReader(doc))
	c.check(err)
	sum := sha256.Sum256([]byte(doc))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	keys := aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}
	c.check(v4.NewSigner().SignHTTP(context.Background(), keys, req, hash, "s3", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	c.check(err)
	c.check(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("PUT of the configuration = %d", resp.StatusCode)
	}
}

// idle is test_notification_amqp_idleness_check: a connection is closed when it
// is idle, and the next event gets through. It takes a minute.
func idle(t *testing.T, b *broker) {
	if testing.Short() {
		t.Skip("takes a minute of waiting; notify's own tests have it with a shorter time")
	}
	e := endpointtest.New(t)
	b.queue("idle")
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("idle", "amqp://"+b.Addr, "amqp-exchange", exchange))
	for i := range 2 {
		e.Put(bucket, fmt.Sprint("k", i))
		b.want("idle", 1)
		e.Eventually("the gateway has one connection", func() bool { return b.connections() == 1 })
		e.Eventually("the idle connection is closed", func() bool { return b.connections() == 0 })
	}
}
