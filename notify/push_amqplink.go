package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpServer is where a broker is and who we are there.
type amqpServer struct {
	endpoint       Endpoint
	host, addr     string
	vhost          string
	user, password string
	tls            bool
	external       bool // who we are is in the client certificate
}

// amqpBroker is the connection to a broker that pushers share.
type amqpBroker struct {
	links *redial[*amqpLink]
}

const (
	// amqpHeartbeat is what is asked for: the connection is lost after one and
	// a half of it without a word from the broker.
	amqpHeartbeat = 10 * time.Second
	// amqpFrame is RabbitMQ's own frame size, in bytes.
	amqpFrame = 128 << 10
	// amqpIdle is how long a connection without channels stays. Idle channels
	// are closed after idleLink.
	amqpIdle = time.Second
	// farewell is how long an orderly end may take.
	farewell = time.Second
)

func newAMQPBroker(s *amqpServer) *amqpBroker {
	b := &amqpBroker{}
	b.links = &redial[*amqpLink]{timeout: s.endpoint.ConnectTimeout, idle: amqpIdle, open: func(ctx context.Context) (*amqpLink, error) {
		return s.connect(ctx, b.release)
	}}
	return b
}

// Close implements io.Closer.
func (b *amqpBroker) Close() error { return b.links.Close() }

func (b *amqpBroker) release(l *amqpLink) { b.links.put(l) }

// channel opens a channel for an exchange, which must exist.
func (b *amqpBroker) channel(ctx context.Context, exchange string, level amqpLevel) (*amqpChannel, error) {
	l, err := b.links.get(ctx)
	if err != nil {
		return nil, err
	}
	c, err := l.channel(ctx, exchange, level)
	if err != nil {
		b.release(l)
		return nil, err
	}
	return c, nil
}

// amqpLink is one connection to a broker.
type amqpLink struct {
	conn     *amqp.Connection
	sock     *amqpSocket
	release  func(*amqpLink) // called by each channel at its end
	password string
	dead     chan struct{} // closed when the connection has ended
	once     sync.Once

	mu    sync.Mutex // guards all below
	stuck error      // why the broker takes no messages; nil: it does
	free  chan struct{}
}

// amqpSocket bounds the time of each write: the library waits without end for
// a broker that does not read.
type amqpSocket struct {
	net.Conn
	tcp     net.Conn // below TLS
	timeout time.Duration
	bounded atomic.Bool // a deadline holds already
}

// Write implements net.Conn.
func (s *amqpSocket) Write(b []byte) (int, error) {
	if !s.bounded.Load() {
		if err := s.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return 0, err
		}
	}
	return s.Conn.Write(b)
}

// SetDeadline implements net.Conn. The zero time ends it.
func (s *amqpSocket) SetDeadline(t time.Time) error {
	s.bounded.Store(!t.IsZero())
	return s.Conn.SetDeadline(t)
}

// Close implements net.Conn. It does not wait for the other side, as TLS would.
func (s *amqpSocket) Close() error { return s.tcp.Close() }

// connect makes a connection before ctx is done.
func (s *amqpServer) connect(ctx context.Context, release func(*amqpLink)) (*amqpLink, error) {
	sock, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = sock.Close() })
	config := amqp.Config{
		Vhost: s.vhost, FrameSize: amqpFrame, Heartbeat: amqpHeartbeat, Locale: "en_US",
		SASL:       []amqp.Authentication{&amqp.PlainAuth{Username: s.user, Password: s.password}},
		Properties: amqp.Table{"product": "Herald", "connection_name": "herald"},
	}
	if s.external {
		config.SASL = []amqp.Authentication{&amqp.ExternalAuth{}}
	}
	conn, err := amqp.Open(sock, config)
	if !stop() {
		err = fmt.Errorf("connect: %w", ctx.Err())
	}
	l := &amqpLink{conn: conn, sock: sock, release: release, password: s.password, dead: make(chan struct{}), free: make(chan struct{})}
	close(l.free)
	if err != nil {
		_ = sock.Close()
		var e *amqp.Error
		switch {
		case errors.Is(err, amqp.ErrCredentials): // brokers say no more
			err = errors.New("the broker hung up at the login: user name or password are not allowed")
		case errors.As(err, &e):
			err = l.closeError(e)
		}
		return nil, err
	}
	go l.watch(conn.NotifyBlocked(make(chan amqp.Blocking, 8)), conn.NotifyClose(make(chan *amqp.Error, 1)))
	return l, nil
}

