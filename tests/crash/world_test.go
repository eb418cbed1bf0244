package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"golang.org/x/sync/errgroup"

	"herald/tests/gatewaytest"
)

const (
	clients = 16 // of a gateway alone
	topic   = "crash"
	// deadTopic has an endpoint that never answers and gives events up soon:
	// those of the keys with this prefix.
	deadTopic  = "dead"
	deadPrefix = "client-00/key 0"
)

// commonArgs are flags of every gateway; never written.
var commonArgs = []string{"--log-level", "error", "--reservation-stale", "5s"}

// client is a worker of any sort.
type client interface {
	// run changes things until ctx ends. Its error is a violation.
	run(ctx context.Context) error
	// settle checks P1.
	settle(ctx context.Context, got *deliveries) error
}

// world is a gateway with its clients and its endpoint.
type world struct {
	t       *testing.T
	g       *gatewaytest.Gateway
	buckets buckets
	alone   bool // nobody else delivers to the endpoint
	sink    *sink
	workers []*worker
	clients []client
	hot     []*hotKey
	dark    atomic.Bool // the power was cut
}

func newWorld(t *testing.T, opts gatewaytest.Options) *world {
	t.Helper()
	sink, endpoint := newSink(t)
	w := joinWorld(t, "", clients, opts, sink, endpoint)
	w.alone = true
	return w
}

