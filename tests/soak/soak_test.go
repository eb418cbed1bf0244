package soak

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"herald/tests/redistest"
)

const (
	// patience is how long anything may take on a busy machine, after all is
	// well again.
	patience = 5 * time.Minute
	// callTime is how long a call that changes a topic or a notification may.
	callTime = 30 * time.Second
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// world is all that there is.
type world struct {
	t         *testing.T
	h         *history
	b         *brokers
	endpoints []*endpoint
	sites     []*site
	failed    map[string]int // calls, by what they were to do
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// tried counts a call that failed, which it may while things are hurt.
func (w *world) tried(what string, s *site, err error) {
	if err != nil {
		w.failed[what]++
		w.t.Logf("%s at site %s: %v", what, s.name, err)
	}
}

// TestSoak lives for HERALD_SOAK_TIME, with the seed HERALD_SOAK_SEED.
func TestSoak(t *testing.T) {
	lives, err := time.ParseDuration(cmp.Or(os.Getenv("HERALD_SOAK_TIME"), "25s"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("HERALD_SOAK_SEED"), "0"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("HERALD_SOAK_SEED=%d makes the same choices", seed)
	w := &world{t: t, h: newHistory(), failed: map[string]int{}}
	w.b, w.endpoints = startBrokers(t)
	queue := redistest.Start(t)
	shared := []string{"--queue", queue.URL() + "?namespace=soak", "--queue-lease", "2s", "--reservation-stale", "5s"}
	for name, args := range map[string][]string{"a": shared, "b": shared, "c": nil} {
		w.sites = append(w.sites, newSite(t, name, w.h, w.b, w.endpoints, args...))
	}
	slices.SortFunc(w.sites, func(a, b *site) int { return compare(a.name, b.name) })
	c := newChaos(w, seed, queue)
	w.work(seed, func() { c.live(lives, min(max(lives/100, 200*time.Millisecond), time.Second)) })
	if t.Failed() {
		return // something did not come back: see above
	}
	for _, s := range w.sites {
		c.restore(s)
	}
	t.Logf("%d changes; troubles: %v; calls that failed meanwhile: %v", w.h.changes(), c.counts, w.failed)
	w.drain()
	for _, e := range w.endpoints {
		w.checkTopic(e)
	}
	for _, s := range w.sites {
		w.checkTopic(s.remade)
		w.checkObjects(s)
	}
}

// work has all clients work while f runs.
func (w *world) work(seed uint64, f func()) {
	w.t.Helper()
	var ids atomic.Int64
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	for _, s := range w.sites {
		s.addClients(seed, 150*time.Millisecond, &ids)
		for _, c := range s.clients {
			group.Go(func() {
				if err := c.run(ctx); err != nil {
					w.t.Errorf("site %s: %v", s.name, err)
				}
			})
		}
	}
	defer group.Wait()
	defer stop()
	f()
}

// eventually waits until what returns nothing.
func (w *world) eventually(what func() string) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		left := what()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("not within %v: %s", patience, left)
			return
		}
	}
}

// drain waits until all that is to expire has, and nothing waits for any topic.
// Dead letters are sent again; of other topics than deadTopic there are none.
func (w *world) drain() {
	w.t.Helper()
	began := time.Now()
	for _, s := range w.sites {
		w.eventually(func() string { return s.unexpired(w.t.Context()) })
	}
	w.t.Logf("all has expired after %s", time.Since(began).Round(time.Millisecond))
	w.eventually(func() string {
		for _, s := range w.sites {
			if n, text := s.deadLetters(deadTopic); n != 0 {
				s.g.MustAdmin("topic", "dead-letters", "redrive", "--topic", deadTopic)
				return "dead letters of topic dead at site " + s.name + ": " + text
			}
			for _, topic := range s.topics {
				if text, waits := s.waits(topic); waits {
					return fmt.Sprintf("site %s: topic %s: %s", s.name, topic, text)
				}
			}
		}
		return ""
	})
	for _, s := range w.sites {
		for _, topic := range s.topics {
			if n, text := s.deadLetters(topic); n != 0 {
				w.t.Errorf("site %s: dead letters of topic %s: %s", s.name, topic, text)
			}
		}
	}
	w.t.Logf("drained after %s", time.Since(began).Round(time.Millisecond))
}

// unexpired tells of objects that are there and should be no more.
func (s *site) unexpired(ctx context.Context) string {
	bucket := s.bucket(expiring)
	out, err := s.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		return err.Error()
	}
	if len(out.Contents) == 0 {
		return ""
	}
	return fmt.Sprintf("%d objects of bucket %s have not expired", len(out.Contents), bucket)
}

// checkTopic compares what arrived with what was done. What a broker passes on
// by itself may be on its way still.
func (w *world) checkTopic(e *endpoint) {
	w.t.Helper()
	var r *report
	for n, still := -1, 0; ; time.Sleep(300 * time.Millisecond) {
		got := e.read()
		if still++; len(got) > n {
			n, still = len(got), 0
		}
		r = w.h.check(e.topic, w.arrivals(e.topic, got))
		if still >= 1 && len(r.lost) == 0 || still >= 100 {
			break
		}
	}
	w.t.Logf("topic %s: %d events, %d arrivals more", e.topic, r.events, r.again)
	if r.events == 0 {
		w.t.Errorf("topic %s: no event arrived", e.topic)
	}
	if r.bad() == 0 {
		return
	}
	for what, list := range map[string][]string{"lost": r.lost, "invented": r.invented, "out of order": r.disorder} {
		if len(list) > 0 {
			w.t.Errorf("topic %s: %d %s:\n%s", e.topic, len(list), what, strings.Join(list[:min(len(list), 10)], "\n"))
		}
	}
}

func (w *world) arrivals(topic string, messages [][]byte) []arrival {
	w.t.Helper()
	var out []arrival
	for _, m := range messages {
		a, ok, err := read(m)
		if err != nil {
			w.t.Fatalf("topic %s: %v", topic, err)
		}
		if ok {
			out = append(out, a)
		}
	}
	return out
}

// checkObjects compares what is there with what was done.
func (w *world) checkObjects(s *site) {
	w.t.Helper()
	for _, c := range s.clients {
		for _, k := range c.keys {
			if there, err := c.look(k); err != nil || !same(there, k.cur) {
				w.t.Errorf("%s has %+v, %v, want %+v", k, there, err, k.cur)
			}
		}
	}
	if log := s.g.Log(1 << 20); strings.Contains(log, "panic") {
		w.t.Errorf("the log of site %s tells of a panic", s.name)
	}
}
