package notify

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/store"
)

// fillQueue commits events of keys, in that order, without a store. They are in
// the topic's first queue whatever their keys are.
func (r *rig) fillQueue(topic *Topic, keys []string) {
	r.t.Helper()
	q, err := r.queues.Open(r.ctx, topic.Dest.Queue)
	if err != nil {
		r.t.Fatal(err)
	}
	count := make(map[string]int)
	for page := range slices.Chunk(keys, 500) {
		var data [][]byte
		size := int64(0)
		for _, key := range page {
			in := goldenIntent()
			in.arn, in.rules, in.key = topic.ARN, in.rules[:1], key
			count[key]++
			out := store.Outcome{Changed: true, Seq: uint64(time.Now().UnixNano()), Info: &store.Info{Key: key, ETag: fmt.Sprint(count[key])}}
			data = append(data, in.entries("default", topic, &out)...)
			size += int64(len(data[len(data)-1]))
		}
		id, err := q.Reserve(r.ctx, []byte(IntentNone), size, len(data))
		if err == nil {
			err = q.Commit(r.ctx, id, data)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// listCounter counts what is listed.
type listCounter struct {
	queue.Driver
	entries, calls atomic.Int64
}

func (d *listCounter) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	return &countedQueue{q, d}, err
}

func (d *listCounter) Exclusive() bool { return true }

type countedQueue struct {
	queue.Queue
	d *listCounter
}

func (q *countedQueue) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	list, more, err := q.Queue.List(ctx, after, max)
	q.d.entries.Add(int64(len(list)))
	q.d.calls.Add(1)
	return list, more, err
}

func repeat(key string, n int) []string { return slices.Repeat([]string{key}, n) }

// inTime is eventually for what takes long.
func inTime(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// inOrder is how often each key's events came, if they came once and in order.
func (s *sink) inOrder(t *testing.T) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, r := range s.got() {
		key := r.S3.Object.Key
		n[key]++
		if r.S3.Object.ETag != fmt.Sprint(n[key]) {
			t.Fatalf("key %s: event %s came as number %d", key, r.S3.Object.ETag, n[key])
		}
	}
	return n
}

// One key's events are always refused, and more of them wait than a worker
// holds: the queue's other keys get through, whatever the answer is.
func TestPoison_OneKey(t *testing.T) {
	const poisoned, well, each = 3_000, 50, 4
	for _, status := range []int{http.StatusBadRequest, http.StatusInternalServerError} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			opt := quick()
			opt.Shards = 1
			r := newRig(t, opt)
			counted := &listCounter{Driver: r.queues}
			r.queues = counted
			r.open(opt)
			sink := newSink(t, func(record Record) int {
				if record.S3.Object.Key == "bad" {
					return status
				}
				return 200
			})
			topic := r.topic("t", sink.URL, "persistent", "true")
			keys := repeat("bad", poisoned)
			for i := range well * each {
				keys = slices.Insert(keys, len(keys)-i%3, fmt.Sprint("k", i/each))
			}
			r.fillQueue(topic, keys)
			r.run()
			inTime(t, "all other events", func() bool { return len(sink.got()) == well*each })
			inTime(t, "their acks", func() bool { return r.stats("t").Entries == poisoned })
			if n := counted.entries.Load(); n > 3*int64(len(keys)) {
				t.Errorf("%d entries were listed of %d", n, len(keys))
			}
			r.stop()
			sink.set(nil)
			r.open(opt)
			r.run()
			inTime(t, "the events that waited", func() bool { return r.stats("t").Entries == 0 })
			n := sink.inOrder(t)
			if n["bad"] != poisoned || len(n) != well+1 {
				t.Errorf("%d events of the poisoned key, %d keys", n["bad"], len(n))
			}
		})
	}
}

// The events of a poisoned key are given up one after the other, and those
// behind them are found again.
func TestPoison_GivenUp(t *testing.T) {
	opt := quick()
	opt.Shards, opt.Window = 1, 16
	r := newRig(t, opt)
	sink := newSink(t, func(record Record) int {
		if record.S3.Object.Key == "bad" && record.S3.Object.ETag != "200" {
			return 400
		}
		return 200
	})
	topic := r.topic("t", sink.URL, "persistent", "true", "http-reject-status", "400")
	keys := repeat("bad", 200)
	for i := range 100 {
		keys = append(keys, fmt.Sprint("k", i), "k0")
	}
	r.fillQueue(topic, keys)
	r.run()
	inTime(t, "an empty queue", func() bool { return r.stats("t").Entries == 0 })
	if l, err := r.s.DeadLetters(r.ctx, "", "t", "", 0); err != nil || len(l) != 199 {
		t.Errorf("%d dead letters, %v", len(l), err)
	}
	if n := len(sink.got()); n != 201 {
		t.Errorf("%d events came, want 201", n)
	}
}

// Thousands of keys are poisoned, and each has many events; there are others
// among them, and behind.
func TestPoison_ManyKeys(t *testing.T) {
	poisoned, each := 1000, 5
	if testing.Short() {
		poisoned = 200
	}
	opt := quick()
	opt.Shards, opt.Window = 1, 256 // up to 2048 keys may be held back
	r := newRig(t, opt)
	counted := &listCounter{Driver: r.queues}
	r.queues = counted
	r.open(opt)
	sink := newSink(t, func(record Record) int {
		if strings.HasPrefix(record.S3.Object.Key, "bad") {
			return 422
		}
		return 200
	})
	topic := r.topic("t", sink.URL, "persistent", "true")
	var keys []string
	for range each {
		for i := range poisoned {
			keys = append(keys, fmt.Sprint("bad", i))
		}
	}
	for i := range 100 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	r.fillQueue(topic, keys)
	r.run()
	inTime(t, "the well events", func() bool { return len(sink.got()) == 100 })
	t.Logf("%d entries listed of %d, %d requests", counted.entries.Load(), len(keys), sink.seen.Load())
	sink.set(nil)
	inTime(t, "an empty queue", func() bool { return r.stats("t").Entries == 0 })
	n := sink.inOrder(t)
	for i := range poisoned {
		if k := fmt.Sprint("bad", i); n[k] != each {
			t.Fatalf("%d events of %s, want %d", n[k], k, each)
		}
	}
}
