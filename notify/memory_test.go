package notify

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
)

// heapInUse is what is in use after a collection, in bytes.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// claimed is how many windows have entries.
func (r *rig) claimed() (alive, dead int64) { return r.s.shares.alive.Load(), r.s.shares.dead.Load() }

// Many topics have dead endpoints and backlogs: what they hold in memory is
// bounded over all of them, and one whose endpoint lives is served.
func TestMemory_ManyDeadTopics(t *testing.T) {
	topics, backlog := 300, 1500
	if testing.Short() {
		topics = 60
	}
	const most = 8 << 20
	opt := quick()
	opt.Shards, opt.WindowMemory, opt.ScanEvery, opt.Inflight = 1, most, time.Second, 8
	r := newRig(t, opt)
	sink := newSink(t, nil)
	live := r.topic("live", sink.URL, "persistent", "true")
	keys := make([]string, backlog)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	for i := range topics {
		r.fillQueue(r.topic(fmt.Sprint("dead", i), deadEndpoint(), "persistent", "true"), keys)
	}
	before := heapInUse()
	r.run()
	inTime(t, "all dead topics to be known as such", func() bool {
		_, dead := r.claimed()
		return dead >= int64(topics)
	})
	// Each worker looks at its share at least twice a second.
	var used int64
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if used = heapInUse() - before; used < 2*most+int64(topics)*(64<<10) {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d bytes are in use for %d topics, %d of them for windows may be", used, topics, most)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d topics: %d KiB in use", topics, used>>10)
	r.fillQueue(live, keys)
	inTime(t, "the events of the live topic", func() bool { return len(sink.got()) >= backlog })
	if n := len(sink.got()); n != backlog {
		t.Errorf("%d of %d events of the live topic came", n, backlog)
	}
}

// gathering has the first lists of queues begin together.
type gathering struct {
	queue.Driver
	awaited, begun, listed atomic.Int64 // lists to wait for; first ones that ended; their entries
	all                    chan struct{}
}

func (d *gathering) Exclusive() bool { return true }

func (d *gathering) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	return &gatheredQueue{Queue: q, d: d, name: name}, err
}

type gatheredQueue struct {
	queue.Queue
	d    *gathering
	name string
}

func (q *gatheredQueue) List(ctx context.Context, after queue.Marker, max int) ([]queue.Entry, bool, error) {
	if after != "" || strings.HasSuffix(q.name, ".dead") {
		return q.Queue.List(ctx, after, max)
	}
	n := q.d.awaited.Add(-1)
	if n == 0 {
		close(q.d.all)
	}
	select {
	case <-q.d.all:
	case <-ctx.Done():
	}
	list, more, err := q.Queue.List(ctx, after, max)
	if n >= 0 {
		q.d.listed.Add(int64(len(list)))
		q.d.begun.Add(1)
	}
	return list, more, err
}

// Workers that all begin at once do not each take what one alone may have.
func TestMemory_Start(t *testing.T) {
	const topics, backlog, most = 32, 300, 256 << 10
	opt := quick()
	opt.Shards, opt.WindowMemory = 1, most
	r := newRig(t, opt)
	keys := make([]string, backlog)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	for i := range topics {
		r.fillQueue(r.topic(fmt.Sprint("t", i), deadEndpoint(), "persistent", "true"), keys)
	}
	d := &gathering{Driver: r.queues, all: make(chan struct{})}
	d.awaited.Store(topics)
	r.queues = d
	r.open(opt)
	r.run()
	eventually(t, "what all workers list", func() bool { return d.begun.Load() == topics })
	if n := d.listed.Load(); n*usualItem > 8*most {
		t.Errorf("%d entries are read at the start, with %d bytes for all windows", n, most)
	}
}
