package notify

// Batcher is the optional capability of a Pusher that has the events of one
// Push on their way at the same time: it is given up to Batch of them, of
// different keys, when so many wait.
type Batcher interface{ Batch() int }

// What brokers are given at once: what one round trip, or one request of many
// messages, carries well.
const (
	kafkaEvents = 256
	pipeBatch   = 256 // what is written to one connection before the answers
	amqpBatch   = 64  // which has a goroutine for each
)

var (
	_ Batcher = (*kafkaPusher)(nil)
	_ Batcher = (*redisPusher)(nil)
	_ Batcher = (*natsPusher)(nil)
	_ Batcher = (*amqpPusher)(nil)
	_ Batcher = (*mqttPusher)(nil)
)

// Batch implements Batcher.
func (*kafkaPusher) Batch() int { return kafkaEvents }

// Batch implements Batcher.
func (*redisPusher) Batch() int { return pipeBatch }

// Batch implements Batcher.
func (*natsPusher) Batch() int { return pipeBatch }

// Batch implements Batcher.
func (*amqpPusher) Batch() int { return amqpBatch }

// Batch implements Batcher.
func (*mqttPusher) Batch() int { return amqpBatch }

// batch is how many events one push may have. One that is to find out whether a
// failing endpoint is well again has one.
func (t *target) batch() int {
	b, ok := t.pusher.(Batcher)
	if !ok {
		return 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures >= breakAfter {
		return 1
	}
	return b.Batch()
}
