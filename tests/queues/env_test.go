// Package queues tests, over the wire and with real servers, what a gateway
// does whose queues are on a server: servers that go away and come back, or are
// of no use; gateways that must not mix; queues that move.
package queues

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/smithy-go"

	"herald/tests/gatewaytest"
)

// patience is how long things may take on a busy machine.
const patience = 300 * time.Second

const topicName = "uploads"

// env is a gateway with its clients.
type env struct {
	t   *testing.T
	g   *gatewaytest.Gateway
	s3  *s3.Client
	sns *sns.Client

	args []string // more of gateway admin
}

// newEnv prepares a gateway, which does not run yet.
func newEnv(t *testing.T, opts gatewaytest.Options) *env {
	t.Helper()
	g := gatewaytest.New(t, opts)
	keys := credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
	return &env{
		t: t, g: g,
		s3:  s3.New(s3.Options{BaseEndpoint: &g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: keys, RetryMaxAttempts: 1}),
		sns: sns.New(sns.Options{BaseEndpoint: &g.URL, Region: "us-east-1", Credentials: keys, RetryMaxAttempts: 1}),
	}
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) createBucket(name string) {
	e.t.Helper()
	_, err := e.s3.CreateBucket(e.t.Context(), &s3.CreateBucketInput{Bucket: &name})
	e.check(err)
}

func (e *env) createTopic(endpoint string) (string, error) {
	name := topicName
	out, err := e.sns.CreateTopic(e.t.Context(), &sns.CreateTopicInput{
		Name: &name, Attributes: map[string]string{"push-endpoint": endpoint, "persistent": "true", "retry_sleep_duration": "1"},
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.TopicArn), nil
}

// notify makes a topic with that endpoint, and a notification of the bucket.
func (e *env) notify(bucket, endpoint string) {
	e.t.Helper()
	arn, err := e.createTopic(endpoint)
	e.check(err)
	_, err = e.s3.PutBucketNotificationConfiguration(e.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket,
		NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{{
			Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"},
		}}},
	})
	e.check(err)
}

func (e *env) put(bucket, key, body string) error {
	_, err := e.s3.PutObject(e.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	return err
}

func (e *env) get(bucket, key string) (string, error) {
	out, err := e.s3.GetObject(e.t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer func() { _ = out.Body.Close() }()
	b, err := io.ReadAll(out.Body)
	return string(b), err
}

// wantUnavailable fails unless err is a 503 that tells to try again.
func (e *env) wantUnavailable(what string, err error) {
	e.t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ServiceUnavailable" && api.ErrorCode() != "SlowDown" {
		e.t.Errorf("%s = %v, want ServiceUnavailable or SlowDown", what, err)
	}
}

// ready is the gateway's answer about its readiness.
func (e *env) ready() (status int, queue string) {
	e.t.Helper()
	resp, err := http.Get(e.g.Ops + "/readyz")
	e.check(err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Queue string }
	e.check(json.NewDecoder(resp.Body).Decode(&answer))
	return resp.StatusCode, answer.Queue
}

// awayAndBack tests what a gateway does whose queues' server is there, goes away
// and comes back.
func (e *env) awayAndBack(away, back func()) {
	e.t.Helper()
	e.check(e.g.WaitReady())
	sink := newEndpoint(e.t)
	e.createBucket("plain")
	e.createBucket("watched")
	e.notify("watched", sink.URL)
	e.check(e.put("watched", "a", "1"))
	sink.want(e.t, 1)

	away()
	outbox := gatewaytest.Store() == "posix"
	if outbox {
		e.check(e.put("watched", "b", "2"))
	} else {
		e.wantUnavailable("PUT with an event without the server", e.put("watched", "b", "2"))
		if _, err := e.get("watched", "b"); err == nil {
			e.t.Error("the refused object is there")
		}
	}
	if body, err := e.get("watched", "a"); err != nil || body != "1" {
		e.t.Errorf("GET without the server = %q, %v", body, err)
	}
	e.check(e.put("plain", "b", "2"))
	if status, queue := e.ready(); status != 503 || queue == "ok" {
		e.t.Errorf("readiness = %d, queue %q, want 503 and why", status, queue)
	}

	back()
	e.check(e.g.WaitReady())
	if out, code := e.g.Admin("queue", "fsck"); code != 0 {
		e.t.Errorf("queue fsck = %d\n%s", code, out)
	}
	e.check(e.put("watched", "c", "3"))
	want := "watched/a watched/c"
	if outbox {
		want = "watched/a watched/b watched/c"
	}
	sink.want(e.t, len(strings.Fields(want)))
	got := sink.got()
	slices.Sort(got) // they have different keys
	if strings.Join(got, " ") != want {
		e.t.Errorf("events = %q, want %q", got, want)
	}
}

// launch is Launch of a gateway that is to refuse its queues' server. A gateway
// that has no answer from it in time starts without, and says so; then it is
// started once more.
func (e *env) launch() error {
	e.t.Helper()
	slow := func() int { return strings.Count(e.g.Log(1<<20), "queue does not answer") }
	for end := time.Now().Add(patience); ; {
		before := slow()
		err := e.g.Launch()
		if err != nil || slow() == before || time.Now().After(end) {
			return err
		}
		e.check(e.g.Stop())
	}
}

// wantUnready wants readiness to be refused, and the reason to have a text as soon
// as the server has said so.
func (e *env) wantUnready(text string) {
	e.t.Helper()
	var status int
	var queue string
	for end := time.Now().Add(patience); ; {
		status, queue = e.ready()
		if status != 503 || strings.Contains(queue, text) || time.Now().After(end) {
			break
		}
	}
	if status != 503 || !strings.Contains(queue, text) {
		e.t.Errorf("readiness = %d, queue %q, want 503 and %q", status, queue, text)
	}
}

// run runs a verb of the gateway on its directory.
func (e *env) run(ctx context.Context, args ...string) (string, error) {
	cmd := e.g.Command(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// eventually waits until ok answers true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}

// endpoint gets events.
type endpoint struct {
	URL string

	mu   sync.Mutex // guards all below
	keys []string   // "bucket/key", in the order of arrival, without those that came before
	sums []string   // "bucket/key etag" of the same
	seen map[string]bool
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{seen: map[string]bool{}}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	e.URL = s.URL
	return e
}

// ServeHTTP takes events.
func (e *endpoint) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var doc struct {
		Records []struct {
			S3 struct {
				Bucket struct{ Name string }
				Object struct{ Key, ETag, Sequencer string }
			}
		}
	}
	if json.NewDecoder(r.Body).Decode(&doc) != nil {
		return // the gateway was killed while it sent
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, rec := range doc.Records {
		o := rec.S3.Object
		if id := rec.S3.Bucket.Name + "/" + o.Key + " " + o.Sequencer; !e.seen[id] {
			e.seen[id] = true
			e.keys = append(e.keys, rec.S3.Bucket.Name+"/"+o.Key)
			e.sums = append(e.sums, rec.S3.Bucket.Name+"/"+o.Key+" "+o.ETag)
		}
	}
}

// got are the keys of the events that arrived.
func (e *endpoint) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.keys...)
}

// gotSums is got with the ETags.
func (e *endpoint) gotSums() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.sums...)
}

// want waits for that many events.
func (e *endpoint) want(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d events", n), func() bool { return len(e.got()) >= n })
}
