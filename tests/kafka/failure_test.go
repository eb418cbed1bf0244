package kafka

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/endpointtest"
	"herald/tests/gatewaytest"
	"herald/tests/kafkatest"
)

// The broker is killed and restarted, halted and resumed, connections are cut,
// answers are lost: each event comes at least once, and in order per key.
func TestFailures(t *testing.T) {
	k := kafkatest.Shared(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	during := func(begin func()) func(*endpointtest.Env, *endpointtest.Load) {
		return func(e *endpointtest.Env, load *endpointtest.Load) {
			load.Begin(4)
			begin()
			load.Make(4)
			e.PushFails()
			k.Proxy.Restore()
		}
	}
	endpointtest.Faults(t, &endpointtest.Broker{
		Proxy: k.Proxy, Kill: k.Kill, Start: func() { check(k.Start()) },
		Pause: func() { check(k.Pause()) }, Resume: func() { check(k.Resume()) },
		Endpoint: func(addr string) string { return "kafka://" + addr },
		Prepare:  func(t *testing.T, topic string) { (&env{t: t, k: k}).makeTopic(topic, 4) },
		Messages: func(t *testing.T, topic string) [][]byte { return (&env{t: t, k: k}).messages(topic, 4) },
	}, endpointtest.Fault{Name: "answers-lost", Do: during(k.Proxy.Swallow)},
		endpointtest.Fault{Name: "refused", Do: during(k.Proxy.Refuse)})
}

// Sore points 2, 3 and 5, rows test_notification_kafka_idle_behaviour: the broker
// closes what is idle; the next event comes all the same, with each ack level.
func TestIdle(t *testing.T) {
	e := newEnv(t)
	before := e.k.Proxy.Connections()
	bucket, topic, none := e.Bucket(), e.name("broker"), e.name("none")
	e.makeTopic(none, 4)
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Proxied, "persistent", "true"),
		e.topic(none, "kafka://"+e.k.Proxied, "persistent", "true", "kafka-ack-level", "none"))
	c, n := e.consume(topic), e.consume(none)
	var events []string
	for i := range 2 {
		names := keys(fmt.Sprint("round-", i), 20)
		e.putAll(bucket, names)
		events = append(events, perEvent("ObjectCreated:Put", names)...)
		c.wantEach(true, events...)
		n.wantEach(true, events...)
		if i == 0 {
			e.Eventually("the broker closes idle connections", func() bool { return e.k.Proxy.Open() == 0 })
		}
	}
	if made := e.k.Proxy.Connections() - before; made < 4 {
		t.Errorf("%d connections were made", made)
	}
}

// Sore point 4: while the broker is down memory does not grow, with either ack
// level nothing is taken for delivered, and all comes when it is back.
func TestBrokerDown(t *testing.T) {
	e := newEnv(t, "--http-connect-timeout", "1s", "--http-message-timeout", "2s")
	bucket, topic, none := e.Bucket(), e.name("broker"), e.name("none")
	e.makeTopic(topic, 4)
	e.makeTopic(none, 4)
	e.k.Proxy.Refuse()
	defer e.k.Proxy.Restore()
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Proxied, "persistent", "true", "retry_sleep_duration", "0"),
		e.topic(none, "kafka://"+e.k.Proxied, "persistent", "true", "kafka-ack-level", "none", "retry_sleep_duration", "0"))
	names := keys("key", short(2000))
	e.putAll(bucket, names[:len(names)/2])
	before := e.memory()
	e.putAll(bucket, names[len(names)/2:])
	for range 3 {
		e.PushFails()
	}
	if after := e.memory(); after > before+64<<20 {
		t.Errorf("memory grew from %d to %d MiB", before>>20, after>>20)
	}
	for _, name := range []string{topic, none} {
		if n := e.Entries(name); n != len(names) {
			t.Errorf("%d entries wait for %s, want %d", n, name, len(names))
		}
	}
	e.k.Proxy.Restore()
	e.consume(topic).wantEach(false, perEvent("ObjectCreated:Put", names)...)
	e.consume(none).wantEach(false, perEvent("ObjectCreated:Put", names)...)
}