// newSink starts an endpoint.
func newSink(t *testing.T) (s *sink, endpoint string) {
	s = &sink{got: newDeliveries()}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// joinWorld is newWorld with an endpoint that others use as well. The name
// tells the gateways apart.
func joinWorld(t *testing.T, name string, clients int, opts gatewaytest.Options, s *sink, endpoint string) *world {
	t.Helper()
	b := bucketsOf(name)
	w := startWorld(t, b, newHotKeys(b), 0, clients, opts, s)
	w.furnish(endpoint)
	return w
}

// startWorld starts a gateway, and gives it clients, numbered from first on.
func startWorld(t *testing.T, b buckets, hot []*hotKey, first, clients int, opts gatewaytest.Options, s *sink) *world {
	t.Helper()
	w := &world{t: t, buckets: b, sink: s, hot: hot}
	opts.Args = append(opts.Args, commonArgs...)
	w.g = gatewaytest.Start(t, opts)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for id := range clients {
		worker := newWorker(w.g.URL, first+id, seed, b, w.hot, &w.dark)
		w.workers = append(w.workers, worker)
		w.clients = append(w.clients, worker)
	}
	w.clients = append(w.clients, newBucketWorker(newWorker(w.g.URL, first+clients, seed, b, nil, &w.dark)))
	return w
}

// furnish makes topics and buckets.
func (w *world) furnish(endpoint string) {
	w.t.Helper()
	live := w.makeTopic(topic, map[string]string{"push-endpoint": endpoint, "retry_sleep_duration": "0"})
	dead := w.makeTopic(deadTopic, map[string]string{
		"push-endpoint": "http://127.0.0.1:1", "retry_sleep_duration": "0", "max_retries": "1",
	})
	for _, bucket := range w.buckets.all() {
		w.makeBucket(bucket, live, dead)
	}
}

func (w *world) makeTopic(name string, attributes map[string]string) types.TopicConfiguration {
	w.t.Helper()
	attributes["persistent"] = "true"
	client := sns.New(sns.Options{
		BaseEndpoint: &w.g.URL, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	})
	out, err := client.CreateTopic(w.t.Context(), &sns.CreateTopicInput{Name: &name, Attributes: attributes})
	if err != nil {
		w.t.Fatal(err)
	}
	return types.TopicConfiguration{
		Id: &name, TopicArn: out.TopicArn, Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"},
	}
}

func (w *world) makeBucket(bucket string, live, dead types.TopicConfiguration) {
	w.t.Helper()
	ctx, client := w.t.Context(), w.workers[0].s3
	dead.Filter = &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{
		FilterRules: []types.FilterRule{{Name: types.FilterRuleNamePrefix, Value: aws.String(deadPrefix)}},
	}}
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	if err == nil && bucket == w.buckets.versioned {
		_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err == nil {
		_, err = client.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket:                    &bucket,
			NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{live, dead}},
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// load runs all clients until stop is done, or the gateway ended by itself.
func (w *world) load(stop context.Context) {
	w.t.Helper()
	if err := w.tryLoad(stop); err != nil {
		w.t.Fatal(err)
	}
}

// tryLoad is load; its error is a violation.
func (w *world) tryLoad(stop context.Context) error {
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	go func() {
		select {
		case <-w.g.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	var group errgroup.Group
	for _, c := range w.clients {
		group.Go(func() error { return c.run(ctx) })
	}
	return group.Wait()
}

// loadAndKill runs all clients for a while and kills the gateway under them.
func (w *world) loadAndKill(d time.Duration) {
	w.t.Helper()
	if err := w.tryLoadAnd(d, w.g.Kill); err != nil {
		w.t.Fatal(err)
	}
}

// tryLoadAnd runs all clients for a while and calls f, while they go on.
func (w *world) tryLoadAnd(d time.Duration, f func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	done := make(chan struct{})
	go func() {
		<-ctx.Done()
		f()
		close(done)
	}()
	err := w.tryLoad(ctx)
	<-done
	return err
}

// restart starts the gateway again and checks P1 for every key.
func (w *world) restart(after string) {
	w.t.Helper()
	if err := w.tryRestart(after); err != nil {
		w.t.Fatal(err)
	}
}

// tryRestart is restart; its error is a violation.
func (w *world) tryRestart(after string) error {
	if err := w.g.Run(); err != nil {
		return fmt.Errorf("restart after %s: %w", after, err)
	}
	return w.settle(after)
}

// settle checks P1 for every key.
func (w *world) settle(after string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var group errgroup.Group
	for _, c := range w.clients {
		group.Go(func() error { return c.settle(ctx, w.sink.got) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("after %s: %w", after, err)
	}
	return nil
}

// drain waits until every queue is empty, then checks P2 and P3. The clients
// must be idle and all keys settled.
func (w *world) drain(after string) {
	w.t.Helper()
	w.sink.kind.Store(true)
	defer w.sink.kind.Store(false)
	w.awaitEmpty(topic)
	w.awaitEmpty(deadTopic)
	w.check(after)
}

// check checks P2 and P3 when everything was delivered.
func (w *world) check(after string) {
	w.t.Helper()
	var wrong []string
	add := func(k *key, all []delivery, list []string) {
		for _, s := range list {
			wrong = append(wrong, k.id()+": "+s)
		}
		if len(list) > 0 {
			wrong = append(wrong, k.describe(all))
		}
	}
	known := map[string]bool{}
	for _, k := range w.keys() {
		known[k.id()] = true
		first, all := w.sink.got.of(k.id())
		add(k, all, k.check(first))
	}
	for _, h := range w.hot {
		known[h.id()] = true
		first, all := w.sink.got.of(h.id())
		list := w.workers[0].checkHot(context.Background(), h, first)
		h.history = h.asked
		add(&h.key, all, list)
	}
	for _, id := range w.sink.got.ids() {
		if (w.alone || w.buckets.has(id)) && !known[id] {
			first, _ := w.sink.got.of(id)
			wrong = append(wrong, fmt.Sprintf("P2: invented: %s %s", id, first[0]))
		}
	}
	wrong = append(wrong, w.checkDead()...)
	if len(wrong) > 0 {
		w.t.Fatalf("after %s: %d violations:\n%s", after, len(wrong), strings.Join(wrong[:min(20, len(wrong))], "\n"))
	}
}

func (w *world) awaitEmpty(topic string) {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		var stats struct {
			Topic struct{ Reservations, Entries int } `json:"Topic Stats"`
		}
		out := w.g.MustAdmin("topic", "stats", "--topic", topic)
		if err := json.Unmarshal([]byte(out), &stats); err != nil {
			w.t.Fatal(err)
		}
		if stats.Topic.Entries == 0 && stats.Topic.Reservations == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("topic %s does not drain: %s", topic, out)
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to wait on
	}
}

// checkDead checks that the dead letters of the topic whose endpoint is dead
// are the events of its keys. They may be there twice, and in any order.
func (w *world) checkDead() (wrong []string) {
	w.t.Helper()
	var letters []struct {
		Entry struct{ Event jsonRecord }
	}
	out := w.g.MustAdmin("topic", "dead-letters", "list", "--topic", deadTopic, "--max-entries", "1000000")
	if err := json.Unmarshal([]byte(out), &letters); err != nil {
		w.t.Fatal(err)
	}
	events := map[string][]record{}
	for _, l := range letters {
		r := l.Entry.Event.record()
		events[r.id()] = append(events[r.id()], r)
	}
	for _, k := range w.keys() {
		list := events[k.id()]
		slices.SortStableFunc(list, func(a, b record) int { return strings.Compare(a.sequencer, b.sequencer) })
		list = slices.Compact(list)
		if !strings.HasPrefix(k.name, deadPrefix) {
			if len(list) > 0 {
				wrong = append(wrong, fmt.Sprintf("%s: dead letter of another topic: %s", k.id(), list[0]))
			}
			continue
		}
		for _, s := range k.check(list) {
			wrong = append(wrong, fmt.Sprintf("%s: dead letters: %s", k.id(), s))
		}
	}
	return wrong
}

func (w *world) keys() []*key {
	var out []*key
	for _, worker := range w.workers {
		out = append(out, worker.keys...)
	}
	return out
}

func (w *world) report() {
	ops, cut, hot := 0, 0, 0
	for _, k := range w.keys() {
		ops += len(k.history)
		for _, o := range k.history {
			if !o.acked {
				cut++
			}
		}
	}
	for _, h := range w.hot {
		hot += len(h.asked)
	}
	w.t.Logf("%d changes (%d of them cut and found to have come true), %d of hot keys; %d deliveries, %d refused by the endpoint",
		ops, cut, hot, w.sink.got.count(), w.sink.bad.Load())
}
