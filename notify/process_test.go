package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/journal"
	"herald/queue/redis"
	"herald/store"
	"herald/store/posix"
	"herald/tests/processtest"
	"herald/tests/redistest"
)

// gatewayEnv tells the test binary to be a gateway: its configuration as JSON.
const gatewayEnv = "HERALD_NOTIFY_TEST_GATEWAY"

// gatewayConfig is that of a gateway in a process of its own: a POSIX store,
// queues on Redis, and a client that changes its own keys all the time.
type gatewayConfig struct {
	Name, Dir, Redis, Endpoint string
}

// gatewayMain runs until its input ends.
func gatewayMain(config string) int {
	var c gatewayConfig
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		err = runGateway(c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runGateway(c gatewayConfig) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, closeAll, err := openGateway(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	work, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- g.s.Run(work) }()
	clients, stopClients := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { g.client(clients, i) })
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	stopClients()
	wg.Wait()
	stop()
	return errors.Join(err, <-done)
}

// processGateway is what runs in it.
type processGateway struct {
	c       gatewayConfig
	s       *Service
	objects *store.Service
	bucket  *store.BucketInfo
	history *os.File
}

func openGateway(ctx context.Context, c gatewayConfig) (g *processGateway, closeAll func() error, err error) {
	j, err := journal.Open(c.Dir+"/journal", journal.Options{NoSync: true, SegmentBytes: 1 << 20, Segments: 8})
	if err != nil {
		return nil, nil, err
	}
	objects, err := posix.Open(c.Dir+"/data", j, posix.Options{Relaxed: true})
	if err != nil {
		return nil, nil, err
	}
	if err := j.Recover(); err != nil {
		return nil, nil, err
	}
	queues, err := redis.Open(ctx, c.Redis, redis.Options{RequireAOF: true})
	if err != nil {
		return nil, nil, err
	}
	g = &processGateway{c: c, objects: store.NewService(objects)}
	g.history, err = os.OpenFile(c.Dir+"/history", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	jctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(jctx) }()
	g.s, err = New(Config{
		Records: objects.Records(), Outcomes: objects.Outcomes(), Queues: queues, StoreID: c.Name, StoreExclusive: true,
		HostID: c.Name, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Options: brisk(),
	})
	if err == nil {
		err = g.prepare(ctx)
	}
	return g, func() error {
		stop()
		return errors.Join(<-done, j.Close(), queues.Close(), g.objects.Close(), g.history.Close())
	}, err
}

// prepare makes bucket and topic unless they are there.
func (g *processGateway) prepare(ctx context.Context) error {
	err := g.objects.CreateBucket(ctx, store.BucketInfo{Name: "bucket", Owner: "owner"})
	if err != nil && !errors.Is(err, store.ErrBucketAlreadyExists) {
		return err
	}
	topic, err := NewTopic("default", "", "t", "owner", map[string]string{AttrPushEndpoint: g.c.Endpoint, AttrPersistent: "true"})
	if err == nil {
		topic, err = g.s.Topics().Create(ctx, topic, nil)
	}
	if err != nil {
		return err
	}
	err = g.objects.UpdateBucket(ctx, "", "bucket", func(b *store.BucketInfo) error {
		b.Attrs[AttrNotification] = FormatRules([]Rule{rule("n", topic, Filter{})})
		return nil
	})
	if err == nil {
		g.bucket, err = g.objects.BucketInfo(ctx, "", "bucket")
	}
	return err
}

// client changes its keys. Each change is written down before and after: as
// "try KEY ETAG", and "ok KEY ETAG" once it has its answer.
func (g *processGateway) client(ctx context.Context, n int) {
	for ctx.Err() == nil {
		key, etag := fmt.Sprintf("%s-%d-%d", g.c.Name, n, rand.N(4)), fmt.Sprint(time.Now().UnixNano())
		fmt.Fprintln(g.history, "try", key, etag)
		if err := g.put(ctx, key, etag); err == nil {
			fmt.Fprintln(g.history, "ok", key, etag)
		} else if ctx.Err() == nil {
			_ = sleep(ctx, 10*time.Millisecond) // queues that are away; anything else is seen by the checker
		}
	}
}

func (g *processGateway) put(ctx context.Context, key, etag string) error {
	rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := g.s.Publisher().Reserve(rctx, Change{Type: ObjectCreatedPut, Bucket: g.bucket, Key: key, RequestID: "r"})
	if err != nil {
		return err
	}
	defer p.Abort()
	b, err := g.objects.OpenBucket(ctx, "", "bucket")
	if err != nil {
		return err
	}
	w, err := b.Create(ctx, key, store.CreateHint{Size: 1})
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }() // after Commit it does nothing
	if _, err := io.WriteString(w, "x"); err != nil {
		return err
	}
	_, err = p.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		return w.Commit(ctx, store.CommitOptions{Op: op, ETag: etag})
	})
	return err
}

// gatewayProcess is such a process as its test sees it.
type gatewayProcess struct {
	t      *testing.T
	config gatewayConfig
	p      *processtest.Process
	input  io.Closer
}

