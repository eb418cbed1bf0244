package notify

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"herald/tests/certtest"
)

// A certificate that names no hosts is taken by its common name, from an
// authority of one's own; one that names some, by these alone.
func TestCommonName(t *testing.T) {
	ca, other := certtest.NewCA(t), certtest.NewCA(t)
	for _, tt := range []struct {
		name, host, common string
		hosts              []string
		foreign, ok        bool
	}{
		{name: "common name", host: "localhost", common: "localhost", ok: true},
		{name: "another", host: "localhost", common: "elsewhere"},
		{name: "address", host: "127.0.0.1", common: "127.0.0.1"},
		{name: "named", host: "localhost", common: "x", hosts: []string{"localhost"}, ok: true},
		{name: "named otherwise", host: "localhost", common: "localhost", hosts: []string{"elsewhere"}},
		{name: "unknown authority", host: "localhost", common: "localhost", foreign: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer := ca
			if tt.foreign {
				signer = other
			}
			pair := signer.Pair(tt.common, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = tt.hosts, nil })
			e := kafkaEndpoint("kafka://h", "ca-location", ca.File)
			config, err := e.tlsConfig(tt.host)
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if c, err := l.Accept(); err == nil {
					_ = c.(*tls.Conn).Handshake() // the client says how it ended
					_ = c.Close()
				}
			}()
			c, err := tls.Dial("tcp", l.Addr().String(), config)
			if err == nil {
				_ = c.Close()
			}
			_ = l.Close()
			<-done
			if (err == nil) != tt.ok {
				t.Errorf("handshake: %v, want ok: %v", err, tt.ok)
			}
		})
	}
}
