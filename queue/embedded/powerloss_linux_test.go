package embedded

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/journal"
	"herald/queue"
	"herald/tests/powerloss"
)

// TestPowerLoss cuts the power under load. Each entry is there once, in its
// worker's order and without gaps, and none that was settled is missing, unless
// it was acked; what was acked may have come back.
func TestPowerLoss(t *testing.T) {
	fs := powerloss.Mount(t, 128)
	jopt := journal.Options{SegmentBytes: 2 << 20, CheckpointInterval: 20 * time.Millisecond, StallTimeout: time.Hour} // workers end with the power only
	h := &harness{dir: filepath.Join(fs.Dir, "data"), jopt: jopt, opts: Options{TailBytes: 4000, SegmentBytes: 20_000}, now: time.Now()}
	h.opts.Now = h.Now
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	const workers = 8
	committed := make([]int, workers) // the next number of each worker
	for round := range rounds {
		h.open(t)
		q := h.queue(t, "q")
		settled, acked := loadQueue(t, h, q, committed, fs)
		_ = h.stop() // answers that there is no power
		_ = h.j.Abandon()
		_ = h.d.Close()
		fs.Restore(t)
		h.open(t)
		q = h.queue(t, "q")
		data, markers := contents(t, q)
		checkWorkers(t, round, data, settled, acked, committed)
		if err := q.Ack(t.Context(), queue.Ack{Done: markers[:max(0, len(markers)-workers)]}); err != nil {
			t.Fatal(err)
		}
		h.close(t)
	}
}

// loadQueue puts and acks until the power is cut, and returns up to which
// numbers the workers' entries had been settled, and acked.
func loadQueue(t *testing.T, h *harness, q *Queue, next []int, fs *powerloss.FS) (settled, acked []int) {
	settled, acked = make([]int, len(next)), make([]int, len(next))
	var wg sync.WaitGroup
	for w := range next {
		wg.Go(func() {
			for n := next[w]; ; n++ {
				data := fmt.Sprintf("%d/%d/%0*d", w, n, n%500, 0)
				id, err := q.Reserve(t.Context(), []byte("intent"), 1000, 1)
				if err == nil {
					err = q.Commit(t.Context(), id, [][]byte{[]byte(data)})
				}
				if err == nil && n%5 == 0 {
					if err = h.j.Wait(h.j.End()); err == nil {
						settled[w] = n
					}
				}
				if err != nil {
					return // no power
				}
			}
		})
	}
	for h.j.Stats().Records < 8000 {
		time.Sleep(time.Millisecond) // the load goes on meanwhile
		if entries, _, err := q.List(t.Context(), "", 50); err == nil && len(entries) > 40 {
			for _, e := range entries[:21] {
				w, n := numberOf(string(e.Data))
				acked[w] = n
			}
			_ = q.Ack(t.Context(), queue.Ack{UpTo: entries[20].Marker})
		}
	}
	fs.Cut(t)
	wg.Wait()
	return settled, acked
}

// numberOf gives the worker of an entry, and its number.
func numberOf(data string) (w, n int) {
	parts := strings.Split(data, "/")
	w, _ = strconv.Atoi(parts[0])
	n, _ = strconv.Atoi(parts[1])
	return w, n
}

// checkWorkers checks each worker's entries, and sets next to the numbers to
// go on with.
func checkWorkers(t *testing.T, round int, data []string, settled, acked, next []int) {
	t.Helper()
	last := make(map[int]int)
	for _, d := range data {
		w, n := numberOf(d)
		if prev, ok := last[w]; ok && n != prev+1 {
			t.Fatalf("round %d: worker %d has number %d after %d", round, w, n, prev)
		}
		last[w] = n
	}
	for w := range next {
		if max(last[w], acked[w]) < settled[w] {
			t.Fatalf("round %d: worker %d ends at %d, settled up to %d, acked up to %d", round, w, last[w], settled[w], acked[w])
		}
		if _, there := last[w]; there {
			next[w] = last[w] + 1
		} else {
			next[w] = max(next[w], acked[w]+1)
		}
	}
	t.Logf("round %d: %d entries", round, len(data))
}