// memory is the gateway's resident memory in bytes.
func (e *env) memory() int64 {
	e.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", e.G.PID()))
	if err != nil {
		gatewaytest.Missing(e.t, "/proc")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	e.check(err)
	return pages * int64(os.Getpagesize())
}

// A PUT waits for a topic that is not persistent, but not for long, and succeeds
// though the event cannot be delivered.
func TestSyncBrokerDown(t *testing.T) {
	e := newEnv(t, "--http-connect-timeout", "1s", "--http-message-timeout", "2s")
	bucket := e.Bucket()
	e.Notify(bucket, e.topic(e.name("t"), "kafka://"+dead(t)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := e.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("k"), Body: strings.NewReader("x")})
	e.check(err)
}

// Rows test_kafka_batch_size and test_kafka_batch_size_mismatch: a broker that
// takes less than a batch gets messages alone; one that it never takes is a dead
// letter, and the others are delivered.
func TestBatchSize(t *testing.T) {
	for _, size := range []string{"", "4096"} {
		t.Run("batch"+size, func(t *testing.T) {
			e := newEnv(t, "--topic-shards", "1")
			bucket, topic := e.Bucket(), e.name("t")
			e.makeTopic(topic, 1, "max.message.bytes=3000", "compression.type=uncompressed")
			e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain, "persistent", "true", "kafka-max-batch-size", size))
			names := keys("key", 100)
			e.putAll(bucket, names)
			// Metadata that compresses badly: of two one is still too large.
			for key, n := range map[string]int{"fits": 1000, noise(1000): 1900} {
				_, err := e.S3.PutObject(t.Context(), &s3.PutObjectInput{
					Bucket: &bucket, Key: &key, Metadata: map[string]string{"m": noise(n)}, Body: strings.NewReader("x"),
				})
				e.check(err)
			}
			e.Drained(topic)
			e.consume(topic).wantEach(false, perEvent("ObjectCreated:Put", append(names, "fits"))...)
			letters := e.deadLetters(topic)
			if len(letters) != 1 || letters[0].Reason != "rejected" || !strings.Contains(letters[0].LastError, "too large") {
				t.Errorf("dead letters %+v, want one that is too large", letters)
			}
		})
	}
}

// noise is text that does not compress well.
func noise(n int) string {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x>>26]
	}
	return string(b)
}

// A topic that the broker lacks and does not make by itself is waited for; one
// that is deleted and made again is found.
func TestBrokerTopicGone(t *testing.T) {
	e := newEnv(t)
	bucket, topic := e.Bucket(), e.name("t")
	e.makeTopic(topic, 1)
	e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain, "persistent", "true", "retry_sleep_duration", "1"))
	e.Put(bucket, "before")
	e.Drained(topic)
	e.deleteTopic(topic)
	e.makeTopic(topic, 2)
	e.Put(bucket, "after")
	e.Drained(topic)
	e.consume(topic).wantEach(false, "ObjectCreated:Put after")
}

// Row test_notification_caching: entries that wait are delivered to a changed
// endpoint.
func TestNotificationCaching(t *testing.T) {
	e := newEnv(t)
	bucket, topic := e.Bucket(), e.name("t")
	arn := e.topic(topic, "kafka://"+dead(t), "persistent", "true", "retry_sleep_duration", "1")
	e.Notify(bucket, arn)
	names := keys("key", 20)
	e.putAll(bucket, names)
	if n := e.Entries(topic); n != 20 {
		t.Errorf("%d entries, want 20", n)
	}
	e.set(arn, "push-endpoint", "kafka://"+e.k.Plain)
	e.consume(topic).wantEach(true, perEvent("ObjectCreated:Put", names)...)
	e.Drained(topic)
}

func (e *env) set(arn, name, value string) {
	e.t.Helper()
	_, err := e.SNS.SetTopicAttributes(e.t.Context(), &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: &name, AttributeValue: &value})
	e.check(err)
}

// Row test_connection_caching: two topics at one address, one of them without
// TLS: they have connections of their own, and a change drains just the one.
func TestConnectionCaching(t *testing.T) {
	e := newEnv(t)
	bucket, good, bad := e.Bucket(), e.name("good"), e.name("bad")
	attrs := []string{"persistent", "true", "retry_sleep_duration", "1", "ca-location", e.k.Authority, "use-ssl"}
	arn := e.topic(bad, "kafka://"+e.k.TLS, append(attrs, "false")...)
	e.Notify(bucket, e.topic(good, "kafka://"+e.k.TLS, append(attrs, "true")...), arn)
	names := keys("key", 20)
	e.putAll(bucket, names)
	e.consume(good).wantEach(true, perEvent("ObjectCreated:Put", names)...)
	e.Drained(good)
	if n := e.Entries(bad); n != 20 {
		t.Errorf("%d entries, want 20", n)
	}
	e.set(arn, "use-ssl", "true")
	e.consume(bad).wantEach(true, perEvent("ObjectCreated:Put", names)...)
	e.Drained(bad)
}

// The gateway says why a topic is stuck: with the broker's address, and never
// with a password.
func TestReadinessNames(t *testing.T) {
	e := newEnv(t, cleartext, "--http-connect-timeout", "1s", "--http-message-timeout", "2s")
	bucket, topic := e.Bucket(), e.name("t")
	e.Notify(bucket, e.topic(topic, "kafka://"+kafkatest.User+":"+kafkatest.Password+"@"+dead(t), "persistent", "true", "retry_sleep_duration", "0"))
	e.putAll(bucket, keys("key", 20))
	var body string
	e.Eventually("readiness names the topic's error", func() bool {
		resp, err := http.Get(e.G.Ops + "/readyz")
		e.check(err)
		defer func() { _ = resp.Body.Close() }()
		b := make([]byte, 64<<10)
		n, _ := resp.Body.Read(b)
		body = string(b[:n])
		return strings.Contains(body, "cannot connect to Kafka")
	})
	if strings.Contains(body, kafkatest.Password) {
		t.Errorf("readiness has a password: %s", body)
	}
	e.Conceals(kafkatest.Password)
}
