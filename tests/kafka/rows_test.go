package kafka

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Rows test_notification_kafka_multiple_brokers_override and _append: of several
// brokers those that are dead do no harm.
func TestMultipleBrokers(t *testing.T) {
	e := newEnv(t, "--http-connect-timeout", "2s")
	for name, brokers := range map[string][2]string{
		"append":    {e.k.Plain, dead(t)},
		"dead":      {dead(t), e.k.Plain},
		"both-dead": {dead(t), dead(t) + ", " + e.k.Plain},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.in(t)
			bucket, topic := e.Bucket(), e.name("t")
			e.Notify(bucket, e.topic(topic, "kafka://"+brokers[0], "kafka-brokers", brokers[1], "persistent", "true"))
			names := keys("key", 10)
			e.putAll(bucket, names)
			e.deleteAll(bucket, names)
			e.consume(topic).wantEach(true, both(names)...)
		})
	}
}

// multipart makes an object of parts.
func (e *env) multipart(in *s3.CreateMultipartUploadInput, parts ...[]byte) {
	e.t.Helper()
	up, err := e.S3.CreateMultipartUpload(e.t.Context(), in)
	e.check(err)
	var done []types.CompletedPart
	for i, part := range parts {
		number := int32(i + 1)
		out, err := e.S3.UploadPart(e.t.Context(), &s3.UploadPartInput{
			Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, PartNumber: &number, Body: bytes.NewReader(part),
		})
		e.check(err)
		done = append(done, types.CompletedPart{PartNumber: &number, ETag: out.ETag})
	}
	_, err = e.S3.CompleteMultipartUpload(e.t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: in.Bucket, Key: in.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	e.check(err)
}

// Row test_multipart_kafka: an object of several parts is one event with the
// whole size.
func TestMultipart(t *testing.T) {
	e := newEnv(t)
	bucket, topic := e.Bucket(), e.name("t")
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain))
	part := make([]byte, 5<<20)
	e.multipart(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("big")}, part, part, part)
	c := e.consume(topic)
	c.wantEach(true, "ObjectCreated:CompleteMultipartUpload big")
	if size := c.got()[0].S3.Object.Size; size != 15<<20 {
		t.Errorf("size %d, want %d", size, 15<<20)
	}
}

// Row test_metadata_filter_kafka: metadata of a PUT, a copy, a copy with others,
// and an upload in parts; deletes have the object's.
func TestMetadataFilter(t *testing.T) {
	e := newEnv(t)
	bucket, topic := e.Bucket(), e.name("t")
	arn := e.topic(topic, "kafka://"+e.k.Plain, "persistent", "true")
	e.rawPut("/"+bucket+"?notification", `<NotificationConfiguration><TopicConfiguration><Id>n</Id><Topic>`+arn+`</Topic>`+
		`<Filter><S3Metadata><FilterRule><Name>x-amz-meta-meta1</Name><Value>This is my metadata value</Value></FilterRule></S3Metadata></Filter>`+
		`</TopicConfiguration></NotificationConfiguration>`)
	match := map[string]string{"meta1": "This is my metadata value"}
	put := func(key string, meta map[string]string) {
		_, err := e.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Metadata: meta, Body: strings.NewReader("x")})
		e.check(err)
	}
	copyTo := func(to, from string, meta map[string]string) {
		in := &s3.CopyObjectInput{Bucket: &bucket, Key: &to, CopySource: aws.String(bucket + "/" + from)}
		if meta != nil {
			in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, meta
		}
		_, err := e.S3.CopyObject(t.Context(), in)
		e.check(err)
	}
	put("match", match)
	put("other", map[string]string{"meta1": "something else"})
	put("none", nil)
	copyTo("copied", "match", nil)
	copyTo("replaced", "none", match)
	copyTo("lost", "match", map[string]string{"meta2": "x"})
	e.multipart(&s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("multipart"), Metadata: match}, []byte("x"))
	for _, key := range []string{"match", "other", "none", "copied", "replaced", "lost", "multipart"} {
		e.Delete(bucket, key)
	}
	c := e.consume(topic)
	c.wantEach(true, append(perEvent("ObjectRemoved:Delete", []string{"match", "copied", "replaced", "multipart"}),
		"ObjectCreated:Put match", "ObjectCreated:Copy copied", "ObjectCreated:Copy replaced", "ObjectCreated:CompleteMultipartUpload multipart")...)
	e.Drained(topic)
	for _, r := range c.got() {
		if m := r.S3.Object.Metadata; len(m) != 1 || m[0].Key != "x-amz-meta-meta1" || m[0].Val != match["meta1"] {
			t.Errorf("metadata of %s = %v", r, m)
		}
	}
}

