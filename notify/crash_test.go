package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/store"

	"github.com/google/go-cmp/cmp"
)

var errKilled = errors.New("the process is dead")

// process is a kill switch around all that a service does to queues and store:
// the n-th call is its last, with or without effect; afterwards nothing has
// any effect, as after SIGKILL.
type process struct {
	left atomic.Int64
	dead chan struct{}
	once sync.Once
}

func newProcess(calls int64) *process {
	p := &process{dead: make(chan struct{})}
	p.left.Store(calls)
	return p
}

func (p *process) killed() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// call runs f unless the process is dead, and may kill it before or after.
func (p *process) call(f func() error) error {
	if p.killed() {
		return errKilled
	}
	last := p.left.Add(-1) == 0
	if last && rand.N(2) == 0 {
		p.once.Do(func() { close(p.dead) })
		return errKilled
	}
	err := f()
	if last {
		p.once.Do(func() { close(p.dead) })
	}
	if p.killed() {
		return errKilled
	}
	return err
}

type mortalDriver struct {
	queue.Driver
	p      *process
	shared bool // others may have the queues open too
}

func (d mortalDriver) Exclusive() bool { return !d.shared }

func (d mortalDriver) Open(ctx context.Context, name string) (queue.Queue, error) {
	if d.p.killed() {
		return nil, errKilled
	}
	q, err := d.Driver.Open(ctx, name)
	return mortalQueue{q, d.p}, err
}

type mortalQueue struct {
	queue.Queue
	p *process
}

func (q mortalQueue) Reserve(ctx context.Context, intent []byte, size int64, n int) (id queue.ID, err error) {
	err = q.p.call(func() error { id, err = q.Queue.Reserve(ctx, intent, size, n); return err })
	return id, err
}

func (q mortalQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	return q.p.call(func() error { return q.Queue.Commit(ctx, id, entries) })
}

func (q mortalQueue) Abort(ctx context.Context, id queue.ID) error {
	return q.p.call(func() error { return q.Queue.Abort(ctx, id) })
}

func (q mortalQueue) Ack(ctx context.Context, a queue.Ack) error {
	return q.p.call(func() error { return q.Queue.Ack(ctx, a) })
}

func (q mortalQueue) List(ctx context.Context, after queue.Marker, max int) (e []queue.Entry, more bool, err error) {
	err = q.p.call(func() error { e, more, err = q.Queue.List(ctx, after, max); return err })
	return e, more, err
}

func (q mortalQueue) Wait(ctx context.Context, after queue.Marker) error {
	return q.Queue.(queue.Waiter).Wait(ctx, after)
}

type mortalOutcomes struct {
	store.Outcomes
	p *process
}

func (o mortalOutcomes) Settle(ctx context.Context, ref store.OpRef) (out store.Outcome, err error) {
	err = o.p.call(func() error { out, err = o.Outcomes.Settle(ctx, ref); return err })
	return out, err
}

func (o mortalOutcomes) Forget(ctx context.Context, refs ...store.OpRef) error {
	return o.p.call(func() error { return o.Outcomes.Forget(ctx, refs...) })
}

// history is what really happened to each key.
type history struct {
	mu   sync.Mutex
	keys map[string][]string
}

// Whatever is interrupted where: the events of a key are its changes, in their
// order, none missing and none invented.
func TestCrash_EventsAreChanges(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for seed := range 8 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			crashRun(t, rounds, seed%2 == 1)
		})
	}
}

// crashRun runs on queues of this process, or on such as could be shared.
func crashRun(t *testing.T, rounds int, shared bool) {
	opt := quick()
	opt.MaxBackoff, opt.DrainTimeout = 5*time.Millisecond, 100*time.Millisecond
	opt.Shards = 2
	r := newRig(t, opt)
	sink := newSink(t, func(Record) int { return []int{200, 200, 200, 503}[rand.N(4)] })
	topics := []*Topic{
		r.topic("a", sink.URL, "persistent", "true", "retry_sleep_duration", "0"),
		r.topic("b", sink.URL, "persistent", "true", "retry_sleep_duration", "0"),
	}
	r.notify(rule("na", topics[0], Filter{}), rule("nb", topics[1], Filter{}))
	happened := &history{keys: make(map[string][]string)}
	for range rounds {
		p := newProcess(rand.Int64N(400) + 1)
		r.restart(opt, p, shared)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.client(p, happened, 40) })
		}
		wg.Wait()
		r.stop()
	}
	r.restart(opt, newProcess(1<<60), shared)
	eventually(t, "empty queues", func() bool { return r.stats("a") == TopicStats{} && r.stats("b") == TopicStats{} })
	r.stop()
	for key, want := range happened.keys {
		for _, id := range []string{"na", "nb"} {
			if d := cmp.Diff(want, firstSeen(sink.got(), id, key)); d != "" {
				t.Errorf("events of %s by %s: -changes +events\n%s", key, id, d)
			}
		}
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	t.Logf("%d pushes, %d outcomes left by interrupted forgetting", sink.seen.Load(), len(r.store.outcomes))
}

// firstSeen returns a key's events in the order in which each came first.
func firstSeen(records []Record, rule, key string) []string {
	var out []string
	seen := make(map[string]bool)
	for _, rec := range records {
		o := rec.S3.Object
		if rec.S3.ConfigurationID == rule && o.Key == key && !seen[o.Sequencer] {
			seen[o.Sequencer] = true
			out = append(out, o.Sequencer+" "+rec.EventName+" "+o.ETag)
		}
	}
	return out
}

// restart is a fresh process over what the last one left.
func (r *rig) restart(opt Options, p *process, shared bool) {
	s, err := New(Config{
		Records: r.store, Outcomes: mortalOutcomes{modelOutcomes{r.store}, p}, Queues: mortalDriver{r.queues, p, shared},
		StoreID: "s", StoreExclusive: true, HostID: "host", Options: opt,
	})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.s = s
	r.run()
}

// client changes keys until the process is dead.
func (r *rig) client(p *process, h *history, ops int) {
	for i := 0; i < ops && !p.killed(); i++ {
		key := fmt.Sprint("k", rand.N(2))
		etag := fmt.Sprint(rand.Int64())
		typ, commit := ObjectCreatedPut, r.store.put("b", key, etag, nil)
		if rand.N(3) == 0 {
			typ, commit = ObjectRemovedDelete, r.store.remove("b", key)
		}
		pending, err := r.reserve(typ, key, nil)
		if err != nil {
			continue // dead, or not recovered
		}
		if rand.N(8) == 0 {
			pending.Abort()
			continue
		}
		// An error after death means nothing: the client got no answer.
		_, _ = pending.Do(r.ctx, func(ctx context.Context, op store.OpID) (out store.Outcome, err error) {
			if rand.N(8) == 0 {
				return out, store.ErrPreconditionFailed
			}
			err = p.call(func() error {
				h.mu.Lock()
				defer h.mu.Unlock()
				if out, err = commit(ctx, op); err == nil && out.Changed {
					h.keys[key] = append(h.keys[key], fmt.Sprintf("%016X %s %s", out.Seq, typ.Name(), out.Info.ETag))
				}
				return err
			})
			if errors.Is(err, errKilled) {
				err = store.ErrUnknownOutcome // no deferred call may abort
			}
			return out, err
		})
	}
}
