package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// kafkaBatch is how large a batch may be by default, in bytes: what brokers
	// take by default. minKafkaBatch and maxKafkaBatch bound the argument.
	kafkaBatch    = 1_000_012
	minKafkaBatch = 1 << 10
	maxKafkaBatch = 64 << 20
	// kafkaRecords and kafkaBytes bound what a client has in flight (RGW: 8192
	// messages).
	kafkaRecords = 8192
	kafkaBytes   = 32 << 20
	// kafkaLinger is how long a message waits for others.
	kafkaLinger = time.Millisecond
	// kafkaIdle is after how long without use a connection is closed (RGW).
	kafkaIdle = 300 * time.Second
	// kafkaMaxPause bounds the pause before a broker is tried again.
	kafkaMaxPause = time.Second
	// kafkaRefresh is how often at most a client asks where topics are.
	kafkaRefresh = 200 * time.Millisecond
	// kafkaForget is how often at most it forgets where one is.
	kafkaForget = time.Second
)

var (
	errKafkaClosed = errors.New("the connection to Kafka was closed")
	errKafkaDown   = errors.New("cannot connect to Kafka")
	errKafkaLogin  = errors.New("the broker refused the user name or the password")
	errKafkaSilent = errors.New("the broker did not acknowledge in time")
	errPending     = errors.New("not known yet")
)

// kafkaClient is a client of one cluster, shared by pushers. It connects when it
// first has something to send. All methods may be called concurrently.
type kafkaClient struct {
	e    Endpoint
	opts []kgo.Opt
	// alone is held by who sends a message in a batch of its own.
	alone chan struct{}

	mu      sync.Mutex // guards all below
	closed  bool
	cl      *kgo.Client
	singles *kgo.Client // for messages in batches of their own; nil: none were
	forgot  time.Time

	wg   sync.WaitGroup // of forget
	link kafkaLink
}

func newKafkaClient(e Endpoint, opts []kgo.Opt) *kafkaClient {
	c := &kafkaClient{e: e, alone: make(chan struct{}, 1), link: kafkaLink{patience: e.ConnectTimeout, down: make(chan struct{})}}
	c.opts = append(slices.Clone(opts),
		kgo.ClientID("herald"), kgo.SoftwareNameAndVersion("herald", "1"),
		kgo.Dialer(c.dial), kgo.WithHooks(&c.link), kgo.DisableClientMetrics(),
		kgo.AllowAutoTopicCreation(), // is the broker's matter, as with RGW
		kgo.MaxBufferedRecords(kafkaRecords), kgo.MaxBufferedBytes(kafkaBytes),
		kgo.ProduceRequestTimeout(max(e.Timeout, time.Second)),
		kgo.RequestTimeoutOverhead(max(e.ConnectTimeout, time.Second)),
		kgo.MetadataMinAge(kafkaRefresh), kgo.ConnIdleTimeout(kafkaIdle),
		kgo.RetryBackoffFn(func(n int) time.Duration { return backoff(n-1, kafkaMaxPause) }),
	)
	return c
}

// client returns the client, or the one for single messages.
func (c *kafkaClient) client(single bool) (*kgo.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, linger := &c.cl, kafkaLinger
	if single {
		at, linger = &c.singles, 0
	}
	if c.closed {
		return nil, errKafkaClosed
	}
	if *at != nil {
		return *at, nil
	}
	opts := append(slices.Clone(c.opts), kgo.ProducerLinger(linger))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	*at = cl
	return cl, nil
}

// Close closes the connections. What is in flight fails.
func (c *kafkaClient) Close() error {
	c.mu.Lock()
	cl, singles := c.cl, c.singles
	c.closed = true
	c.mu.Unlock()
	for _, one := range []*kgo.Client{cl, singles} {
		if one != nil {
			one.Close()
		}
	}
	c.wg.Wait()
	return nil
}

