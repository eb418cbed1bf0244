package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisPusher appends each event to a stream, or publishes it to a channel. It is
// acked when the server has answered that.
type redisPusher struct {
	s       *redisSettings
	timeout time.Duration
	client  *redisClient
	letGo   func() error
}

var _ Pusher = (*redisPusher)(nil)

// redisPool is how many connections the topics with equal attributes have.
const redisPool = 16

// newRedisPusher makes one. It connects when there is something to send.
// Errors: ErrInvalidEndpoint.
func newRedisPusher(e Endpoint, u *url.URL) (*redisPusher, error) {
	s, err := redisSettingsOf(&e, u)
	if err != nil {
		return nil, err
	}
	p := &redisPusher{s: s, timeout: e.Timeout}
	key := e.sharedKey(append(redisArgs[:], tlsArgs[:]...)...)
	p.client, p.letGo = takeShared(e.shared, key, func() *redisClient { return newRedisClient(e, s) })
	return p, nil
}

// Close implements Pusher.
func (p *redisPusher) Close() error { return p.letGo() }

// Push implements Pusher.
func (p *redisPusher) Push(ctx context.Context, events []Event) []Result {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return pushInOrder(events, func(wave []int, results []Result) {
		errs := p.client.run(ctx, func(c redis.Pipeliner) {
			for _, i := range wave {
				p.command(ctx, c, &events[i])
			}
		}, len(wave))
		for n, i := range wave {
			if errs[n] != nil {
				results[i] = Result{Retry, redisError(errs[n])}
			}
		}
	})
}

// command adds an event's command to those that are sent together.
func (p *redisPusher) command(ctx context.Context, c redis.Pipeliner, e *Event) {
	if !p.s.stream {
		c.Publish(ctx, p.s.key, e.Message())
		return
	}
	fields := []any{"id", e.ID, "bucket", e.Bucket, "key", e.Object, "message", e.Message()}
	if e.TraceParent != "" {
		fields = append(fields, "traceparent", e.TraceParent)
		if e.TraceState != "" {
			fields = append(fields, "tracestate", e.TraceState)
		}
	}
	c.XAdd(ctx, &redis.XAddArgs{Stream: p.s.key, MaxLen: p.s.maxLen, Approx: p.s.maxLen > 0, Values: fields})
}

// redisClient is the client of all topics with equal attributes.
type redisClient struct {
	client *redis.Client

	mu     sync.Mutex // guards closed
	closed bool
	wg     sync.WaitGroup // of commands
}

func newRedisClient(e Endpoint, s *redisSettings) *redisClient {
	return &redisClient{client: redis.NewClient(&redis.Options{
		Addr: s.addr, Username: s.user, Password: s.password, DB: s.db,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return redisDial(ctx, &e, s, network, addr)
		},
		OnConnect: redisGreet,
		Protocol:  2, DisableIdentity: true, ContextTimeoutEnabled: true,
		// A command that was sent again after a lost answer could overtake: the
		// dispatcher repeats.
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: e.ConnectTimeout, ReadTimeout: e.Timeout, WriteTimeout: e.Timeout,
		PoolSize: redisPool, PoolTimeout: e.Timeout, ConnMaxIdleTime: time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
}

// redisGreet asks whether the server lets us in: it would answer an event with a
// protocol error, and hang up. A user who may not ask that is let in.
func redisGreet(ctx context.Context, conn *redis.Conn) error {
	if err := conn.Ping(ctx).Err(); err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
		return err
	}
	return nil
}

// redisDial connects, with TLS where it is wanted. Files are read each time.
func redisDial(ctx context.Context, e *Endpoint, s *redisSettings, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.ConnectTimeout)
	defer cancel()
	conn, err := e.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &connectError{err}
	}
	if !s.secure {
		return conn, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err == nil {
		var config *tls.Config
		if config, err = e.tlsConfig(host); err == nil {
			secure := tls.Client(conn, config)
			if err = secure.HandshakeContext(ctx); err == nil {
				return secure, nil
			}
		}
	}
	_ = conn.Close()
	return nil, &connectError{fmt.Errorf("TLS: %w", err)}
}

// connectError is why there is no connection: nothing of it is the server's.
type connectError struct{ err error }

// Error implements error.
func (e *connectError) Error() string { return "connect: " + e.err.Error() }

// Unwrap returns the cause.
func (e *connectError) Unwrap() error { return e.err }

var (
	errRedisClosed = errors.New("the connection was closed")
	errRedisSilent = errors.New("no answer")
)

// run has commands sent together, and returns what became of each. It does not
// wait longer than ctx, which the client library minds only while it waits for
// the server: what was sent may be done later nevertheless.
func (c *redisClient) run(ctx context.Context, add func(redis.Pipeliner), n int) []error {
	errs := make([]error, n)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		failAll(errs, errRedisClosed)
		return errs
	}
	done := make(chan []error, 1)
	c.wg.Go(func() {
		pipe := c.client.Pipeline()
		add(pipe)
		cmds, err := pipe.Exec(ctx)
		got, told := make([]error, n), err == nil
		for i := range min(len(cmds), n) {
			got[i] = cmds[i].Err()
			told = told || got[i] != nil
			if id, ok := cmds[i].(*redis.StringCmd); ok && got[i] == nil && id.Val() == "" {
				got[i] = errRedisSilent
			}
		}
		if !told || len(cmds) != n { // nothing was sent, of which the commands know nothing
			failAll(got, err)
		}
		done <- got
	})
	c.mu.Unlock()
	select {
	case errs = <-done:
	case <-ctx.Done():
		failAll(errs, ctx.Err())
	}
	return errs
}

func failAll(errs []error, err error) {
	if err == nil {
		err = errRedisSilent
	}
	for i := range errs {
		errs[i] = err
	}
}

// Close ends the connections: what is in flight fails.
func (c *redisClient) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.client.Close()
	c.wg.Wait()
	return err
}

// redisRefusals explain what a server answers, by the first word. It is never
// written.
var redisRefusals = [...]struct{ word, why string }{
	{"OOM", "the server's memory is full"},
	{"READONLY", "the server is a replica, and takes no writes"},
	{"LOADING", "the server is loading its data"},
	{"MASTERDOWN", "the server is a replica whose master is down"},
	{"NOREPLICAS", "the server has too few replicas to take writes"},
	{"MISCONF", "the server cannot write to its disk, and takes no writes"},
	{"BUSY", "the server runs a script that does not end"},
	{"NOAUTH", "the server wants a password"},
	{"WRONGPASS", "user or password are wrong, or the user is disabled"},
	{"NOPERM", "the user may not write there"},
	{"WRONGTYPE", "the key holds no stream"},
	{"MOVED", "the key is at another server of a cluster"},
	{"CLUSTERDOWN", "the cluster is down"},
}

// redisError makes an error of the client library one that may be logged: it may
// have what a server said in it.
func redisError(err error) error {
	var (
		refusal redis.Error
		failed  *connectError
	)
	switch {
	case errors.As(err, &failed):
		return failed
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, redis.ErrClosed):
		return errRedisClosed
	case errors.As(err, &refusal):
		return redisRefusal(refusal.Error())
	}
	if gone(err) {
		return hungUp(err)
	}
	return errors.New(tidy(err.Error()))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// redisRefusal is what a server's answer means.
func redisRefusal(answer string) error {
	for _, r := range redisRefusals {
		if answer == r.word || strings.HasPrefix(answer, r.word+" ") {
			return fmt.Errorf("%s: %s", r.word, r.why)
		}
	}
	return fmt.Errorf("the server refused the event: %s", tidy(answer))
}
