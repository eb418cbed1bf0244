// Package httpendpoint tests HTTP endpoints over the wire: against the built
// gateway, with endpoints that are slow, dead, or liars; the policy on where
// endpoints may be, and that no secret of theirs is shown.
package httpendpoint

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
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"herald/tests/gatewaytest"
)

// patience is how long an event may take on a busy machine.
const patience = 300 * time.Second

// client is a user of a gateway.
type client struct {
	t    testing.TB
	g    *gatewaytest.Gateway
	keys aws.Credentials
	s3   *s3.Client
	// header is sent with each form.
	header http.Header
}

func start(t testing.TB, args ...string) *client {
	t.Helper()
	return as(t, gatewaytest.Start(t, gatewaytest.Options{Args: args}), gatewaytest.AccessKey, gatewaytest.SecretKey)
}

func as(t testing.TB, g *gatewaytest.Gateway, access, secret string) *client {
	c := aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}
	return &client{t: t, g: g, keys: c, header: http.Header{}, s3: s3.New(s3.Options{
		BaseEndpoint: &g.URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.StaticCredentialsProvider{Value: c},
	})}
}

// user makes a user who is no administrator.
func (c *client) user(uid string) *client {
	c.t.Helper()
	access, secret := strings.ToUpper("AK"+uid), "secret-of-"+uid+"-000000000000000000000000"
	c.g.MustAdmin("user", "create", "--uid", uid, "--display-name", uid, "--access-key", access, "--secret-key", secret)
	return as(c.t, c.g, access, secret)
}

// form calls an action of the topic API; values are names and values.
func (c *client) form(action string, values ...string) (status int, answer string) {
	c.t.Helper()
	form := url.Values{"Action": {action}}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	body := []byte(form.Encode())
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.g.URL+"/", bytes.NewReader(body))
	c.check(err)
	req.Header = c.header.Clone()
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	c.check(v4.NewSigner().SignHTTP(c.t.Context(), c.keys, req, hash, "sns", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	c.check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	c.check(err)
	return resp.StatusCode, string(text)
}

func arn(topic string) string { return "arn:aws:sns:default::" + topic }

// topic makes a topic; attributes are names and values.
func (c *client) topic(name, endpoint string, attributes ...string) {
	c.t.Helper()
	if status, answer := c.tryTopic(name, endpoint, attributes...); status != http.StatusOK {
		c.t.Fatalf("CreateTopic %s = %d %s", name, status, answer)
	}
}

func (c *client) tryTopic(name, endpoint string, attributes ...string) (status int, answer string) {
	c.t.Helper()
	values := []string{"Name", name}
	for i, a := range append([]string{"push-endpoint", endpoint}, attributes...) {
		kind := "key"
		if i%2 == 1 {
			kind = "value"
		}
		values = append(values, fmt.Sprintf("Attributes.entry.%d.%s", i/2+1, kind), a)
	}
	return c.form("CreateTopic", values...)
}

// bucket makes a bucket of which all events go to a topic.
func (c *client) bucket(name, topic string) {
	c.t.Helper()
	_, err := c.s3.CreateBucket(c.t.Context(), &s3.CreateBucketInput{Bucket: &name})
	c.check(err)
	_, err = c.s3.PutBucketNotificationConfiguration(c.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &name, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{
			{Id: aws.String("all"), TopicArn: aws.String(arn(topic)), Events: []types.Event{"s3:ObjectCreated:*"}},
		}},
	})
	c.check(err)
}

// put writes an object of a body, and returns the time that it took.
func (c *client) put(ctx context.Context, bucket, key, body string) time.Duration {
	c.t.Helper()
	begin := time.Now()
	if _, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)}); err != nil {
		c.t.Errorf("put %s: %v", key, err)
	}
	return time.Since(begin)
}

func (c *client) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// entries is how many events wait for a topic.
func (c *client) entries(topic string) int64 {
	c.t.Helper()
	var doc struct {
		Stats struct{ Entries int64 } `json:"Topic Stats"`
	}
	c.check(json.Unmarshal([]byte(c.g.MustAdmin("topic", "stats", "--topic", topic)), &doc))
	return doc.Stats.Entries
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// ops gets a page of the ops address.
func (c *client) ops(path string) string {
	c.t.Helper()
	resp, err := http.Get(c.g.Ops + path)
	c.check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	c.check(err)
	return string(text)
}