// dial connects without a word of AMQP.
func (s *amqpServer) dial(ctx context.Context) (*amqpSocket, error) {
	conn, tcp, err := s.endpoint.connect(ctx, s.addr, s.host, s.tls)
	if err != nil {
		return nil, err
	}
	sock := &amqpSocket{Conn: conn, tcp: tcp, timeout: s.endpoint.Timeout}
	return sock, nil
}

// watch takes what the broker says about the connection, until its end.
func (l *amqpLink) watch(blocks <-chan amqp.Blocking, closes <-chan *amqp.Error) {
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			l.block(b)
		case <-closes:
			l.fail()
			return
		}
	}
}

func (l *amqpLink) block(b amqp.Blocking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case b.Active && l.stuck == nil:
		l.free = make(chan struct{})
	case !b.Active && l.stuck != nil:
		close(l.free)
	}
	l.stuck = nil
	if b.Active {
		l.stuck = fmt.Errorf("the broker takes no messages now: %s", l.clean(b.Reason))
	}
}

// blocked is why the broker takes no messages; nil: it does.
func (l *amqpLink) blocked() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stuck
}

// unblocked waits until the broker takes messages.
func (l *amqpLink) unblocked(ctx context.Context, dead <-chan struct{}) error {
	for {
		if ctx.Err() != nil { // nobody waits any more
			return ctx.Err()
		}
		l.mu.Lock()
		stuck, free := l.stuck, l.free
		l.mu.Unlock()
		if stuck == nil {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return stuck
		case <-dead:
			return errLost
		}
	}
}

// channel opens a channel for an exchange. While the broker takes no messages
// it would not answer.
func (l *amqpLink) channel(ctx context.Context, exchange string, level amqpLevel) (*amqpChannel, error) {
	if err := l.blocked(); err != nil {
		return nil, err
	}
	type opened struct {
		ch  *amqp.Channel
		err error
	}
	done := make(chan opened)
	go func() { // until the broker answers, or the connection ends
		ch, err := l.declare(exchange, level)
		select {
		case done <- opened{ch, err}:
		case <-ctx.Done():
			if err == nil {
				_ = ch.Close()
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return newAMQPChannel(l, o.ch, level), nil
	case <-ctx.Done():
		if err := l.blocked(); err != nil {
			return nil, err
		}
		l.fail() // the broker does not answer
		return nil, fmt.Errorf("open a channel: %w", ctx.Err())
	}
}

func (l *amqpLink) declare(exchange string, level amqpLevel) (ch *amqp.Channel, err error) {
	defer func() {
		var e *amqp.Error
		if errors.As(err, &e) {
			err = l.closeError(e)
		}
	}()
	if ch, err = l.conn.Channel(); err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	// Passive: is it there? Its type does not matter then.
	err = ch.ExchangeDeclarePassive(exchange, amqp.ExchangeTopic, true, false, false, false, nil)
	if err == nil && level != amqpNone {
		err = ch.Confirm(false)
	}
	if err != nil {
		_ = ch.Close()
		return nil, err
	}
	return ch, nil
}

// closeError is the end of a connection or channel as an error.
func (l *amqpLink) closeError(e *amqp.Error) error {
	if !e.Server {
		return fmt.Errorf("%w: %s", errLost, l.clean(e.Reason))
	}
	return fmt.Errorf("the broker says: %d %s", e.Code, l.clean(e.Reason))
}

// clean makes a broker's text fit for logs.
func (l *amqpLink) clean(text string) string {
	if len(l.password) >= 4 { // a shorter one is in any text
		text = strings.ReplaceAll(text, l.password, "xxxxx")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, text)
}

// fail ends the connection at once.
func (l *amqpLink) fail() {
	l.once.Do(func() { close(l.dead) })
	_ = l.sock.Close()
}

// lost implements brokerLink.
func (l *amqpLink) lost() <-chan struct{} { return l.dead }

// leave implements brokerLink.
func (l *amqpLink) leave() {
	timer := time.AfterFunc(farewell, func() { _ = l.sock.Close() })
	go func() { // no longer than that
		defer timer.Stop()
		_ = l.conn.CloseDeadline(time.Now().Add(farewell))
	}()
}
