package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
)

// sink is an HTTP endpoint that answers 200 at once. It returns the URL.
func (b *bench) sink() (string, error) { return serveSink(nil) }

// serveSink is an HTTP endpoint that answers 200 when take, which may be nil,
// has returned. Like the clients it does as little as it can, since it competes
// with the gateway for the cores.
func serveSink(take func(body []byte)) (string, error) {
	addr, err := listen(func(conn net.Conn) { swallow(conn, take) })
	return "http://" + addr + "/", err
}

// listen serves connections until the process ends. It returns the address.
func listen(serve func(net.Conn)) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String(), nil
}

// swallow answers requests whose bodies have a length.
func swallow(conn net.Conn, take func(body []byte)) {
	r := bufio.NewReaderSize(conn, 8<<10)
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	var body []byte
	for length := 0; ; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		line = bytes.TrimRight(line, "\r\n")
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return
			}
		}
		if len(line) > 0 {
			continue
		}
		if take == nil {
			_, err = r.Discard(length)
		} else {
			body = append(body[:0], make([]byte, length)...)
			if _, err = io.ReadFull(r, body); err == nil {
				take(body)
			}
		}
		if err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
		length = 0
	}
}
