package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/prometheus/client_golang/prometheus"
)

// delivery is one push that was acked.
type delivery struct {
	gateway string
	rule    string
	key     string
	etag    string
	seq     string
	at      time.Time
}

// endpoint is where a fleet's gateways push to.
type endpoint struct {
	mu    sync.Mutex // guards all below
	got   []delivery
	begun map[string]time.Time // when a gateway last began a push
	takes time.Duration
	// refuse: no push is acked.
	refuse    bool
	cancelled int // pushes
}

// doorOf is the endpoint as one gateway reaches it.
type doorOf struct {
	e       *endpoint
	gateway string
}

func (d doorOf) Push(ctx context.Context, events []Event) []Result {
	d.e.mu.Lock()
	d.e.begun[d.gateway] = time.Now()
	takes, refuse := d.e.takes, d.e.refuse
	d.e.mu.Unlock()
	out := make([]Result, len(events))
	for i, ev := range events {
		err := sleep(ctx, takes)
		if err != nil {
			d.e.mu.Lock()
			d.e.cancelled++
			d.e.mu.Unlock()
		}
		if err == nil && refuse {
			err = errors.New("refused")
		}
		if err != nil {
			out[i] = Result{Retry, err}
			continue
		}
		var r Record
		if err := json.Unmarshal(ev.Record, &r); err != nil {
			out[i] = Result{Rejected, err}
			continue
		}
		d.e.mu.Lock()
		d.e.got = append(d.e.got, delivery{d.gateway, r.S3.ConfigurationID, r.S3.Object.Key, r.S3.Object.ETag, r.S3.Object.Sequencer, time.Now()})
		d.e.mu.Unlock()
	}
	return out
}

func (d doorOf) Close() error { return nil }

func (e *endpoint) lastBegun(gateway string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begun[gateway]
}

