package soak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// The buckets of a site, by what happens to them. Their names begin with the
// site's.
const (
	plain     = "plain"
	versioned = "versioned"
	toggled   = "toggled" // notifications come and go
	remade    = "remade"  // the topic is deleted and made again
	hopeless  = "dead"    // its events go to the topic deadTopic
	expiring  = "expiring"
)

// site is a gateway with buckets of its own, and their clients.
type site struct {
	t       *testing.T
	name    string
	g       *gatewaytest.Gateway
	s3      *s3.Client
	sns     *sns.Client
	shared  bool // its queues are on a server
	well    atomic.Bool
	h       *history
	gates   map[string]*sync.RWMutex // by bucket
	clients []*client
	topics  []string
	remade  *endpoint // of the topic that is deleted and made again
}

// arn is a topic's.
func arn(topic string) string { return "arn:aws:sns:default::" + topic }

// newSite starts a gateway with the topics, buckets and clients.
func newSite(t *testing.T, name string, h *history, b *brokers, endpoints []*endpoint, queue ...string) *site {
	t.Helper()
	args := append([]string{"--http-message-timeout", "3s", "--http-connect-timeout", "2s", "--lc-debug-interval", "3s"}, queue...)
	g := gatewaytest.Start(t, gatewaytest.Options{Args: args})
	provider := credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
	s := &site{
		t: t, name: name, g: g, h: h, shared: len(queue) > 0, gates: map[string]*sync.RWMutex{}, remade: b.httpEndpoint(remade + "-" + name),
		s3: s3.New(s3.Options{
			BaseEndpoint: &g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: provider,
			Retryer: aws.NopRetryer{}, // each request is made once
		}),
		sns: sns.New(sns.Options{BaseEndpoint: &g.URL, Region: "us-east-1", Credentials: provider, Retryer: aws.NopRetryer{}}),
	}
	s.well.Store(true)
	var all []string
	for _, e := range append(endpoints, s.remade) {
		s.topics = append(s.topics, e.topic)
		s.check(s.makeTopic(e))
		if e.topic != deadTopic && e != s.remade {
			all = append(all, e.topic)
		}
	}
	for kind, topics := range map[string][]string{
		plain: all, versioned: all, toggled: {"nats", "http"}, remade: {s.remade.topic}, hopeless: {deadTopic}, expiring: {"kafka", "redis", "http"},
	} {
		s.makeBucket(kind, topics)
	}
	return s
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("site %s: %v", s.name, err)
	}
}

// bucket is the name of one of the site's.
func (s *site) bucket(kind string) string { return s.name + "-" + kind }

func (s *site) makeTopic(e *endpoint) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	attributes := map[string]string{"persistent": "true"}
	for name, values := range e.attributes {
		attributes[name] = values[0]
	}
	_, err := s.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: &e.topic, Attributes: attributes})
	return err
}

func (s *site) deleteTopic(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	_, err := s.sns.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: aws.String(arn(topic))})
	return err
}

func (s *site) setTopic(topic, name, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	_, err := s.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: aws.String(arn(topic)), AttributeName: &name, AttributeValue: &value})
	return err
}

func (s *site) makeBucket(kind string, topics []string) {
	s.t.Helper()
	ctx, bucket := s.t.Context(), s.bucket(kind)
	s.gates[kind] = &sync.RWMutex{}
	_, err := s.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	s.check(err)
	if kind == versioned {
		_, err := s.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
		s.check(err)
	}
	if kind == expiring {
		_, err := s.s3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
			Bucket: &bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
				Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
				Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
			}}},
		})
		s.check(err)
	}
	for _, topic := range topics {
		s.check(s.notify(kind, topic))
	}
}

// notify has a bucket's changes told to a topic.
func (s *site) notify(kind, topic string) error {
	bucket := s.bucket(kind)
	r := s.h.rule(bucket, topic)
	r.begin(true)
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	_, err := s.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{{
			Id: &topic, TopicArn: aws.String(arn(topic)),
			Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectLifecycle:*", "s3:LifecycleExpiration:*"},
		}}},
	})
	if err == nil {
		r.done()
	}
	return err
}

// silence takes the notification away again.
func (s *site) silence(kind, topic string) error {
	r := s.h.rule(s.bucket(kind), topic)
	r.begin(false)
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.g.URL+"/"+s.bucket(kind)+"?notification="+topic, nil)
	if err != nil {
		return err
	}
	none := sha256.Sum256(nil)
	sum := hex.EncodeToString(none[:])
	req.Header.Set("X-Amz-Content-Sha256", sum)
	keys := aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, sum, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	r.done()
	return nil
}

// addClients makes the site's clients.
func (s *site) addClients(seed uint64, pause time.Duration, ids *atomic.Int64) {
	for i, kind := range []string{plain, plain, versioned, toggled, remade, hopeless, expiring} {
		c := &client{
			s3: s.s3, h: s.h, gate: s.gates[kind], ids: ids, rand: rand.New(rand.NewPCG(seed, uint64(s.name[0])<<8+uint64(i))), pause: pause, failed: s.t.Failed,
			bucket: s.bucket(kind), name: fmt.Sprintf("c%d", i), versioned: kind == versioned, fresh: kind == hopeless || kind == expiring, expires: kind == expiring,
		}
		for n := range 6 {
			c.keys = append(c.keys, &clientKey{keyID: keyID{c.bucket, fmt.Sprintf("%s/k%d", c.name, n)}})
		}
		s.clients = append(s.clients, c)
	}
}

// waits tells whether something waits for a topic, as far as the gateway says.
func (s *site) waits(topic string) (string, bool) {
	s.t.Helper()
	var doc struct {
		Stats struct{ Entries, Reservations int } `json:"Topic Stats"`
	}
	out, code := s.g.Admin("topic", "stats", "--topic", topic)
	if code == 0 && json.Unmarshal([]byte(out), &doc) == nil && doc.Stats.Entries == 0 && doc.Stats.Reservations == 0 {
		return "", false
	}
	return out, true
}

// deadLetters is how many a topic has, or -1 if that cannot be told.
func (s *site) deadLetters(topic string) (n int, text string) {
	s.t.Helper()
	var list []json.RawMessage
	out, code := s.g.Admin("topic", "dead-letters", "list", "--topic", topic)
	if code != 0 || json.Unmarshal([]byte(out), &list) != nil {
		return -1, out
	}
	return len(list), out
}
