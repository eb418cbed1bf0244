package notify

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaEndpoint is an endpoint where nobody listens; args are names and values.
func kafkaEndpoint(endpoint string, args ...string) Endpoint {
	var t Topic
	for i := 0; i < len(args); i += 2 {
		t.setArg(args[i], args[i+1])
	}
	return Endpoint{URL: endpoint, Args: t.Dest.Args, Topic: "t", ConnectTimeout: 200 * time.Millisecond, Timeout: 2 * time.Second}
}

func TestKafka_Brokers(t *testing.T) {
	tests := []struct {
		url, list string
		want      []string // nil: refused
	}{
		{"kafka://h", "", []string{"h:9092"}},
		{"kafka://u:p@h:1", "a, b:2 ,h:1,", []string{"h:1", "a:9092", "b:2"}},
		{"kafka://[::1]", "[fe80::1]:7", []string{"[::1]:9092", "[fe80::1]:7"}},
		{"kafka://h:0", "", nil},
		{"kafka://h", "a:b", nil},
		{"kafka://h", ":9092", nil},
		{"kafka://", "", nil},
	}
	for _, tt := range tests {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := kafkaBrokers(u, tt.list)
		if !slices.Equal(got, tt.want) || (err != nil) != (tt.want == nil) {
			t.Errorf("kafkaBrokers(%q, %q) = %q, %v, want %q", tt.url, tt.list, got, err, tt.want)
		}
	}
}

// What cannot work is refused when the topic's endpoint is opened, without a
// secret.
func TestKafka_Attributes(t *testing.T) {
	tests := []struct {
		url  string
		args []string
		want string // of the error; empty: none
	}{
		{"kafka://h", nil, ""},
		{"kafka://h", []string{"kafka-ack-level", "none"}, ""},
		{"kafka://h", []string{"kafka-ack-level", "all"}, "kafka-ack-level"},
		{"kafka://h", []string{"kafka-max-batch-size", "many"}, ""},
		{"kafka://h", []string{"kafka-max-batch-size", "10"}, "kafka-max-batch-size"},
		{"kafka://h", []string{"kafka-compression", "zstd"}, ""},
		{"kafka://h", []string{"kafka-compression", "rar"}, "kafka-compression"},
		{"kafka://u:secret@h", []string{"use-ssl", "true", "mechanism", "SCRAM-SHA-256"}, ""},
		{"kafka://u:secret@h", []string{"mechanism", "SCRAM-SHA-256"}, "allow_notification_secrets_in_cleartext"},
		{"kafka://u:secret@h", nil, "allow_notification_secrets_in_cleartext"},
		{"kafka://u:secret@h", []string{"mechanism", "NTLM"}, "NTLM"},
		{"kafka://u:secret@h", []string{"mechanism", "GSSAPI"}, "GSSAPI"},
		{"kafka://h", []string{"mechanism", "PLAIN"}, "go together"},
		{"kafka://h", []string{"password", "secret"}, "go together"},
		{"kafka://h", []string{"mechanism", "OAUTHBEARER"}, "sasl-oauthbearer-token-endpoint-url"},
		{"kafka://h", []string{"mechanism", "OAUTHBEARER", "sasl-oauthbearer-token-endpoint-url", "https://u:secret@i/"}, "sasl-oauthbearer-token-endpoint-url"},
		{"kafka://h", []string{"mechanism", "OAUTHBEARER", "sasl-oauthbearer-token-endpoint-url", "https://i/"}, "sasl-oauthbearer-client-id"},
		{"kafka://h", []string{"use-ssl", "true", "ca-location", "/dev/null"}, "ca-location"},
		{"kafka://h", []string{"ca-location", "/dev/null"}, ""}, // without use-ssl of no meaning
	}
	allowed := kafkaEndpoint("kafka://u:secret@h")
	allowed.CleartextSecrets = true
	if err := checkEndpoint(allowed); err != nil {
		t.Errorf("SASL without TLS, where it is allowed: %v", err)
	}
	for _, tt := range tests {
		err := checkEndpoint(kafkaEndpoint(tt.url, tt.args...))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %q: %v", tt.url, tt.args, err)
		case tt.want != "" && (!errors.Is(err, ErrInvalidEndpoint) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s %q: error %v, want one with %q", tt.url, tt.args, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "secret@"):
			t.Errorf("%s %q: the error has a secret: %v", tt.url, tt.args, err)
		}
	}
}

