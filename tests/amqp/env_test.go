package amqp

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/tests/brokertest"
	"herald/tests/certtest"
	"herald/tests/endpointtest"
)

// exchange is the one of all tests, of type topic.
const exchange = "ceph-notifications"

// maxMessage is how large a message the broker takes, in bytes.
const maxMessage = 20_000

// broker is a RabbitMQ.
type broker struct {
	*brokertest.RabbitMQ
	ca *certtest.CA
	t  *testing.T
}

// Test is all there is: a start of RabbitMQ takes seconds.
func Test(t *testing.T) {
	ca := certtest.NewCA(t)
	r := brokertest.StartRabbitMQ(t, brokertest.RabbitOptions{CA: ca, Config: []string{fmt.Sprint("max_message_size = ", maxMessage)}})
	r.Exchange(exchange)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *broker)
	}{
		{"Rows", rows}, {"Access", access}, {"Levels", levels}, {"CertificateFiles", certificateFiles},
		{"Backlog", backlog}, {"ManyTopics", manyTopics}, {"Faults", faults}, {"Idle", idle},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, &broker{r, ca, t}) })
	}
}

func (b *broker) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// queue makes a durable queue that gets a topic's events, both of one name.
func (b *broker) queue(topic string) {
	b.t.Helper()
	b.Queue(exchange, topic)
}

// record is an event as it arrives.
type record struct {
	EventVersion, EventSource, AwsRegion, EventTime, EventName, EventID, OpaqueData string

	S3 struct {
		ConfigurationID string
		Bucket          struct{ Name, Arn string }
		Object          struct {
			Key, ETag, VersionID, Sequencer string
			Size                            int64
			Metadata, Tags                  []struct{ Key, Val string }
		}
	}
}

// want takes that many events, and looks that there are no more.
func (b *broker) want(queue string, n int) []record {
	b.t.Helper()
	var out []record
	for deadline := time.Now().Add(endpointtest.Patience); len(out) < n; time.Sleep(50 * time.Millisecond) {
		for _, m := range b.Messages(queue) {
			var doc struct{ Records []record }
			if err := json.Unmarshal(m, &doc); err != nil || len(doc.Records) != 1 {
				b.t.Fatalf("message %s: %v", m, err)
			}
			out = append(out, doc.Records[0])
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d events, want %d: %q", len(out), n, names(out))
		}
	}
	if len(out) > n {
		b.t.Errorf("%d events, want %d: %q", len(out), n, names(out))
	}
	return out
}

// wantNames takes exactly these "EVENT KEY", in any order.
func (b *broker) wantNames(queue string, want ...string) []record {
	b.t.Helper()
	got := b.want(queue, len(want))
	have := names(got)
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		b.t.Errorf("events = %q, want %q", have, want)
	}
	return got
}

func names(list []record) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.EventName+" "+r.S3.Object.Key)
	}
	return out
}

// connections is how many the gateway has.
func (b *broker) connections() int {
	b.t.Helper()
	return b.Connections("Herald")
}
