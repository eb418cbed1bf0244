// Package endpointtest is what black-box tests of endpoints have in common: a
// gateway with a client, a load of changes, and a check that every change's event
// arrived, in order per key, and none that was invented.
package endpointtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// Patience is how long anything may take on a busy machine.
const Patience = 300 * time.Second

// Env is a gateway and its first user. Its methods fail the test.
type Env struct {
	G   *gatewaytest.Gateway
	S3  *s3.Client
	SNS *sns.Client

	t       *testing.T
	buckets *atomic.Int32 // made so far
}

// In returns the same gateway for a subtest.
func (e *Env) In(t *testing.T) *Env {
	sub := *e
	sub.t = t
	return &sub
}

// New starts a gateway; args are more flags.
func New(t *testing.T, args ...string) *Env {
	t.Helper()
	g := gatewaytest.Start(t, gatewaytest.Options{Args: args})
	provider := credentials.StaticCredentialsProvider{Value: aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}}
	return &Env{
		t: t, G: g, buckets: new(atomic.Int32),
		S3:  s3.New(s3.Options{BaseEndpoint: &g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: provider, RetryMaxAttempts: 1}),
		SNS: sns.New(sns.Options{BaseEndpoint: &g.URL, Region: "us-east-1", Credentials: provider, RetryMaxAttempts: 1}),
	}
}

func (e *Env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// Bucket makes a bucket with a name of its own.
func (e *Env) Bucket() string {
	e.t.Helper()
	name := fmt.Sprintf("bucket-%d", e.buckets.Add(1))
	_, err := e.S3.CreateBucket(e.t.Context(), &s3.CreateBucketInput{Bucket: &name})
	e.check(err)
	return name
}

// CreateTopic makes a topic, or tells why not; attributes are names and values.
func (e *Env) CreateTopic(name, endpoint string, attributes ...string) (arn string, err error) {
	attrs := map[string]string{"push-endpoint": endpoint}
	for i := 0; i < len(attributes); i += 2 {
		attrs[attributes[i]] = attributes[i+1]
	}
	out, err := e.SNS.CreateTopic(e.t.Context(), &sns.CreateTopicInput{Name: &name, Attributes: attrs})
	if err != nil {
		return "", err
	}
	return *out.TopicArn, nil
}

// Topic makes a persistent topic.
func (e *Env) Topic(name, endpoint string, attributes ...string) (arn string) {
	e.t.Helper()
	arn, err := e.CreateTopic(name, endpoint, append([]string{"persistent", "true"}, attributes...)...)
	e.check(err)
	return arn
}

// Notify has all changes of a bucket told to topics.
func (e *Env) Notify(bucket string, arns ...string) {
	e.t.Helper()
	var configs []types.TopicConfiguration
	for i, arn := range arns {
		id := fmt.Sprintf("n%d", i)
		configs = append(configs, types.TopicConfiguration{Id: &id, TopicArn: &arn, Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}})
	}
	_, err := e.S3.PutBucketNotificationConfiguration(e.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: configs},
	})
	e.check(err)
}

// Put makes an object.
func (e *Env) Put(bucket, key string) {
	e.t.Helper()
	e.check(e.put(bucket, key))
}

func (e *Env) put(bucket, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := e.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
	return err
}

// Delete deletes an object.
func (e *Env) Delete(bucket, key string) {
	e.t.Helper()
	e.check(e.delete(bucket, key))
}

func (e *Env) delete(bucket, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	_, err := e.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	return err
}

// Entries is how many events wait for a topic.
func (e *Env) Entries(topic string) int {
	e.t.Helper()
	var doc struct {
		Stats struct{ Entries int } `json:"Topic Stats"`
	}
	e.check(json.Unmarshal([]byte(e.G.MustAdmin("topic", "stats", "--topic", topic)), &doc))
	return doc.Stats.Entries
}

// Drained waits until nothing waits for a topic.
func (e *Env) Drained(topic string) {
	e.t.Helper()
	e.Eventually("topic "+topic+" is drained", func() bool { return e.Entries(topic) == 0 })
}

// Eventually waits until ok answers true.
func (e *Env) Eventually(what string, ok func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// Logged waits until the gateway has logged a text. At the level debug it logs
// each push that failed.
func (e *Env) Logged(text string) {
	e.t.Helper()
	e.Eventually(fmt.Sprintf("the log has %q", text), func() bool { return strings.Contains(e.G.Log(1<<20), text) })
}

// failedPushes is the counter of that name, of all topics.
var failedPushes = regexp.MustCompile(`(?m)^pubsub_push_failed (\S+)$`)

// PushFails waits until one more push has failed.
func (e *Env) PushFails() {
	e.t.Helper()
	failed := func() float64 {
		resp, err := http.Get(e.G.Ops + "/metrics")
		e.check(err)
		defer func() { _ = resp.Body.Close() }() // read only
		page, err := io.ReadAll(resp.Body)
		e.check(err)
		m := failedPushes.FindSubmatch(page)
		if m == nil {
			e.t.Fatal("the metrics do not count pushes that failed")
		}
		n, err := strconv.ParseFloat(string(m[1]), 64)
		e.check(err)
		return n
	}
	before := failed()
	e.Eventually("a push fails", func() bool { return failed() > before })
}
