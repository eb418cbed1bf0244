//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// Options of a Driver. Pool is required.
type Options struct {
	// Config is how to reach the cluster. OpTimeout is 30 s by default here,
	// and 5 s at least: librados takes some seconds to notice that an OSD is
	// back elsewhere.
	Config librados.Config
	// Pool holds heads, indexes and all else that has an omap: a replicated
	// pool.
	Pool string
	// DataPool holds what is long of objects; it may be erasure-coded.
	// Default: Pool.
	DataPool string
	// Namespace in both pools. Default: the one without a name.
	Namespace string
	// KeepReplaced is for how long the bytes of large objects remain after
	// they were removed or overwritten, for readers at other gateways; less
	// long when there is much of it. Default: a minute.
	KeepReplaced time.Duration
	// Logger gets what happens behind requests. Default: slog.Default.
	Logger *slog.Logger
	// Fault, for tests, is called at named points, and may fail what is done
	// there. Default: none.
	Fault func(point string) error
}

// grace is how long Close lets what runs behind requests go on.
const grace = 30 * time.Second

// Driver keeps buckets in a namespace of one or two pools.
type Driver struct {
	opts    Options
	gateway string // id of this process
	log     *slog.Logger
	conn    *librados.Conn
	heads   *librados.IO // everything but tails
	data    *librados.IO // tails
	bg      *background
	clock   clock
	locks   *keyLocks
	changed *changeCounts
	readers *readers
	trash   *trash
	buffers buffers
	hints   *hints
	// tailRoom has an element for each tail that is being written.
	tailRoom chan struct{}
	// aheadRoom has one for each piece that is read ahead.
	aheadRoom chan struct{}
	// compressor is made when it is first needed.
	compressor func() *compressor
	records    *records
	roots      *omapCache
	ops        *ops

	mu           sync.Mutex // guards what follows
	indexes      map[string]*index
	uploadSweeps map[string]time.Time // by bucket id
}

var _ store.Driver = (*Driver)(nil)

// Open connects to a cluster. The pools have to be there.
func Open(ctx context.Context, opts Options) (*Driver, error) {
	if opts.Pool == "" {
		return nil, errors.New("open store: no pool is named")
	}
	opts.DataPool = cmp.Or(opts.DataPool, opts.Pool)
	opts.Logger = cmp.Or(opts.Logger, slog.Default())
	opts.Config.OpTimeout = max(cmp.Or(opts.Config.OpTimeout, 30*time.Second), 5*time.Second)
	opts.KeepReplaced = cmp.Or(opts.KeepReplaced, time.Minute)
	if opts.Fault == nil {
		opts.Fault = func(string) error { return nil }
	}
	conn, err := librados.Connect(ctx, opts.Config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &Driver{
		opts: opts, gateway: newID(), log: opts.Logger, conn: conn, bg: newBackground(),
		locks: newKeyLocks(), changed: newChangeCounts(), readers: newReaders(), hints: newHints(), indexes: make(map[string]*index),
		uploadSweeps: make(map[string]time.Time), compressor: sync.OnceValue(newCompressor),
		tailRoom: make(chan struct{}, tailsAtAll), aheadRoom: make(chan struct{}, aheadAtAll),
	}
	d.heads, err = conn.IO(opts.Pool, opts.Namespace)
	if err == nil {
		d.data, err = conn.IO(opts.DataPool, opts.Namespace)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s, %s: %w", opts.Pool, opts.DataPool, err), conn.Close())
	}
	d.trash = newTrash(d, opts.KeepReplaced)
	d.records = newRecords(d.heads)
	d.roots = &omapCache{io: d.heads, oid: oidRoot}
	d.ops = newOps(d)
	d.bg.start(d.sweepLoop)
	for _, c := range []*omapCache{d.roots, d.records.cache} {
		d.bg.start(func(ctx context.Context) { c.watch(ctx, d.bg.closing, d.log) })
	}
	return d, nil
}

// newID returns an id that nobody used: 16 hexadecimal digits.
func newID() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// Records implements store.Driver.
func (d *Driver) Records() store.Records { return d.records }

// Outcomes implements store.Driver.
func (d *Driver) Outcomes() store.Outcomes { return d.ops }

// Close implements store.Driver: it waits for what runs behind requests.
func (d *Driver) Close() error {
	d.bg.close(grace)
	return d.conn.Close()
}

// Check implements store.Checker: the cluster answers.
func (d *Driver) Check(ctx context.Context) error {
	op := librados.NewRead()
	op.Stat()
	if _, err := d.heads.Operate(ctx, oidRoot, op, 0); err != nil && !errors.Is(err, syscall.ENOENT) {
		return storeError("check the cluster", err)
	}
	return nil
}

var _ store.Checker = (*Driver)(nil)

// Stats tells what the connection to the cluster does.
func (d *Driver) Stats() librados.Stats { return d.conn.Stats() }

// index returns the index of a bucket.
func (d *Driver) index(bid string) *index {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.indexes[bid]
	if x == nil {
		x = openIndex(d.indexEnv(), bid)
		d.indexes[bid] = x
	}
	return x
}

func (d *Driver) indexEnv() *indexEnv {
	return &indexEnv{
		io: d.heads, heads: d, bg: d.bg, gateway: d.gateway, fault: d.opts.Fault, now: time.Now, log: d.log,
		dropUpload: d.dropUpload,
	}
}

// clock gives numbers that grow.
type clock struct{ last atomic.Uint64 }

// next returns a number above all that it returned, and above after:
// nanoseconds since 1970 where that is so.
func (c *clock) next(after uint64) uint64 {
	for {
		last := c.last.Load()
		n := max(uint64(time.Now().UnixNano()), last+1, after+1)
		if c.last.CompareAndSwap(last, n) {
			return n
		}
	}
}
