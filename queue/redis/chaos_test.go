package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/redistest"
)

// rounds is how often a test does its harm: a part of what is judged, unless
// HERALD_LONG=1.
func rounds(short, long int) int {
	if os.Getenv("HERALD_LONG") == "1" {
		return long
	}
	if testing.Short() {
		return max(1, short/5)
	}
	return short
}

// load has workers reserve, commit and abort, and a consumer list and ack. What
// each call answered is kept, and compared when it stops.
type load struct {
	t    *testing.T
	d    *Driver
	name string

	cancel   context.CancelFunc
	wg       sync.WaitGroup
	writes   atomic.Int64
	consumed atomic.Int64

	mu        sync.Mutex // guards what follows
	committed map[string]bool
	listed    map[string]int
	next      map[string]int // per worker, in the order of listing
}

const loadWorkers = 16

// startLoad works on a fresh queue until stop is called.
func startLoad(t *testing.T, d *Driver, name string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, d: d, name: name, cancel: cancel, committed: make(map[string]bool), listed: make(map[string]int), next: make(map[string]int)}
	if err := d.Create(ctx, name, 1<<30); err != nil {
		t.Fatal(err)
	}
	q, err := d.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for w := range loadWorkers {
		l.wg.Go(func() { l.produce(ctx, q, w) })
	}
	l.wg.Go(func() { l.consume(ctx, q) })
	return l
}

// produce stops between its calls: none is left without an answer.
func (l *load) produce(ctx context.Context, q queue.Queue, w int) {
	for i := 0; ctx.Err() == nil; {
		id, err := q.Reserve(l.t.Context(), []byte("intent"), 100, 2)
		if err != nil {
			l.t.Errorf("Reserve = %v", err)
			return
		}
		if rand.N(8) == 0 {
			err = q.Abort(l.t.Context(), id)
		} else {
			data := fmt.Sprintf("%d/%d", w, i)
			err = q.Commit(l.t.Context(), id, [][]byte{[]byte(data + " a"), []byte(data + " b")})
			l.mu.Lock()
			l.committed[data+" a"], l.committed[data+" b"] = true, true
			l.mu.Unlock()
			i++
		}
		if err != nil {
			l.t.Errorf("Commit or Abort = %v", err)
			return
		}
		l.writes.Add(2)
	}
}

func (l *load) consume(ctx context.Context, q queue.Queue) {
	for ctx.Err() == nil {
		if err := q.(queue.Waiter).Wait(ctx, ""); err != nil {
			if ctx.Err() == nil {
				l.t.Errorf("Wait = %v", err)
			}
			return
		}
		l.take(q)
	}
}

// take lists once and acks that.
func (l *load) take(q queue.Queue) int {
	entries, _, err := q.List(l.t.Context(), "", 500)
	if err != nil {
		l.t.Errorf("List = %v", err)
		return 0
	}
	var ack queue.Ack
	for i, e := range entries {
		l.see(string(e.Data))
		if i%3 == 0 {
			ack.Done = append(ack.Done, e.Marker)
		}
		ack.UpTo = e.Marker
	}
	if err := q.Ack(l.t.Context(), ack); err != nil {
		l.t.Errorf("Ack = %v", err)
	}
	l.consumed.Add(int64(len(entries)))
	return len(entries)
}

// see notes an entry: after what its worker committed before.
func (l *load) see(data string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed[data]++
	w, number, _ := strings.Cut(strings.TrimRight(data, " ab"), "/")
	if strings.HasSuffix(data, "a") {
		if want := fmt.Sprint(l.next[w]); number != want {
			l.t.Errorf("worker %s: entry %s listed, want %s", w, number, want)
		}
		l.next[w]++
	}
}

// waitWrites waits until n more calls were answered.
func (l *load) waitWrites(n int64) {
	l.t.Helper()
	n += l.writes.Load()
	redistest.Eventually(l.t, "calls are answered", func() bool { return l.writes.Load() >= n || l.t.Failed() })
}

