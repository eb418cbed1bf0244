package journal

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWrap fills the ring many times over, with crashes in between.
func TestWrap(t *testing.T) {
	dir := t.TempDir()
	c := newModel()
	j := start(t, dir, small(), c)
	rounds, n := 6, 0
	for range rounds {
		stop := run(t, j)
		var lsn LSN
		for range 3000 {
			lsn = mustAppend(t, j, 1, fmt.Sprintf("record %d %s", n, strings.Repeat("x", n%1500)))
			c.apply(lsn)
			n++
			if n%50 == 0 {
				mustWait(t, j, lsn)
			}
		}
		mustWait(t, j, lsn)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if s := j.Stats(); s.Checkpoints < 2 || s.Used > s.Size || s.Records < 3000 {
			t.Errorf("Stats() = %+v", s)
		}
		crash(j)
		c = newModel()
		j = start(t, dir, small(), c)
		got := c.values()
		if len(got) == 0 {
			continue // the last checkpoint had everything
		}
		for i, p := range got {
			if want := fmt.Sprintf("record %d ", n-len(got)+i); !strings.HasPrefix(p, want) {
				t.Fatalf("replayed %.20q, want %q", p, want)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestAppend_Sizes(t *testing.T) {
	dir := t.TempDir()
	opts := Options{SegmentBytes: 4 << 20}
	j := start(t, dir, opts, newModel())
	var want []string
	limit := j.opts.MaxRecord
	for _, n := range []int{0, 1, blockSize - batchHeader - recordHeader - 1, blockSize - batchHeader - recordHeader, blockSize, 300_000, limit} {
		p := strings.Repeat("p", n)
		want = append(want, p)
		mustWait(t, j, mustAppend(t, j, 1, p))
	}
	// Parts are one record.
	lsn, err := j.Append(1, []byte("a"), nil, []byte("bc"))
	if err != nil {
		t.Fatal(err)
	}
	mustWait(t, j, lsn)
	want = append(want, "abc")
	if _, err := j.Append(1, make([]byte, limit+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Append of %d bytes = %v, want ErrTooLarge", limit+1, err)
	}
	crash(j)
	c := newModel()
	j = start(t, dir, opts, c)
	defer j.Close()
	if diff := cmp.Diff(want, c.values()); diff != "" {
		t.Error("records differ")
	}
}

// TestConcurrent has many append and wait, in two streams, while checkpoints
// run, and some who never wait; nothing that was waited for may be missing.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	c1, c2 := newModel(), newModel()
	c1.hold, c2.hold = true, true // nothing is released
	j := start(t, dir, Options{SegmentBytes: 8 << 20, CheckpointInterval: 5 * time.Millisecond}, c1, c2)
	stop := run(t, j)
	var (
		mu   sync.Mutex
		want = map[LSN]string{}
		wg   sync.WaitGroup
	)
	for w := range 16 {
		wg.Go(func() {
			for i := range 200 {
				p := fmt.Sprintf("%d/%d", w, i)
				lsn, err := j.Append(Stream(1+w%2), []byte(p))
				if err == nil && w%4 != 3 {
					err = j.Wait(lsn)
				}
				if err != nil {
					t.Errorf("Append, Wait = %v", err)
					return
				}
				if j.Durable() >= lsn {
					mu.Lock()
					want[lsn] = p
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	crash(j)
	c1, c2 = newModel(), newModel()
	j = start(t, dir, Options{SegmentBytes: 8 << 20}, c1, c2)
	defer j.Close()
	for lsn, p := range want {
		if c1.records[lsn] != p && c2.records[lsn] != p {
			t.Errorf("record %d %q is gone", lsn, p)
		}
	}
	next := map[string]int{}
	for _, p := range append(c1.values(), c2.values()...) {
		w, n, _ := strings.Cut(p, "/")
		if n != fmt.Sprint(next[w]) {
			t.Fatalf("record %q, want number %d", p, next[w])
		}
		next[w]++
	}
}

// TestFull blocks appenders until the client lets go.
func TestFull(t *testing.T) {
	c := newModel()
	c.hold = true
	opts := small()
	opts.StallTimeout = time.Hour // Append waits as long as this test takes to look
	j := start(t, t.TempDir(), opts, c)
	stop := run(t, j)
	var appended atomic.Int64
	done := make(chan error, 1)
	go func() {
		for range 300 {
			if _, err := j.Append(1, make([]byte, 10_000)); err != nil {
				done <- err
				return
			}
			appended.Add(1)
		}
		done <- nil
	}()
	for { // until TryAppend says so too
		if _, err := j.TryAppend(1, make([]byte, 10_000)); errors.Is(err, ErrRingFull) {
			break
		}
	}
	if n := appended.Load(); n > 105 {
		t.Errorf("%d records of 10,000 bytes in a ring of 1 MiB", n)
	}
	room := make(chan error, 1)
	go func() { room <- j.WaitRoom(10_000) }()
	c.mu.Lock()
	c.hold, c.applied = false, 1<<60
	c.mu.Unlock()
	if err := <-done; err != nil {
		t.Errorf("Append = %v", err)
	}
	if err := <-room; err != nil {
		t.Errorf("WaitRoom = %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// refilling is a client that uses what a checkpoint released before Run can
// look.
type refilling struct {
	*model
	j *Journal
}

func (c *refilling) Flushed(LSN) error {
	for {
		_, err := c.j.TryAppend(1, make([]byte, 10_000))
		if errors.Is(err, ErrRingFull) || errors.Is(err, ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// TestFull_Refilled has the ring full again after each checkpoint: as long as
// something was released, appenders wait.
func TestFull_Refilled(t *testing.T) {
	c := &refilling{model: newModel()}
	c.applied = 1 << 60
	opts := small()
	opts.StallTimeout = 1 // nothing may pass for a stall
	j, err := Open(t.TempDir(), opts)
	if err == nil {
		c.j = j
		err = j.Register(1, c)
	}
	if err == nil {
		err = j.Recover()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, j)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				if _, err := j.Append(1, make([]byte, 10_000)); err != nil {
					t.Errorf("Append number %d = %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// noSpace is a client whose disk is full.
type noSpace struct {
	*model
	full atomic.Bool
}

func (c *noSpace) Checkpoint() (LSN, error) {
	if c.full.Load() {
		return 0, fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return c.model.Checkpoint()
}

// TestNoSpace has appends fail while a client's disk is full, and work again
// afterwards.
func TestNoSpace(t *testing.T) {
	c := &noSpace{model: newModel()}
	c.full.Store(true)
	c.applied = 1 << 60
	opts := small()
	opts.StallTimeout = 50 * time.Millisecond
	j, err := Open(t.TempDir(), opts)
	if err == nil {
		err = j.Register(1, c)
	}
	if err == nil {
		err = j.Recover()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, j)
	for err == nil {
		_, err = j.Append(1, make([]byte, 10_000))
	}
	if !errors.Is(err, ErrRingFull) {
		t.Errorf("Append = %v, want ErrRingFull", err)
	}
	if err := j.Err(); err != nil {
		t.Errorf("poisoned by a full disk: %v", err)
	}
	c.full.Store(false)
	for err != nil {
		if _, err = j.Append(1, make([]byte, 10_000)); err != nil && !errors.Is(err, ErrRingFull) {
			t.Fatalf("Append = %v", err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestPoisoned makes a write or a flush fail once: everything after it fails.
func TestPoisoned(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			j := start(t, dir, small(), newModel())
			stop := run(t, j)
			mustWait(t, j, mustAppend(t, j, 1, "good"))
			boom := errors.New("boom")
			var failed atomic.Bool
			j.ring.inject = func(at string) error {
				if at == op && failed.CompareAndSwap(false, true) {
					return boom
				}
				return nil
			}
			lsn := mustAppend(t, j, 1, "bad")
			for i := range 3 {
				if err := j.Wait(lsn); !errors.Is(err, boom) {
					t.Errorf("Wait number %d = %v, want boom", i, err)
				}
			}
			if _, err := j.Append(1, []byte("late")); !errors.Is(err, boom) {
				t.Errorf("Append = %v, want boom", err)
			}
			if err := j.Checkpoint(); !errors.Is(err, boom) {
				t.Errorf("Checkpoint = %v, want boom", err)
			}
			if err := stop(); err != nil && !errors.Is(err, boom) {
				t.Errorf("Run = %v, want boom", err)
			}
			if err := j.Close(); !errors.Is(err, boom) {
				t.Errorf("Close = %v, want boom", err)
			}
			c := newModel()
			j = start(t, dir, small(), c)
			defer j.Close()
			if v := c.values(); len(v) > 0 && v[0] != "good" {
				t.Errorf("records %q", v)
			}
		})
	}
}

// TestLazy flushes records for which nobody waits.
func TestLazy(t *testing.T) {
	j := start(t, t.TempDir(), small(), newModel())
	stop := run(t, j)
	for range 3 {
		lsn := mustAppend(t, j, 1, "lazy")
		deadline := time.Now().Add(2 * time.Minute)
		for j.Durable() < lsn {
			if time.Now().After(deadline) {
				t.Fatal("not flushed")
			}
			time.Sleep(time.Millisecond) // what is tested is a delay
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestCheckpoint_Holding keeps what one client still needs, though the other
// has let go.
func TestCheckpoint_Holding(t *testing.T) {
	dir := t.TempDir()
	c1, c2 := newModel(), newModel()
	j := start(t, dir, small(), c1, c2)
	for i := range 20 {
		lsn := mustAppend(t, j, 1, fmt.Sprint("one ", i))
		c1.apply(lsn)
		lsn = mustAppend(t, j, 2, fmt.Sprint("two ", i))
		if i < 10 {
			c2.apply(lsn)
		}
		mustWait(t, j, lsn)
	}
	if err := j.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if c1.flushed != c1.applied || c2.flushed != c2.applied {
		t.Errorf("flushed %d and %d, want %d and %d", c1.flushed, c2.flushed, c1.applied, c2.applied)
	}
	crash(j)
	r1, r2 := newModel(), newModel()
	j = start(t, dir, small(), r1, r2)
	defer j.Close()
	if len(r1.order) != 0 {
		t.Errorf("stream 1 got %q", r1.values())
	}
	if v := r2.values(); len(v) != 10 || v[0] != "two 10" || v[9] != "two 19" {
		t.Errorf("stream 2 got %q", v)
	}
}

func TestUnready(t *testing.T) {
	j, err := Open(t.TempDir(), small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(1, nil); !errors.Is(err, ErrNotReady) {
		t.Errorf("Append before Recover = %v, want ErrNotReady", err)
	}
	if err := j.Recover(); err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(1 << 60); !errors.Is(err, ErrBeyondEnd) {
		t.Errorf("Wait = %v, want ErrBeyondEnd", err)
	}
	for range 2 {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := j.Append(1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close = %v, want ErrClosed", err)
	}
	for _, opts := range []Options{{SegmentBytes: 5000}, {Segments: 1}, {SegmentBytes: 1 << 20, MaxRecord: 1 << 20}} {
		if _, err := Open(t.TempDir(), opts); err == nil {
			t.Errorf("Open(%+v) took it", opts)
		}
	}
}

// TestHooks counts what the observers see.
func TestHooks(t *testing.T) {
	var records, bytes, checkpoints int
	points := map[string]int{}
	opts := small()
	opts.OnFlush = func(_ time.Duration, r, b int) { records += r; bytes += b }
	opts.OnCheckpoint = func(time.Duration) { checkpoints++ }
	opts.Fault = func(p string) { points[p]++ }
	j := start(t, t.TempDir(), opts, newModel())
	for range 10 {
		mustAppend(t, j, 1, "record")
	}
	mustWait(t, j, j.End())
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if records != 10 || bytes != blockSize || checkpoints != 1 {
		t.Errorf("%d records, %d bytes, %d checkpoints", records, bytes, checkpoints)
	}
	for _, p := range FaultPoints() {
		if points[p] == 0 {
			t.Errorf("fault point %s was not passed", p)
		}
	}
	if len(points) != len(FaultPoints()) {
		t.Errorf("points %v, want %v", points, FaultPoints())
	}
}
