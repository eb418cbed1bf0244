package brokertest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// Subscriber takes what an MQTT broker has for it, in a session that outlives
// its connections.
type Subscriber struct {
	t      testing.TB
	addr   string
	filter string

	mu  sync.Mutex // guards got
	got []*paho.Publish

	client *paho.Client
}

// Subscribe begins to take what comes for a filter, until the test ends.
func (m *Mosquitto) Subscribe(filter string) *Subscriber {
	m.t.Helper()
	s := &Subscriber{t: m.t, addr: m.Addr, filter: filter}
	s.Connect()
	m.t.Cleanup(func() {
		_ = s.client.Disconnect(&paho.Disconnect{})
		<-s.client.Done()
	})
	return s
}

// Connect begins the session, or goes on with it after the broker was away.
func (s *Subscriber) Connect() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := s.tryConnect()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
}

func (s *Subscriber) tryConnect() error {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return err
	}
	s.client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got = append(s.got, r.Packet)
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	forever := uint32(3600)
	if _, err := s.client.Connect(ctx, &paho.Connect{
		ClientID: "subscriber-" + s.filter, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &forever},
	}); err != nil {
		return err
	}
	_, err = s.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: s.filter, QoS: 1}}})
	return err
}

// Publishes are the messages that arrived so far.
func (s *Subscriber) Publishes() []*paho.Publish {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// Messages are their payloads.
func (s *Subscriber) Messages() [][]byte {
	var out [][]byte
	for _, m := range s.Publishes() {
		out = append(out, m.Payload)
	}
	return out
}

// Until are the payloads of a topic that came before a message that is sent now.
func (s *Subscriber) Until(topic string) [][]byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const end = "end"
	if _, err := s.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(end)}); err != nil {
		s.t.Fatal(err)
	}
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		var out [][]byte
		for _, m := range s.Publishes() {
			switch {
			case m.Topic != topic:
			case string(m.Payload) == end:
				return out
			default:
				out = append(out, m.Payload)
			}
		}
	}
	s.t.Fatal("the broker keeps a message")
	return nil
}