// Rows test_persistent_topic_stats_kafka and test_persistent_topic_dump: the
// backlog is counted and shown while the endpoint is wrong; when the topic is
// made anew with a good one, it drains.
func TestTopicStats(t *testing.T) {
	e := newEnv(t)
	bucket, topic := e.Bucket(), e.name("t")
	e.Notify(bucket, e.topic(topic, "kafka://"+dead(t), "persistent", "true", "retry_sleep_duration", "1"))
	names := keys("key", 20)
	wantDump := func(n int) {
		t.Helper()
		var dump []json.RawMessage
		e.check(json.Unmarshal([]byte(e.G.MustAdmin("topic", "dump", "--topic", topic)), &dump))
		if len(dump) != n || e.Entries(topic) != n {
			t.Errorf("dump shows %d entries, stats %d, want %d", len(dump), e.Entries(topic), n)
		}
	}
	e.putAll(bucket, names)
	wantDump(20)
	e.deleteAll(bucket, names)
	wantDump(40)
	e.topic(topic, "kafka://"+e.k.Plain, "persistent", "true")
	e.Drained(topic)
	wantDump(0)
	e.consume(topic).wantEach(true, both(names)...)
}

// Row test_persistent_multiple_endpoints_kafka: a dead endpoint of one topic does
// not hold up another's.
func TestPersistentMultipleEndpoints(t *testing.T) {
	e := newEnv(t)
	bucket, good, bad := e.Bucket(), e.name("good"), e.name("bad")
	e.Notify(bucket, e.topic(bad, "kafka://"+dead(t), "persistent", "true", "retry_sleep_duration", "1"),
		e.topic(good, "kafka://"+e.k.Plain, "persistent", "true"))
	names := keys("key", 30)
	e.putAll(bucket, names)
	e.consume(good).wantEach(true, perEvent("ObjectCreated:Put", names)...)
	e.Drained(good)
	if n := e.Entries(bad); n != 30 {
		t.Errorf("%d entries wait for the dead endpoint, want 30", n)
	}
}

// Rows test_backward_compatibility_persistent_sharded_topic_kafka and
// test_persistent_sharded_topic_config_change_kafka: the number of shards is that
// of the time when a topic was made.
func TestShardedTopicConfigChange(t *testing.T) {
	e := newEnv(t, "--topic-shards", "1")
	bucket, topic := e.Bucket(), e.name("t")
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain, "persistent", "true"))
	names := keys("key", 40)
	e.putAll(bucket, names[:20])
	e.check(e.G.Stop())
	e.G.SetArgs("--topic-shards", "11")
	e.check(e.G.Run())
	e.putAll(bucket, names[20:])
	e.consume(topic).wantEach(false, perEvent("ObjectCreated:Put", names)...)
	e.Drained(topic)
	var doc struct {
		Dest struct {
			Shards int `json:"num_shards"`
		} `json:"dest"`
	}
	e.check(json.Unmarshal([]byte(e.G.MustAdmin("topic", "get", "--topic", topic)), &doc))
	if doc.Dest.Shards != 1 {
		t.Errorf("%d shards, want 1", doc.Dest.Shards)
	}
}
