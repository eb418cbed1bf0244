package notify

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"herald/store"
)

func TestTopic_Unacknowledged(t *testing.T) {
	r := newRig(t, quick())
	var log bytes.Buffer
	r.s.log = slog.New(slog.NewTextHandler(&log, nil))
	for _, c := range []struct{ url, attr, level, want string }{
		{"kafka://h", "kafka-ack-level", "none", "kafka-ack-level=none"},
		{"kafka://h", "kafka-ack-level", "broker", ""},
		{"amqp://h", "amqp-ack-level", "none", "amqp-ack-level=none"},
		{"amqp://h", "amqp-ack-level", "routable", ""},
		{"nats://h", "nats-ack-level", "none", "nats-ack-level=none"},
		{"mqtt://h", "mqtt-qos", "0", "mqtt-qos=0"},
		{"mqtt://h", "mqtt-qos", "1", ""},
		{"redis://h", "redis-mode", "pubsub", "redis-mode=pubsub"},
		{"redis://h", "redis-mode", "stream", ""},
		{"http://h", "kafka-ack-level", "none", ""},
	} {
		log.Reset()
		attrs := []string{"persistent", "true", c.attr, c.level}
		if strings.HasPrefix(c.url, "amqp") {
			attrs = append(attrs, "amqp-exchange", "x")
		}
		topic := r.topic("t", c.url, attrs...)
		if got := topic.Unacknowledged(); got != c.want {
			t.Errorf("%s %s=%s: %q, want %q", c.url, c.attr, c.level, got, c.want)
		}
		if got := strings.Contains(log.String(), "without an acknowledgement"); got != (c.want != "") {
			t.Errorf("%s %s=%s: log %q", c.url, c.attr, c.level, log.String())
		}
		log.Reset()
		r.topic("t", c.url, attrs...) // the same
		if log.Len() > 0 {
			t.Errorf("%s %s=%s: logged again: %q", c.url, c.attr, c.level, log.String())
		}
		r.notify(rule("n", topic, Filter{}))
		list, err := r.s.ExplainChange(r.ctx, r.bucket, ObjectCreatedPut, "k", store.Attrs{})
		if err != nil || len(list) != 1 || list[0].Unacknowledged != c.want {
			t.Errorf("%s %s=%s: explained %+v, %v", c.url, c.attr, c.level, list, err)
		}
		if _, err := r.s.Topics().SetAttribute(r.ctx, "", "t", AttrPersistent, "false", nil); err != nil {
			t.Fatal(err)
		}
	}
}
