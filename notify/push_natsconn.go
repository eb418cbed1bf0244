package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// natsLink is the connection of all topics with equal attributes to a NATS
// server. It is made when somebody needs it, and again when it broke: the client
// library's own reconnecting, which keeps messages meanwhile, is off.
type natsLink struct {
	e     Endpoint
	s     *natsSettings
	slots chan struct{} // holds a token per event in flight

	ctx  context.Context // of attempts to connect; done when closed
	stop context.CancelFunc
	wg   sync.WaitGroup // of attempts

	mu       sync.Mutex // guards all below
	conn     *natsConn  // nil: none, or it broke
	attempt  *natsAttempt
	failures int       // attempts that failed since the last that did not
	until    time.Time // none before
}

// natsAttempt is one to connect, which all that need a connection wait for.
type natsAttempt struct {
	done chan struct{} // closed at its end
	conn *natsConn
	err  error
}

const (
	// natsInFlight bounds the events that a connection has on their way.
	natsInFlight = 1024
	// natsPing is the pause between the pings of an idle connection; one that
	// has not answered two is broken.
	natsPing = 5 * time.Second
	// natsPause is the longest pause between attempts to connect.
	natsPause = time.Second
)

var (
	errNATSClosed = errors.New("the connection was closed")
	errNATSBroken = errors.New("the connection broke")
)

func newNATSLink(e Endpoint, s *natsSettings) *natsLink {
	ctx, stop := context.WithCancel(context.Background())
	return &natsLink{e: e, s: s, slots: make(chan struct{}, natsInFlight), ctx: ctx, stop: stop}
}

// Close ends the connection: what is in flight fails.
func (l *natsLink) Close() error {
	l.mu.Lock()
	l.stop()
	l.mu.Unlock()
	l.wg.Wait()
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		c.close()
	}
	return nil
}

func (l *natsLink) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *natsLink) release() { <-l.slots }

// get returns the connection, or waits for one.
func (l *natsLink) get(ctx context.Context) (*natsConn, error) {
	l.mu.Lock()
	if l.conn != nil && l.conn.broken() {
		l.conn = nil
	}
	if l.conn != nil || l.ctx.Err() != nil {
		defer l.mu.Unlock()
		if l.conn == nil {
			return nil, errNATSClosed
		}
		return l.conn, nil
	}
	if l.attempt == nil {
		l.attempt = &natsAttempt{done: make(chan struct{})}
		a, pause := l.attempt, time.Until(l.until)
		l.wg.Go(func() { l.try(a, pause) })
	}
	a := l.attempt
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connect: %w", natsError(ctx.Err()))
	}
}

// try connects, after a pause.
func (l *natsLink) try(a *natsAttempt, pause time.Duration) {
	if a.err = sleep(l.ctx, pause); a.err == nil {
		a.conn, a.err = l.connect()
	}
	if l.ctx.Err() != nil {
		if a.conn != nil {
			a.conn.close()
		}
		a.conn, a.err = nil, errNATSClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.attempt = a.conn, nil
	if a.err == nil {
		l.failures, l.until = 0, time.Time{}
	} else {
		l.until = time.Now().Add(backoff(l.failures, natsPause))
		l.failures++
	}
	close(a.done)
}

// failed lets go of a connection that an error says is of no use any more.
func (l *natsLink) failed(c *natsConn, err error) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return // pings will tell
	}
	l.mu.Lock()
	if l.conn == c {
		l.conn = nil
	}
	l.mu.Unlock()
	c.close()
}

// connect makes a connection to the first server that takes it.
func (l *natsLink) connect() (*natsConn, error) {
	c := &natsConn{gone: make(chan struct{}), waiting: make(map[*natsWait]bool)}
	var dialed error // the last one's
	opts, err := l.options()
	if err != nil {
		return nil, err
	}
	opts.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refused(err) }
	opts.ClosedCB = func(*nats.Conn) { c.end() }
	opts.CustomDialer = natsDial(func(network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(l.ctx, l.e.ConnectTimeout)
		defer cancel()
		conn, err := l.e.DialContext(ctx, network, addr)
		dialed = err
		if err == nil {
			c.dialed(conn)
		}
		return conn, err
	})
	stop := context.AfterFunc(l.ctx, c.cut)
	c.nc, err = opts.Connect()
	stop()
	switch {
	case err == nil:
		return c, nil
	case dialed != nil:
		return nil, fmt.Errorf("connect: %w", dialed)
	}
	return nil, fmt.Errorf("connect: %w", natsError(err))
}

// natsDial is a function as the client library's CustomDialer.
type natsDial func(network, addr string) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (d natsDial) Dial(network, addr string) (net.Conn, error) { return d(network, addr) }

