package s3compat

import (
	"context"
	"hash"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"

	"herald/tests/gatewaytest"
)

// newStream returns endless bytes, the same each time.
func newStream() io.Reader { return rand.NewChaCha8([32]byte{9}) }

func newSum() hash.Hash64 { return crc64.New(crc64.MakeTable(crc64.ECMA)) }

// loopback reaches the gateway whatever the host's name.
func loopback(g *gatewaytest.Gateway) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(g.URL, "http://"))
	}}
}
