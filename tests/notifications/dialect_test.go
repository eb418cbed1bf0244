package notifications

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/go-cmp/cmp"
	"time"
)

// shape is a JSON document with each string and number replaced by its kind.
func shape(t *testing.T, doc string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	return shapeOf(v)
}

func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = shapeOf(v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = shapeOf(v[i])
		}
		return v
	}
	return fmt.Sprintf("%T", v)
}

// wantShape compares a message with a golden file of package notify.
func wantShape(t *testing.T, body, name string) {
	t.Helper()
	golden, err := os.ReadFile(filepath.Join("..", "..", "notify", "testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(shape(t, string(golden)), shape(t, body)); d != "" {
		t.Errorf("message is not shaped like %s.json: -want +got\n%s", name, d)
	}
}

// TestDialects: one bucket, a topic in each dialect, persistent and not; the
// messages have the shape of the golden files.
func TestDialects(t *testing.T) {
	e := newEnv(t)
	for _, persistent := range []string{"false", "true"} {
		t.Run("persistent "+persistent, func(t *testing.T) {
			bucket := e.versionedBucket()
			ceph, s3like := newReceiver(t), newReceiver(t)
			e.notify(bucket, "c", e.topic("ceph-"+persistent, ceph.URL, "persistent", persistent, "OpaqueData", "mine"), created, removed)
			e.notify(bucket, "a", e.topic("aws-"+persistent, s3like.URL, "persistent", persistent, "event-dialect", "aws"), created, removed)
			e.eventually("the test event", func() bool { return len(s3like.raw()) == 1 })
			wantShape(t, s3like.raw()[0], "aws-test-event")
			var test struct{ Event, Bucket, Service string }
			if err := json.Unmarshal([]byte(s3like.raw()[0]), &test); err != nil || test.Event != "s3:TestEvent" || test.Bucket != bucket || test.Service != "Amazon S3" {
				t.Errorf("test event = %s", s3like.raw()[0])
			}
			key := "a b/é+c=1"
			out, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &bucket, Key: &key, Body: strings.NewReader("hello"), Metadata: map[string]string{"m": "1"}, Tagging: aws.String("t=1"),
			})
			e.check(err)
			e.delete(bucket, key)
			_, err = e.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key, VersionId: out.VersionId})
			e.check(err)
			got := s3like.want(e, 3)
			names := []string{"put", "delete-marker", "delete"}
			for i, ev := range got {
				wantShape(t, ev.body, "aws-"+names[i])
				if ev.EventSource != "aws:s3" || ev.EventVersion != "2.1" || ev.S3.Object.Key != "a+b/%C3%A9%2Bc%3D1" || ev.S3.Bucket.Arn != "arn:aws:s3:::"+bucket {
					t.Errorf("record = %s", ev.body)
				}
				if ev.RequestParameters.SourceIPAddress != "127.0.0.1" || ev.S3.ConfigurationID != "a" {
					t.Errorf("record = %s", ev.body)
				}
			}
			if ev := got[0]; ev.EventName != "ObjectCreated:Put" || ev.S3.Object.Size != 5 || ev.S3.Object.VersionID != *out.VersionId {
				t.Errorf("record = %s", ev.body)
			}
			for i, ev := range ceph.want(e, 3) {
				wantShape(t, ev.body, "ceph-"+names[i])
				if ev.EventSource != "ceph:s3" || ev.S3.Object.Key != key || ev.RequestParameters.SourceIPAddress != "" || ev.OpaqueData != "mine" {
					t.Errorf("record = %s", ev.body)
				}
			}
		})
	}
}

// TestDialect_Change: what waits is sent in the topic's dialect of then.
func TestDialect_Change(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	r.status.Store(http.StatusServiceUnavailable)
	arn := e.topic("t", r.URL, "persistent", "true", "retry_sleep_duration", "1")
	e.notify(bucket, "n", arn, created)
	e.put(bucket, "a b", "x")
	e.setTopic(arn, "event-dialect", "aws")
	r.status.Store(0)
	if ev := r.want(e, 1)[0]; ev.EventSource != "aws:s3" || ev.S3.Object.Key != "a+b" {
		t.Errorf("record = %s", ev.body)
	}
	_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: aws.String("event-dialect"), AttributeValue: aws.String("gcs")})
	e.wantCode("SetTopicAttributes of a dialect that there is not", err, "InvalidArgument")
}

