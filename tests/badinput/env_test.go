// Package badinput sends the built gateway what a broken or hostile client
// sends, and takes from it what a machine may take: space, permissions, the
// directory.
package badinput

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"herald/tests/gatewaytest"
)

// request is one request to be signed and sent.
type request struct {
	method, path string // path may have a query
	header       map[string]string
	body         string
	hash         string    // x-amz-content-sha256; default: the body's
	at           time.Time // of signing; default: now
	secret       string    // default: the right one
}

// sign returns the request, signed.
func (q request) sign(t *testing.T, g *gatewaytest.Gateway) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, g.URL+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.hash == "" {
		sum := sha256.Sum256([]byte(q.body))
		q.hash = hex.EncodeToString(sum[:])
	}
	if q.at.IsZero() {
		q.at = time.Now()
	}
	if q.secret == "" {
		q.secret = gatewaytest.SecretKey
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	req.Header.Set("X-Amz-Content-Sha256", q.hash)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	err = signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: q.secret}, req, q.hash, "s3", "us-east-1", q.at)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the error's code, or "".
func (a answer) code() string {
	_, rest, _ := strings.Cut(a.body, "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	return code
}

func (q request) send(t *testing.T, g *gatewaytest.Gateway) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(q.sign(t, g))
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// want sends a request and checks status and error code.
func (q request) want(t *testing.T, g *gatewaytest.Gateway, status int, code string) answer {
	t.Helper()
	a := q.send(t, g)
	if a.status != status || a.code() != code {
		t.Errorf("%s %.80s = %d %s, want %d %s\n%.500s", q.method, q.path, a.status, a.code(), status, code, a.body)
	}
	if code != "" && (!strings.Contains(a.body, "<RequestId>"+a.header.Get("X-Amz-Request-Id")+"</RequestId>") || !strings.Contains(a.body, "<Message>")) {
		t.Errorf("%s %.80s: error without message or the header's request id\n%.500s", q.method, q.path, a.body)
	}
	return a
}

func ok(t *testing.T, g *gatewaytest.Gateway, method, path, body string) {
	t.Helper()
	if a := (request{method: method, path: path, body: body}).send(t, g); a.status >= 300 {
		t.Fatalf("%s %s = %d\n%s", method, path, a.status, a.body)
	}
}

// gone checks that a key does not exist.
func gone(t *testing.T, g *gatewaytest.Gateway, path string) {
	t.Helper()
	request{method: "GET", path: path}.want(t, g, 404, "NoSuchKey")
}

// wire writes bytes on a connection of its own and returns the answer; close
// tells to end the sending side after them.
func wire(t *testing.T, g *gatewaytest.Gateway, raw []byte, closeWrite bool) (answer, error) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Minute))
	if _, err := conn.Write(raw); err != nil {
		return answer{}, err
	}
	if closeWrite {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// head is a signed request's head with another Content-Length and no body.
func (q request) head(t *testing.T, g *gatewaytest.Gateway, length int) []byte {
	t.Helper()
	req := q.sign(t, g)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", q.method, q.path, req.URL.Host, length)
	req.Header.Del("Content-Length")
	_ = req.Header.Write(&b) // to memory
	b.WriteString("\r\n")
	return b.Bytes()
}