// Topics share a client if, and only if, all that makes connections is equal.
func TestKafka_Sharing(t *testing.T) {
	var pool shared
	open := func(e Endpoint) *kafkaPusher {
		e.shared, e.CleartextSecrets = &pool, true
		p, err := openPusher(e)
		if err != nil {
			t.Fatal(err)
		}
		return p.(*kafkaPusher)
	}
	first := open(kafkaEndpoint("kafka://h"))
	other := kafkaEndpoint("kafka://h", "OtherArgument", "x")
	other.Topic = "other"
	second := open(other)
	if first.client != second.client {
		t.Error("two topics with equal attributes have clients of their own")
	}
	for _, args := range [][]string{
		{"use-ssl", "true"}, {"use-ssl", "true", "verify-ssl", "false"}, {"kafka-ack-level", "none"}, {"kafka-brokers", "i"},
		{"user-name", "u", "password", "p"}, {"user-name", "u", "password", "q"}, {"user-name", "u", "password", "q", "mechanism", "SCRAM-SHA-256"},
	} {
		p := open(kafkaEndpoint("kafka://h", args...))
		if p.client == first.client {
			t.Errorf("a topic with %q shares the client of one without", args)
		}
		_ = p.Close()
	}
	_ = first.Close()
	if second.client.closed {
		t.Error("a client was closed that a topic uses")
	}
	_ = second.Close()
	if !second.client.closed || len(pool.by) != 0 {
		t.Error("a client that no topic uses was not closed")
	}
}

// A push to a broker that does not exist fails in time, and at once when the
// endpoint is closed; the next one is tried anew.
func TestKafka_NoBroker(t *testing.T) {
	for _, ack := range []string{"broker", "none"} {
		e := kafkaEndpoint("kafka://127.0.0.1:1", "kafka-ack-level", ack)
		e.ConnectTimeout, e.Timeout = brokerTimeout, 5*time.Second // a pause of the machine is shorter
		p, err := openPusher(e)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, r := range p.Push(t.Context(), []Event{{Record: []byte("{}"), Key: "a"}, {Record: []byte("{}"), Key: "b"}}) {
				if r.Status != Retry || r.Err == nil || !strings.Contains(r.Err.Error(), "cannot connect to Kafka") {
					t.Errorf("ack level %s: result %v, %v", ack, r.Status, r.Err)
				}
			}
		}
		time.AfterFunc(50*time.Millisecond, func() { _ = p.Close() })
		if r := p.Push(t.Context(), []Event{{Record: []byte("{}"), Key: "a"}})[0]; r.Status != Retry {
			t.Errorf("closed: %v, %v", r.Status, r.Err)
		}
		if r := p.Push(t.Context(), []Event{{Record: []byte("{}"), Key: "a"}})[0]; r.Status != Retry {
			t.Errorf("after close: %v, %v", r.Status, r.Err)
		}
		_ = p.Close()
	}
}

func TestKafka_Results(t *testing.T) {
	c := newKafkaClient(kafkaEndpoint("kafka://h"), nil)
	for _, tt := range []struct {
		err  error
		want Status
	}{
		{nil, Acked},
		{kerr.MessageTooLarge, Rejected},
		{kerr.InvalidRecord, Rejected},
		{kerr.NotEnoughReplicas, Retry},
		{kerr.TopicAuthorizationFailed, Retry},
		{kgo.ErrClientClosed, Retry},
		{context.DeadlineExceeded, Retry},
		{errors.New("what nobody knows"), Retry},
	} {
		r := c.result(tt.err)
		if r.Status != tt.want || (r.Err == nil) != (tt.err == nil) {
			t.Errorf("%v: %v, %v, want %v", tt.err, r.Status, r.Err, tt.want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{
		`{"access_token":"abc","token_type":"Bearer","expires_in":60}`, `{"access_token":"abc","expires_in":"60"}`,
		`{"access_token":"a\u0001b"}`, `{"access_token":""}`, `{"error":"x"}`, `[]`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, age, err := parseToken(body)
		if err == nil && (token == "" || !isToken(token) || age <= 0 || age > 24*time.Hour) {
			t.Errorf("token %q, age %s", token, age)
		}
		if err != nil && token != "" {
			t.Errorf("token %q with error %v", token, err)
		}
	})
}
