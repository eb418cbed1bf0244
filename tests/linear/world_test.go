package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"herald/tests/gatewaytest"
)

const (
	clients = 32
	topic   = "linear"
)

// The buckets, and the keys in both together.
const (
	plainBucket     = "plain"
	versionedBucket = "versioned"
	keys            = 50
	hotKeys         = 10 // half of all ops are on these
)

// manyWrong is how many violations are enough.
const manyWrong = 20

// world is gateways that share a store, and clients.
type world struct {
	t        *testing.T
	began    time.Time
	noise    []byte
	gateways []*gatewaytest.Gateway
	clients  []*s3.Client // of the gateways
	endpoint *endpoint
	// hurt does harm below the gateways, and heals it; nil: none can be done.
	hurt func() error
	// harms is how often it is being done now.
	harms atomic.Int64

	keys    []keyID
	hints   map[keyID]*hint
	ids     atomic.Int64 // of ops
	workers []*worker

	mu     sync.Mutex // guards what follows
	ops    map[keyID][]*op
	wrong  []string
	counts map[string]int
	harm   map[string]int

	// Of the end of the last round.
	states map[keyID]*state
	open   map[keyID][]*op
	events map[keyID]int // that came until then

	all       int // ops
	late      int // events that came after later ones
	nameless  int // events without metadata
	explained int // histories that their events do not explain
	logged    map[string]bool
}

func newWorld(t *testing.T, gateways []*gatewaytest.Gateway, hurt func() error) *world {
	t.Helper()
	w := &world{
		t: t, began: time.Now(), noise: newNoise(), gateways: gateways, endpoint: newEndpoint(), hurt: hurt,
		hints: map[keyID]*hint{}, ops: map[keyID][]*op{}, counts: map[string]int{}, harm: map[string]int{},
		states: map[keyID]*state{}, open: map[keyID][]*op{}, events: map[keyID]int{}, logged: map[string]bool{},
	}
	for i := range keys {
		k := keyID{bucket: plainBucket, name: fmt.Sprintf("key %02d", i)}
		if i%2 == 1 {
			k.bucket, k.versioned = versionedBucket, true
		}
		w.keys = append(w.keys, k)
		w.hints[k], w.states[k] = &hint{}, newState()
	}
	for _, g := range gateways {
		w.clients = append(w.clients, newS3(g.URL))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for id := range clients {
		w.workers = append(w.workers, &worker{world: w, id: id, rand: rand.New(rand.NewPCG(seed, uint64(id)))})
	}
	w.prepare()
	return w
}

// now is the time on the clock of histories.
func (w *world) now() int64 { return int64(time.Since(w.began)) }

func (w *world) pick(r *rand.Rand) keyID {
	if r.IntN(2) == 0 {
		return w.keys[r.IntN(hotKeys)]
	}
	return w.keys[r.IntN(len(w.keys))]
}

func (w *world) add(o *op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops[o.key] = append(w.ops[o.key], o)
	w.tally(o)
}

// count counts an op that is no part of the history.
func (w *world) count(o *op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally(o)
}

// tally counts an op by what was answered. The caller holds mu.
func (w *world) tally(o *op) {
	if o.kind == source || o.kind == entry {
		return
	}
	w.all++
	name := o.kind.String()
	if o.code != "" {
		name = strings.TrimSpace(o.result.String() + " " + o.code)
	}
	w.counts[name]++
}

func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// live has rounds of load and harm until the time is over, and fails the test
// at the end of the first that shows something wrong.
func (w *world) live(d, each time.Duration) {
	w.t.Helper()
	for n := 1; time.Since(w.began) < d; n++ {
		length := min(each/2+time.Duration(rand.Int64N(int64(each))), max(d-time.Since(w.began), each/2))
		w.round(length)
		w.t.Logf("round %d: %s: %d ops so far, %d deliveries (%d late, %d without metadata); %v; harm %v",
			n, time.Since(w.began).Round(time.Second), w.all, w.endpoint.count(), w.late, w.nameless, w.counts, w.harm)
		w.logErrors()
		if len(w.wrong) > 0 {
			w.t.Fatalf("%d violations:\n%s", len(w.wrong), strings.Join(w.wrong[:min(len(w.wrong), manyWrong)], "\n"))
		}
	}
}

// logErrors logs what the gateways said of requests that they answered with
// 500, which tells a client nothing, but is seldom what is meant, and, when
// something is wrong, of those that they answered only in part.
func (w *world) logErrors() {
	for i, g := range w.gateways {
		for _, line := range strings.Split(g.Log(1<<20), "\n") {
			cut := len(w.wrong) > 0 && strings.Contains(line, " status=200 ") && strings.Contains(line, " err=")
			if (cut || strings.Contains(line, " status=500 ")) && !w.logged[line] {
				w.logged[line] = true
				w.t.Logf("gateway %d: %s", i, line)
			}
		}
	}
}

// round has load and harm for a while, makes everything well and checks it.
func (w *world) round(d time.Duration) {
	w.t.Helper()
	w.endpoint.behave(false)
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var load, harm sync.WaitGroup
	for _, c := range w.workers {
		load.Go(func() { c.run(ctx) })
	}
	for i := range w.gateways {
		harm.Go(func() { w.harmGateway(ctx, i) })
	}
	if w.hurt != nil {
		harm.Go(func() { w.harmBelow(ctx) })
	}
	harm.Wait()
	load.Wait()
	w.endpoint.behave(true)
	if len(w.wrong) == 0 {
		w.await()
		w.check()
	}
}

// check checks everything at the end of a round.
func (w *world) check() {
	w.t.Helper()
	states := w.readAll()
	if len(w.wrong) > 0 {
		w.dumpAll()
		w.checkFsck()
		return
	}
	for _, k := range w.keys {
		r := &round{key: k, init: w.states[k], ops: w.ops[k], before: w.open[k]}
		if !w.checkKey(r) {
			w.explain(r)
		}
		open := append(w.open[k], r.open()...)
		w.open[k] = open[max(0, len(open)-4):]
		w.states[k] = states[k]
	}
	w.checkFsck()
	w.ops = map[keyID][]*op{}
}

// checkKey compares the history of a key with what its events tell, and
// answers whether all is right. Where the events explain the history, it is
// linearizable: they tell the order.
func (w *world) checkKey(r *round) bool {
	events := w.endpoint.since(r.key, w.events[r.key])
	w.events[r.key] += len(events)
	late := disorder(events)
	w.late += len(late)
	nameless := r.name(events)
	w.nameless += nameless
	if checkMetadata && nameless > 0 {
		w.violation("%s: %d events have no metadata", r.key, nameless)
	}
	if checkArrival {
		for _, s := range late {
			w.violation("%s: %s", r.key, s)
		}
	}
	t, err := r.tell(events)
	if err == nil {
		err = t.check()
	}
	if err != nil {
		w.violation("%v", err)
		w.dump(r, events)
		r.order = t.order()
	}
	return err == nil
}

// explain finds out whether a history that the events do not explain would be
// linearizable without them.
func (w *world) explain(r *round) {
	if w.explained++; w.explained > 5 {
		return
	}
	_, err := r.check()
	if err != nil {
		w.violation("%v", err)
	} else {
		w.violation("%s: without its events the history is linearizable", r.key)
	}
}
