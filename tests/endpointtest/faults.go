package endpointtest

import (
	"testing"

	"herald/tests/brokertest"
)

// Impatient are a gateway's flags with which pushes give up soon.
var Impatient = []string{"--http-message-timeout", "3s", "--http-connect-timeout", "3s"}

// Changes is how many a load makes.
func Changes() int {
	if testing.Short() {
		return 200
	}
	return 2000
}

// Broker is a kind of broker as Faults treats it.
type Broker struct {
	Addr  string            // where it listens
	Proxy *brokertest.Proxy // on the way there; nil: one is made
	// Kill ends it, Start starts it again; Pause halts it, Resume lets it go on.
	Kill, Start, Pause, Resume func()
	// Endpoint is the URL of a topic's endpoint at an address; Attributes are the
	// topic's.
	Endpoint   func(addr string) string
	Attributes []string
	// Prepare, when set, makes the broker ready for a topic's messages.
	Prepare func(t *testing.T, topic string)
	// Messages are those of a topic, in the order in which they arrived.
	Messages func(t *testing.T, topic string) [][]byte
	// Once: the broker keeps no event twice.
	Once bool
}

// Fault is something bad that happens while events come.
type Fault struct {
	Name string
	// Do makes some of the load's changes, and has the fault over at its end.
	Do func(e *Env, load *Load)
}

// Faults has bad things happen to a broker and on the way there: those that
// happen to all brokers, and more. Every event arrives, at least once, and the
// first of each in the order of its key.
func Faults(t *testing.T, b *Broker, more ...Fault) {
	e := New(t, append(Impatient, "--log-level", "debug")...)
	proxy := b.Proxy
	if proxy == nil {
		proxy = brokertest.NewProxy(t, b.Addr)
	}
	for _, f := range append([]Fault{{"killed", b.killed}, {"paused", b.paused}, {"cut", cutter(proxy)}}, more...) {
		t.Run(f.Name, func(t *testing.T) {
			e := e.In(t)
			if b.Prepare != nil {
				b.Prepare(t, f.Name)
			}
			bucket := e.Bucket()
			e.Notify(bucket, e.Topic(f.Name, b.Endpoint(proxy.Addr), b.Attributes...))
			load := e.StartLoad(bucket, Changes())
			f.Do(e, load)
			load.Wait()
			e.Drained(f.Name)
			again := load.Check(b.Messages(t, f.Name))
			t.Logf("%d of %d events came more than once", again, load.Done())
			if b.Once && again > 0 {
				t.Error("the broker keeps no event twice")
			}
		})
	}
}

func (b *Broker) killed(e *Env, load *Load) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		load.Begin(8) // some are on their way
		b.Kill()
		load.Make(8)
		e.PushFails()
		b.Start()
	}
}

func (b *Broker) paused(e *Env, load *Load) {
	load.Begin(4)
	b.Pause()
	load.Make(4)
	e.PushFails() // it took longer than a push may take
	b.Resume()
}

// cutter cuts connections again and again, each time when the gateway has one
// again.
func cutter(proxy *brokertest.Proxy) func(*Env, *Load) {
	return func(e *Env, load *Load) {
		cuts := 10
		if testing.Short() {
			cuts = 4
		}
		for range cuts {
			before := proxy.Connections()
			proxy.Cut()
			load.Make(2 * cuts) // of which there are events to deliver
			e.Eventually("the gateway connects again", func() bool { return proxy.Connections() > before })
		}
	}
}
