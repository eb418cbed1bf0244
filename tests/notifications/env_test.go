// Package notifications tests bucket notifications over the wire against the
// built gateway: topics, filters, records, delivery. Test names follow the
// rows of Ceph's own bucket notification suite (test_bn.py), which each test
// names; rows that need Kafka or AMQP are tested for their meaning over HTTP.
package notifications

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/smithy-go"

	"herald/tests/gatewaytest"
)

// patience is how long an event may take on a busy machine; those of a gateway
// that was killed are looked at each half minute where several share a store.
const patience = 3 * time.Minute

// env is a gateway and one user of it.
type env struct {
	t           *testing.T
	g           *gatewaytest.Gateway
	s3          *s3.Client
	sns         *sns.Client
	credentials aws.Credentials
	tenant      string
	buckets     int
}

func newEnv(t *testing.T, args ...string) *env {
	t.Helper()
	g := gatewaytest.Start(t, gatewaytest.Options{Args: args})
	return (&env{t: t, g: g}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
}

// as returns the same gateway with other credentials.
func (e *env) as(accessKey, secretKey, tenant string) *env {
	c := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	provider := credentials.StaticCredentialsProvider{Value: c}
	return &env{
		t: e.t, g: e.g, credentials: c, tenant: tenant,
		s3: s3.New(s3.Options{
			BaseEndpoint: &e.g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: provider, RetryMaxAttempts: 1,
		}),
		sns: sns.New(sns.Options{BaseEndpoint: &e.g.URL, Region: "us-east-1", Credentials: provider, RetryMaxAttempts: 1}),
	}
}

// user makes a user with keys of its own, and returns its view.
func (e *env) user(uid, tenant string, flags ...string) *env {
	e.t.Helper()
	access := strings.ToUpper(fmt.Sprintf("AK%s%s", tenant, uid))
	secret := "secret-of-" + uid + "-0000000000000000000000000000"
	args := []string{"user", "create", "--uid", uid, "--display-name", uid, "--access-key", access, "--secret-key", secret}
	if tenant != "" {
		args = append(args, "--tenant", tenant)
	}
	e.g.MustAdmin(append(args, flags...)...)
	return e.as(access, secret, tenant)
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// wantCode fails unless err is an API error with that code.
func (e *env) wantCode(what string, err error, code string) {
	e.t.Helper()
	var api smithy.APIError
	switch {
	case err == nil:
		e.t.Errorf("%s succeeded, want %s", what, code)
	case !asAPI(err, &api) || api.ErrorCode() != code:
		e.t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// bucket makes a bucket with a name of its own.
func (e *env) bucket() string {
	e.t.Helper()
	e.buckets++
	name := fmt.Sprintf("bucket-%s-%d", strings.ToLower(e.credentials.AccessKeyID), e.buckets)
	_, err := e.s3.CreateBucket(e.t.Context(), &s3.CreateBucketInput{Bucket: &name})
	e.check(err)
	return name
}

func (e *env) versionedBucket() string {
	e.t.Helper()
	name := e.bucket()
	_, err := e.s3.PutBucketVersioning(e.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	e.check(err)
	return name
}

// topic makes a topic and returns its ARN; attributes are names and values.
func (e *env) topic(name, endpoint string, attributes ...string) string {
	e.t.Helper()
	attrs := map[string]string{"push-endpoint": endpoint}
	for i := 0; i < len(attributes); i += 2 {
		attrs[attributes[i]] = attributes[i+1]
	}
	out, err := e.sns.CreateTopic(e.t.Context(), &sns.CreateTopicInput{Name: &name, Attributes: attrs})
	e.check(err)
	return *out.TopicArn
}

// notify makes a notification of a bucket for a topic.
func (e *env) notify(bucket, id, arn string, events ...types.Event) {
	e.t.Helper()
	e.check(e.putNotifications(bucket, types.TopicConfiguration{Id: &id, TopicArn: &arn, Events: events}))
}

func (e *env) putNotifications(bucket string, configs ...types.TopicConfiguration) error {
	_, err := e.s3.PutBucketNotificationConfiguration(e.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: configs},
	})
	return err
}

var created, removed = types.Event("s3:ObjectCreated:*"), types.Event("s3:ObjectRemoved:*")

func (e *env) put(bucket, key, body string) *s3.PutObjectOutput {
	e.t.Helper()
	out, err := e.s3.PutObject(e.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	e.check(err)
	return out
}

func (e *env) delete(bucket, key string) *s3.DeleteObjectOutput {
	e.t.Helper()
	out, err := e.s3.DeleteObject(e.t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	e.check(err)
	return out
}

// keys returns n keys with a prefix.
func keys(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%03d", prefix, i)
	}
	return out
}

// raw sends a signed request and returns status, headers and body.
func (e *env) raw(service, method, path string, body []byte, contentType string) (int, http.Header, string) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.g.URL+path, bytes.NewReader(body))
	e.check(err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	e.check(v4.NewSigner().SignHTTP(e.t.Context(), e.credentials, req, hash, service, "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	e.check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	e.check(err)
	return resp.StatusCode, resp.Header, string(answer)
}

// form calls an action of the topic API; values are names and values.
func (e *env) form(action string, values ...string) (int, string) {
	e.t.Helper()
	form := url.Values{"Action": {action}}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	status, _, body := e.raw("s3", http.MethodPost, "/", []byte(form.Encode()), "application/x-www-form-urlencoded")
	return status, body
}

// stats are those of `topic stats`.
func (e *env) stats(topic string) (entries, reservations, size int64) {
	e.t.Helper()
	args := []string{"topic", "stats", "--topic", topic}
	if e.tenant != "" {
		args = append(args, "--tenant", e.tenant)
	}
	var doc struct {
		Stats struct{ Entries, Reservations, Size int64 } `json:"Topic Stats"`
	}
	e.check(json.Unmarshal([]byte(e.g.MustAdmin(args...)), &doc))
	return doc.Stats.Entries, doc.Stats.Reservations, doc.Stats.Size
}

// drained waits until nothing waits in a topic's queues.
func (e *env) drained(topic string) {
	e.t.Helper()
	e.eventually("topic "+topic+" is drained", func() bool {
		entries, reservations, _ := e.stats(topic)
		return entries == 0 && reservations == 0
	})
}

// wantEntries waits until that many entries are in a topic's queues: on a server
// they come behind the answer.
func (e *env) wantEntries(topic string, want int64) {
	e.t.Helper()
	e.eventually(fmt.Sprintf("topic %s has %d entries", topic, want), func() bool {
		entries, _, _ := e.stats(topic)
		return entries == want
	})
}

// eventually polls what the gateway does by itself.
func (e *env) eventually(what string, ok func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// adminJSON decodes what an admin command prints.
func (e *env) adminJSON(into any, args ...string) {
	e.t.Helper()
	out := e.g.MustAdmin(args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		e.t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}

func asAPI(err error, api *smithy.APIError) bool { return errorsAs(err, api) }

func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
