package kafka

import "testing"

// Rows test_notification_kafka, test_persistent_notification_kafka, and ack
// level none: events of 100 PUTs and DELETEs come once each, in order per key.
func TestNotification(t *testing.T) {
	for _, tt := range []struct {
		name  string
		attrs []string
	}{
		{"sync", nil},
		{"sync-none", []string{"kafka-ack-level", "none"}},
		{"persistent", []string{"persistent", "true"}},
		{"persistent-none", []string{"persistent", "true", "kafka-ack-level", "none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t)
			bucket, topic := e.Bucket(), e.name("t")
			if tt.name != "persistent" { // that one leaves it to the broker, which may take long; others try once
				e.makeTopic(topic, 4)
			}
			e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain, tt.attrs...))
			names := keys("key", 100)
			e.putAll(bucket, names)
			e.deleteAll(bucket, names)
			c := e.consume(topic)
			c.wantEach(true, both(names)...)
			e.Drained(topic)
			for _, r := range c.got() {
				if len(r.headers["event-id"]) != 32 || r.S3.Object.Size != 1 && r.EventName == "ObjectCreated:Put" {
					t.Errorf("headers %v, record %s", r.headers, r.raw)
				}
			}
		})
	}
}

// Batches are compressed only where a topic says so: not every consumer has the
// codec (Ceph's suite reads with one that has none).
func TestCompression(t *testing.T) {
	e := newEnv(t)
	for codec, want := range map[string]uint8{"": 0, "none": 0, "snappy": 2} {
		bucket, topic := e.Bucket(), e.name("t"+codec)
		e.Notify(bucket, e.topic(topic, "kafka://"+e.k.Plain, "kafka-compression", codec))
		e.Put(bucket, "k")
		c := e.consume(topic)
		c.wantEach(true, "ObjectCreated:Put k")
		if got := c.got()[0].codec; got != want {
			t.Errorf("kafka-compression=%q: codec %d, want %d", codec, got, want)
		}
	}
}
