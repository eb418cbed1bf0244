package redistest

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// CuttingProxy passes a client's commands to a server, and loses replies: the
// n-th command that counts reaches the server and is executed there, but its
// connection is cut before the reply is passed on.
type CuttingProxy struct {
	Addr string

	raw bool // commands are not read
	l   net.Listener
	wg  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	backend string
	conns   map[net.Conn]bool
	closed  bool
	paused  chan struct{} // closed by Resume; nil when not paused
	match   func(name string, raw []byte) bool
	left    int // commands until the next cut
	every   int // what left is set to after a cut
	more    int // cuts to come
	cuts    int
	seen    int
}

// StartCuttingProxy starts a proxy in front of the server at addr.
func StartCuttingProxy(t testing.TB, addr string) *CuttingProxy {
	t.Helper()
	return startProxy(t, addr, false)
}

// StartLink starts a proxy that passes on what it does not understand, as
// between a master and its replica: it can only be paused and cut.
func StartLink(t testing.TB, addr string) *CuttingProxy {
	t.Helper()
	return startProxy(t, addr, true)
}

func startProxy(t testing.TB, addr string, raw bool) *CuttingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &CuttingProxy{Addr: l.Addr().String(), backend: addr, raw: raw, l: l, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *CuttingProxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *CuttingProxy) close() {
	_ = p.l.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Resume()
	p.CutAll()
	p.wg.Wait()
}

// CutAll cuts all connections now.
func (p *CuttingProxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// CutAfter cuts once: at the n-th command from now on.
func (p *CuttingProxy) CutAfter(n int) { p.arm(n, 1) }

// CutEvery cuts at each n-th command, until it is called with 0.
func (p *CuttingProxy) CutEvery(n int) { p.arm(n, math.MaxInt) }

// CutNext cuts at each of the next n commands.
func (p *CuttingProxy) CutNext(n int) { p.arm(1, n) }

func (p *CuttingProxy) arm(every, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if every == 0 {
		more = 0
	}
	p.left, p.every, p.more, p.seen = every, every, more, 0
}

// Match has only those commands count for which f answers true; raw is how they
// came. Without it all count but those of the client library's own.
func (p *CuttingProxy) Match(f func(name string, raw []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match = f
}

// Cuts is how often a reply was lost.
func (p *CuttingProxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Seen is how many commands came that count, since the last CutAfter or
// CutEvery.
func (p *CuttingProxy) Seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// SetBackend has connections from now on go to another server, and cuts those
// that there are.
func (p *CuttingProxy) SetBackend(addr string) {
	p.mu.Lock()
	p.backend = addr
	p.mu.Unlock()
	p.CutAll()
}

// Pause holds back what the server sends, on all connections, until Resume.
func (p *CuttingProxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

// Resume ends a Pause.
func (p *CuttingProxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

func (p *CuttingProxy) waitPaused() {
	p.mu.Lock()
	paused := p.paused
	p.mu.Unlock()
	if paused != nil {
		<-paused
	}
}

// counts is whether a command is one of the driver's own, not of the client
// library's greeting.
func counts(name string) bool {
	switch strings.ToUpper(name) {
	case "HELLO", "AUTH", "CLIENT", "SELECT", "PING", "CONFIG", "INFO", "SUBSCRIBE", "UNSUBSCRIBE", "COMMAND", "READONLY":
		return false
	}
	return true
}

// transaction is what one connection has between MULTI and EXEC.
type transaction struct {
	open    bool
	matched bool
}

// matches tells whether a command counts. A transaction counts as one command,
// its EXEC, if one of its commands would.
func (p *CuttingProxy) matches(tx *transaction, name string, raw []byte) bool {
	match := p.match != nil && p.match(name, raw) || p.match == nil && counts(name)
	switch strings.ToUpper(name) {
	case "MULTI":
		*tx = transaction{open: true}
		return false
	case "EXEC":
		match = tx.matched
		*tx = transaction{}
		return match
	}
	if !tx.open {
		return match
	}
	tx.matched = tx.matched || match
	return false
}

// cutNow counts a command and tells whether its reply is to be lost.
func (p *CuttingProxy) cutNow(tx *transaction, name string, raw []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.matches(tx, name, raw) {
		return false
	}
	p.seen++
	if p.more == 0 {
		return false
	}
	if p.left--; p.left > 0 {
		return false
	}
	p.left = p.every
	p.more--
	p.cuts++
	return true
}

func (p *CuttingProxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *CuttingProxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = c.Close()
	delete(p.conns, c)
}

func (p *CuttingProxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.forget(client)
	p.mu.Lock()
	backend := p.backend
	p.mu.Unlock()
	server, err := net.Dial("tcp", backend)
	if err != nil || !p.track(server) {
		return
	}
	defer p.forget(server)
	if p.raw {
		p.copy(client, server)
		return
	}
	lose := make(chan bool, 1<<16) // per command: whether its reply is lost
	p.wg.Go(func() {
		p.replies(client, server, lose)
		p.forget(client)
		p.forget(server)
	})
	r := bufio.NewReaderSize(client, 64<<10)
	var tx transaction
	for {
		name, raw, err := readCommand(r)
		if err != nil {
			return
		}
		lose <- p.cutNow(&tx, name, raw)
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

// copy passes on bytes, both ways.
func (p *CuttingProxy) copy(client, server net.Conn) {
	p.wg.Go(func() {
		_, _ = io.Copy(server, client) // one of the two has ended
		p.forget(client)
		p.forget(server)
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		p.waitPaused()
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// replies passes replies on, up to the one that is lost.
func (p *CuttingProxy) replies(client, server net.Conn, lose chan bool) {
	r := bufio.NewReaderSize(server, 64<<10)
	for {
		raw, err := readReply(r, nil)
		if err != nil {
			return
		}
		p.waitPaused()
		select {
		case lost := <-lose:
			if lost {
				return
			}
		default: // a message that nobody asked for
		}
		if _, err := client.Write(raw); err != nil {
			return
		}
	}
}

// readCommand reads a command as clients send it: an array of strings.
func readCommand(r *bufio.Reader) (name string, raw []byte, err error) {
	raw, err = readReply(r, nil)
	if err != nil {
		return "", nil, err
	}
	parts := strings.SplitN(string(raw[:min(len(raw), 100)]), "\r\n", 4)
	if len(parts) < 3 {
		return "", raw, nil
	}
	return parts[2], raw, nil
}

// readReply reads one value of the Redis protocol and appends its bytes.
func readReply(r *bufio.Reader, raw []byte) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	if len(line) < 3 {
		return nil, fmt.Errorf("line %q", line)
	}
	kind, number := line[0], 0
	switch kind {
	case '$', '!', '=', '*', '~', '>', '%', '|':
		if number, err = strconv.Atoi(string(line[1 : len(line)-2])); err != nil {
			return nil, err
		}
	}
	switch kind {
	case '$', '!', '=':
		if number < 0 {
			return raw, nil
		}
		n := len(raw)
		raw = append(raw, make([]byte, number+2)...)
		_, err := io.ReadFull(r, raw[n:])
		return raw, err
	case '%', '|':
		number *= 2
	}
	for range number {
		if raw, err = readReply(r, raw); err != nil {
			return nil, err
		}
	}
	return raw, nil
}
