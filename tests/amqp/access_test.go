package amqp

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herald/tests/certtest"
	"herald/tests/endpointtest"
	"herald/tests/gatewaytest"
)

// Who gets in, and what is said to those who do not.
func access(t *testing.T, b *broker) {
	ca, stranger := b.ca, certtest.NewCA(t)
	b.AddHost("other/vhost")
	b.AddUser("writer", "secret-of-writer", ".*", "")
	b.AddUser("reader", "secret-of-reader", "", ".*")
	e := endpointtest.New(t, "--log-level", "debug", "--allow-notification-secrets-in-cleartext")
	cert, key := ca.Issue("client")
	locked := filepath.Join(t.TempDir(), "locked.key")
	if openssl, err := exec.LookPath("openssl"); err != nil {
		gatewaytest.Missing(t, "openssl")
	} else if out, err := exec.Command(openssl, "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:key-secret").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plain, secure := "amqp://"+b.Addr, "amqps://"+b.TLS
	as := func(user string) string { return strings.Replace(plain, "//", "//"+user+"@", 1) }
	mutual := slices.Clip([]string{"ca-location", ca.File, "ssl-certificate-location", cert, "ssl-key-location"})
	good := map[string][][]string{ // by endpoint
		plain + "/%2F":                {{"plain"}},
		as("writer:secret-of-writer"): {{"user"}},
		plain:                         {{"user-attribute", "user-name", "writer", "password", "secret-of-writer"}},
		secure: {
			{"ca", "ca-location", ca.File},
			{"no-verify", "verify-ssl", "false"},
			{"no-verify-other-ca", "verify-ssl", "false", "ca-location", stranger.File},
			append([]string{"mutual"}, append(mutual, key)...),
			append([]string{"mutual-locked"}, append(mutual, locked, "ssl-key-password", "key-secret")...),
		},
	}
	in := []string{"amqp-exchange", exchange}
	refused := func(name, why, endpoint string, attributes ...string) endpointtest.Case {
		return endpointtest.Refused(name, why, endpoint, append(in[:2:2], attributes...)...)
	}
	cases := []endpointtest.Case{
		refused("wrong-password", "not allowed", as("writer:not-the-secret")),
		refused("may-not-write", "access to exchange", as("reader:secret-of-reader")),
		refused("no-vhost", "vhost", plain+"/missing"),
		refused("may-not-vhost", "vhost", as("writer:secret-of-writer")+"/other%2Fvhost"),
		refused("system-authorities", "unknown authority", secure),
		refused("other-ca", "unknown authority", secure, "ca-location", stranger.File),
		refused("mutual-locked-out", "cannot decrypt", secure, append(mutual, locked, "ssl-key-password", "not-it")...),
		refused("tls-on-plain", "TLS handshake", strings.Replace(plain, "amqp:", "amqps:", 1), "verify-ssl", "false"),
		refused("no-exchange", "amqp-exchange is missing", plain, "amqp-exchange", ""),
		refused("bad-level", "amqp-ack-level", plain, "amqp-ack-level", "all"),
		refused("version", "amqp-version", plain, "amqp-version", "1-0"),
		refused("external", "SASL", secure, "ca-location", ca.File, "mechanism", "EXTERNAL"), // the broker has no plugin for it
	}
	for endpoint, topics := range good {
		for _, topic := range topics {
			b.queue(topic[0])
			cases = append(cases, endpointtest.Delivered(topic[0], endpoint, append(in[:2:2], topic[1:]...)...))
		}
	}
	e.Outcomes(t, cases, "secret-of-", "not-the-secret", "key-secret", "not-it")
	for _, topics := range good {
		for _, topic := range topics {
			n := 0
			e.Eventually("the event and the test event", func() bool { n += len(b.Messages(topic[0])); return n >= 2 })
		}
	}
}

// What is delivered to nobody, at each ack level.
func levels(t *testing.T, b *broker) {
	e := endpointtest.New(t, "--log-level", "debug")
	bucket := e.Bucket()
	var arns []string
	for _, level := range []string{"none", "broker", "routable"} {
		arns = append(arns, e.Topic(level, "amqp://"+b.Addr, "amqp-exchange", exchange, "amqp-ack-level", level))
	}
	large := e.Topic("large", "amqp://"+b.Addr, "amqp-exchange", exchange, "OpaqueData", strings.Repeat("x", maxMessage))
	e.Notify(bucket, append(arns, large)...)
	e.Put(bucket, "k")
	e.Drained("none")
	e.Drained("broker")
	e.Drained("large") // it will never be taken: a dead letter at once
	e.LoggedOf("routable", "returned the message: 312 NO_ROUTE")
	if n := e.Entries("routable"); n != 1 {
		t.Errorf("%d entries wait, want 1", n)
	}
	b.queue("routable")
	b.want("routable", 1)
	e.Drained("routable")
	if out := e.G.MustAdmin("topic", "dead-letters", "list", "--topic", "large"); !strings.Contains(out, "takes no message of") {
		t.Errorf("dead letters = %s", out)
	}
}

// Files of certificates are read for each connection: they can be replaced while
// a gateway runs.
func certificateFiles(t *testing.T, b *broker) {
	e := endpointtest.New(t, "--log-level", "debug")
	file := filepath.Join(t.TempDir(), "ca.pem")
	b.queue("files")
	bucket := e.Bucket()
	e.Notify(bucket, e.Topic("files", "amqps://"+b.TLS, "amqp-exchange", exchange, "ca-location", file))
	e.Put(bucket, "k")
	e.LoggedOf("files", "ca-location")
	data, err := os.ReadFile(b.ca.File)
	b.check(err)
	b.check(os.WriteFile(file, data, 0o600))
	b.want("files", 1)
}
