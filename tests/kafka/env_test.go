// Package kafka tests the Kafka endpoint over the wire: a built gateway, S3 and
// SNS clients, a real broker. Test names follow the rows of Ceph's own bucket
// notification suite (test_bn.py), which each test names.
package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/tests/endpointtest"
	"herald/tests/gatewaytest"
	"herald/tests/kafkatest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	kafkatest.StopShared()
	os.Exit(code)
}

// patience is how long an event may take on a busy machine.
const patience = endpointtest.Patience

// env is a gateway with a user of it, and a broker.
type env struct {
	*endpointtest.Env
	t *testing.T
	k *kafkatest.Server
}

func newEnv(t *testing.T, args ...string) *env {
	t.Helper()
	k := kafkatest.Shared(t)
	return &env{endpointtest.New(t, args...), t, k}
}

// in returns the same for a subtest.
func (e *env) in(t *testing.T) *env { return &env{e.Env.In(t), t, e.k} }

// letter is a dead letter.
type letter struct {
	Reason    string `json:"reason"`
	LastError string `json:"last_error"`
}

func (e *env) deadLetters(topic string) []letter {
	e.t.Helper()
	var list []letter
	out := e.G.MustAdmin("topic", "dead-letters", "list", "--topic", topic)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		e.t.Fatalf("dead letters: %v\n%s", err, out)
	}
	return list
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// name is a topic's name that no other test has.
func (e *env) name(suffix string) string {
	return strings.NewReplacer("/", "-", "=", "-").Replace(e.t.Name()) + "-" + suffix
}

// topic makes a topic and returns its ARN; attributes are names and values.
func (e *env) topic(name, endpoint string, attributes ...string) string {
	e.t.Helper()
	arn, err := e.CreateTopic(name, endpoint, attributes...)
	e.check(err)
	return arn
}

// putAll puts objects, several at once.
func (e *env) putAll(bucket string, keys []string) {
	e.t.Helper()
	e.all(keys, func(key string) error {
		_, err := e.S3.PutObject(e.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
		return err
	})
}

// deleteAll deletes objects, several at once.
func (e *env) deleteAll(bucket string, keys []string) {
	e.t.Helper()
	e.all(keys, func(key string) error {
		_, err := e.S3.DeleteObject(e.t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		return err
	})
}

func (e *env) all(keys []string, do func(key string) error) {
	e.t.Helper()
	work := make(chan string, len(keys))
	for _, k := range keys {
		work <- k
	}
	close(work)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range work {
				if err := do(k); err != nil {
					e.t.Errorf("%s: %v", k, err)
				}
			}
		})
	}
	wg.Wait()
}

// keys returns n keys with a prefix.
func keys(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return out
}

// makeTopic makes a topic at the broker, with settings as NAME=value.
func (e *env) makeTopic(name string, partitions int32, settings ...string) {
	e.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.k.Plain))
	e.check(err)
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(patience.Milliseconds())
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for _, s := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		var value string
		c.Name, value, _ = strings.Cut(s, "=")
		c.Value = &value
		topic.Configs = append(topic.Configs, c)
	}
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(e.t.Context(), cl)
	e.check(err)
	if code := resp.Topics[0].ErrorCode; code != 0 {
		e.t.Fatalf("make topic %s: error %d", name, code)
	}
	e.prime(name, partitions, "")
}

// primed is the key of messages that are no events.
const primed = "primed"

// prime waits until the partitions take messages: before that a broker drops
// those of which nobody wants an acknowledgement.
func (e *env) prime(name string, partitions int32, value string) {
	e.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.k.Plain), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	e.check(err)
	defer cl.Close()
	for i := range partitions {
		e.check(cl.ProduceSync(e.t.Context(), &kgo.Record{Topic: name, Partition: i, Key: []byte(primed), Value: []byte(value)}).FirstErr())
	}
}

// messages are those that a topic of so many partitions has now.
func (e *env) messages(topic string, partitions int32) [][]byte {
	e.t.Helper()
	const end = "end"
	e.prime(topic, partitions, end)
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.k.Plain), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	e.check(err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	var out [][]byte
	for ends := int32(0); ends < partitions; {
		fetches := cl.PollFetches(ctx)
		e.check(ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			switch {
			case string(r.Key) != primed:
				out = append(out, r.Value)
			case string(r.Value) == end:
				ends++
			}
		})
	}
	return out
}

// deleteTopic deletes a topic at the broker.
func (e *env) deleteTopic(name string) {
	e.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.k.Plain))
	e.check(err)
	defer cl.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis, req.TopicNames = int32(patience.Milliseconds()), []string{name}
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(e.t.Context(), cl)
	e.check(err)
	if code := resp.Topics[0].ErrorCode; code != 0 {
		e.t.Fatalf("delete topic %s: error %d", name, code)
	}
	e.Eventually("the topic is gone", func() bool { return !e.hasTopic(cl, name) })
}

func (e *env) hasTopic(cl *kgo.Client, name string) bool {
	e.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(e.t.Context(), cl)
	e.check(err)
	return resp.Topics[0].ErrorCode == 0
}

