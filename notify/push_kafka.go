package notify

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The arguments of a Kafka endpoint, beside those of TLS and of SASL.
const (
	argKafkaAck     = "kafka-ack-level"      // none or broker (default)
	argKafkaBrokers = "kafka-brokers"        // more brokers, host[:port], separated by commas
	argKafkaBatch   = "kafka-max-batch-size" // bytes of a batch; default kafkaBatch
	argKafkaCodec   = "kafka-compression"    // of batches; default none, which every consumer reads (RGW)
	argUseSSL       = "use-ssl"              // TLS; default false
)

// kafkaArgs are all arguments that make clients differ. It is never written.
var kafkaArgs = [...]string{
	argKafkaAck, argKafkaBrokers, argKafkaBatch, argKafkaCodec, argUseSSL,
	"verify-ssl", "ca-location", "ssl-certificate-location", "ssl-key-location", "ssl-key-password",
	argMechanism, argUserName, argPassword,
	argTokenURL, argTokenID, argTokenSecret, argTokenScope,
	argKerberosService, argKerberosPrincipal, argKerberosKeytab,
}

// kafkaPusher sends events to the Kafka topic that has the notification topic's
// name. A message's key is the event's, so that a partition keeps the order of
// a bucket's key.
type kafkaPusher struct {
	topic  string
	client *kafkaClient
	letGo  func() error
}

var _ Pusher = (*kafkaPusher)(nil)

// newKafkaPusher makes one, which connects when it first has an event. Pushers
// with equal attributes have one client. Errors: ErrInvalidEndpoint.
func newKafkaPusher(e Endpoint, u *url.URL) (Pusher, error) {
	opts, err := kafkaOptions(e, u)
	if err != nil {
		return nil, err
	}
	client, letGo := takeShared(e.shared, e.sharedKey(kafkaArgs[:]...), func() *kafkaClient { return newKafkaClient(e, opts) })
	return &kafkaPusher{topic: e.Topic, client: client, letGo: letGo}, nil
}

// kafkaOptions is what the endpoint's URL and arguments say.
// Errors: ErrInvalidEndpoint.
func kafkaOptions(e Endpoint, u *url.URL) ([]kgo.Opt, error) {
	brokers, err := kafkaBrokers(u, e.Arg(argKafkaBrokers))
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.SeedBrokers(brokers...)}
	switch level := e.Arg(argKafkaAck); level {
	case "none":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "", "broker":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowIdempotentProduceCancellation())
	default:
		return nil, fmt.Errorf("%w: %s is %q, not none or broker", ErrInvalidEndpoint, argKafkaAck, level)
	}
	size, err := kafkaBatchSize(e.Arg(argKafkaBatch))
	if err != nil {
		return nil, err
	}
	codec, err := kafkaCodec(e.Arg(argKafkaCodec))
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.ProducerBatchMaxBytes(size), kgo.ProducerBatchCompression(codec))
	if e.BoolArg(argUseSSL, false) {
		// Files that cannot be used are told now, not at the first event.
		if _, err := e.tlsConfig(""); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidEndpoint, err)
		}
	}
	mechanism, err := saslMechanism(e, u)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidEndpoint, err)
	}
	if mechanism != nil && !e.BoolArg(argUseSSL, false) && !e.CleartextSecrets { // RGW
		return nil, fmt.Errorf("%w: SASL without TLS: it needs %s, or the gateway's allow_notification_secrets_in_cleartext", ErrInvalidEndpoint, argUseSSL)
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// kafkaBrokers are the URL's broker and those of a list, host[:port].
// Errors: ErrInvalidEndpoint.
func kafkaBrokers(u *url.URL, list string) ([]string, error) {
	var brokers []string
	for one := range strings.SplitSeq(u.Host+","+list, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		b := url.URL{Host: one}
		port := orDefault(b.Port(), "9092")
		odd := strings.Contains(b.Hostname(), ":") != strings.HasPrefix(one, "[") // as "host:text"
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || b.Hostname() == "" || odd {
			return nil, fmt.Errorf("%w: broker %q is not host[:port]", ErrInvalidEndpoint, one)
		}
		if addr := net.JoinHostPort(b.Hostname(), port); !slices.Contains(brokers, addr) {
			brokers = append(brokers, addr)
		}
	}
	if len(brokers) == 0 {
		return nil, fmt.Errorf("%w: no broker", ErrInvalidEndpoint)
	}
	return brokers, nil
}

// kafkaBatchSize reads the argument; text that is no number is the default, as
// with all numbers of topics.
func kafkaBatchSize(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	switch {
	case err != nil || n == 0:
		return kafkaBatch, nil
	case n < minKafkaBatch || n > maxKafkaBatch:
		return 0, fmt.Errorf("%w: %s is not between %d and %d", ErrInvalidEndpoint, argKafkaBatch, minKafkaBatch, maxKafkaBatch)
	}
	return int32(n), nil
}

// kafkaCodec reads the argument.
func kafkaCodec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("%w: %s is %q, not none, gzip, snappy, lz4 or zstd", ErrInvalidEndpoint, argKafkaCodec, name)
}

// Push implements Pusher.
func (p *kafkaPusher) Push(ctx context.Context, events []Event) []Result {
	results := make([]Result, len(events))
	records := make([]*kgo.Record, len(events))
	for i := range events {
		records[i] = kafkaRecord(p.topic, &events[i])
	}
	for i, err := range p.client.produce(ctx, records) {
		results[i] = p.client.result(err)
	}
	return results
}

// Close implements Pusher.
func (p *kafkaPusher) Close() error { return p.letGo() }

// kafkaRecord is the message of an event.
func kafkaRecord(topic string, e *Event) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: []byte(e.Key), Value: e.Message()}
	header := func(name, value string) {
		if value != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	header("event-id", e.ID)
	header("traceparent", e.TraceParent)
	header("tracestate", e.TraceState)
	return r
}
