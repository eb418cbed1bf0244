package brokertest

import (
	amqp "github.com/rabbitmq/amqp091-go"
)

// Channel opens one of the test's own.
func (r *RabbitMQ) Channel() (ch *amqp.Channel, closeIt func()) {
	r.t.Helper()
	conn, err := amqp.Dial("amqp://" + r.Addr)
	r.check(err)
	ch, err = conn.Channel()
	r.check(err)
	return ch, func() { _ = conn.Close() }
}

func (r *RabbitMQ) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Exchange makes a durable exchange of the type topic.
func (r *RabbitMQ) Exchange(name string) {
	r.t.Helper()
	ch, closeIt := r.Channel()
	defer closeIt()
	r.check(ch.ExchangeDeclare(name, "topic", true, false, false, false, nil))
}

// Queue makes a durable queue that gets a topic's events from an exchange, both
// of one name.
func (r *RabbitMQ) Queue(exchange, topic string) {
	r.t.Helper()
	ch, closeIt := r.Channel()
	defer closeIt()
	_, err := ch.QueueDeclare(topic, true, false, false, false, nil)
	r.check(err)
	r.check(ch.QueueBind(topic, topic, exchange, false, nil))
}

// Messages takes all that is in a queue.
func (r *RabbitMQ) Messages(queue string) [][]byte {
	r.t.Helper()
	ch, closeIt := r.Channel()
	defer closeIt()
	var out [][]byte
	for {
		d, ok, err := ch.Get(queue, true)
		r.check(err)
		if !ok {
			return out
		}
		out = append(out, d.Body)
	}
}
