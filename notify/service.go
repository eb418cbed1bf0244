package notify

import (
	"context"
	"errors"
	"log/slog"
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
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
	// Registerer may be nil: nothing is measured.
	Registerer prometheus.Registerer
	Options    Options
}

// Options; the zero value is valid, each field's default is given.
type Options struct {
	// Shards of a new topic. Default 11 (RGW).
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
	// Default 2048.
	Window int
	// MaxBackoff is the longest pause between attempts, unless the topic's
	// retry_sleep_duration says another. Default 10 s.
	MaxBackoff time.Duration
	// TimeToLive (seconds), MaxRetries and RetrySleep (seconds) hold for
	// topics that set none. Default 0: no limit, no pause.
	TimeToLive, MaxRetries, RetrySleep Limit
	// Fault, when set, is called at named points, for crash tests.
	Fault func(point string)
}

// Service is everything about notifications. Its methods may be called
// concurrently.
type Service struct {
	cfg    Config
	topics *Topics
}

// New returns a Service. Nothing runs before Run.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Outcomes == nil || cfg.Queues == nil {
		return nil, errors.New("notify: Records, Outcomes and Queues are required")
	}
	s := &Service{cfg: cfg}
	s.topics = &Topics{s: s}
	return s, nil
}

// Publisher returns what s3api uses.
func (s *Service) Publisher() *Publisher { return &Publisher{s} }

// Topics returns the topics.
func (s *Service) Topics() *Topics { return s.topics }

// Run resolves what a crash left behind, and delivers, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
