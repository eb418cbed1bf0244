package notify

import (
	"net/url"
	"strings"
)

// Unacknowledged is empty, or the attribute that has a persistent topic's
// events count as delivered before whoever is to have them acknowledged them.
func (t *Topic) Unacknowledged() string {
	if !t.Queued() {
		return ""
	}
	u, err := url.Parse(t.Dest.PushEndpoint)
	if err != nil {
		return ""
	}
	attr, level := "", ""
	switch strings.ToLower(u.Scheme) {
	case "kafka":
		attr, level = argKafkaAck, "none"
	case "amqp", "amqps":
		attr, level = "amqp-ack-level", "none"
	case "nats", "natss", "tls":
		attr, level = argNATSAck, "none"
	case "mqtt", "mqtts":
		attr, level = "mqtt-qos", "0"
	case "redis", "rediss":
		attr, level = argRedisMode, "pubsub"
	}
	if attr == "" || t.Arg(attr) != level {
		return ""
	}
	return attr + "=" + level
}

// warnUnacknowledged logs of a topic that was made or changed.
func (s *Service) warnUnacknowledged(t *Topic) {
	s.log.Warn("events of this persistent topic count as delivered without an acknowledgement: some may be lost", "topic", t.ARN, "because", t.Unacknowledged())
}
