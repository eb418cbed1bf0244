//go:build rados

package rados

// #include "aio.h"
import "C"

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	ceph "github.com/ceph/go-ceph/rados"
	"golang.org/x/sync/semaphore"
)

// Config of a connection. The zero value connects by the default ceph.conf.
type Config struct {
	ConfFile string // path; default: where Ceph looks, such as /etc/ceph/ceph.conf
	User     string // without "client."; default: admin

	// Options of Ceph's configuration, over those of the file and ours.
	Options map[string]string

	MaxInFlight      int           // operations submitted at once; default 1000
	MaxInFlightBytes int64         // bytes that they read and write; default 64 MiB
	OpTimeout        time.Duration // after which the cluster's silence is ETIMEDOUT; whole seconds; 0: never
	ConnectTimeout   time.Duration // default 30 s
}

func (c *Config) setDefaults() {
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 1000)
	c.MaxInFlightBytes = cmp.Or(c.MaxInFlightBytes, 64<<20)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 30*time.Second)
}

// options of Ceph's configuration that follow from a Config. librados' own
// limits lie above the gate, so that submitting never blocks a thread.
func (c *Config) options() map[string]string {
	m := map[string]string{
		"objecter_inflight_ops":      strconv.Itoa(2*c.MaxInFlight + 100),
		"objecter_inflight_op_bytes": strconv.FormatInt(4*c.MaxInFlightBytes+1<<30, 10),
		"client_mount_timeout":       seconds(c.ConnectTimeout),
		// After this many seconds of silence librados asks whether the OSD
		// has moved, and looks this often whether it should: 10 and 5 by
		// default, for which operations would stand still after an OSD is back.
		"objecter_timeout":       "2",
		"objecter_tick_interval": "1",
	}
	if c.OpTimeout > 0 {
		m["rados_osd_op_timeout"] = seconds(c.OpTimeout)
		m["rados_mon_op_timeout"] = seconds(c.OpTimeout)
	}
	for k, v := range c.Options {
		m[k] = v
	}
	return m
}

// seconds rounds up to whole seconds: Ceph refuses others.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Conn is a connection to a cluster, which any number of IOs share. Its
// methods may be called concurrently.
type Conn struct {
	ceph      *ceph.Conn
	ops       *semaphore.Weighted
	bytes     *semaphore.Weighted
	maxBytes  int64
	bell      *bell
	inFlight  atomic.Int64
	waiting   atomic.Int64
	done      atomic.Uint64
	abandoned atomic.Uint64
	blocked   atomic.Uint64
	calls     atomic.Int64 // watches and notifications that librados has not ended

	mu     sync.Mutex // guards what follows
	closed bool
	users  int           // operations that use the connection, in Go or in C
	idle   chan struct{} // closed when users is 0 after closed
	ios    map[[2]string]*IO
}

// Connect connects to a cluster. It blocks a thread. When the context ends
// first, the attempt ends in the background within Config.ConnectTimeout.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	cfg.setDefaults()
	c, err := configure(cfg)
	if err != nil {
		return nil, err
	}
	result, left := make(chan error), make(chan struct{})
	go func() {
		err := c.Connect()
		select {
		case result <- err:
		case <-left:
			if err == nil {
				c.Shutdown()
			}
		}
	}()
	select {
	case err := <-result:
		if err != nil {
			return nil, fmt.Errorf("rados: connect: %w", cephError("connect", cfg.ConfFile, err))
		}
	case <-ctx.Done():
		close(left)
		return nil, fmt.Errorf("rados: connect: %w", context.Cause(ctx))
	}
	bell, err := newBell()
	if err != nil {
		c.Shutdown()
		return nil, fmt.Errorf("rados: connect: %w", err)
	}
	conn := &Conn{
		ceph: c, ops: semaphore.NewWeighted(int64(cfg.MaxInFlight)), bytes: semaphore.NewWeighted(cfg.MaxInFlightBytes),
		maxBytes: cfg.MaxInFlightBytes, bell: bell, idle: make(chan struct{}), ios: map[[2]string]*IO{},
	}
	go bell.listen(conn)
	return conn, nil
}

func configure(cfg Config) (*ceph.Conn, error) {
	C.herald_tune()
	c, err := ceph.NewConnWithUser(cmp.Or(cfg.User, "admin"))
	if err != nil {
		return nil, fmt.Errorf("rados: %w", err)
	}
	if cfg.ConfFile == "" {
		err = c.ReadDefaultConfigFile()
	} else {
		err = c.ReadConfigFile(cfg.ConfFile)
	}
	if err != nil {
		return nil, fmt.Errorf("rados: read the configuration %s: %w", cmp.Or(cfg.ConfFile, "where Ceph looks for it (/etc/ceph/ceph.conf, ...)"), err)
	}
	for k, v := range cfg.options() {
		if err := c.SetConfigOption(k, v); err != nil {
			return nil, fmt.Errorf("rados: set %s=%s: %w", k, v, err)
		}
	}
	return c, nil
}

