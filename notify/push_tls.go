package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// tlsArgs are the arguments that tlsConfig reads. It is never written.
var tlsArgs = [...]string{"verify-ssl", "ca-location", "ssl-certificate-location", "ssl-key-location", "ssl-key-password"}

// tlsConfig is made of the arguments verify-ssl, ca-location,
// ssl-certificate-location, ssl-key-location and ssl-key-password; server is the name that the
// certificate must bear, or empty: who connects sets it. The files are read now:
// who calls it for each connection follows their changes.
func (e *Endpoint) tlsConfig(server string) (*tls.Config, error) {
	c := &tls.Config{
		ServerName: server, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: !e.BoolArg("verify-ssl", true), //nolint:gosec // the topic's owner said so
	}
	if file := e.Arg("ca-location"); file != "" {
		pem, err := e.readSmallFile(file)
		if err != nil {
			return nil, fmt.Errorf("ca-location: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca-location: the file has no certificate in PEM")
		}
		if server != "" && !c.InsecureSkipVerify {
			acceptCommonName(c)
		}
	}
	certFile, keyFile := e.Arg("ssl-certificate-location"), e.Arg("ssl-key-location")
	if certFile == "" && keyFile == "" {
		return c, nil
	}
	cert, err := e.readSmallFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("ssl-certificate-location: %w", err)
	}
	key, err := e.readSmallFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("ssl-key-location: %w", err)
	}
	if key, err = plainKey(key, e.Arg("ssl-key-password")); err != nil {
		return nil, fmt.Errorf("ssl-key-location: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("ssl-certificate-location and ssl-key-location: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// subjectAltName is the extension with the names of who has the certificate.
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17} // never written

// acceptCommonName has a server's certificate that names no hosts known by its
// common name, as RGW's libraries do: an authority of one's own may make such,
// and the script for Kafka that comes with Ceph does.
func acceptCommonName(c *tls.Config) {
	roots, host := c.RootCAs, c.ServerName
	c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection verifies
	c.VerifyConnection = func(state tls.ConnectionState) error {
		chain := state.PeerCertificates
		opts := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
		for _, cert := range chain[1:] {
			opts.Intermediates.AddCert(cert)
		}
		named := slices.ContainsFunc(chain[0].Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltName) })
		if !named && net.ParseIP(host) == nil && strings.EqualFold(chain[0].Subject.CommonName, host) {
			opts.DNSName = ""
		}
		if _, err := chain[0].Verify(opts); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
		}
		return nil
	}
}

// connect connects to a server, and shakes hands when it speaks TLS. tcp is the
// connection below conn, or the same.
func (e *Endpoint) connect(ctx context.Context, addr, host string, secure bool) (conn, tcp net.Conn, err error) {
	tcp, err = e.DialContext(ctx, "tcp", addr)
	if err != nil || !secure {
		return tcp, tcp, err
	}
	config, err := e.tlsConfig(host)
	if err == nil {
		over := tls.Client(tcp, config)
		if err = over.HandshakeContext(ctx); err == nil {
			return over, tcp, nil
		}
		err = fmt.Errorf("TLS handshake: %w", err)
	}
	_ = tcp.Close()
	return nil, nil, err
}
