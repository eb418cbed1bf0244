package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Service needs.
type Config struct {
	Records  store.Records
	Outcomes store.Outcomes
	Queues   queue.Driver
	// Region is the zonegroup's name in ARNs and records; empty: "default".
	Region string
	// HostID is the x-amz-id-2 of changes that bring none.
	HostID string
	// EntryFormat is how entries are written; default EntriesOwn. A driver
	// whose queues RGW reads needs EntriesRGW.
	EntryFormat EntryFormat
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
	// Registerer may be nil: nothing is measured.
	Registerer prometheus.Registerer
	Options    Options
}

// Options; the zero value is valid, each field's default is given.
type Options struct {
	// Shards of a topic that gets queues. Default 11 (RGW).
	Shards int
	// QueueCapacity of each shard, in bytes. Default queue.DefaultCapacity.
	QueueCapacity int64
	// DeadLetterCapacity of each topic, in bytes. Default 64 MiB.
	DeadLetterCapacity int64
	// StaleAge is the age at which a reservation that nobody renews is
	// resolved; it is renewed at a third of it. Default 120 s (RGW).
	StaleAge time.Duration
	// ResolveEvery is the pause between passes of the resolver. Default 30 s.
	ResolveEvery time.Duration
	// Lease is how long a shard stays with a gateway that died. Default 30 s.
	Lease time.Duration
	// ScanEvery is the pause between looks for new queues. Default 1 s.
	ScanEvery time.Duration
	// CommitTimeout bounds a commit, which the client cannot cancel. Default
	// 10 min.
	CommitTimeout time.Duration
	// ConnectTimeout and PushTimeout bound one push. Default 5 s and 10 s.
	ConnectTimeout, PushTimeout time.Duration
	// Inflight is the number of parallel pushes per topic. Default 128.
	Inflight int
	// Window is the number of entries per shard that are held in memory.
	// Default 1024.
	Window int
	// MaxBackoff is the longest pause between attempts, unless the topic's
	// retry_sleep_duration says another. Default 10 s.
	MaxBackoff time.Duration
	// DrainTimeout is how long Run waits for pushes in flight when it is told
	// to stop; what they deliver is acked, the rest is sent again later.
	// Default 3 s.
	DrainTimeout time.Duration
	// TimeToLive (seconds), MaxRetries and RetrySleep (seconds) hold for
	// topics that set none. Default 0: no limit, no pause.
	TimeToLive, MaxRetries, RetrySleep Limit
	// Fault, when set, is called at named points, for crash tests:
	// "notify.reserved", "notify.committed" (the change is in the store, its
	// events are not in their queues), "notify.queued" (they are, the outcome
	// is not forgotten), "notify.pushed" (delivered, not acked),
	// "notify.dead" (a dead letter is stored, its entry not acked),
	// "notify.resolved" (entries committed in recovery, not forgotten).
	Fault func(point string)
}

func (o Options) withDefaults() Options {
	o.Shards = cmp.Or(max(o.Shards, 0), 11)
	o.QueueCapacity = cmp.Or(o.QueueCapacity, queue.DefaultCapacity)
	o.DeadLetterCapacity = cmp.Or(o.DeadLetterCapacity, 64<<20)
	o.StaleAge = cmp.Or(o.StaleAge, 120*time.Second)
	o.ResolveEvery = cmp.Or(o.ResolveEvery, 30*time.Second)
	o.Lease = cmp.Or(o.Lease, 30*time.Second)
	o.ScanEvery = cmp.Or(o.ScanEvery, time.Second)
	o.CommitTimeout = cmp.Or(o.CommitTimeout, 10*time.Minute)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.PushTimeout = cmp.Or(o.PushTimeout, 10*time.Second)
	o.Inflight = cmp.Or(max(o.Inflight, 0), 128)
	o.Window = cmp.Or(max(o.Window, 0), 1024)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 10*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 3*time.Second)
	return o
}

// Service is everything about notifications. Its methods may be called
// concurrently.
type Service struct {
	cfg       Config
	opt       Options
	region    string
	owner     string // of leases; another in each process
	exclusive bool   // nobody else has the queues open
	log       *slog.Logger
	metrics   *metrics
	topics    *Topics
	rules     ruleCache
	guard     *keyGuard
	live      liveSet
	late      lateOps
	targets   targets
	hub       hub
	dead      deadLetters
	kick      chan struct{} // holds a token when topics changed
	open      func(Endpoint) (Pusher, error)

	recovery  sync.Mutex // held during the first resolution
	recovered recoveredFlag
}

// New returns a Service. Nothing runs before Run.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Outcomes == nil || cfg.Queues == nil {
		return nil, errors.New("notify: Records, Outcomes and Queues are required")
	}
	s := &Service{
		cfg: cfg, opt: cfg.Options.withDefaults(), region: cmp.Or(cfg.Region, "default"),
		owner: rand.Text(), log: cfg.Logger, metrics: newMetrics(), guard: newKeyGuard(),
		kick: make(chan struct{}, 1), open: openPusher,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if e, ok := cfg.Queues.(queue.Exclusive); ok {
		s.exclusive = e.Exclusive()
	}
	s.targets.s = s
	s.dead.s = s
	s.topics = &Topics{
		records: cfg.Records, queues: cfg.Queues, owner: s.owner,
		shards: s.opt.Shards, capacity: s.opt.QueueCapacity,
		changed: s.wakeDispatcher, writing: make(chan struct{}, 1),
	}
	if cfg.Registerer != nil {
		if err := s.metrics.register(cfg.Registerer, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Publisher returns what s3api uses.
func (s *Service) Publisher() *Publisher { return &Publisher{s} }

// Topics returns the topics.
func (s *Service) Topics() *Topics { return s.topics }

// Region is the zonegroup's name, as in ARNs.
func (s *Service) Region() string { return s.region }

// Run resolves what a crash left behind, and delivers, until ctx is done. When
// it returns, nothing runs any more, and what was delivered is acked.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer s.targets.closeAll()
	defer wg.Wait()
	wg.Go(func() { s.renewLoop(ctx) })
	if !s.recoverUntilDone(ctx) {
		return nil // told to stop
	}
	wg.Go(func() { s.resolveLoop(ctx) })
	newDispatcher(s).run(ctx)
	return nil
}

// recoverUntilDone is false when ctx was done first.
func (s *Service) recoverUntilDone(ctx context.Context) bool {
	for n := 0; ; n++ {
		err := s.Recover(ctx)
		if err == nil {
			return true
		}
		s.log.Error("resolve reservations at start", "err", err)
		if sleep(ctx, backoff(n, s.opt.MaxBackoff)) != nil {
			return false
		}
	}
}

func (s *Service) wakeDispatcher() {
	select {
	case s.kick <- struct{}{}:
	default: // a token is there
	}
}

func (s *Service) fault(point string) {
	if s.opt.Fault != nil {
		s.opt.Fault(point)
	}
}