// stop checks that each commit was listed once, and nothing else, and that the
// queue is empty then.
func (l *load) stop() {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	q, err := l.d.Open(l.t.Context(), l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	for l.take(q) > 0 {
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for data := range l.committed {
		if l.listed[data] != 1 {
			l.t.Errorf("entry %q was listed %d times", data, l.listed[data])
		}
		delete(l.listed, data)
	}
	if len(l.listed) > 0 {
		l.t.Errorf("%d entries that nobody committed", len(l.listed))
	}
	st, err := q.Stats(l.t.Context())
	if err != nil || st.Entries+st.Bytes+st.Reservations+st.Reserved != 0 {
		l.t.Errorf("Stats() = %+v, %v, want an empty queue", st, err)
	}
	if found, err := l.d.Check(l.t.Context(), l.name, false); err != nil || len(found) > 0 {
		l.t.Errorf("Check = %+v, %v", found, err)
	}
	if n, latest := l.d.Losses(); n > 0 {
		l.t.Errorf("losses: %+v", latest)
	}
	l.t.Logf("%d commits, %d other calls, all kept", len(l.committed)/2, l.writes.Load()-int64(len(l.committed)/2))
}

// TestKill kills the server and starts it again, under load.
func TestKill(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{RequireAOF: true})
	l := startLoad(t, h.d, "q")
	for range rounds(10, 100) {
		l.waitWrites(500)
		s.KillNine()
		s.Restart()
	}
	l.waitWrites(500)
	l.stop()
}

// TestClusterFailover kills masters of a Cluster; a replica takes over.
func TestClusterFailover(t *testing.T) {
	c := redistest.StartCluster(t, 3, 1)
	h := newHarness(t, c.URL(), Options{RequireAOF: true, WaitReplicas: 1})
	l := startLoad(t, h.d, "q")
	key := h.d.queueKeys("q")[0]
	for range rounds(2, 20) {
		l.waitWrites(500)
		master := c.MasterOf(key)
		c.Failover(master)
		master.Restart()
		c.WaitReady()
	}
	l.waitWrites(500)
	l.stop()
}

// TestSentinelFailover does so under a Sentinel.
func TestSentinelFailover(t *testing.T) {
	p := redistest.StartSentinel(t)
	h := newHarness(t, p.URL(), Options{RequireAOF: true, WaitReplicas: 1})
	l := startLoad(t, h.d, "q")
	for range rounds(1, 20) {
		l.waitWrites(500)
		p.Failover().Restart()
		p.WaitReady()
	}
	l.waitWrites(500)
	l.stop()
}

// TestCutAnywhere loses answers of all kinds of calls, under load.
func TestCutAnywhere(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.StartCuttingProxy(t, s.Addr)
	h := newHarness(t, "redis://"+p.Addr, Options{})
	l := startLoad(t, h.d, "q")
	for n := range rounds(50, 1000) {
		p.CutEvery(1 + n%7)
		time.Sleep(5 * time.Millisecond)
		p.CutEvery(0)
		l.waitWrites(50)
	}
	l.stop()
	t.Logf("%d answers lost", p.Cuts())
}

// TestReshard moves the slot of a queue to another node of a Cluster and back,
// under load.
func TestReshard(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	h := newHarness(t, c.URL(), Options{})
	l := startLoad(t, h.d, "q")
	key := h.d.queueKeys("q")[0]
	for range rounds(4, 20) {
		l.waitWrites(200)
		from := c.MasterOf(key)
		to := c.Nodes[0]
		if from == to {
			to = c.Nodes[1]
		}
		c.MoveSlot(key, from, to)
	}
	l.waitWrites(200)
	l.stop()
}

// TestMemoryFull has a server that takes nothing any more: what waits there can
// be drained, and then it takes more.
func TestMemoryFull(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	s.Do("CONFIG", "SET", "maxmemory", "20mb")
	var full error
	for n := 0; full == nil; n++ {
		id, err := q.Reserve(t.Context(), []byte("i"), 100_000, 1)
		if err == nil {
			err = q.Commit(t.Context(), id, [][]byte{make([]byte, 100_000)})
		}
		full = err
		if n > 1000 {
			t.Fatal("the server's memory is not full")
		}
	}
	if !Full(full) {
		t.Errorf("put without memory = %v", full)
	}
	for {
		entries, _, err := q.List(t.Context(), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		if err := q.Ack(t.Context(), queue.Ack{UpTo: entries[len(entries)-1].Marker, Fence: 1}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, q, 1)
	if found, err := h.d.Check(t.Context(), "q", false); err != nil || len(found) > 0 {
		t.Errorf("Check = %v, %v", found, err)
	}
}

// TestCommit_RepeatedLate repeats a commit after several restarts, with others
// in between: it was done, and is not done again.
func TestCommit_RepeatedLate(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q").(*Queue)
	id, err := q.Reserve(t.Context(), []byte("i"), 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(token string) byte {
		t.Helper()
		code, _, err := q.change(t.Context(), commitOp, idString(id), 10, token, 1, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	for i := range 6 {
		if got := commit("token"); got != '1' {
			t.Errorf("after %d restarts the same commit is answered %c, want 1", i, got)
		}
		if got := commit("other"); got != '0' {
			t.Errorf("after %d restarts another commit is answered %c, want 0", i, got)
		}
		s.KillNine()
		s.Restart()
		put(t, q, 1)
	}
	if st, err := q.Stats(t.Context()); err != nil || st.Entries != 7 {
		t.Errorf("Stats() = %+v, %v, want 7 entries", st, err)
	}
}

// TestReserve_Abandoned has a server that hangs, and callers who do not wait:
// the room that it gives them when it goes on is given back.
func TestReserve_Abandoned(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	put(t, q, 1)
	s.Pause()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if id, err := q.Reserve(ctx, []byte("i"), 10, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Reserve = %d, %v, want that the time is over", id, err)
			}
		})
	}
	wg.Wait()
	s.Resume()
	id, err := q.Reserve(t.Context(), []byte("i"), 10, 1) // comes behind those that were sent
	if err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the room is given back", func() bool {
		st, err := q.Stats(t.Context())
		return err == nil && st.Reservations == 1
	})
	if err := q.Commit(t.Context(), id, [][]byte{[]byte("x")}); err != nil {
		t.Errorf("Commit = %v", err)
	}
}
