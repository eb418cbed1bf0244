package endpointtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"herald/tests/certtest"
	"herald/tests/endpointtest"
)

// secret is in the URL of each endpoint.
const secret = "sesame-of-endpoints"

// kinds are the endpoints that speak TLS: what a URL begins with, with TLS and
// without, and more attributes.
var kinds = []struct {
	name, secure, plain string
	attributes          []string
	greeting            string // of the server, before TLS begins
	hangsUp             string // what is said when it does
}{
	{name: "amqp", secure: "amqps", plain: "amqp", attributes: []string{"amqp-exchange", "x"}, hangsUp: "the connection was lost"},
	{name: "http", secure: "https", plain: "http", hangsUp: "the endpoint closed the connection"},
	{name: "kafka", secure: "kafka", plain: "kafka", hangsUp: "broker closed the connection"},
	{name: "mqtt", secure: "mqtts", plain: "mqtt", hangsUp: "the endpoint closed the connection"},
	{name: "nats", secure: "natss", plain: "nats", greeting: `INFO {"server_id":"x","max_payload":1048576,"tls_required":true}` + "\r\n", hangsUp: "the endpoint closed the connection"},
	{name: "redis", secure: "rediss", plain: "redis", hangsUp: "the endpoint closed the connection"},
}

// server takes connections, greets, makes them TLS where it has a certificate,
// and closes them.
func server(t *testing.T, greeting string, cert *tls.Certificate) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(endpointtest.Patience))
				if cert != nil {
					_, _ = io.WriteString(c, greeting)
					_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}}).Handshake()
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestRefused: for each kind of endpoint the log and a test event say what is
// wrong with a server's certificate, or that it hangs up, without the secret.
func TestRefused(t *testing.T) {
	ca := certtest.NewCA(t)
	load := func(ca *certtest.CA, name string, change ...func(*x509.Certificate)) *tls.Certificate {
		pair := ca.Pair(name, change...)
		return &pair
	}
	faults := []struct {
		name, want string
		cert       *tls.Certificate
	}{
		{"expired", "certificate has expired", load(ca, "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
		{"elsewhere", "certificate is valid for 192.0.2.1, not 127.0.0.1", load(ca, "elsewhere", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })},
		{"stranger", "unknown authority", load(certtest.NewCA(t), "stranger")},
		{"hangs-up", "", nil},
	}
	e := endpointtest.New(t, "--log-level", "debug", "--allow-notification-secrets-in-cleartext")
	var cases []endpointtest.Case
	for _, k := range kinds {
		for _, f := range faults {
			scheme, attributes, want := k.plain, k.attributes, k.hangsUp
			if f.cert != nil {
				want = f.want
				scheme, attributes = k.secure, append(attributes[:len(attributes):len(attributes)], "use-ssl", "true", "ca-location", ca.File)
			}
			endpoint := scheme + "://user:" + secret + "@" + server(t, k.greeting, f.cert)
			cases = append(cases, endpointtest.Refused(k.name+"-"+f.name, want, endpoint, attributes...))
		}
	}
	e.Outcomes(t, cases, secret)
	for _, k := range kinds {
		for _, f := range faults {
			if out, _ := e.G.Admin("notification", "test", "--topic", k.name+"-"+f.name); strings.Contains(out, secret) {
				t.Errorf("the answer to a test event has a secret: %s", out)
			}
		}
	}
}