func (e *env) setTopic(arn, name, value string) {
	e.t.Helper()
	_, err := e.sns.SetTopicAttributes(e.t.Context(), &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: &name, AttributeValue: &value})
	e.check(err)
}

// TestQueuesAndFunctions: an SDK's rules for queues and functions name topics,
// and are shown as they were put.
func TestQueuesAndFunctions(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	e.topic("t", r.URL)
	want := types.NotificationConfiguration{
		QueueConfigurations: []types.QueueConfiguration{{Id: aws.String("q"), QueueArn: aws.String("arn:aws:sqs:us-east-1::t"), Events: []types.Event{created}}},
		LambdaFunctionConfigurations: []types.LambdaFunctionConfiguration{{
			Id: aws.String("f"), LambdaFunctionArn: aws.String("arn:aws:lambda:us-east-1::function:t"), Events: []types.Event{removed},
		}},
	}
	_, err := e.s3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: &bucket, NotificationConfiguration: &want})
	e.check(err)
	got, err := e.s3.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	e.check(err)
	if len(got.QueueConfigurations) != 1 || *got.QueueConfigurations[0].QueueArn != "arn:aws:sqs:us-east-1::t" ||
		len(got.LambdaFunctionConfigurations) != 1 || *got.LambdaFunctionConfigurations[0].LambdaFunctionArn != "arn:aws:lambda:us-east-1::function:t" ||
		len(got.TopicConfigurations) != 0 {
		t.Errorf("configuration = %+v", got)
	}
	e.put(bucket, "k", "x")
	e.delete(bucket, "k")
	for _, ev := range r.wantExactly(e, "ObjectCreated:Put k", "ObjectRemoved:Delete k") {
		if want := map[string]string{"ObjectCreated:Put": "q", "ObjectRemoved:Delete": "f"}[ev.EventName]; ev.S3.ConfigurationID != want {
			t.Errorf("%s by %s, want %s", ev.EventName, ev.S3.ConfigurationID, want)
		}
	}
}

// TestTraceContext: traceparent and tracestate of a request come with its event,
// also after a restart; one that is not well-formed does not.
func TestTraceContext(t *testing.T) {
	const parent, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=1,other=2"
	e := newEnv(t)
	bucket := e.bucket()
	now, later := newReceiver(t), newReceiver(t)
	later.status.Store(http.StatusServiceUnavailable)
	e.notify(bucket, "s", e.topic("s", now.URL), created)
	e.notify(bucket, "p", e.topic("p", later.URL, "persistent", "true", "retry_sleep_duration", "1"), created)
	e.putTraced(bucket, "good", parent, state)
	e.putTraced(bucket, "bad", "00-XYZ", state)
	e.check(e.g.Stop())
	e.check(e.g.Run())
	later.status.Store(0)
	for _, r := range []*receiver{now, later} {
		for _, ev := range r.wantExactly(e, "ObjectCreated:Put bad", "ObjectCreated:Put good") {
			wantParent, wantState := "", ""
			if ev.S3.Object.Key == "good" {
				wantParent, wantState = parent, state
			}
			if p, s := ev.header.Get("Traceparent"), ev.header.Get("Tracestate"); p != wantParent || s != wantState {
				t.Errorf("%s: traceparent %q, tracestate %q", ev.S3.Object.Key, p, s)
			}
		}
	}
}

func (e *env) putTraced(bucket, key, parent, state string) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPut, e.g.URL+"/"+bucket+"/"+key, http.NoBody)
	e.check(err)
	req.Header.Set("Traceparent", parent)
	req.Header.Set("Tracestate", state)
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	req.Header.Set("X-Amz-Content-Sha256", empty)
	e.check(v4.NewSigner().SignHTTP(e.t.Context(), e.credentials, req, empty, "s3", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	e.check(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		e.t.Fatalf("PUT = %s", resp.Status)
	}
}
