package processtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// given are the ports that this process was given.
var given sync.Map

// FreeAddress returns a loopback address with a port that is free now. It is
// below those that a system hands out by itself (from 32768 on Linux, 49152
// elsewhere), so that no connection and no listener on port 0 takes it before
// the server that it is for.
func FreeAddress() (string, error) {
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		return addr, l.Close()
	}
	return "", errors.New("no port from 10000 to 29999 is free")
}