// IO returns the IO of a namespace of a pool, the same one each time. The
// first call blocks a thread while it looks for the pool; ENOENT when there is
// none. It is closed with the connection.
func (c *Conn) IO(pool, namespace string) (*IO, error) {
	key := [2]string{pool, namespace}
	c.mu.Lock()
	io := c.ios[key]
	c.mu.Unlock()
	if io != nil {
		return io, nil
	}
	done, err := c.blocking()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, err := c.ceph.OpenIOContext(pool)
	if err != nil {
		return nil, cephError("open pool", pool, err)
	}
	ctx.SetNamespace(namespace)
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.ios[key]; other != nil {
		ctx.Destroy()
		return other, nil
	}
	io = &IO{Pool: pool, Namespace: namespace, conn: c, ctx: ctx}
	c.ios[key] = io
	return io, nil
}

// cephError makes an Error of one of go-ceph's.
func cephError(op, name string, err error) error {
	if e, ok := err.(interface{ ErrorCode() int }); ok {
		return &Error{Op: op, OID: name, Code: e.ErrorCode()}
	}
	return err
}

// ID is the connection's global id in the cluster: it is client.ID to others,
// for example as the holder of a lock.
func (c *Conn) ID() uint64 { return c.ceph.GetInstanceID() }

// FSID is the cluster's id.
func (c *Conn) FSID() (string, error) { return c.ceph.GetFSID() }

// MonCommand sends a command to the monitors, as the program ceph does, and
// returns what it printed. It blocks a thread.
func (c *Conn) MonCommand(command map[string]any) ([]byte, error) {
	text, err := json.Marshal(command)
	if err != nil {
		return nil, err
	}
	done, err := c.blocking()
	if err != nil {
		return nil, err
	}
	defer done()
	out, status, err := c.ceph.MonCommand(text)
	if err != nil {
		err = cephError("command", status, err)
	}
	return out, err
}

// Close refuses new operations, waits for those under way, and disconnects. An
// operation whose cluster does not answer holds Close until its context ends,
// or until Config.OpTimeout.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.idle
		return nil
	}
	c.closed = true
	if c.users == 0 {
		close(c.idle)
	}
	c.mu.Unlock()
	<-c.idle
	c.bell.close()
	if c.calls.Load() > 0 {
		return nil // a watch, for one, ends when an OSD answers, whenever that is: librados would use what we free
	}
	for _, io := range c.ios {
		io.ctx.Destroy()
	}
	c.ceph.Shutdown()
	return nil
}

// Stats is what a connection does. The counters grow from 0 at Connect.
type Stats struct {
	InFlight  int    // operations that librados has; at most Config.MaxInFlight and the urgent ones
	Waiting   int    // goroutines that wait for room to submit theirs
	Done      uint64 // operations that librados finished
	Abandoned uint64 // operations that were left because their context ended
	Blocking  uint64 // calls that blocked a thread: IO, Objects. A request makes none
}

// Stats returns what the connection does now.
func (c *Conn) Stats() Stats {
	return Stats{
		InFlight: int(c.inFlight.Load()), Waiting: int(c.waiting.Load()), Done: c.done.Load(),
		Abandoned: c.abandoned.Load(), Blocking: c.blocked.Load(),
	}
}

// enter keeps the connection open until leave.
func (c *Conn) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.users++
	return nil
}

func (c *Conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 && c.closed {
		close(c.idle)
	}
}

// blocking counts a call that blocks a thread, and keeps the connection open.
func (c *Conn) blocking() (done func(), err error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	c.blocked.Add(1)
	return c.leave, nil
}

// room is a share of the gate.
type room struct {
	bytes  int64
	urgent bool // took none
}

// acquire waits for room for an operation, and keeps the connection open until
// finish. The caller has entered.
func (c *Conn) acquire(ctx context.Context, r room) error {
	if !r.urgent {
		c.waiting.Add(1)
		defer c.waiting.Add(-1)
		if err := c.ops.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		if err := c.bytes.Acquire(ctx, min(r.bytes, c.maxBytes)); err != nil {
			c.ops.Release(1)
			return context.Cause(ctx)
		}
	}
	c.mu.Lock()
	c.users++
	c.mu.Unlock()
	c.inFlight.Add(1)
	return nil
}

// finish gives back what acquire took.
func (c *Conn) finish(r room) {
	c.inFlight.Add(-1)
	c.done.Add(1)
	if !r.urgent {
		c.bytes.Release(min(r.bytes, c.maxBytes))
		c.ops.Release(1)
	}
	c.leave()
}
