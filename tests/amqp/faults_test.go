package amqp

import (
	"fmt"
	"testing"

	"herald/tests/endpointtest"
)

// While bad things happen to the broker and on the way there, every event gets
// into the queue, at least once and in the order of its key.
func faults(t *testing.T, b *broker) {
	// alarm has the broker take no messages until it is lifted.
	alarm := func(low string, set func(alarm bool)) endpointtest.Fault {
		return endpointtest.Fault{Name: low, Do: func(e *endpointtest.Env, load *endpointtest.Load) {
			set(true)
			load.Make(2)
			e.LoggedOf(low, "takes no messages now: low on "+low)
			set(false)
		}}
	}
	endpointtest.Faults(t, &endpointtest.Broker{
		Addr: b.Addr, Kill: func() { b.Kill() }, Start: b.Start, Pause: func() { b.Pause() }, Resume: func() { b.Resume() },
		Endpoint:   func(addr string) string { return "amqp://" + addr },
		Attributes: []string{"amqp-exchange", exchange, "amqp-ack-level", "routable"},
		Prepare:    func(_ *testing.T, topic string) { b.queue(topic); b.Sync() },
		Messages:   func(_ *testing.T, topic string) [][]byte { return b.Messages(topic) },
	}, alarm("memory", b.Memory), alarm("disk", b.Disk),
		endpointtest.Fault{Name: "stopped", Do: func(_ *endpointtest.Env, load *endpointtest.Load) {
			load.Begin(4)
			b.Stop()
			load.Make(4)
			b.Start()
		}})
}

// What a gateway sends ahead of a broker's answers is confirmed in any order and
// with any grouping.
func backlog(t *testing.T, b *broker) {
	e := endpointtest.New(t)
	b.queue("backlog")
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("backlog", "amqp://127.0.0.1:1", "amqp-exchange", exchange))
	load := e.StartLoad(bucket, endpointtest.Changes())
	load.Wait()
	if n := e.Entries("backlog"); n != load.Done() {
		t.Errorf("%d entries, want %d", n, load.Done())
	}
	e.Topic("backlog", "amqp://"+b.Addr, "amqp-exchange", exchange)
	e.Drained("backlog")
	if again := load.Check(b.Messages("backlog")); again > 0 {
		t.Errorf("%d events came more than once, though nothing failed", again)
	}
	e.Eventually("the gateway has one connection", func() bool { return b.connections() == 1 })
}

// Topics with different exchanges use one connection, and one with an exchange
// that is not there delays none of them.
func manyTopics(t *testing.T, b *broker) {
	ch, closeIt := b.Channel()
	defer closeIt()
	e := endpointtest.New(t, "--log-level", "debug")
	bucket := e.Bucket()
	var arns []string
	for i := range 5 {
		name, own := fmt.Sprint("t", i), fmt.Sprint("x", i)
		b.check(ch.ExchangeDeclare(own, "fanout", true, false, false, false, nil))
		b.queue(name)
		b.check(ch.QueueBind(name, "", own, false, nil))
		arns = append(arns, e.Topic(name, "amqp://"+b.Addr, "amqp-exchange", own))
	}
	arns = append(arns, e.Topic("missing", "amqp://"+b.Addr, "amqp-exchange", "nowhere"))
	e.Notify(bucket, arns...)
	for i := range 20 {
		e.Put(bucket, fmt.Sprint("k", i))
	}
	for i := range 5 {
		b.want(fmt.Sprint("t", i), 20)
	}
	e.LoggedOf("missing", "no exchange 'nowhere'")
	if n := e.Entries("missing"); n != 20 {
		t.Errorf("%d entries wait, want 20", n)
	}
	e.Eventually("the gateway has one connection", func() bool { return b.connections() == 1 })
	b.check(ch.ExchangeDeclare("nowhere", "direct", true, false, false, false, nil)) // better late
	e.Drained("missing")
}