// start begins it. It ends with its input, so also with the test.
func (p *gatewayProcess) start() {
	p.t.Helper()
	config, err := json.Marshal(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gatewayEnv+"="+string(config))
	logs, err := os.OpenFile(p.config.Dir+"/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer logs.Close() // the child has its own
	cmd.Stderr = logs
	if p.input, err = cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if p.p, err = processtest.Start(cmd); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends it in order.
func (p *gatewayProcess) stop() {
	p.t.Helper()
	_ = p.input.Close() // it may be gone
	select {
	case <-p.p.Done():
		if err := p.p.Wait(); err != nil {
			log, _ := os.ReadFile(p.config.Dir + "/log")
			p.t.Errorf("gateway %s: %v\n%s", p.config.Name, err, log)
		}
	case <-time.After(2 * time.Minute):
		p.t.Errorf("gateway %s does not end", p.config.Name)
		p.p.Kill()
	}
}

// Processes that are killed, and stopped for longer than their leases: every
// change has its event, in order, and nothing else has.
func TestProcess_KilledAndPaused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	sink := newSink(t, nil)
	var list []*gatewayProcess
	for _, name := range []string{"a", "b", "c"} {
		p := &gatewayProcess{t: t, config: gatewayConfig{name, filepath.Join(t.TempDir(), name), server.URL(), sink.URL}}
		if err := os.Mkdir(p.config.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p.start()
		t.Cleanup(func() { p.p.Kill() }) // most often it has ended
		list = append(list, p)
	}
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	longUntil(t, "the first events", func() bool { return len(sink.got()) > 100 })
	for round := range rounds {
		p := list[rand.N(len(list))]
		before := len(sink.got())
		if round%3 == 2 {
			err := p.p.Pause()
			time.Sleep(brisk().Lease + brisk().Lease/2) // it is what is tested
			if err := errors.Join(err, p.p.Resume()); err != nil {
				t.Error(err)
			}
		} else {
			time.Sleep(rand.N(500 * time.Millisecond))
			p.p.Kill()
			p.start()
		}
		longUntil(t, "more events", func() bool { return len(sink.got()) > before+100 })
	}
	for _, p := range list {
		p.stop()
	}
	drainAndCheck(t, sink, list)
}

// drainAndCheck starts the gateways once more, without clients, until all has
// arrived, and holds it against what they wrote down.
func drainAndCheck(t *testing.T, sink *sink, list []*gatewayProcess) {
	var gateways []*processGateway
	for _, p := range list {
		ctx, cancel := context.WithCancel(context.Background())
		g, closeAll, err := openGateway(ctx, p.config)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- g.s.Run(ctx) }()
		defer func() {
			cancel()
			if err := errors.Join(<-done, closeAll()); err != nil {
				t.Error(err)
			}
		}()
		gateways = append(gateways, g)
	}
	longUntil(t, "empty queues", func() bool {
		st, err := gateways[0].s.TopicStats(t.Context(), "", "t")
		return err == nil && st == TopicStats{}
	})
	got := make(map[string][]Record)
	seen := make(map[string]bool)
	repeats := 0
	for _, r := range sink.got() {
		o := r.S3.Object
		if seen[o.Key+" "+o.ETag] {
			repeats++
			continue
		}
		seen[o.Key+" "+o.ETag] = true
		got[o.Key] = append(got[o.Key], r)
	}
	for i, p := range list {
		tried := checkHistory(t, p.config, seen)
		for key, records := range got {
			if strings.HasPrefix(key, p.config.Name+"-") {
				checkKey(t, gateways[i], key, records, tried)
			}
		}
	}
	t.Logf("%d events, %d repeats", len(seen), repeats)
}

// checkHistory returns what was tried; all that succeeded must have come.
func checkHistory(t *testing.T, c gatewayConfig, seen map[string]bool) (tried map[string]bool) {
	t.Helper()
	f, err := os.Open(c.Dir + "/history")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // read only
	tried = make(map[string]bool)
	ok := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		verb, what, _ := strings.Cut(lines.Text(), " ")
		tried[what] = true
		if verb == "ok" {
			ok++
			if !seen[what] {
				t.Errorf("no event of %s", what)
			}
		}
	}
	t.Logf("gateway %s: %d changes acknowledged", c.Name, ok)
	return tried
}

// checkKey: the events are of changes, in their order, up to the last one.
func checkKey(t *testing.T, g *processGateway, key string, records []Record, tried map[string]bool) {
	t.Helper()
	last := ""
	for _, r := range records {
		o := r.S3.Object
		if !tried[key+" "+o.ETag] {
			t.Errorf("an event of nothing: %s %s", key, o.ETag)
		}
		if o.Sequencer <= last {
			t.Errorf("key %s: %s after %s", key, o.Sequencer, last)
		}
		last = o.Sequencer
	}
	b, err := g.objects.OpenBucket(t.Context(), "", "bucket")
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Stat(t.Context(), key, "")
	if err != nil {
		t.Fatal(err)
	}
	if etag := records[len(records)-1].S3.Object.ETag; info.ETag != etag {
		t.Errorf("key %s is %s, its last event says %s", key, info.ETag, etag)
	}
}
