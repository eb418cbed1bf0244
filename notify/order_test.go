package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/store"
)

// sharedOutcomes are those of a modelStore that several gateways have open. They
// fail now and then.
type sharedOutcomes struct{ modelOutcomes }

var _ store.SharedOutcomes = sharedOutcomes{}

var errNow = errors.New("not now")

func (m sharedOutcomes) Kept(_ context.Context, id store.OpID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flaky && rand.N(50) == 0 {
		return false, errNow
	}
	_, ok := m.outcomes[id]
	return ok, nil
}

func (m sharedOutcomes) Settle(ctx context.Context, ref store.OpRef) (store.Outcome, error) {
	if m.isFlaky() && rand.N(20) == 0 {
		return store.Outcome{}, errNow
	}
	return m.modelOutcomes.Settle(ctx, ref)
}

func (m sharedOutcomes) Forget(ctx context.Context, refs ...store.OpRef) error {
	if m.isFlaky() && rand.N(50) == 0 {
		return errNow
	}
	return m.modelOutcomes.Forget(ctx, refs...)
}

func (m *modelStore) isFlaky() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flaky
}

// change is a change that came true.
type changeMade struct {
	seq     uint64
	removed bool
}

// ordering is gateways on one store that change the same keys all the time.
type ordering struct {
	*fleet
	objects *modelStore
	rules   []Rule
	keys    int
	pause   time.Duration // of a client between changes, at most

	mu   sync.Mutex // guards what follows
	made map[string][]changeMade
}

func newOrdering(f *fleet) *ordering {
	o := &ordering{fleet: f, objects: newModelStore(), keys: 4, pause: 200 * time.Millisecond, made: make(map[string][]changeMade)}
	o.objects.chained = true
	return o
}

// join adds a gateway, which runs; the first one makes the topics. The events
// of a removal go to two of them, those of other changes to another two.
func (o *ordering) join(name string) *fleetMember {
	m := o.add(name, "s", o.objects, false)
	if o.rules == nil {
		for name, events := range map[string][]EventType{"t": {ObjectCreatedAll, ObjectRemovedAll}, "created": {ObjectCreatedAll}, "removed": {ObjectRemovedAll}} {
			o.rules = append(o.rules, Rule{ID: name, TopicARN: m.topic(name, "http://x", "persistent", "true", AttrRetrySleep, "1").ARN, Events: events})
		}
	}
	m.notify(o.rules...)
	m.run()
	return m
}

// load has clients of a gateway change keys until ctx ends.
func (o *ordering) load(ctx context.Context, wg *sync.WaitGroup, m *fleetMember) {
	for range 3 {
		wg.Go(func() {
			for sleep(ctx, rand.N(o.pause)) == nil {
				o.change(ctx, m, fmt.Sprint("k", rand.N(o.keys)))
			}
		})
	}
}

func (o *ordering) change(ctx context.Context, m *fleetMember, key string) {
	typ, do := ObjectCreatedPut, o.objects.put("b", key, fmt.Sprint(o.etags.Add(1)), nil)
	if rand.N(3) == 0 {
		typ, do = ObjectRemovedDelete, o.objects.remove("b", key)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	p, err := m.s.Publisher().Reserve(ctx, Change{Type: typ, Bucket: m.bucket, Key: key, Attrs: store.Attrs{}})
	if err == nil {
		_, err = p.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
			out, err := do(ctx, op)
			if err == nil && out.Changed {
				o.mu.Lock()
				o.made[key] = append(o.made[key], changeMade{out.Seq, typ.Removes()})
				o.mu.Unlock()
			}
			if err == nil && rand.N(30) == 0 {
				return store.Outcome{}, store.ErrUnknownOutcome
			}
			return out, err
		})
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, ErrFull), errors.Is(err, store.ErrUnknownOutcome),
		errors.Is(err, store.ErrOpBarred), errors.Is(err, errNow), errors.Is(err, context.DeadlineExceeded):
	default:
		o.t.Errorf("change of %s by %s: %v", key, m.name, err)
	}
}

