package httpendpoint

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestSecrets greps all that a gateway says for a secret of each kind: its log at
// level debug, its metrics and readiness, what admin commands print, and what the
// topic API answers over plain HTTP.
func TestSecrets(t *testing.T) {
	c := start(t, "--trust-forwarded-https", "--log-level", "debug", "--topic-retry-sleep", "1s", "--http-message-timeout", "2s", "--http-connect-timeout", "2s")
	echo := newSink(t, "", func(int) mood { return refusing }) // sends back what it got
	bad := newSink(t, "", func(int) mood { return babbling })
	const mark = "SeCrEt"
	secret := func(i int) string { return fmt.Sprintf("%s-%d-0123456789abcdef", mark, i) }
	with := func(endpoint string, i int) string {
		return strings.Replace(endpoint, "://", "://user:"+secret(i)+"@", 1)
	}
	topics := []struct {
		name, endpoint string
		attributes     []string
	}{
		{"url", with(echo.URL, 0), nil},
		{"url-bad", with(bad.URL, 1), nil},
		{"url-dead", with("http://127.0.0.1:1", 2), nil},
		{"url-tls", with("https://127.0.0.1:1", 3), nil},
		{"password", echo.URL, []string{"user-name", "user", "password", secret(4)}},
		{"token", echo.URL, []string{"http-bearer-token", secret(5)}},
		{"headers", echo.URL, []string{"http-headers", "X-Api-Key: " + secret(6)}},
		{"keys", echo.URL, []string{"http-signing-keys", "k1:" + secret(7) + ",k2:" + secret(8)}},
		{"key-password", echo.URL, []string{"ssl-key-password", secret(9)}},
		{"key-file", "https://127.0.0.1:1", []string{"ssl-key-password", secret(9), "ssl-key-location", "/nowhere", "ssl-certificate-location", "/nowhere"}},
		{"oauth", "kafka://127.0.0.1:1", []string{"sasl-oauthbearer-client-secret", secret(10), "sasl-oauthbearer-client-id", "id", "mechanism", "OAUTHBEARER", "sasl-oauthbearer-token-endpoint-url", "http://127.0.0.1:1", "use-ssl", "true"}},
		{"kafka", with("kafka://127.0.0.1:1", 11), []string{"use-ssl", "true"}},
		{"amqp", with("amqp://127.0.0.1:1", 12), []string{"amqp-exchange", "x"}},
		{"nats", with("nats://127.0.0.1:1", 13), nil},
		{"redis", with("redis://127.0.0.1:1", 14), nil},
		{"mqtt", with("mqtt://127.0.0.1:1", 15), nil},
		{"unknown", with("gopher://127.0.0.1:1", 16), nil},
	}
	var said []string // with where
	say := func(where, text string) {
		if i := strings.Index(text, mark); i >= 0 {
			t.Errorf("%s has a secret: ...%s...", where, text[max(0, i-200):min(len(text), i+40)])
		}
		said = append(said, text)
	}
	for _, topic := range topics {
		for _, persistent := range []string{"true", "false"} {
			name := topic.name + "-" + persistent
			attributes := append([]string{"persistent", persistent, "max_retries", "1"}, topic.attributes...)
			c.header.Del("X-Forwarded-Proto")
			status, answer := c.tryTopic(name, topic.endpoint, attributes...)
			if status != http.StatusBadRequest {
				t.Errorf("CreateTopic of %s over plain HTTP = %d %s", name, status, answer)
			}
			say("the refusal of "+name, answer)
			c.header.Set("X-Forwarded-Proto", "https")
			c.topic(name, topic.endpoint, attributes...)
			bucket := strings.ReplaceAll(name, "_", "-")
			c.bucket(bucket, name)
			c.put(t.Context(), bucket, "key", "x")
		}
	}
	c.header.Del("X-Forwarded-Proto")
	for _, topic := range topics {
		name := topic.name + "-true"
		eventually(t, "events of "+name+" are given up", func() bool {
			return strings.Contains(c.g.MustAdmin("topic", "dead-letters", "list", "--topic", name), "reason") || c.entries(name) == 0
		})
		for _, action := range []string{"GetTopic", "GetTopicAttributes"} {
			status, answer := c.form(action, "TopicArn", arn(name))
			if status != http.StatusForbidden {
				t.Errorf("%s of %s over plain HTTP = %d %s", action, name, status, answer)
			}
			say(action, answer)
		}
		for _, args := range [][]string{{"topic", "get"}, {"topic", "dump"}, {"topic", "stats"}, {"topic", "dead-letters", "list"}} {
			out, _ := c.g.Admin(append(args, "--topic", name)...)
			say(strings.Join(args, " ")+" of "+name, out)
		}
		for i := 0; i < len(topic.attributes); i += 2 {
			if !strings.Contains(topic.attributes[i+1], mark) {
				continue
			}
			status, answer := c.form("SetTopicAttributes", "TopicArn", arn(name), "AttributeName", topic.attributes[i], "AttributeValue", topic.attributes[i+1])
			if status != http.StatusBadRequest {
				t.Errorf("SetTopicAttributes of %s over plain HTTP = %d %s", topic.attributes[i], status, answer)
			}
			say("SetTopicAttributes", answer)
		}
	}
	status, answer := c.form("ListTopics")
	if status != http.StatusForbidden {
		t.Errorf("ListTopics over plain HTTP = %d", status)
	}
	say("ListTopics", answer)
	say("topic list", c.g.MustAdmin("topic", "list"))
	for _, page := range []string{"/metrics", "/readyz", "/healthz"} {
		say(page, c.ops(page))
	}
	if err := c.g.Stop(); err != nil {
		t.Error(err)
	}
	say("the log", c.g.Log(2<<20))
	if n := strings.Count(c.g.Log(2<<20), "level=DEBUG"); n == 0 {
		t.Error("nothing was logged at level debug")
	}
}
