package notify

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// Pusher sends events to one endpoint. It neither retries nor queues. All
// methods may be called concurrently.
type Pusher interface {
	// Push sends events, in their order, and returns one result for each. It
	// returns no later than when ctx is done.
	Push(ctx context.Context, events []Event) []Result
	// Close lets go of connections. What is in flight fails.
	Close() error
}

// Event is an event as pushers get it.
type Event struct {
	// Record is the record's JSON; the message is {"Records":[record]}, unless
	// Bare is set: see Message.
	Record []byte
	// Bare: Record is the whole message, no record (S3's s3:TestEvent).
	Bare bool
	// Key orders events: those with an equal one are sent one after another.
	// It is "BUCKET/KEY", or "TENANT:BUCKET/KEY".
	Key string
	// ID names the event: the same at each attempt, another for each change,
	// rule and topic. It is 32 hexadecimal digits.
	ID string
	// Bucket and Object are what changed, as clients name it.
	Bucket, Object string
	// TraceParent and TraceState are the W3C trace context of the request that
	// made the change; empty: it had none.
	TraceParent, TraceState string
}

// Message is what an endpoint is to get.
func (e *Event) Message() []byte {
	head, tail := e.frame()
	b := make([]byte, 0, len(head)+len(e.Record)+len(tail))
	return append(append(append(b, head...), e.Record...), tail...)
}

// frame is what is around Record in the message.
func (e *Event) frame() (head, tail []byte) {
	if e.Bare {
		return nil, nil
	}
	return messageHead, messageTail
}

// Result is what became of one event.
type Result struct {
	Status Status
	// Err says why, unless acked. It holds no secrets.
	Err error
}

// Status of a push.
type Status uint8

// The results of a push.
const (
	Acked    Status = iota // delivered
	Retry                  // not delivered; may be if sent again
	Rejected               // will never be taken: a dead letter at once
)

// Endpoint is what a Pusher is opened from.
type Endpoint struct {
	URL   string // may hold a secret
	Args  string // "k=v&k=v": see Dest.Args
	Topic string // name of the topic: the routing name at brokers
	// ConnectTimeout and Timeout bound one push.
	ConnectTimeout, Timeout time.Duration
	// Dial, when set, is how connections are made; see DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialName tells ways to connect apart: only endpoints with equal ones may
	// share a connection.
	DialName string
	// ReadFile, when set, reads the files that arguments name; see
	// readSmallFile.
	ReadFile func(name string) ([]byte, error)
	// CleartextSecrets: who we are may be told to brokers without TLS.
	CleartextSecrets bool

	shared *shared             // nil: nothing is shared with other endpoints
	room   *semaphore.Weighted // for pushes by HTTP; nil: any number
}

// DialContext connects to the endpoint's server, within ConnectTimeout. Pushers
// make every connection with it.
func (e *Endpoint) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if e.Dial != nil {
		return e.Dial(ctx, network, addr)
	}
	dialer := net.Dialer{Timeout: e.ConnectTimeout, KeepAlive: keepAlive}
	return dialer.DialContext(ctx, network, addr)
}

// keepAlive is the pause between probes of an idle connection.
const keepAlive = 30 * time.Second

// Arg returns one argument, or "".
func (e *Endpoint) Arg(name string) string { return argValue(e.Args, name) }

// BoolArg returns a boolean argument; anything but "true" and "false" is def.
func (e *Endpoint) BoolArg(name string, def bool) bool { return boolArg(e.Args, name, def) }

// openPusher is the list of openers. Errors: ErrInvalidEndpoint.
func openPusher(e Endpoint) (Pusher, error) {
	if e.URL == "" {
		return nil, fmt.Errorf("%w: topic has no push-endpoint", ErrInvalidEndpoint)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, ErrInvalidEndpoint // its text may hold a password
	}
	p, err := openScheme(e, u)
	if err != nil {
		return nil, err // and no Pusher that is a nil pointer
	}
	return p, nil
}

func openScheme(e Endpoint, u *url.URL) (Pusher, error) {
	switch strings.ToLower(u.Scheme) {
	case "nats", "natss", "tls":
		return newNATSPusher(e, u)
	case "redis", "rediss":
		return newRedisPusher(e, u)
	case "http", "https":
		return newHTTPPusher(e, u)
	case "amqp", "amqps":
		return newAMQPPusher(e, u)
	case "mqtt", "mqtts":
		return newMQTTPusher(e, u)
	case "kafka":
		return newKafkaPusher(e, u)
	}
	return nil, fmt.Errorf("%w: unknown schema %q", ErrInvalidEndpoint, u.Scheme)
}

// checkEndpoint tells whether an event may be sent to the endpoint at all, for
// readiness: nil, or why every push must fail.
func checkEndpoint(e Endpoint) error {
	p, err := openPusher(e)
	if err != nil {
		return err
	}
	return p.Close()
}

// String is the status as metrics name it.
func (s Status) String() string {
	switch s {
	case Acked:
		return "acked"
	case Retry:
		return "retry"
	}
	return "rejected"
}
