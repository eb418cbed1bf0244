package redistest

import (
	"crypto/tls"
	"testing"

	"herald/tests/certtest"
)

// Certificates are files in PEM. One key pair serves server and client.
type Certificates struct {
	CA, Cert, Key string
}

// StartTLS starts a server that speaks only TLS and wants a certificate from
// its clients.
func StartTLS(t testing.TB, args ...string) (*Server, Certificates) {
	t.Helper()
	need(t)
	ca := certtest.NewCA(t)
	files := Certificates{CA: ca.File}
	files.Cert, files.Key = ca.Issue("redis")
	s := prepare(t, nil)
	s.tls = &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Pair("client")}, MinVersion: tls.VersionTLS12}
	s.args = append([]string{"--tls-port", s.port(), "--port", "0", "--tls-cert-file", files.Cert, "--tls-key-file", files.Key,
		"--tls-ca-cert-file", files.CA, "--tls-auth-clients", "yes"}, args...)
	s.run()
	return s, files
}