// rawPut sends a signed PUT.
func (e *env) rawPut(path, body string) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPut, e.G.URL+path, strings.NewReader(body))
	e.check(err)
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	c := aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}
	e.check(v4.NewSigner().SignHTTP(e.t.Context(), c, req, hash, "s3", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	e.check(err)
	defer func() { _ = resp.Body.Close() }()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		e.t.Fatalf("PUT %s = %d\n%s", path, resp.StatusCode, answer)
	}
}

// record is a message as it came.
type record struct {
	EventName string `json:"eventName"`
	S3        struct {
		ConfigurationID string `json:"configurationId"`
		Bucket          struct{ Name string }
		Object          struct {
			Key       string
			Size      int64
			Sequencer string
			Metadata  []struct{ Key, Val string }
		}
	} `json:"s3"`
	OpaqueData string `json:"opaqueData"`

	partition int32
	key       string // of the message
	headers   map[string]string
	codec     uint8 // of its batch: 0 none, 2 Snappy
	raw       string
}

func (r *record) String() string { return r.EventName + " " + r.S3.Object.Key }

// consumer reads a topic of the broker from its begin.
type consumer struct {
	e    *env
	cl   *kgo.Client
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex // guards what follows
	records []*record
}

func (e *env) consume(topic string) *consumer {
	e.t.Helper()
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(e.k.Plain), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond), kgo.UnknownTopicRetries(-1),
	)
	e.check(err)
	ctx, stop := context.WithCancel(context.Background())
	c := &consumer{e: e, cl: cl, stop: stop}
	c.wg.Go(func() { c.run(ctx) })
	e.t.Cleanup(func() {
		stop()
		c.wg.Wait()
		cl.Close()
	})
	return c
}

func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := c.cl.PollFetches(ctx) // what fails is tried again
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Key) == primed {
				return
			}
			var doc struct{ Records []*record }
			if err := json.Unmarshal(r.Value, &doc); err != nil || len(doc.Records) != 1 {
				c.e.t.Errorf("message %q: %v", r.Value, err)
				return
			}
			got := doc.Records[0]
			got.partition, got.key, got.raw, got.headers = r.Partition, string(r.Key), string(r.Value), map[string]string{}
			got.codec = r.Attrs.CompressionType()
			for _, h := range r.Headers {
				got.headers[h.Key] = string(h.Value)
			}
			c.mu.Lock()
			c.records = append(c.records, got)
			c.mu.Unlock()
		})
	}
}

func (c *consumer) got() []*record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records)
}

// names is what came, in order, as "EVENT KEY".
func (c *consumer) names() []string {
	var out []string
	for _, r := range c.got() {
		out = append(out, r.String())
	}
	return out
}

// wantEach waits until each event came, and fails if others did. exactly: none
// came twice.
func (c *consumer) wantEach(exactly bool, events ...string) {
	c.e.t.Helper()
	missing := func() []string {
		seen := map[string]bool{}
		for _, n := range c.names() {
			seen[n] = true
		}
		return slices.DeleteFunc(slices.Clone(events), func(n string) bool { return seen[n] })
	}
	for deadline := time.Now().Add(patience); len(missing()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			m := missing()
			c.e.t.Fatalf("of %d events %d are missing, first %q; %d messages came", len(events), len(m), m[0], len(c.names()))
		}
	}
	want := map[string]bool{}
	for _, n := range events {
		want[n] = true
	}
	names := c.names()
	for _, n := range names {
		if !want[n] {
			c.e.t.Errorf("%s came, which never was", n)
		}
	}
	if exactly && len(names) != len(events) {
		c.e.t.Errorf("%d messages came, want %d", len(names), len(events))
	}
	c.checkOrder()
}

// checkOrder fails unless the messages of each key are in one partition and in
// order, but for repetitions right behind.
func (c *consumer) checkOrder() {
	c.e.t.Helper()
	last := map[string]*record{}
	for _, r := range c.got() {
		key := r.S3.Bucket.Name + "/" + r.S3.Object.Key
		if r.key != key {
			c.e.t.Errorf("message key %q, want %q", r.key, key)
		}
		if l := last[key]; l != nil && (l.partition != r.partition || l.S3.Object.Sequencer > r.S3.Object.Sequencer) {
			c.e.t.Errorf("%s (partition %d, %s) came after %s (partition %d, %s)",
				r, r.partition, r.S3.Object.Sequencer, l, l.partition, l.S3.Object.Sequencer)
		}
		last[key] = r
	}
}

// perEvent names an event for each key.
func perEvent(event string, keys []string) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = event + " " + k
	}
	return out
}

func both(keys []string) []string {
	return append(perEvent("ObjectCreated:Put", keys), perEvent("ObjectRemoved:Delete", keys)...)
}

// dead is an address where nobody listens.
func dead(t *testing.T) string { return gatewaytest.FreeAddress(t) }

// short is a number of objects, less of them with -short.
func short(n int) int {
	if testing.Short() {
		return max(n/10, 10)
	}
	return n
}
