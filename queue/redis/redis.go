// Package redis keeps queues and locks in Redis 6.0 or later, or what speaks
// like it: one server, a pair under Sentinels, or a Cluster. Several gateways
// can share them.
//
// Every change is one Lua script on the server, with its contract in
// scripts/*.lua; all keys of a queue are in one hash slot. A script decides,
// changes and counts in one step, so that what is counted cannot part from
// what is there. Ids of reservations are chosen by this driver and calls that
// end one carry a token, so that a call can be sent again when its answer was
// lost: the server tells a repetition from a new call. Of ended reservations it
// remembers those of the last two minutes at least, or where they are more the
// last 100,000 at least; a repetition later than that finds no such reservation,
// and changes nothing either.
//
// Calls that run at the same time are sent together, by as few scripts as they
// have queues, because the server flushes its file once for all that it finds
// waiting.
//
// Durable is what the server makes durable: with appendonly yes and
// appendfsync always a call that returned survives the end of the server's
// machine; Open looks. A failover to a replica can lose what the replica did
// not have: WaitReplicas has each change wait for replicas. Losses are noticed
// by the numbers that writes have in each server's term, and told: see Losses.
//
// The clock of the server alone decides about time stamps and leases.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
)

// Options of a Driver. The zero value is valid.
type Options struct {
	// Namespace is put before all keys. Default: that of the URL, or "herald".
	Namespace string
	// RequireAOF has Open refuse a server that does not write and flush its
	// append-only file with every change, or does not tell. Else it warns. So
	// does Reserve, when a failover was to such a server, while that is so.
	RequireAOF bool
	// WaitReplicas is how many replicas must have received a change before a
	// call returns. Fewer are an error, and the call is repeated. Default: 0.
	WaitReplicas int
	// WaitTimeout is how long one try waits for them. Default: 1 s.
	WaitTimeout time.Duration
	// TLSCA, TLSCert and TLSKey are files in PEM, for rediss: the authorities
	// that may sign the servers' certificates (default: the system's), and the
	// certificate to show to servers that want one.
	TLSCA, TLSCert, TLSKey string
	// Logger gets warnings and losses. Default: slog.Default().
	Logger *slog.Logger
	// Now is this process's clock. Default: time.Now.
	Now func() time.Time
}

// Timeouts of one try.
const (
	dialTimeout = 5 * time.Second
	callTimeout = 10 * time.Second
)

// Driver is a queue.Driver over Redis.
type Driver struct {
	opts      Options
	log       *slog.Logger
	namespace string // encoded
	client    goredis.UniversalClient
	cluster   *goredis.ClusterClient // nil when it is not one
	mayInfo   bool                   // INFO is allowed
	waiters   *waiters
	doubts    doubts
	refused   atomic.Pointer[error] // why nothing is to be reserved; nil: it is

	ctx    context.Context // ends with Close: only for work that no caller waits for
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	nodes    map[*goredis.Client]*node
	pasts    map[string]*past // by id of the queue
	surveyed map[string]bool  // by term
	losses   []Loss
	lost     uint64
}

// node is a master, or the name of one that a Sentinel watches.
type node struct {
	client *goredis.Client
	clock  clock
	lane   lane
}

var (
	_ queue.Driver = (*Driver)(nil)
)

// Open connects to what the URL names; see the forms at parseURL: redis://,
// redis+sentinel://, redis+cluster://, and each with rediss for TLS. It fails
// when no server answers.
func Open(ctx context.Context, url string, opts Options) (*Driver, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if opts.Namespace == "" {
		opts.Namespace = t.namespace
	}
	if opts.Namespace == "" {
		opts.Namespace = "herald"
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.WaitTimeout <= 0 {
		opts.WaitTimeout = time.Second
	}
	config, err := opts.tls(t)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		opts: opts, log: opts.Logger, namespace: tag(opts.Namespace), waiters: newWaiters(),
		nodes: make(map[*goredis.Client]*node), pasts: make(map[string]*past), surveyed: make(map[string]bool),
	}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.connect(t, config)
	if err := d.examine(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open queues on redis: %w", err), d.Close())
	}
	return d, nil
}

// connect makes the client; nothing is sent. It repeats nothing by itself, nor
// follows a Cluster's redirections: call does.
func (d *Driver) connect(t target, config *tls.Config) {
	u := &goredis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, MasterName: t.master, IsClusterMode: t.form == formCluster,
		Username: t.username, Password: t.password,
		SentinelUsername: t.sentinelUsername, SentinelPassword: t.sentinelPassword,
		Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: callTimeout + d.opts.WaitTimeout, WriteTimeout: callTimeout,
		TLSConfig: config,
	}
	switch t.form {
	case formCluster:
		d.cluster = goredis.NewClusterClient(u.Cluster())
		d.client = d.cluster
	case formSentinel:
		d.client = goredis.NewFailoverClient(u.Failover())
	default:
		d.client = goredis.NewClient(u.Simple())
	}
}

// Locker returns a locker on the same servers.
func (d *Driver) Locker() queue.Locker { return (*locker)(d) }

// closePatience is how long Close waits for a server that does not answer.
const closePatience = 2 * time.Second

// Close waits for what runs, for a server that does not answer a short while.
// Calls that still repeat end with an error.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	ended := make(chan struct{})
	go func() { d.wg.Wait(); close(ended) }()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-ended:
		return d.client.Close()
	case <-timer.C:
	}
	err := d.client.Close() // what was sent ends with an error
	<-ended
	return err
}

// spawn runs f beside, unless the driver is closed; Close waits for it.
func (d *Driver) spawn(f func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.wg.Go(f)
	return nil
}

var errClosed = errors.New("the driver is closed")

// node returns the master that holds the key.
func (d *Driver) node(ctx context.Context, key string) (*node, error) {
	client, ok := d.client.(*goredis.Client)
	if !ok {
		var err error
		if client, err = d.cluster.MasterForKey(ctx, key); err != nil {
			return nil, fmt.Errorf("find the master: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[client]
	if n == nil {
		n = &node{client: client}
		n.lane.d, n.lane.n = d, n
		d.nodes[client] = n
	}
	return n, nil
}

// eachMaster calls f for every master.
func (d *Driver) eachMaster(ctx context.Context, f func(context.Context, *goredis.Client) error) error {
	if d.cluster != nil {
		return d.cluster.ForEachMaster(ctx, f)
	}
	return f(ctx, d.client.(*goredis.Client))
}
