package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"herald/notify"
	"herald/queue"
	"herald/store"
)

const (
	// defaultLease is Config.Lease unless it is set.
	defaultLease = 30 * time.Second
	// lookEvery is the pause between looks for buckets that are due, sweepEvery
	// between those for records of buckets that have no rules any more.
	lookEvery  = time.Minute
	sweepEvery = time.Hour
	// atOnce is how many buckets a gateway works on (RGW: rgw_lc_max_worker).
	atOnce = 3
	// turn is how long it works on one before others have theirs: a bucket may
	// have a billion objects, or an endpoint that takes seconds for each.
	turn = 5 * time.Minute
	// lockPrefix, the store's ID and the bucket's name are the name of its lock.
	lockPrefix = "lifecycle/"
)

// ErrBusy: the bucket is being worked on, by another gateway or this one.
var ErrBusy = errors.New("the bucket is being processed")

// whats are the values of the counter's label, in the order in which they are
// told.
var whats = [...]string{"current", "noncurrent", "marker", "upload", "failed"}

// want tells whether a bucket is to be worked on.
type want func(*store.BucketInfo, *progress) bool

func always(*store.BucketInfo, *progress) bool { return true }

// Config is what a Worker needs.
type Config struct {
	Store  *store.Service
	Notify *notify.Service
	Locker queue.Locker
	// StoreID tells buckets of the store from those of others that share the
	// queues, and so the locks.
	StoreID string
	// Lease is how long a bucket stays with a gateway that died; 0: 30 s.
	Lease time.Duration
	Clock Clock
	// Logger may be nil, Registerer too.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Worker carries rules out. Of several gateways on a store one at a time works
// on a bucket.
type Worker struct {
	cfg   Config
	owner string
	log   *slog.Logger
	done  *prometheus.CounterVec // what
	turn  time.Duration

	swept time.Time // only Run uses it

	mu      sync.Mutex      // guards working
	working map[string]bool // buckets that this process works on
}

// New returns a Worker.
func New(cfg Config) (*Worker, error) {
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	w := &Worker{cfg: cfg, owner: "lifecycle-" + store.NewOpID().String(), log: cfg.Logger, turn: turn, working: map[string]bool{}}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.done = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "herald_lifecycle_total", Help: "What lifecycle rules ended: current, noncurrent, marker, upload; failed is what could not be.",
	}, []string{"what"})
	for _, what := range whats {
		w.done.WithLabelValues(what)
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(w.done); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Entry is what List tells of a bucket.
type Entry struct {
	Bucket  *store.BucketInfo
	Started time.Time // zero: never
	Status  string
}

// Run carries out what is due, until ctx is done. A bucket is due once a day,
// after midnight UTC, and when its rules changed; with a debug interval as
// often as that.
func (w *Worker) Run(ctx context.Context) {
	pause := lookEvery
	if d := w.cfg.Clock.Debug; d > 0 {
		pause = min(max(d/4, 100*time.Millisecond), lookEvery)
	}
	c := newCrew(func(err error) { w.log.Error("lifecycle", "err", err) })
	defer c.wait()
	for {
		w.look(ctx, c)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// crew works on some buckets at a time. One that takes long holds up none that
// become due meanwhile.
type crew struct {
	group  errgroup.Group
	failed func(error) // is told what went wrong; called concurrently
}

func newCrew(failed func(error)) *crew {
	c := &crew{failed: failed}
	c.group.SetLimit(atOnce)
	return c
}

func (c *crew) wait() { _ = c.group.Wait() } // failed was told

// look begins to work on the buckets that are due.
func (w *Worker) look(ctx context.Context, c *crew) {
	buckets, err := w.buckets(ctx)
	if err == nil && time.Since(w.swept) > sweepEvery {
		w.swept = time.Now()
		err = w.sweep(ctx, buckets)
	}
	if err != nil && ctx.Err() == nil {
		c.failed(err)
	}
	w.pass(ctx, c, buckets, w.due, w.turn)
}

// due tells whether it is time for a bucket.
func (w *Worker) due(b *store.BucketInfo, p *progress) bool {
	now := w.cfg.Clock.now()
	switch {
	case p.ID != b.ID, p.Rules != hashOf(b.Attrs[Attr]), p.Status == StatusInitial:
		return true
	case p.Status == StatusProcessing:
		return true // its turn was over, or who worked on it is dead, or has the lock
	case w.cfg.Clock.Debug > 0:
		return now.Sub(p.Started) >= w.cfg.Clock.Debug
	}
	const day = 24 * time.Hour
	return p.Status == StatusFailed && now.Sub(p.Started) > time.Hour || p.Started.Before(now.UTC().Truncate(day))
}

// pass has a crew work on those of the buckets that are wanted. It waits until
// work on the last of them has begun.
func (w *Worker) pass(ctx context.Context, c *crew, buckets []*store.BucketInfo, want want, turn time.Duration) {
	for _, b := range buckets {
		if ctx.Err() != nil {
			return
		}
		p, _, err := w.load(ctx, b)
		if err != nil {
			c.failed(fmt.Errorf("bucket %s: %w", b.StoreName(), err))
			continue
		}
		if !want(b, &p) {
			continue
		}
		c.group.Go(func() error {
			err := w.process(ctx, b, want, turn)
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
				c.failed(fmt.Errorf("bucket %s: %w", b.StoreName(), err))
			}
			return nil
		})
	}
}

// together has a crew do something to the end, and returns what went wrong.
func (w *Worker) together(ctx context.Context, do func(*crew)) error {
	var mu sync.Mutex
	var errs []error
	c := newCrew(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	})
	do(c)
	c.wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func (w *Worker) buckets(ctx context.Context) ([]*store.BucketInfo, error) {
	return w.cfg.Store.ListBuckets(ctx, func(b *store.BucketInfo) bool { return b.Attrs[Attr] != "" })
}

// List returns the buckets with rules, and when they were last worked on.
func (w *Worker) List(ctx context.Context) ([]Entry, error) {
	buckets, err := w.buckets(ctx)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, b := range buckets {
		p, _, err := w.load(ctx, b)
		if err != nil {
			return nil, err
		}
		out = append(out, Entry{b, p.Started, p.Status})
	}
	return out, nil
}

// Process works on one bucket now, or on all that have rules.
// Errors: store.ErrNoSuchBucket, ErrBusy.
func (w *Worker) Process(ctx context.Context, tenant, bucket string) error {
	if bucket == "" {
		buckets, err := w.buckets(ctx)
		if err != nil {
			return err
		}
		return w.together(ctx, func(c *crew) { w.pass(ctx, c, buckets, always, 0) })
	}
	b, err := w.cfg.Store.BucketInfo(ctx, tenant, bucket)
	if err != nil || b.Attrs[Attr] == "" {
		return err
	}
	return w.process(ctx, b, always, 0)
}

// enter marks a bucket as one that this process works on: its lock is one for
// the process. It returns false if it is already.
func (w *Worker) enter(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working[name] {
		return false
	}
	w.working[name] = true
	return true
}

func (w *Worker) leave(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.working, name)
}

// process works on one bucket, if nobody else does, for a turn or (0) to the
// end. Errors: ErrBusy.
func (w *Worker) process(ctx context.Context, b *store.BucketInfo, want want, turn time.Duration) error {
	name := b.StoreName()
	if !w.enter(name) {
		return ErrBusy
	}
	defer w.leave(name)
	lease, err := w.cfg.Locker.Acquire(ctx, lockPrefix+w.cfg.StoreID+"/"+name, w.owner, w.cfg.Lease)
	if errors.Is(err, queue.ErrLocked) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // else it expires
	listed := b.ID
	b, err = w.cfg.Store.BucketInfo(ctx, b.Tenant, b.Name) // as it is by now
	if errors.Is(err, store.ErrNoSuchBucket) || err == nil && (b.ID != listed || b.Attrs[Attr] == "") {
		return nil
	}
	if err != nil {
		return err
	}
	began := time.Now()
	r, err := w.begin(ctx, b, want)
	if r == nil || err != nil {
		return err
	}
	r.lease, r.renewed = lease, began
	if turn > 0 {
		r.until = began.Add(turn)
	}
	err = r.end(ctx, r.run(ctx))
	if len(r.counts) > 0 {
		w.log.Info("lifecycle", "bucket", name, "ended", countsText(r.counts), "took", time.Since(began))
	}
	return err
}

func countsText(counts map[string]int) string {
	var list []string
	for _, what := range whats {
		if n := counts[what]; n > 0 {
			list = append(list, what+"="+strconv.Itoa(n))
		}
	}
	return strings.Join(list, " ")
}
