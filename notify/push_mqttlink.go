package notify

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// mqttBroker is the connection to a broker that pushers share.
type mqttBroker struct{ redial[*mqttLink] }

// mqttLink is one connection to a broker, with a session that ends with it:
// what was not confirmed is the dispatcher's to send again.
type mqttLink struct {
	client    *paho.Client
	sock      *mqttSocket
	maxPacket uint32 // bytes; 0: no limit
	maxQoS    byte
}

const (
	// mqttKeepAlive is how often the broker is asked whether it is there,
	// in seconds.
	mqttKeepAlive = 10
	// mqttReceive bounds what a broker may send us unasked.
	mqttReceive = 16
	// mqttHeader is more than a message's packet is larger than its payload and
	// its topic, unless a trace context is very long.
	mqttHeader = 2048
)

// mqttSocket is a connection of which each packet is one write, of bounded time.
// The client holds the lock while it writes a packet's parts.
type mqttSocket struct {
	net.Conn
	tcp     net.Conn // below TLS
	timeout time.Duration
	in      *bufio.Reader
	failed  atomic.Bool // a packet was not written

	mu  sync.Mutex // guards out
	out []byte
}

// Lock implements sync.Locker: a packet begins.
func (s *mqttSocket) Lock() { s.mu.Lock() }

// Unlock implements sync.Locker: the packet ends, and is written.
func (s *mqttSocket) Unlock() {
	defer s.mu.Unlock()
	err := s.SetWriteDeadline(time.Now().Add(s.timeout))
	if err == nil {
		_, err = s.Conn.Write(s.out)
	}
	if err != nil { // after a part of a packet nothing can follow
		s.failed.Store(true)
		_ = s.tcp.Close()
	}
	if s.out = s.out[:0]; cap(s.out) > keptRequest {
		s.out = nil
	}
}

// Write implements net.Conn, with the lock held.
func (s *mqttSocket) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

// Read implements net.Conn: the client reads bytes one by one.
func (s *mqttSocket) Read(b []byte) (int, error) { return s.in.Read(b) }

// Close implements net.Conn. It does not wait for the other side, as TLS would.
func (s *mqttSocket) Close() error { return s.tcp.Close() }

// connect makes a connection before ctx is done.
func (s *mqttServer) connect(ctx context.Context) (*mqttLink, error) {
	sock, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(idleLink)
	}
	client := paho.NewClient(paho.ClientConfig{
		Conn: sock, PacketTimeout: max(s.endpoint.Timeout, time.Until(deadline)),
		OnServerDisconnect: func(*paho.Disconnect) {}, // the client ends, which is enough
	})
	receive := uint16(mqttReceive)
	answer, err := client.Connect(ctx, &paho.Connect{
		ClientID: "herald" + rand.Text()[:17], CleanStart: true, KeepAlive: mqttKeepAlive,
		Username: s.user, UsernameFlag: s.user != "", Password: []byte(s.password), PasswordFlag: s.password != "",
		Properties: &paho.ConnectProperties{ReceiveMaximum: &receive},
	})
	if err != nil {
		_ = sock.Close()
		if answer != nil && answer.ReasonCode >= mqttFirstFailed {
			return nil, mqttAnswer(answer.ReasonCode).Err
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	l := &mqttLink{client: client, sock: sock, maxQoS: 2}
	if p := answer.Properties; p != nil {
		if p.MaximumPacketSize != nil {
			l.maxPacket = *p.MaximumPacketSize
		}
		if p.MaximumQoS != nil {
			l.maxQoS = *p.MaximumQoS
		}
	}
	return l, nil
}

// dial connects without a word of MQTT.
func (s *mqttServer) dial(ctx context.Context) (*mqttSocket, error) {
	conn, tcp, err := s.endpoint.connect(ctx, s.addr, s.host, s.tls)
	if err != nil {
		return nil, err
	}
	sock := &mqttSocket{Conn: conn, tcp: tcp, timeout: s.endpoint.Timeout}
	sock.in = bufio.NewReader(sock.Conn)
	return sock, nil
}

// publish sends a message and waits for what its QoS promises.
func (l *mqttLink) publish(ctx context.Context, m *paho.Publish) Result {
	if m.QoS > l.maxQoS {
		return Result{Retry, fmt.Errorf("the broker takes no messages of QoS %d", m.QoS)}
	}
	if l.tooLarge(m) {
		return mqttAnswer(mqttTooLarge)
	}
	answer, err := l.client.Publish(ctx, m)
	switch {
	case answer != nil && answer.ReasonCode >= mqttFirstFailed: // with an error or without
		return mqttAnswer(answer.ReasonCode)
	case err != nil:
		return Result{Retry, fmt.Errorf("%w: %w", errConfirms, err)}
	case answer == nil:
		return Result{Retry, errConfirms}
	case m.QoS == 0 && l.sock.failed.Load():
		return Result{Retry, errMQTTWrite}
	}
	return mqttAnswer(answer.ReasonCode)
}

// tooLarge tells whether the broker would end the connection at the message.
func (l *mqttLink) tooLarge(m *paho.Publish) bool {
	if l.maxPacket == 0 || len(m.Payload)+len(m.Topic)+mqttHeader <= int(l.maxPacket) {
		return false
	}
	n, err := m.Packet().WriteTo(io.Discard)
	return err != nil || n > int64(l.maxPacket)
}

// lost implements brokerLink.
func (l *mqttLink) lost() <-chan struct{} { return l.client.Done() }

// leave implements brokerLink.
func (l *mqttLink) leave() {
	timer := time.AfterFunc(farewell, func() { _ = l.sock.Close() })
	go func() { // no longer than that
		defer timer.Stop()
		_ = l.client.Disconnect(&paho.Disconnect{})
	}()
}
