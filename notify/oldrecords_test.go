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
)

// oldRecords are a gateway's view of records that others change: what Get
// gives is up to a second old, as store.Records allows.
type oldRecords struct {
	*modelStore
	mu  sync.Mutex // guards old
	old map[string]oldRecord
}

type oldRecord struct {
	data    []byte
	version uint64
	err     error
	read    time.Time
}

func (o *oldRecords) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.old[name]
	if !ok || time.Since(r.read) >= time.Second {
		r.data, r.version, r.err = o.modelStore.Get(ctx, name)
		r.read = time.Now()
		o.old[name] = r
	}
	return r.data, r.version, r.err
}

// Put and Delete know what they have written.
func (o *oldRecords) Put(ctx context.Context, name string, value []byte, version uint64) (uint64, error) {
	next, err := o.modelStore.Put(ctx, name, value, version)
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.old[name] = oldRecord{value, next, nil, time.Now()}
	}
	return next, err
}

func (o *oldRecords) Delete(ctx context.Context, name string, version uint64) error {
	err := o.modelStore.Delete(ctx, name, version)
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.old[name] = oldRecord{nil, 0, store.ErrNoSuchRecord, time.Now()}
	}
	return err
}

// stubborn are queues that cannot always be deleted.
type stubborn struct {
	*link
	refuse atomic.Bool
}

var errStubborn = errors.New("not now")

func (s *stubborn) Delete(ctx context.Context, name string) error {
	if s.refuse.Load() && rand.N(3) == 0 {
		return errStubborn
	}
	return s.link.Delete(ctx, name)
}

// Two gateways create and delete one topic in turn, on records that are old,
// and with deletions that are interrupted: a topic has all its queues while it
// is there, with what was put into them since it was made, and nothing else.
func TestTopics_OldRecords(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, oldRecordsRun)
		})
	}
}

func oldRecordsRun(t *testing.T) {
	objects, queues := newModelStore(), openQueues(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var services []*Service
	var drivers []*stubborn
	for range 2 {
		d := &stubborn{link: newLink(queues)}
		s, err := New(Config{
			Records: &oldRecords{modelStore: objects, old: make(map[string]oldRecord)}, Outcomes: modelOutcomes{objects},
			Queues: d, StoreID: "s", Options: Options{Shards: 3},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.open = func(Endpoint) (Pusher, error) { return &fakePusher{answer: refuse}, nil }
		wg.Go(func() { _ = s.Run(ctx) })
		wg.Go(func() { // more often than Run does
			var seen map[string]uint64
			for sleep(ctx, 2*time.Second) == nil {
				seen, _ = s.topics.sweep(ctx, seen) // stubborn queues
			}
		})
		services, drivers = append(services, s), append(drivers, d)
	}
	put := 0 // since the topic was made
	for range 60 {
		i := rand.N(2)
		topics := services[i].Topics()
		drivers[i].refuse.Store(rand.N(3) == 0)
		_, _, gone := objects.Get(ctx, topicRecord("", "t"))
		if rand.N(2) == 0 {
			if gone != nil {
				put = 0
			}
			topic, err := NewTopic("default", "", "t", "owner", map[string]string{AttrPushEndpoint: "http://x", AttrPersistent: "true"})
			if err == nil {
				_, err = topics.Create(ctx, topic, nil)
			}
			if err != nil && !errors.Is(err, errStubborn) {
				t.Fatal(err)
			}
		} else if err := topics.Delete(ctx, "", "t"); err != nil && !errors.Is(err, ErrNoSuchTopic) && !errors.Is(err, errStubborn) {
			t.Fatal(err)
		}
		time.Sleep(rand.N(1500 * time.Millisecond))
		if _, _, gone = objects.Get(ctx, topicRecord("", "t")); gone == nil {
			checkQueues(t, queues, put)
			fill(t, queues)
			put++
		}
		time.Sleep(rand.N(8 * time.Second))
	}
}

// checkQueues wants all queues of the topic, each with that many entries.
func checkQueues(t *testing.T, queues queue.Driver, entries int) {
	t.Helper()
	for i := range 3 {
		q, err := queues.Open(t.Context(), ShardName(":t", i))
		if err != nil {
			t.Fatalf("queue %d: %v", i, err)
		}
		if st, err := q.Stats(t.Context()); err != nil || st.Entries != int64(entries) {
			t.Fatalf("queue %d: %d entries, %v, want %d", i, st.Entries, err, entries)
		}
	}
}

// fill puts an entry into each queue of the topic.
func fill(t *testing.T, queues queue.Driver) {
	t.Helper()
	in := goldenIntent()
	in.rules = in.rules[:1]
	data := in.entries("default", &Topic{ARN: in.arn, Dest: Dest{PushEndpoint: "http://x"}}, &store.Outcome{Changed: true, Seq: 1, Info: &store.Info{}})
	for i := range 3 {
		q, err := queues.Open(t.Context(), ShardName(":t", i))
		if err != nil {
			t.Fatal(err)
		}
		id, err := q.Reserve(t.Context(), []byte(IntentNone), int64(len(data[0])), 1)
		if err == nil {
			err = q.Commit(t.Context(), id, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
