package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"herald/admin"
	"herald/auth"
	"herald/journal"
	"herald/lifecycle"
	"herald/notify"
	"herald/queue"
	"herald/queue/embedded"
	"herald/queue/outbox"
	"herald/s3api"
	"herald/store"
	"herald/store/posix"
)

// gateway is everything that runs, from the journal up.
type gateway struct {
	config    config
	offline   bool
	log       *slog.Logger
	registry  *prometheus.Registry
	journal   *journal.Journal
	place     storeURL     // of objects
	driver    store.Driver // of objects, there
	store     *store.Service
	storeID   string
	embedded  *embedded.Driver
	queueURL  queueURL
	queues    queue.Driver   // embedded, or remote
	remote    *remoteQueues  // nil: queues are embedded
	outbox    *outbox.Driver // before remote; nil: there is none
	users     *auth.Users
	notify    *notify.Service
	s3        *s3api.Server
	admin     *admin.Admin
	lifecycle *lifecycle.Worker
	draining  atomic.Bool
	fault     func(point string) // ends the process at a named point; only with build tag faults
}

// open builds the gateway over its directory: the journal first, since the
// queue and a store on posix share it, then what stands on them. Nothing runs
// yet.
// offline is for a command that does without a gateway.
func open(c config, log *slog.Logger, offline bool) (*gateway, error) {
	g := &gateway{config: c, offline: offline, log: log, registry: prometheus.NewRegistry(), fault: faultHook()}
	g.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := g.openStores(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	if err := g.openServices(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gateway) openStores() error {
	own := filepath.Join(g.config.Data, ".herald")
	err := os.MkdirAll(g.config.Data, 0o777) // for everybody whom the umask lets in: it holds plain files
	if err == nil {
		err = os.MkdirAll(own, 0o700) // for us
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", g.config.Data, err)
	}
	metrics := newJournalMetrics(g.registry)
	g.journal, err = journal.Open(filepath.Join(own, "journal"), journal.Options{
		NoSync: g.relaxed(), OnFlush: metrics.flushed, Fault: g.fault,
	})
	if err != nil {
		return err
	}
	if g.place, err = parseStoreURL(g.config.Store); err != nil {
		return err
	}
	if g.driver, err = g.openDriver(); err != nil {
		return err
	}
	// Without a store that shares the journal's order, each step of a queue
	// has to be durable by itself.
	g.embedded, err = embedded.Open(filepath.Join(own, "queue"), g.journal, embedded.Options{Sync: g.offline || g.place.rados()})
	if err != nil {
		return err
	}
	if err := g.journal.Recover(); err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	g.store = store.NewService(g.driver)
	if g.storeID, err = g.store.ID(context.Background()); err != nil {
		return err
	}
	return g.openQueues()
}

func (g *gateway) relaxed() bool { return g.config.Durability == "relaxed" }

// openDriver opens the store: the list of drivers.
func (g *gateway) openDriver() (store.Driver, error) {
	if g.place.rados() {
		return g.openRADOSStore(g.place)
	}
	d, err := posix.Open(g.config.Data, g.journal, posix.Options{
		Holder: "listening on " + g.config.Listen, Relaxed: g.relaxed(), NoXattr: g.config.Xattr == "off", Logger: g.log, Fault: g.fault,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (g *gateway) openServices() error {
	c := g.config
	hostID := "herald-" + c.Region + "-" + c.Region // RGW: host-zone-zonegroup
	g.users = auth.NewUsers(g.store.Records())
	outbound, err := g.outbound()
	if err != nil {
		return err
	}
	g.notify, err = notify.New(notify.Config{
		Records: g.store.Records(), Outcomes: g.store.Outcomes(), Queues: g.queues,
		StoreID: g.storeID, StoreExclusive: !g.place.rados(), // posix locks its directory
		EntryFormat: entryFormat(g.queueURL, &c), Region: c.Region, HostID: hostID, Logger: g.log, Registerer: g.registry,
		Trusted: g.trusted,
		Options: notify.Options{
			Outbound: outbound, CleartextSecrets: c.CleartextSecrets,
			Shards: topicShards(g.queueURL, &c), QueueCapacity: c.QueueCapacity,
			Lease:      c.QueueLease,
			TimeToLive: notify.Limit(c.TopicTimeToLive.Seconds()), MaxRetries: notify.Limit(c.TopicMaxRetries),
			RetrySleep: notify.Limit(c.TopicRetrySleep.Seconds()), StaleAge: c.ReservationStale,
			ResolveEvery:   min(30*time.Second, c.ReservationStale/2), // what grew stale does not wait much longer
			ConnectTimeout: c.HTTPConnectTimeout, PushTimeout: c.HTTPMessageTimeout, HTTPInflight: c.HTTPMaxInflight,
			WindowMemory: c.WindowMemory,
			Fault:        g.fault,
		},
	})
	if err != nil {
		return err
	}
	g.s3, err = s3api.New(s3api.Config{
		Store: g.store, Users: g.users, Verifier: auth.NewVerifier(g.users, auth.VerifierOptions{Domains: c.Domains}),
		Notify: g.notify, Region: c.Region, HostID: hostID, Domains: c.Domains,
		AllowCleartextSecrets: c.CleartextSecrets, RequirePublishPolicy: c.RequirePublishPolicy,
		ReplaceNotifications: c.ReplaceNotifications,
		RelaxedTopicNames:    c.RelaxedTopicNames, TrustForwardedHTTPS: c.TrustForwardedHTTPS,
		Logger: g.log, Registerer: g.registry,
	})
	if err != nil {
		return err
	}
	g.lifecycle, err = lifecycle.New(lifecycle.Config{
		Store: g.store, Notify: g.notify, Locker: g.queues.Locker(), StoreID: g.storeID, Lease: c.QueueLease,
		Clock: lifecycle.Clock{Debug: c.LCDebugInterval}, Logger: g.log, Registerer: g.registry,
	})
	if err != nil {
		return err
	}
	a := admin.Config{Store: g.store, Users: g.users, Notify: g.notify, Queues: g.queues, Lifecycle: g.lifecycle}
	if g.offline {
		a.Places = places{g}
	}
	g.admin = admin.New(a)
	return nil
}

// outbound is the policy on where endpoints may be, and what files they may
// name. Who tries the demo has
// endpoints on this machine.
func (g *gateway) outbound() (*notify.Outbound, error) {
	allow := g.config.EndpointAllow
	if g.config.Demo {
		allow = append(slices.Clone(allow), "loopback")
	}
	o, err := notify.ParseOutbound(allow)
	if err != nil {
		return nil, err
	}
	o.Files = g.config.EndpointFiles
	return o, nil
}

// trusted tells whether a user's endpoints may be anywhere: an administrator's.
func (g *gateway) trusted(ctx context.Context, uid string) bool {
	u, err := g.users.Get(ctx, uid)
	return err == nil && u.Privileged() && !u.Suspended
}

// close ends what open began: the journal before the queue and the store that
// its last checkpoint still needs.
func (g *gateway) close() error {
	var errs []error
	for _, c := range []io.Closer{closerOf(g.outbox), closerOf(g.remote), closerOf(g.journal), closerOf(g.embedded), g.driver} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// closerOf turns a nil pointer into a nil interface.
func closerOf[T interface {
	comparable
	io.Closer
}](c T) io.Closer {
	var zero T
	if c == zero {
		return nil
	}
	return c
}

// ensureRoot makes the user root once, with the configured keys or generated
// ones, and returns its key. Another gateway of the store may do so at the
// same time.
func (g *gateway) ensureRoot(ctx context.Context) (auth.Key, error) {
	want := auth.Key{AccessKey: g.config.RootAccessKey, SecretKey: g.config.RootSecretKey}
	u, err := g.users.Get(ctx, "root")
	if errors.Is(err, auth.ErrNoSuchUser) {
		key, err := auth.NewKey(want.AccessKey, want.SecretKey)
		if err != nil {
			return key, err
		}
		err = g.users.Create(ctx, &auth.User{ID: "root", DisplayName: "root", Admin: true, Keys: []auth.Key{key}})
		if !errors.Is(err, auth.ErrUserExists) {
			return key, err
		}
		u, err = g.users.Get(ctx, "root")
		if err != nil {
			return key, err
		}
		return g.rootKey(ctx, u, want)
	}
	if err != nil {
		return auth.Key{}, err
	}
	return g.rootKey(ctx, u, want)
}

// rootKey returns the key of the user root, after it was made the configured
// one.
func (g *gateway) rootKey(ctx context.Context, u *auth.User, want auth.Key) (auth.Key, error) {
	if want.AccessKey == "" {
		if len(u.Keys) == 0 {
			return auth.Key{}, nil
		}
		return u.Keys[0], nil
	}
	for _, k := range u.Keys {
		if k == want {
			return k, nil
		}
	}
	_, err := g.users.Update(ctx, "root", func(u *auth.User) error { // the configured key replaces the others
		u.Keys = []auth.Key{want}
		return nil
	})
	return want, err
}
