package notify

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herald/tests/natstest"
	"herald/tests/redistest"

	"github.com/nats-io/nats.go/jetstream"
)

// Every connection is made with the endpoint's Dial, which may refuse.
func TestBrokers_Dial(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic"}})
	for _, tt := range []struct{ name, url, addr string }{
		{"nats", "nats://no-such-host.invalid:4223", srv.Addr},
		{"redis", "redis://no-such-host.invalid:4223", redistest.Start(t).Addr},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dialed, refuse atomic.Int32
			e := Endpoint{URL: tt.url, Topic: "topic", ConnectTimeout: brokerTimeout, Timeout: brokerTimeout}
			e.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed.Add(1)
				if addr != "no-such-host.invalid:4223" { // the name, for the policy to see
					t.Errorf("dial %s", addr)
				}
				if refuse.Load() > 0 {
					return nil, &deniedError{addr, "private"}
				}
				return (&net.Dialer{}).DialContext(ctx, network, tt.addr)
			}
			for _, denied := range []bool{false, true} {
				p, err := openPusher(e)
				if err != nil {
					t.Fatal(err)
				}
				dialed.Store(0)
				if denied {
					refuse.Store(1)
				}
				r := p.Push(t.Context(), brokerEvents(1, 1))[0]
				_ = p.Close()
				if denied && (r.Status != Retry || !errors.Is(r.Err, ErrEndpointDenied) || !strings.Contains(r.Err.Error(), "private")) || !denied && r.Status != Acked {
					t.Errorf("denied %t: %v (%v)", denied, r.Status, r.Err)
				}
				if dialed.Load() == 0 {
					t.Error("a connection was made in another way")
				}
			}
		})
	}
}

// A server that came back while nothing was sent is used again.
func TestBrokers_Idle(t *testing.T) {
	ns, rs := natstest.Start(t, natstest.Options{}), redistest.Start(t)
	ns.Stream(ns.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic"}})
	for _, tt := range []struct {
		name, url     string
		kill, restart func()
	}{
		{"nats", ns.URL(), ns.Kill, ns.Restart},
		{"redis", rs.URL(), rs.KillNine, rs.Restart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := openBroker(t, brokerTimeout, nil, tt.url)
			for range 3 {
				for deadline := time.Now().Add(brokerTimeout); ; time.Sleep(10 * time.Millisecond) {
					r := p.Push(t.Context(), brokerEvents(1, 1))[0]
					if r.Status == Acked {
						break
					}
					if r.Status == Rejected || time.Now().After(deadline) {
						t.Fatalf("push = %v (%v)", r.Status, r.Err)
					}
				}
				tt.kill()
				tt.restart()
			}
		})
	}
}

// What is in flight when the last user closes the connection fails, at once.
func TestNATS_Shared(t *testing.T) {
	srv := natstest.Start(t, natstest.Options{Config: natstest.Monitor})
	srv.Stream(srv.JetStream(), jetstream.StreamConfig{Name: "S", Subjects: []string{"topic", "other"}})
	var common shared
	a := openBroker(t, brokerTimeout, &common, srv.URL())
	b := openBroker(t, brokerTimeout, &common, srv.URL(), "nats-subject", "other")
	c := openBroker(t, brokerTimeout, &common, srv.URL(), "verify-ssl", "false")
	for _, p := range []Pusher{a, b, c} {
		wantResults(t, "push", p.Push(t.Context(), brokerEvents(3, 3)), Acked, "")
	}
	if n := srv.Connections("herald"); n != 2 || len(common.by) != 2 {
		t.Errorf("%d connections, %d links, want 2 of each", n, len(common.by))
	}
	_ = a.Close()
	wantResults(t, "push after the other's Close", b.Push(t.Context(), brokerEvents(3, 3)), Acked, "")
	srv.Pause()
	done := make(chan []Result)
	events := brokerEvents(3, 3)
	events[0].ID, events[1].ID, events[2].ID = "x", "y", "z"
	go func() { done <- b.Push(t.Context(), events) }()
	_ = b.Close()
	wantResults(t, "closed", <-done, Retry, "")
	srv.Resume()
	_ = c.Close()
	redistest.Eventually(t, "no connections", func() bool { return srv.Connections("herald") == 0 })
}
