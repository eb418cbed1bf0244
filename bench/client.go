package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// client is one keep-alive HTTP/1.1 connection that signs with SigV4
// (UNSIGNED-PAYLOAD). It does as little as it can: on a small machine the load
// generator competes with the server for the cores.
type client struct {
	addr, accessKey string
	signingKey      []byte
	payload         string // its SHA-256 in hexadecimal digits, or that it is not signed
	scope           string
	conn            net.Conn
	r               *bufio.Reader
	buf             []byte
}

const (
	region          = "us-east-1"
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

func newClient(addr, accessKey, secretKey string) *client {
	day := time.Now().UTC().Format("20060102")
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{day, region, "s3", "aws4_request"} {
		key = mac(key, part)
	}
	return &client{
		addr: addr, accessKey: accessKey, signingKey: key, payload: unsignedPayload,
		scope: day + "/" + region + "/s3/aws4_request",
	}
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// do sends one request; path and query must be in canonical form. The answer's
// body is read and, unless keep, thrown away.
func (c *client) do(method, path, query string, body []byte, keep bool) (status int, answer []byte, err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.addr); err != nil {
			return 0, nil, err
		}
		c.r = bufio.NewReaderSize(c.conn, 64<<10)
	}
	c.buf = c.request(c.buf[:0], method, path, query, len(body))
	if len(body) <= 64<<10 {
		c.buf = append(c.buf, body...)
		body = nil
	}
	if _, err := c.conn.Write(c.buf); err != nil {
		return 0, nil, err
	}
	if body != nil {
		if _, err := c.conn.Write(body); err != nil {
			return 0, nil, err
		}
	}
	return c.readAnswer(method, keep)
}

func (c *client) request(b []byte, method, path, query string, length int) []byte {
	date := time.Now().UTC().Format("20060102T150405Z")
	canonical := method + "\n" + path + "\n" + query + "\nhost:" + c.addr +
		"\nx-amz-content-sha256:" + c.payload + "\nx-amz-date:" + date +
		"\n\nhost;x-amz-content-sha256;x-amz-date\n" + c.payload
	sum := sha256.Sum256([]byte(canonical))
	signature := mac(c.signingKey, "AWS4-HMAC-SHA256\n"+date+"\n"+c.scope+"\n"+hex.EncodeToString(sum[:]))
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, path...)
	if query != "" {
		b = append(b, '?')
		b = append(b, query...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.addr...)
	b = append(b, "\r\nx-amz-content-sha256: "...)
	b = append(b, c.payload...)
	b = append(b, "\r\nx-amz-date: "...)
	b = append(b, date...)
	b = append(b, "\r\nAuthorization: AWS4-HMAC-SHA256 Credential="...)
	b = append(b, c.accessKey...)
	b = append(b, '/')
	b = append(b, c.scope...)
	b = append(b, ", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="...)
	b = hex.AppendEncode(b, signature)
	if length > 0 || method == "PUT" || method == "POST" {
		b = append(b, "\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(length), 10)
	}
	return append(b, "\r\n\r\n"...)
}

func (c *client) readAnswer(method string, keep bool) (int, []byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, err
	}
	length, chunked := int64(0), false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, nil, err
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = true
		}
	}
	var body io.Reader = io.LimitReader(c.r, length)
	switch {
	case method == "HEAD" || status == 204 || status == 304:
		return status, nil, nil
	case chunked:
		answer, err := io.ReadAll(httputil.NewChunkedReader(c.r))
		if err == nil {
			_, err = c.r.ReadSlice('\n') // no trailer
		}
		return status, answer, err
	case keep:
		answer, err := io.ReadAll(body)
		return status, answer, err
	}
	n, err := c.r.Discard(int(min(length, 1<<30)))
	if err == nil && int64(n) < length {
		_, err = io.Copy(io.Discard, io.LimitReader(c.r, length-int64(n)))
	}
	return status, nil, err
}

// expect is do that takes any other status as an error.
func (c *client) expect(want int, method, path, query string, body []byte) ([]byte, error) {
	status, answer, err := c.do(method, path, query, body, true)
	if err != nil {
		return nil, err
	}
	if status != want {
		return nil, fmt.Errorf("%s %s?%s = %d, want %d\n%s", method, path, query, status, want, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}