// check waits until all is delivered, and compares what came for each rule and
// key with what was made: all of it, in order of the first arrivals.
func (o *ordering) check() {
	o.t.Helper()
	for _, r := range o.rules {
		o.done(r.ID)
	}
	got := make(map[string][]string)
	seen := make(map[string]bool)
	repeats := 0
	for _, d := range o.endpoint.all() {
		id := d.rule + " " + d.key
		if seen[id+d.seq] {
			repeats++
			continue
		}
		seen[id+d.seq] = true
		got[id] = append(got[id], d.seq)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	changes := 0
	for key, made := range o.made {
		slices.SortFunc(made, func(a, b changeMade) int { return cmp.Compare(a.seq, b.seq) })
		changes += len(made)
		for _, rule := range []string{"t", "created", "removed"} {
			var want []string
			for _, c := range made {
				if rule == "t" || (rule == "removed") == c.removed {
					want = append(want, fmt.Sprintf("%016X", c.seq))
				}
			}
			o.compare(rule+" "+key, got[rule+" "+key], want)
		}
	}
	o.t.Logf("%d changes of %d keys, %d deliveries, %d of them repeats", changes, len(o.made), len(o.endpoint.all()), repeats)
}

func (o *ordering) compare(what string, got, want []string) {
	o.t.Helper()
	for i := range got {
		got[i] = strings.ToUpper(got[i])
	}
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	o.t.Errorf("%s: %d events, want %d; they differ from the %dth: %v, want %v", what, len(got), len(want), i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
}

// nothingLeft checks that all was forgotten.
func (o *ordering) nothingLeft() {
	o.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		o.objects.mu.Lock()
		n := len(o.objects.outcomes)
		o.objects.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			o.t.Errorf("%d outcomes are left", n)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestOrder_OneStore: gateways on one store change the same keys while they
// are slow, pause beyond all leases, and die.
func TestOrder_OneStore(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOrdering(newFleet(t, Options{Shards: 2, Lease: 10 * time.Second, StaleAge: time.Duration(30+rand.N(90)) * time.Second}))
				o.objects.flaky = true
				o.endpoint.takes = 0
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				var list []*fleetMember
				for n := range 3 {
					m := o.join(fmt.Sprint("g", n))
					list = append(list, m)
					o.load(ctx, &wg, m)
				}
				o.suffer(ctx, &wg, list)
				cancel()
				wg.Wait()
				o.objects.set(func() { o.objects.flaky = false })
				time.Sleep(time.Minute)
				for _, m := range list {
					m.link.slow(0)
				}
				o.check()
			})
		})
	}
}

// suffer lets gateways be slow, pause and die for a while. The first lives on.
func (o *ordering) suffer(ctx context.Context, wg *sync.WaitGroup, list []*fleetMember) {
	for n := range 20 {
		time.Sleep(rand.N(6 * time.Second))
		m := list[rand.N(len(list))]
		switch rand.N(6) {
		case 0, 1:
			m.link.slow(rand.N(400 * time.Millisecond))
		case 2:
			m.link.slow(0)
		case 3:
			m.link.loseCommits(rand.N(4))
		case 4: // it pauses, perhaps until others take it for dead
			m.link.sever()
			heal := rand.N(40 * time.Second)
			if rand.N(4) == 0 {
				heal *= 5
			}
			time.AfterFunc(heal, m.link.heal)
		case 5: // it dies; another comes
			i := slices.Index(list, m)
			if i == 0 {
				continue
			}
			m.link.kill()
			list[i] = o.join(fmt.Sprint("g", 3+n))
			o.load(ctx, wg, list[i])
		}
	}
	for _, m := range list {
		m.link.heal()
	}
}

// A gateway that pauses with an event on its way, until another one has taken
// that over, does not queue it again, nor do later events wait for two minutes.
func TestOrder_PausedComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{Shards: 1})
		o := newOrdering(f)
		a, b := o.join("a"), o.join("b")
		time.Sleep(10 * time.Second)
		put := func(m *fleetMember, etag string, before func()) time.Time {
			p, err := m.reserve(ObjectCreatedPut, "k", store.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			before()
			if _, err := p.Do(m.ctx, o.objects.put("b", "k", etag, nil)); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		put(a, "1", a.link.sever)
		made := put(b, "2", func() {})
		put(b, "3", func() {})
		if n := b.s.late.len(); n != 2 {
			t.Errorf("%d late ops", n)
		}
		if n := b.s.background.len(); n != 0 {
			t.Errorf("%d commits behind requests", n)
		}
		time.Sleep(25 * time.Second) // a lease is 30 s; a is thought to be alive for 20
		a.link.heal()
		f.done("t")
		time.Sleep(time.Minute)
		var got []string
		for _, d := range f.endpoint.all() {
			if d.rule == "t" {
				got = append(got, d.etag)
				if d.at.Sub(made) > 40*time.Second {
					t.Errorf("event %s took %v", d.etag, d.at.Sub(made))
				}
			}
		}
		if !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("events %v", got)
		}
		o.nothingLeft()
	})
}

// TestOrder_Redis is TestOrder_OneStore, shorter, with a real Redis.
func TestOrder_Redis(t *testing.T) {
	f, _ := redisFleet(t, brisk())
	o := newOrdering(f)
	o.pause = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var list []*fleetMember
	for n := range 3 {
		list = append(list, o.join(fmt.Sprint("g", n)))
		o.load(ctx, &wg, list[n])
	}
	time.Sleep(500 * time.Millisecond)
	list[0].link.slow(50 * time.Millisecond)
	list[1].link.sever() // it pauses beyond its lease
	time.Sleep(time.Second)
	list[2].link.kill()
	list[2] = o.join("g3")
	o.load(ctx, &wg, list[2])
	time.Sleep(f.opt.Lease + time.Second)
	list[1].link.heal()
	list[0].link.slow(0)
	time.Sleep(time.Second)
	cancel()
	wg.Wait()
	o.check()
}
