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

	"github.com/eclipse/paho.golang/paho"
)

// mqttPusher publishes events to an MQTT 5 broker, at the topic PREFIX/NAME: the
// prefix is the URL's path, the name that of the topic here.
type mqttPusher struct {
	links   *mqttBroker // shared by the pushers with equal connection attributes
	letGo   func() error
	topic   string
	qos     byte
	retain  bool
	timeout time.Duration
	gone    chan struct{} // closed by Close
}

var _ Pusher = (*mqttPusher)(nil)

// mqttConnArgs are the arguments that make connections differ. It is never written.
var mqttConnArgs = [...]string{
	"user-name", "password",
	"verify-ssl", "ca-location", "ssl-certificate-location", "ssl-key-location", "ssl-key-password",
}

// mqttServer is where a broker is and who we are there.
type mqttServer struct {
	endpoint       Endpoint
	host, addr     string
	user, password string
	tls            bool
}

// newMQTTPusher makes one; it connects when there is something to push.
// Errors: ErrInvalidEndpoint.
func newMQTTPusher(e Endpoint, u *url.URL) (*mqttPusher, error) {
	p := &mqttPusher{retain: e.BoolArg("mqtt-retain", false), timeout: e.Timeout, gone: make(chan struct{})}
	switch qos := e.Arg("mqtt-qos"); qos {
	case "", "1":
		p.qos = 1
	case "0":
	case "2":
		p.qos = 2
	default:
		return nil, fmt.Errorf("%w: mqtt-qos %q: want 0, 1 or 2", ErrInvalidEndpoint, qos)
	}
	p.topic = e.Topic
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		p.topic = prefix + "/" + e.Topic
	}
	if strings.ContainsAny(p.topic, "+#\x00") || len(p.topic) > 65535 {
		return nil, fmt.Errorf("%w: not a topic to publish to", ErrInvalidEndpoint)
	}
	s := &mqttServer{endpoint: e, host: u.Hostname(), tls: strings.EqualFold(u.Scheme, "mqtts")}
	if s.host == "" {
		return nil, fmt.Errorf("%w: no host", ErrInvalidEndpoint)
	}
	port := "1883"
	if s.tls {
		port = "8883"
	}
	s.addr = net.JoinHostPort(s.host, cmp.Or(u.Port(), port))
	if u.User != nil {
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
	}
	if name := e.Arg("user-name"); name != "" {
		s.user, s.password = name, e.Arg("password")
	}
	// The path is no attribute of the connection.
	shared := e
	bare := *u
	bare.Path, bare.RawPath, bare.RawQuery, bare.Fragment = "", "", "", ""
	shared.URL = bare.String()
	p.links, p.letGo = takeShared(e.shared, shared.sharedKey(mqttConnArgs[:]...), func() *mqttBroker {
		return &mqttBroker{redial[*mqttLink]{open: s.connect, timeout: e.ConnectTimeout, idle: idleLink}}
	})
	return p, nil
}

// Push implements Pusher.
func (p *mqttPusher) Push(ctx context.Context, events []Event) []Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return pushByKey(ctx, events, p.push)
}

func (p *mqttPusher) push(ctx context.Context, e *Event) Result {
	select {
	case <-p.gone:
		return Result{Retry, mqttError(errPusherClosed)}
	default:
	}
	l, err := p.links.get(ctx)
	if err != nil {
		return Result{Retry, mqttError(err)}
	}
	m := &paho.Publish{
		Topic: p.topic, QoS: p.qos, Retain: p.retain, Payload: e.Message(),
		Properties: &paho.PublishProperties{ContentType: "application/json"},
	}
	for _, property := range [...]struct{ name, value string }{
		{"event-id", e.ID}, {"traceparent", e.TraceParent}, {"tracestate", e.TraceState},
	} {
		if property.value != "" {
			m.Properties.User.Add(property.name, property.value)
		}
	}
	done := make(chan Result, 1)
	go func() { // ends with ctx, or with the time that a write may take
		defer p.links.put(l)
		done <- l.publish(ctx, m)
	}()
	select {
	case r := <-done:
		if r.Err != nil {
			r.Err = mqttError(r.Err)
		}
		return r
	case <-ctx.Done():
		return Result{Retry, mqttError(fmt.Errorf("%w: %w", errConfirms, ctx.Err()))}
	case <-p.gone:
		return Result{Retry, mqttError(errPusherClosed)}
	}
}

// The reason codes of MQTT 5 (section 2.4) that are told apart, and the name of
// those that brokers give to publishers.
const (
	mqttTooLarge    = 0x95
	mqttBadPayload  = 0x99
	mqttFirstFailed = 0x80 // this and all above are failures
)

// mqttReasons are names of reason codes. It is never written.
var mqttReasons = map[byte]string{
	0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "implementation specific error",
	0x84: "unsupported protocol version", 0x85: "client identifier not valid", 0x86: "bad user name or password",
	0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy", 0x8A: "banned", 0x8B: "server shutting down",
	0x8C: "bad authentication method", 0x8D: "keep alive timeout", 0x8E: "session taken over", 0x90: "topic name invalid",
	0x91: "packet identifier in use", 0x92: "packet identifier not found", 0x93: "receive maximum exceeded", 0x95: "packet too large",
	0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action", 0x99: "payload format invalid",
	0x9A: "retain not supported", 0x9B: "quality of service not supported", 0x9C: "use another server", 0x9D: "server moved",
	0x9F: "connection rate exceeded",
}

// mqttAnswer is what a broker's reason code means for an event. No subscriber
// (0x10) is a delivery: that is for the broker and its users to decide. Who may
// publish what can be changed there, so that only what the event itself is
// decides that it never will be taken.
func mqttAnswer(code byte) Result {
	if code < mqttFirstFailed {
		return Result{Status: Acked}
	}
	err := fmt.Errorf("the broker says: 0x%02X %s", code, cmp.Or(mqttReasons[code], "unknown reason"))
	if code == mqttTooLarge || code == mqttBadPayload {
		return Result{Rejected, err}
	}
	return Result{Retry, err}
}

// Close implements Pusher.
func (p *mqttPusher) Close() error {
	select {
	case <-p.gone:
		return nil
	default:
		close(p.gone)
	}
	return p.letGo()
}

func mqttError(err error) error { return fmt.Errorf("mqtt: %w", hungUp(err)) }

// errMQTTWrite is why a message of QoS 0 is not delivered.
var errMQTTWrite = errors.New("the connection did not take the message")