func (e *endpoint) all() []delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// check holds the deliveries of each key against what was put: all of them, in
// order of their first arrival. It returns how many came more than once.
func (e *endpoint) check(t *testing.T, want map[string][]string) (repeats int) {
	t.Helper()
	got := make(map[string][]string)
	seen := make(map[string]bool)
	for _, d := range e.all() {
		if seen[d.key+" "+d.etag] {
			repeats++
			continue
		}
		seen[d.key+" "+d.etag] = true
		got[d.key] = append(got[d.key], d.etag)
	}
	for key, list := range want {
		if !slices.Equal(got[key], list) {
			t.Errorf("key %s: got %v, want %v", key, got[key], list)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("events of what did not happen: %v", got)
	}
	return repeats
}

// fleet is gateways that share queues.
type fleet struct {
	t        *testing.T
	queues   queue.Driver        // to look into them
	connect  func() queue.Driver // what another gateway uses; nil: queues
	endpoint *endpoint
	opt      Options
	members  []*fleetMember
	mu       sync.Mutex // guards puts
	puts     map[string][]string
	etags    atomic.Int64
}

type fleetMember struct {
	*rig
	fleet *fleet
	name  string
	link  *link
}

func newFleet(t *testing.T, opt Options) *fleet {
	return &fleet{
		t: t, queues: openQueues(t), opt: opt, puts: make(map[string][]string),
		endpoint: &endpoint{begun: make(map[string]time.Time), takes: 10 * time.Millisecond},
	}
}

// add makes a gateway on a store, nil: a new one. It does not run yet.
func (f *fleet) add(name, storeID string, objects *modelStore, exclusive bool) *fleetMember {
	f.t.Helper()
	if objects == nil {
		objects = newModelStore()
	}
	queues := f.queues
	if f.connect != nil {
		queues = f.connect()
	}
	m := &fleetMember{
		rig:   &rig{t: f.t, ctx: f.t.Context(), store: objects, stop: func() {}},
		fleet: f, name: name, link: newLink(queues),
	}
	m.link.starts = name != "b"
	m.queues = m.link
	m.bucket = &store.BucketInfo{Name: "b", ID: "b-id", Owner: "owner"}
	m.openAs(storeID, exclusive)
	f.members = append(f.members, m)
	f.t.Cleanup(func() { m.link.heal(); m.stop() })
	return m
}

// openAs makes a fresh service over what is there.
func (m *fleetMember) openAs(storeID string, exclusive bool) {
	m.t.Helper()
	m.open(m.fleet.opt)
	outcomes := store.Outcomes(modelOutcomes{m.store})
	if !exclusive {
		outcomes = sharedOutcomes{modelOutcomes{m.store}}
	}
	s, err := New(Config{
		Records: m.store, Outcomes: outcomes, Queues: m.link, StoreID: storeID, StoreExclusive: exclusive,
		HostID: "host", Registerer: m.registry(), Logger: m.s.log, Options: m.fleet.opt,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	s.open = func(Endpoint) (Pusher, error) { return doorOf{m.fleet.endpoint, m.name}, nil }
	m.s = s
}

func (m *fleetMember) registry() *prometheus.Registry {
	m.metrics = prometheus.NewRegistry()
	return m.metrics
}

// define gives the gateway a topic, and the bucket a rule for it.
func (m *fleetMember) define(name string, attrs ...string) *Topic {
	m.t.Helper()
	topic := m.topic(name, "http://x", append([]string{"persistent", "true"}, attrs...)...)
	m.notify(rule("n", topic, Filter{}))
	return topic
}

// putOne puts an object and remembers it.
func (m *fleetMember) putOne(key, etag string) error {
	p, err := m.reserve(ObjectCreatedPut, key, store.Attrs{})
	if err != nil {
		return err
	}
	_, err = p.Do(m.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		out, err := m.store.put("b", key, etag, nil)(ctx, op)
		if err == nil {
			m.fleet.mu.Lock()
			defer m.fleet.mu.Unlock()
			m.fleet.puts[key] = append(m.fleet.puts[key], etag)
		}
		return out, err
	})
	return err
}

// owned returns how many queues of a topic each running gateway has, and fails
// unless each queue has exactly one owner.
func (f *fleet) owned(topic string) map[string]int {
	f.t.Helper()
	counts := make(map[string]int)
	owners := make(map[string][]string)
	for _, m := range f.members {
		for _, sh := range m.s.Shards(f.t.Context()) {
			if strings.HasSuffix(sh.Topic, ":"+topic) && sh.Ours {
				counts[m.name]++
				owners[sh.Queue] = append(owners[sh.Queue], m.name)
			}
		}
	}
	for q, o := range owners {
		if len(o) != 1 {
			f.t.Errorf("queue %s is owned by %v", q, o)
		}
	}
	return counts
}

// even checks that all of a topic's queues are owned, evenly, by that many.
func (f *fleet) even(topic string, shards, gateways int) {
	f.t.Helper()
	counts := f.owned(topic)
	sum := 0
	for name, n := range counts {
		sum += n
		if n < shards/gateways || n > (shards+gateways-1)/gateways {
			f.t.Errorf("%s has %d of %d queues among %d", name, n, shards, gateways)
		}
	}
	if sum != shards || len(counts) != gateways {
		f.t.Errorf("%d of %d queues are owned, by %v; want %d gateways", sum, shards, counts, gateways)
	}
}

// load puts with pauses until stop is called, each key by one gateway.
func (f *fleet) load(members ...*fleetMember) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			for i := 0; sleep(ctx, 40*time.Millisecond) == nil; i++ {
				err := m.putOne(fmt.Sprint(m.name, "-", i%20), fmt.Sprint(f.etags.Add(1)))
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrFull) {
					f.t.Error(err)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// done waits until nothing is left in the queues.
func (f *fleet) done(topic string) {
	f.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		var left TopicStats
		for i := range 64 {
			q, err := f.queues.Open(f.t.Context(), ShardName(":"+topic, i))
			if err != nil {
				continue
			}
			st, err := q.Stats(f.t.Context())
			if err != nil {
				f.t.Fatal(err)
			}
			left.add(st)
		}
		if left == (TopicStats{}) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("left in the queues: %+v", left)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