// dial connects to a broker, over TLS if the endpoint says so.
func (c *kafkaClient) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.e.DialContext(ctx, network, addr)
	if err != nil || !c.e.BoolArg(argUseSSL, false) {
		return conn, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err == nil {
		var conf *tls.Config
		if conf, err = c.e.tlsConfig(host); err == nil {
			secure := tls.Client(conn, conf)
			shaking, cancel := context.WithTimeout(ctx, c.e.ConnectTimeout)
			defer cancel()
			if err = secure.HandshakeContext(shaking); err == nil {
				return secure, nil
			}
		}
	}
	_ = conn.Close()
	return nil, fmt.Errorf("TLS with %s: %w", addr, err)
}

// produce sends records in their order and returns one error for each, at the
// latest when ctx is done or the endpoint's timeout is over. From then on the
// client does not begin to send them any more.
func (c *kafkaClient) produce(ctx context.Context, records []*kgo.Record) []error {
	ctx, cancel := context.WithTimeout(ctx, c.e.Timeout)
	defer cancel()
	errs := make([]error, len(records))
	c.try(ctx, records, errs, false)
	for i, r := range records {
		one, err := records[i:i+1], errs[i:i+1]
		// The records of a batch, and those behind it, fail together: another
		// one's push may have ended.
		for ctx.Err() == nil && isContextError(err[0]) {
			c.try(ctx, one, err, false)
		}
		if unfit(err[0]) {
			c.single(ctx, one, err)
		}
		if errors.Is(err[0], kerr.UnknownTopicOrPartition) || errors.Is(err[0], kerr.UnknownTopicID) {
			c.forget(r.Topic)
		}
	}
	return errs
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// unfit: the broker does not take a record, or one that is in a batch with it.
func unfit(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidRecord)
}

// single sends a record in a batch of its own.
func (c *kafkaClient) single(ctx context.Context, one []*kgo.Record, err []error) {
	select {
	case c.alone <- struct{}{}:
		c.try(ctx, one, err, true)
		<-c.alone
	case <-ctx.Done():
		err[0] = ctx.Err()
	}
}

// try sends records once and fills in one error for each.
func (c *kafkaClient) try(ctx context.Context, records []*kgo.Record, errs []error, single bool) {
	cl, err := c.client(single)
	if err != nil {
		setAll(errs, err)
		return
	}
	type outcome struct {
		i   int
		err error
	}
	setAll(errs, errPending)
	done := make(chan outcome, len(records)) // has room for all: nobody may listen any more
	down := c.link.broken()
	for i, r := range records {
		// Waits for room in what the client has in flight.
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) { done <- outcome{i, err} })
	}
	for range records {
		select {
		case o := <-done:
			errs[o.i] = o.err
		case <-ctx.Done():
			replace(errs, errPending, ctx.Err())
			return
		case <-down:
			replace(errs, errPending, errKafkaDown)
			return
		}
	}
}

func setAll(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}

func replace(errs []error, old, err error) {
	for i := range errs {
		if errs[i] == old { //nolint:errorlint // it is never wrapped
			errs[i] = err
		}
	}
}

// forget has the client ask anew where a topic is: one that was deleted and made
// again has another id.
func (c *kafkaClient) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || time.Since(c.forgot) < kafkaForget {
		return
	}
	c.forgot = time.Now()
	for _, cl := range []*kgo.Client{c.cl, c.singles} {
		if cl != nil {
			c.wg.Go(func() { cl.PurgeTopicsFromProducing(topic) }) // ends when cl is closed, at the latest
		}
	}
}

// result is what an error means for an event.
func (c *kafkaClient) result(err error) Result {
	var broker *kerr.Error
	switch {
	case err == nil:
		return Result{}
	case unfit(err):
		return Result{Rejected, errors.New("the message is too large for Kafka, or it does not take it: " + kafkaText(err))}
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, errKafkaClosed):
		return Result{Retry, errKafkaClosed}
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return Result{Retry, errKafkaLogin}
	case errors.As(err, &broker):
		return Result{Retry, errors.New("the broker answered " + kafkaText(err))}
	}
	return Result{Retry, c.link.explain(err)}
}

// kafkaText is the text of a broker's error: not its own words, which go to logs.
func kafkaText(err error) string {
	if broker := (*kerr.Error)(nil); errors.As(err, &broker) {
		return broker.Message + ": " + broker.Description
	}
	return err.Error()
}