// options are those of a connection. Files are read for each.
func (l *natsLink) options() (*nats.Options, error) {
	opts := nats.GetDefaultOptions()
	for _, server := range l.s.servers {
		opts.Servers = append(opts.Servers, "nats://"+server)
	}
	opts.Name = "herald"
	opts.AllowReconnect, opts.IgnoreDiscoveredServers = false, true
	opts.SkipHostLookup, opts.NoEcho = true, true
	opts.Timeout, opts.FlusherTimeout = l.e.ConnectTimeout, l.e.Timeout
	opts.PingInterval, opts.MaxPingsOut, opts.ReconnectOnFlusherError = natsPing, 2, true
	opts.InboxPrefix = l.s.inbox
	opts.User, opts.Password, opts.Token = l.s.user, l.s.password, l.s.token
	opts.Secure = l.s.secure
	var err error
	if opts.TLSConfig, err = l.e.tlsConfig(""); err != nil { // also where the server wants it
		return nil, err
	}
	switch {
	case l.s.credentials != "":
		err = l.credentials(&opts)
	case l.s.nkey != "":
		err = l.nkey(&opts)
	}
	return &opts, err
}

func (l *natsLink) credentials(opts *nats.Options) error {
	creds, err := l.e.readSmallFile(l.s.credentials)
	if err == nil {
		err = nats.UserCredentialBytes(creds)(opts)
	}
	if err == nil { // else the client would tell only when the server asks
		_, err = opts.UserJWT()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", argNATSCredentials, err)
	}
	return nil
}

func (l *natsLink) nkey(opts *nats.Options) error {
	seed, err := l.e.readSmallFile(l.s.nkey)
	if err != nil {
		return fmt.Errorf("%s: %w", argNATSNKey, err)
	}
	keys, err := nkeys.ParseDecoratedNKey(seed)
	if err == nil {
		opts.Nkey, err = keys.PublicKey()
		opts.SignatureCB = keys.Sign
	}
	if err != nil {
		return fmt.Errorf("%s: %w", argNATSNKey, err)
	}
	return nil
}

// natsConn is one connection.
type natsConn struct {
	nc   *nats.Conn
	gone chan struct{} // closed when it broke or was closed
	once sync.Once     // closes gone

	mu      sync.Mutex // guards all below
	raw     net.Conn   // below TLS
	severed bool       // cut was called
	waiting map[*natsWait]bool
}

// natsWait is a request that waits for its answer.
type natsWait struct {
	subject string
	cancel  context.CancelCauseFunc
}

func (c *natsConn) end() { c.once.Do(func() { close(c.gone) }) }

func (c *natsConn) broken() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// dialed notes the connection that cut closes.
func (c *natsConn) dialed(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = conn
	if c.severed {
		_ = conn.Close()
	}
}

// cut ends the connection at once, whatever the client library does with it.
func (c *natsConn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.severed = true
	if c.raw != nil {
		_ = c.raw.Close()
	}
}

func (c *natsConn) close() {
	c.end()
	c.cut() // else Close would wait until all is written
	c.nc.Close()
}

// natsGrace is how much longer than its context a call may take.
const natsGrace = 100 * time.Millisecond

// guarded calls f, which minds ctx but for writing: a server that does not read
// may hold that up, and with it every use of the connection. Then it is cut.
func (c *natsConn) guarded(ctx context.Context, f func() error) error {
	done := make(chan struct{})
	defer close(done)
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(natsGrace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			c.cut()
		}
	})()
	err := f()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// request publishes a message and waits for the answer.
func (c *natsConn) request(ctx context.Context, msg *nats.Msg) (answer *nats.Msg, err error) {
	waitCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &natsWait{msg.Subject, cancel}
	c.mu.Lock()
	c.waiting[w] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, w)
		c.mu.Unlock()
	}()
	err = c.guarded(ctx, func() (err error) {
		answer, err = c.nc.RequestMsgWithContext(waitCtx, msg)
		return err
	})
	switch cause := context.Cause(waitCtx); {
	case err == nil:
		return answer, nil
	case ctx.Err() == nil && cause != nil:
		return nil, cause // refused
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
		c.end()
		if last := c.nc.LastError(); last != nil {
			return nil, last
		}
		return nil, errNATSBroken
	}
	return nil, err
}

// refused ends the requests that a server's refusal is about: it names a
// subject, but no message.
func (c *natsConn) refused(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	deaf := !strings.Contains(err.Error(), "Publish to") // no answer can come
	c.mu.Lock()
	for w := range c.waiting {
		if deaf || strings.Contains(err.Error(), fmt.Sprintf("Publish to %q", w.subject)) {
			w.cancel(err)
		}
	}
	c.mu.Unlock()
	if deaf {
		c.end()
		c.cut()
	}
}
