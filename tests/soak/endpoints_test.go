package soak

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/tests/brokertest"
	"herald/tests/kafkatest"
	"herald/tests/natstest"
	"herald/tests/redistest"
)

// deadTopic is the topic whose events are given up soon.
const deadTopic = "dead"

// endpoint is where a topic's events go.
type endpoint struct {
	topic string
	// attributes of the topic, and the values that each may have: the first in
	// the beginning. All push-endpoints are ways to the same endpoint.
	attributes map[string][]string
	// read returns all messages that arrived so far, in order.
	read func() [][]byte
}

// brokers are the servers behind the endpoints.
type brokers struct {
	kafka  *kafkatest.Server
	rabbit *brokertest.RabbitMQ
	nats   *natstest.Server
	redis  *redistest.Server
	mqtt   *brokertest.Mosquitto
	sub    *brokertest.Subscriber
	sink   *sink
	// proxies are ways to the brokers, by their names.
	proxies map[string]*brokertest.Proxy
}

func startBrokers(t *testing.T) (*brokers, []*endpoint) {
	t.Helper()
	b := &brokers{kafka: kafkatest.Shared(t), sink: newSink(t), proxies: map[string]*brokertest.Proxy{}}
	t.Cleanup(kafkatest.StopShared)
	b.rabbit = brokertest.StartRabbitMQ(t, brokertest.RabbitOptions{})
	b.rabbit.Exchange("events")
	b.rabbit.Queue("events", "amqp")
	b.nats = natstest.Start(t, natstest.Options{})
	js := b.nats.JetStream()
	stream := b.nats.Stream(js, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"nats"}})
	b.redis = redistest.Start(t)
	b.mqtt = brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Config: []string{"max_queued_messages 0"}})
	b.sub = b.mqtt.Subscribe("mqtt")
	for name, addr := range map[string]string{"amqp": b.rabbit.Addr, "nats": b.nats.Addr, "redis": b.redis.Addr, "mqtt": b.mqtt.Addr, "http": b.sink.addr} {
		b.proxies[name] = brokertest.NewProxy(t, addr)
	}
	ways := func(scheme, name, addr, path string) []string {
		return []string{scheme + "://" + addr + path, scheme + "://" + b.proxies[name].Addr + path}
	}
	pauses := []string{"0", "1", "2"}
	endpoints := []*endpoint{
		{"kafka", map[string][]string{"push-endpoint": {"kafka://" + b.kafka.Plain, "kafka://" + b.kafka.Proxied}, "retry_sleep_duration": pauses}, b.readKafka(t)},
		{"amqp", map[string][]string{"push-endpoint": ways("amqp", "amqp", b.rabbit.Addr, ""), "amqp-exchange": {"events"},
			"amqp-ack-level": {"routable", "broker"}, "retry_sleep_duration": pauses}, b.readRabbit()},
		{"nats", map[string][]string{"push-endpoint": ways("nats", "nats", b.nats.Addr, ""), "retry_sleep_duration": pauses},
			func() [][]byte { return readStream(t, stream) }},
		{"redis", map[string][]string{"push-endpoint": ways("redis", "redis", b.redis.Addr, ""), "retry_sleep_duration": pauses},
			func() [][]byte { return readRedis(t, b.redis, "redis") }},
		{"mqtt", map[string][]string{"push-endpoint": ways("mqtt", "mqtt", b.mqtt.Addr, ""), "mqtt-qos": {"1", "2"}, "retry_sleep_duration": pauses}, b.sub.Messages},
	}
	for _, topic := range []string{"http", "aws", deadTopic} {
		e := b.httpEndpoint(topic)
		e.attributes["push-endpoint"] = ways("http", "http", b.sink.addr, "/"+topic)
		e.attributes["cloudevents"] = []string{"false", "true"}
		if topic == "aws" {
			e.attributes["event-dialect"] = []string{"aws"}
		}
		if topic == deadTopic {
			e.attributes["max_retries"], e.attributes["retry_sleep_duration"] = []string{"2", "1"}, []string{"0"}
		}
		endpoints = append(endpoints, e)
	}
	return b, endpoints
}

// httpEndpoint is one for a topic.
func (b *brokers) httpEndpoint(topic string) *endpoint {
	return &endpoint{topic, map[string][]string{
		"push-endpoint": {"http://" + b.sink.addr + "/" + topic}, "retry_sleep_duration": {"0", "1"}, "OpaqueData": {"", "some", "other"},
	}, func() [][]byte { return b.sink.messages(topic) }}
}

// readKafka returns what reads the topic on and on, once it was called.
func (b *brokers) readKafka(t *testing.T) func() [][]byte {
	var once sync.Once
	var mu sync.Mutex // guards got
	var got [][]byte
	return func() [][]byte {
		once.Do(func() {
			cl, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Plain), kgo.ConsumeTopics("kafka"), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				for ctx.Err() == nil {
					cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { // what fails is tried again
						mu.Lock()
						defer mu.Unlock()
						got = append(got, r.Value)
					})
				}
			})
			t.Cleanup(func() {
				stop()
				wg.Wait()
				cl.Close()
			})
		})
		mu.Lock()
		defer mu.Unlock()
		return got[:len(got):len(got)]
	}
}

// readRabbit returns what takes all that is in the queue, and keeps it.
func (b *brokers) readRabbit() func() [][]byte {
	var got [][]byte
	return func() [][]byte {
		got = append(got, b.rabbit.Messages("amqp")...)
		return got
	}
}

// readStream returns all that a stream of JetStream has.
func readStream(t *testing.T, stream jetstream.Stream) (out [][]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		t.Fatal(err)
	}
	for uint64(len(out)) < info.State.Msgs && ctx.Err() == nil {
		batch, err := consumer.Fetch(min(1000, int(info.State.Msgs)-len(out)), jetstream.FetchMaxWait(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			out = append(out, m.Data())
		}
	}
	return out
}

// readRedis returns all that a stream of Redis has.
func readRedis(t *testing.T, srv *redistest.Server, key string) (out [][]byte) {
	t.Helper()
	c := srv.Client()
	defer func() { _ = c.Close() }() // nothing is lost
	for from := "-"; ; {
		entries, err := c.XRangeN(t.Context(), key, from, "+", 1000).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, []byte(fmt.Sprint(e.Values["message"])))
			from = "(" + e.ID
		}
		if len(entries) < 1000 {
			return out
		}
	}
}
