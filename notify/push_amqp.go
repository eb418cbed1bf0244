package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpPusher publishes events to an exchange of an AMQP 0-9-1 broker, with the
// topic's name as their routing key.
type amqpPusher struct {
	broker   *amqpBroker // shared by the pushers with equal connection attributes
	letGo    func() error
	channels *redial[*amqpChannel]
	exchange string
	topic    string
	level    amqpLevel
	timeout  time.Duration
	gone     chan struct{} // closed by Close
}

var _ Pusher = (*amqpPusher)(nil)

// amqpLevel is what delivered means.
type amqpLevel uint8

const (
	amqpNone     amqpLevel = iota // the socket took it
	amqpConfirm                   // the broker confirmed it
	amqpRoutable                  // and it was routed to a queue
)

// amqpConnArgs are the arguments that make connections differ. It is never written.
var amqpConnArgs = [...]string{
	"user-name", "password", "mechanism",
	"verify-ssl", "ca-location", "ssl-certificate-location", "ssl-key-location", "ssl-key-password",
}

// newAMQPPusher makes one; it connects when there is something to push.
// Errors: ErrInvalidEndpoint.
func newAMQPPusher(e Endpoint, u *url.URL) (*amqpPusher, error) {
	level, err := amqpLevelOf(e.Arg("amqp-ack-level"))
	if err != nil {
		return nil, err
	}
	exchange := e.Arg("amqp-exchange")
	if exchange == "" {
		return nil, fmt.Errorf("%w: amqp-exchange is missing", ErrInvalidEndpoint)
	}
	if v := e.Arg("amqp-version"); v != "" && v != "0-9-1" {
		return nil, fmt.Errorf("%w: amqp-version %q: only 0-9-1 is spoken", ErrInvalidEndpoint, v)
	}
	server, err := amqpServerOf(&e, u)
	if err != nil {
		return nil, err
	}
	p := &amqpPusher{exchange: exchange, topic: e.Topic, level: level, timeout: e.Timeout, gone: make(chan struct{})}
	p.broker, p.letGo = takeShared(e.shared, e.sharedKey(amqpConnArgs[:]...), func() *amqpBroker {
		return newAMQPBroker(server)
	})
	p.channels = &redial[*amqpChannel]{timeout: e.ConnectTimeout, idle: idleLink, open: func(ctx context.Context) (*amqpChannel, error) {
		return p.broker.channel(ctx, exchange, level)
	}}
	return p, nil
}

func amqpLevelOf(s string) (amqpLevel, error) {
	switch s {
	case "none":
		return amqpNone, nil
	case "broker", "":
		return amqpConfirm, nil
	case "routable":
		return amqpRoutable, nil
	}
	return 0, fmt.Errorf("%w: amqp-ack-level %q: want none, broker or routable", ErrInvalidEndpoint, s)
}

// amqpServerOf reads amqp[s]://[user:password@]host[:port][/vhost].
func amqpServerOf(e *Endpoint, u *url.URL) (*amqpServer, error) {
	s := &amqpServer{endpoint: *e, host: u.Hostname(), tls: strings.EqualFold(u.Scheme, "amqps"), vhost: "/"}
	port := "5672"
	if s.tls {
		port = "5671"
	}
	if s.host == "" {
		return nil, fmt.Errorf("%w: no host", ErrInvalidEndpoint)
	}
	s.addr = net.JoinHostPort(s.host, cmp.Or(u.Port(), port))
	if path := strings.TrimPrefix(u.EscapedPath(), "/"); path != "" {
		vhost, err := url.PathUnescape(path)
		if err != nil {
			return nil, fmt.Errorf("%w: virtual host", ErrInvalidEndpoint)
		}
		s.vhost = vhost
	}
	s.user, s.password = "guest", "guest"
	if u.User != nil {
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
	}
	if name := e.Arg("user-name"); name != "" {
		s.user, s.password = name, e.Arg("password")
	}
	switch m := e.Arg("mechanism"); m {
	case "", "PLAIN":
	case "EXTERNAL": // the client certificate says who it is
		s.external = true
	default:
		return nil, fmt.Errorf("%w: mechanism %q: want PLAIN or EXTERNAL", ErrInvalidEndpoint, m)
	}
	return s, nil
}

// Push implements Pusher.
func (p *amqpPusher) Push(ctx context.Context, events []Event) []Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return pushByKey(ctx, events, p.push)
}

func (p *amqpPusher) push(ctx context.Context, e *Event) Result {
	ch, err := p.channels.get(ctx)
	if err != nil {
		return Result{Retry, amqpError(err)}
	}
	defer p.channels.put(ch)
	call := &amqpCall{ctx: ctx, exchange: p.exchange, key: p.topic, message: amqpMessage(e, p.level), done: make(chan Result, 1)}
	if err := ch.send(ctx, call); err != nil {
		return Result{Retry, amqpError(err)}
	}
	select {
	case r := <-call.done:
		if r.Err != nil {
			r.Err = amqpError(r.Err)
		}
		return r
	case <-ctx.Done():
		return Result{Retry, amqpError(ch.late(ctx.Err()))}
	case <-p.gone:
		return Result{Retry, amqpError(errPusherClosed)}
	}
}

// amqpMessage is the event as it is published. Like RGW's it has no content
// type, and is persistent unless nobody is to confirm it.
func amqpMessage(e *Event, level amqpLevel) amqp.Publishing {
	m := amqp.Publishing{Body: e.Message(), MessageId: e.ID}
	if level != amqpNone {
		m.DeliveryMode = amqp.Persistent
	}
	if e.TraceParent != "" {
		m.Headers = amqp.Table{"traceparent": e.TraceParent}
		if e.TraceState != "" {
			m.Headers["tracestate"] = e.TraceState
		}
	}
	return m
}

// Close implements Pusher.
func (p *amqpPusher) Close() error {
	select {
	case <-p.gone:
		return nil
	default:
		close(p.gone)
	}
	return errors.Join(p.channels.Close(), p.letGo())
}

func amqpError(err error) error { return fmt.Errorf("amqp: %w", hungUp(err)) }
