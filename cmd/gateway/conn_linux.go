package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// httpBuffer is the size of net/http's write buffer for a connection.
const httpBuffer = 4 << 10

// moreListener accepts connections that send a small answer in one segment.
//
// net/http writes head and body through a buffer of 4 KiB. An answer that is a
// little larger is two writes, and each wakes the client: for a GET of a 4 KiB
// object that is a fifth of all the work. A write of exactly a full buffer is
// one that more will follow; the kernel is told so (MSG_MORE), and waits for it,
// at most 200 ms. `bench/run.sh -run get` measures it.
type moreListener struct{ net.Listener }

func (l moreListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return &moreConn{tcp}, nil
}

// moreConn embeds the connection so that sendfile still works.
type moreConn struct{ *net.TCPConn }

// Write implements net.Conn.
func (c *moreConn) Write(p []byte) (int, error) {
	if len(p) != httpBuffer {
		return c.TCPConn.Write(p)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return c.TCPConn.Write(p)
	}
	n := 0
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		n, sendErr = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		return sendErr != unix.EAGAIN
	})
	if err == nil && sendErr == nil && n == len(p) {
		return n, nil
	}
	// Whatever it was, an ordinary write meets it again, and reports it.
	n = max(n, 0)
	m, err := c.TCPConn.Write(p[n:])
	return n + m, err
}
