package notify

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Config is what a Service needs.
type Config struct {
	Records  store.Records
	Outcomes store.Outcomes
	Queues   queue.Driver
	// StoreID names the store among those whose gateways share the queues: a
	// reservation is settled by a gateway of its store only. It must not
	// change while there are reservations. May be empty where queues are not
	// shared.
	StoreID string
	// StoreExclusive: only one process has the store open. Reservations of the
	// store that this process did not make are then those of a dead one. It
	// holds for queues that only one process has open as well.
	StoreExclusive bool
	// Region is the zonegroup's name in ARNs and records; empty: "default".
	Region string
	// HostID is the x-amz-id-2 of changes that bring none.
	HostID string
	// EntryFormat is how entries are written; default EntriesOwn. A driver
	// whose queues RGW reads needs EntriesRGW.
	EntryFormat EntryFormat
	// Trusted tells whether a user's endpoints may be anywhere, whatever
	// Options.Outbound says; nil: nobody's may.
	Trusted func(ctx context.Context, uid string) bool
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
	// Lease is how long a shard stays with a gateway that died, or cannot
	// reach the queues; it is renewed at a third of it. Default 30 s.
	Lease time.Duration
	// ScanEvery is the pause between looks for new queues. Default 1 s.
	ScanEvery time.Duration
	// CommitTimeout bounds a commit, which the client cannot cancel. Default
	// 10 min.
	CommitTimeout time.Duration
	// Outbound says where endpoints may be; nil: anywhere.
	Outbound *Outbound
	// CleartextSecrets: Kafka endpoints may use SASL without TLS (RGW:
	// rgw_allow_notification_secrets_in_cleartext).
	CleartextSecrets bool
	// ConnectTimeout and PushTimeout bound one push. Default 5 s and 10 s.
	ConnectTimeout, PushTimeout time.Duration
	// HTTPInflight bounds the pushes to HTTP endpoints that are on their way at
	// once, over all topics; others wait for room within their time. Default
	// 8192 (RGW).
	HTTPInflight int
	// Inflight is the number of parallel pushes per topic. Default 128.
	Inflight int
	// Window is the number of entries per shard that are held in memory.
	// Default 1024.
	Window int
	// WindowMemory bounds what the entries that are held in memory take over all
	// queues, in bytes: they share it, those whose endpoint takes nothing with
	// smaller shares. Each may have 8 KiB, or 4 entries, however many there are.
	// Default 256,000,000.
	WindowMemory int64
	// MaxBackoff is the longest pause between attempts, unless the topic's
	// retry_sleep_duration says another. Default 10 s.
	MaxBackoff time.Duration
	// ListenKeep is for how long live events can be resumed: they are logged that
	// long after the last listener went. Default 10 min.
	ListenKeep time.Duration
	// StuckAfter is how long a queue may have events and get rid of none before
	// its topic counts as stuck. Default 1 min.
	StuckAfter time.Duration
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
	o.HTTPInflight = cmp.Or(max(o.HTTPInflight, 0), 8192)
	o.Inflight = cmp.Or(max(o.Inflight, 0), 128)
	o.Window = cmp.Or(max(o.Window, 0), 1024)
	o.WindowMemory = cmp.Or(max(o.WindowMemory, 0), 256_000_000)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 10*time.Second)
	o.ListenKeep = cmp.Or(o.ListenKeep, 10*time.Minute)
	o.StuckAfter = cmp.Or(o.StuckAfter, time.Minute)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 3*time.Second)
	return o
}

// Service is everything about notifications. Its methods may be called
// concurrently.
type Service struct {
	cfg    Config
	opt    Options
	region string
	owner  string // of leases; another in each process
	// remote: the queues are on a server. Others may use them too, and each
	// call takes a round trip.
	remote bool
	// alone: reservations of our store that this process did not make are
	// those of dead ones.
	alone bool
	// shared are the outcomes where others may have the store open; nil: the
	// guard alone keeps the order per key.
	shared     store.SharedOutcomes
	log        *slog.Logger
	metrics    *metrics
	topics     *Topics
	rules      store.AttrCache[[]compiledRule]
	guard      *keyGuard
	live       liveSet
	late       lateOps
	awaited    openReservations
	waiting    occasional // of late ops
	background *background
	forgetter  forgetter
	reserveBy  deadline // of calls that hold room in queues on a server
	targets    targets
	streams    *streams
	dead       deadLetters
	sharing    sharing
	working    working
	stalled    stalls
	shares     shares
	handles    sync.Map // of queues on a server: name -> queue.Queue
	endpoints  shared   // what pushers have in common
	httpRoom   *semaphore.Weighted
	bad        sync.Map      // records of topics that cannot be read -> version
	trouble    occasional    // of queue workers
	dropping   occasional    // of full queues
	makingRoom chan struct{} // holds a token while somebody drops entries
	kick       chan struct{} // holds a token when topics changed
	open       func(Endpoint) (Pusher, error)

	recovery  chan struct{} // holds a token during the first resolution
	recovered atomic.Bool
}

