package redis

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/redistest"
)

// pairsRounds is how often the driver and the floor take turns.
const pairsRounds = 5

// BenchmarkPairs measures pairs of Reserve and Commit with an intent and an
// entry of 1 KiB each, 64 in flight, on a server that flushes always; and in
// turns with it what redis-benchmark gets from the same server for two scripts
// that write 1 KiB each. It reports the medians and their ratio.
func BenchmarkPairs(b *testing.B) {
	for _, queues := range []int{1, 11} {
		b.Run(fmt.Sprintf("%dqueues", queues), func(b *testing.B) { benchPairs(b, queues, 64) })
	}
}

func benchPairs(b *testing.B, queues, workers int) {
	s := redistest.Start(b, "--auto-aof-rewrite-percentage", "0")
	n := 50_000
	if v, err := strconv.Atoi(os.Getenv("HERALD_PAIRS")); err == nil {
		n = v
	}
	var pairs, floors []float64
	for range pairsRounds {
		s.Do("FLUSHALL")
		c0 := serverCPU(s)
		floors = append(floors, floor(b, s, n, workers))
		c1 := serverCPU(s)
		s.Do("FLUSHALL")
		c2 := serverCPU(s)
		pairs = append(pairs, runPairs(b, s, n, queues, workers))
		c3 := serverCPU(s)
		b.Logf("%.0f pairs/s, floor %.0f; CPU of the server per pair %v, floor %v", pairs[len(pairs)-1], floors[len(floors)-1],
			(c3-c2)/time.Duration(n), (c1-c0)/time.Duration(n))
	}
	slices.Sort(pairs)
	slices.Sort(floors)
	p, f := pairs[pairsRounds/2], floors[pairsRounds/2]
	b.ReportMetric(p, "pairs/s")
	b.ReportMetric(f, "floor_pairs/s")
	b.ReportMetric(p/f, "ratio")
	b.ReportMetric(0, "ns/op")
}

// serverCPU is the CPU time that the server has used.
func serverCPU(s *redistest.Server) time.Duration {
	var sum float64
	for line := range strings.Lines(s.Do("INFO", "cpu").(string)) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return 0
			}
			sum += f
		}
	}
	return time.Duration(sum * float64(time.Second))
}

// floor returns the pairs per second of redis-benchmark.
func floor(b *testing.B, s *redistest.Server, n, workers int) float64 {
	b.Helper()
	sha := s.Do("SCRIPT", "LOAD", "return redis.call('HSET',KEYS[1],ARGV[1],ARGV[2])").(string)
	host, port, _ := strings.Cut(s.Addr, ":")
	out, err := exec.Command("redis-benchmark", "-h", host, "-p", port, "-c", strconv.Itoa(workers), "-n", strconv.Itoa(2*n),
		"-r", "100000000", "--csv", "EVALSHA", sha, "1", "floor", "field:__rand_int__", strings.Repeat("x", 1024)).Output()
	if err != nil {
		b.Fatalf("redis-benchmark: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	rate, err := strconv.ParseFloat(strings.Trim(fields[1], `"`), 64)
	if err != nil {
		b.Fatalf("redis-benchmark: %s", lines[len(lines)-1])
	}
	return rate / 2
}

// runPairs returns the pairs per second of the driver.
func runPairs(b *testing.B, s *redistest.Server, n, queues, workers int) float64 {
	h := newHarness(b, s.URL(), Options{})
	ctx := b.Context()
	var list []queue.Queue
	for i := range queues {
		name := fmt.Sprintf(":topic.%d", i)
		if err := h.d.Create(ctx, name, 1<<40); err != nil {
			b.Fatal(err)
		}
		q, err := h.d.Open(ctx, name)
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, q)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := pair(ctx, list[i%queues]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

func pair(ctx context.Context, q queue.Queue) error {
	id, err := q.Reserve(ctx, make([]byte, 1024), 1024, 1)
	if err != nil {
		return err
	}
	return q.Commit(ctx, id, [][]byte{make([]byte, 1024)})
}
