package httpendpoint

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"herald/tests/certtest"
)

// TestMTLS has an endpoint that takes only who shows a certificate, and topics
// with and without one, with and without the authority.
func TestMTLS(t *testing.T) {
	ca := certtest.NewCA(t)
	cert, key := ca.Issue("client")
	s := &sink{t: t}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("server")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	c := start(t)
	c.topic("good", s.URL, "persistent", "true", "ca-location", ca.File, "ssl-certificate-location", cert, "ssl-key-location", key)
	c.topic("no-certificate", s.URL, "persistent", "true", "ca-location", ca.File)
	c.topic("no-authority", s.URL, "persistent", "true", "ssl-certificate-location", cert, "ssl-key-location", key)
	c.topic("no-file", s.URL, "persistent", "true", "ca-location", ca.File+".none")
	c.topic("no-regular-file", s.URL, "persistent", "true", "ca-location", "/dev/zero")
	names := []string{"no-certificate", "no-authority", "no-file", "no-regular-file", "good"}
	for _, name := range names {
		c.bucket(name, name)
		c.put(t.Context(), name, name, "x")
	}
	complete(t, s, 1)
	for _, name := range names[:4] {
		if n := c.entries(name); n != 1 {
			t.Errorf("%s: %d events wait, want 1", name, n)
		}
	}
	if got := s.all(); got[0].key != "good" {
		t.Errorf("the event of %s arrived", got[0].key)
	}
}
