package processtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
)

// given are the ports that this process was given, each with the socket by which
// others know.
var given sync.Map

// FreeAddress returns a loopback address with a port that is free, and that stays
// this process's until it ends, whether a server listens or not: other test
// binaries run at the same time, and would start theirs there before this one's
// listens, or while it is restarted. The ports that are so much above are free
// likewise. All are below those that a system hands out by itself (from 32768 on
// Linux, 49152 elsewhere), so that no connection and no listener on port 0 takes
// them.
func FreeAddress(above ...int) (string, error) {
	above = append(above, 0)
	for range 1000 {
		port := 10_000 + rand.IntN(20_000-slices.Max(above))
		if !slices.ContainsFunc(above, func(n int) bool { return !take(port + n) }) {
			return address(port), nil
		}
	}
	return "", errors.New("no port from 10000 to 29999 is free")
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// take makes a TCP port this process's by the UDP port of the same number, which no
// server that tests start listens on.
func take(port int) bool {
	mark, err := net.ListenPacket("udp", address(port))
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		_ = mark.Close() // nobody wrote to it
		return false
	}
	_ = l.Close()           // nobody connected
	given.Store(port, mark) // what nothing refers to would be closed
	return true
}
