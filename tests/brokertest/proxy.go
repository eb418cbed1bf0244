package brokertest

import (
	"net"
	"sync"
	"testing"
)

// Proxy passes TCP connections on to a server. It can cut them, take no more of
// them, and swallow what the server sends.
type Proxy struct {
	Addr string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex // guards all below
	conns   map[net.Conn]bool
	made    int // connections so far
	open    int // connections now
	refuse  bool
	swallow bool
}

// NewProxy starts one, and ends it with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy starts one, which the caller closes.
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, listener: l, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	return p, nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.Refuse()
	p.wg.Wait()
}

// Cut drops all connections, with what is on its way.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset
		}
		_ = c.Close()
	}
}

// Refuse cuts all connections and closes new ones at once.
func (p *Proxy) Refuse() { p.set(true, false) }

// Swallow loses what the server sends from now on.
func (p *Proxy) Swallow() { p.set(false, true) }

// Restore ends Refuse and Swallow.
func (p *Proxy) Restore() { p.set(false, false) }

func (p *Proxy) set(refuse, swallow bool) {
	p.mu.Lock()
	cut := refuse || p.swallow && !swallow // what was lost is lost
	p.refuse, p.swallow = refuse, swallow
	p.mu.Unlock()
	if cut {
		p.Cut()
	}
}

// Connections is how many there were so far.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// Open is how many there are.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

// serve passes one connection on, until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.forget(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.track(server) {
		return
	}
	defer p.forget(server)
	p.count(1)
	defer p.count(-1)
	p.wg.Go(func() {
		p.pass(server, client, false)
		p.forget(client)
		p.forget(server)
	})
	p.pass(client, server, true)
}

// pass copies one direction.
func (p *Proxy) pass(to, from net.Conn, answers bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if answers && p.lost() {
			n = 0
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *Proxy) lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = c.Close()
	delete(p.conns, c)
}

func (p *Proxy) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open += n
	p.made += max(n, 0)
}
