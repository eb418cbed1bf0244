package main

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
)

// sink is an HTTP endpoint that answers 200 at once. Like the clients it does as
// little as it can, since it competes with the gateway for the cores.
func (b *bench) sink() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { // until the process ends
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go swallow(conn)
		}
	}()
	return "http://" + l.Addr().String() + "/", nil
}

// swallow answers requests whose bodies have a length.
func swallow(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 8<<10)
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
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
		if _, err := r.Discard(length); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
		length = 0
	}
}