// New returns a Service. Nothing runs before Run.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Outcomes == nil || cfg.Queues == nil {
		return nil, errors.New("notify: Records, Outcomes and Queues are required")
	}
	s := &Service{
		cfg: cfg, opt: cfg.Options.withDefaults(), region: cmp.Or(cfg.Region, "default"),
		owner: newOwner(cfg.StoreID), remote: true, log: cfg.Logger, metrics: newMetrics(), guard: newKeyGuard(), background: newBackground(),
		kick: make(chan struct{}, 1), makingRoom: make(chan struct{}, 1), recovery: make(chan struct{}, 1), awaited: openReservations{busy: make(chan struct{}, 1)}, open: openPusher,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if e, ok := cfg.Queues.(queue.Exclusive); ok {
		s.remote = !e.Exclusive()
	}
	s.alone = cfg.StoreExclusive || !s.remote
	if shared, ok := cfg.Outcomes.(store.SharedOutcomes); ok && !s.alone {
		s.shared = shared
	}
	s.httpRoom = semaphore.NewWeighted(int64(s.opt.HTTPInflight))
	s.shares.most = s.opt.WindowMemory
	s.targets.s = s
	s.streams = newStreams(s)
	s.dead.s = s
	s.sharing.s = s
	s.topics = &Topics{
		records: cfg.Records, queues: cfg.Queues, owner: s.owner,
		shards: s.opt.Shards, capacity: s.opt.QueueCapacity, atOnce: s.atOnce(),
		changed: s.wakeDispatcher, undecodable: s.badTopic, unacknowledged: s.warnUnacknowledged, strangers: s.sharing.strangers,
		writing: make(chan struct{}, 1),
	}
	if cfg.Registerer != nil {
		if err := errors.Join(s.metrics.register(cfg.Registerer, s), s.streams.register(cfg.Registerer)); err != nil {
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
// it returns, nothing runs any more, what was delivered is acked, other
// gateways know that this one is gone, and the events of changes that were
// answered are in their queues, or left to the next start if those cannot be
// reached.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer s.targets.closeAll()
	defer s.background.finish(s.opt.DrainTimeout)
	defer wg.Wait()
	wg.Go(func() { s.renewLoop(ctx) })
	wg.Go(func() { s.sweepLoop(ctx) })
	wg.Go(func() { s.streams.wantedLoop(ctx) })
	wg.Go(func() { s.streams.logLoop(ctx) })
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

// maker is the name that intents bear.
func (s *Service) maker() string {
	if s.shared == nil {
		return ""
	}
	return s.owner
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

// atOnce is how many calls that are alike go to the queues at the same time.
func (s *Service) atOnce() int {
	if s.remote {
		return atOnce
	}
	return 1
}

// badTopic counts a record that cannot be read, once.
func (s *Service) badTopic(record string, version uint64, err error) {
	if old, ok := s.bad.Swap(record, version); ok && old == version {
		return
	}
	s.metrics.badTopics.Inc()
	s.log.Error("topic is skipped: its record cannot be read", "record", record, "err", err)
}

// sweepEvery is the pause between looks for changes of topics that a crash
// interrupted, sweepSoon that between the first two.
const (
	sweepEvery = time.Minute
	sweepSoon  = 5 * time.Second
)

// sweepLoop ends the changes of topics that a crash interrupted, until ctx is
// done.
func (s *Service) sweepLoop(ctx context.Context) {
	var seen map[string]uint64
	for pause := sweepSoon; ; pause = sweepEvery {
		notes, err := s.topics.sweep(ctx, seen)
		if err != nil && ctx.Err() == nil {
			s.log.Error("end interrupted changes of topics", "err", err)
		}
		seen = notes
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// occasional lets through what many would say at once: now and then one of
// them, with the number of those that kept silent.
type occasional struct {
	mu     sync.Mutex // guards all below
	last   time.Time
	silent int
}

// troubleEvery is the pause between log lines of many that fail alike.
const troubleEvery = 5 * time.Second

func (o *occasional) say() (silent int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.last) < troubleEvery {
		o.silent++
		return 0, false
	}
	silent, o.silent, o.last = o.silent, 0, time.Now()
	return silent, true
}
