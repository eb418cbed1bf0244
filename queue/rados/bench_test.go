//go:build rados

package rados

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	librados "herald/rados"
	"herald/tests/cephtest"
)

const (
	benchFlight = 64              // calls in flight
	benchEvent  = 1 << 10         // bytes
	benchTime   = 4 * time.Second // of each measurement
)

// BenchmarkPairs compares pairs of reserve and commit with those of the plain
// class on one object, in turn: bench/rados-queue.sh.
func BenchmarkPairs(b *testing.B) {
	h := newHarness(b, Options{})
	osd := filepath.Join(cephtest.Start(b).Dir, "osd.0.pid")
	shards := []int{1, 2, 4, 11}
	rates := make(map[int][]float64)
	ratios := make(map[int][]float64)
	var plain []float64
	threads := 0
	measure := func(name string, pair func(context.Context, int) error) float64 {
		ops, client, server := h.d.conn.Stats().Done, cpuTime(), osdTime(osd)
		rate := pairs(b, pair)
		n := rate * benchTime.Seconds()
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / n }
		b.Logf("%s: %.0f pairs/s, %.2f pairs/op, CPU per pair: client %.0f us, OSD %.0f us", name, rate,
			n/float64(h.d.conn.Stats().Done-ops), each(cpuTime()-client), each(osdTime(osd)-server))
		return rate
	}
	for range b.N {
		base := measure("plain", h.plain(b))
		plain = append(plain, base)
		for _, n := range shards {
			rate := measure(fmt.Sprintf("%d shards", n), h.sharded(b, n, &threads))
			rates[n], ratios[n] = append(rates[n], rate), append(ratios[n], rate/base)
		}
	}
	b.ReportMetric(median(plain), "plain-pairs/s")
	for _, n := range shards {
		b.ReportMetric(median(rates[n]), fmt.Sprintf("shards%d-pairs/s", n))
		b.ReportMetric(median(ratios[n]), fmt.Sprintf("shards%d-ratio", n))
	}
	b.ReportMetric(float64(threads), "threads")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// pairs runs a pair at a time in each of many goroutines, and returns the rate.
func pairs(b *testing.B, pair func(ctx context.Context, worker int) error) float64 {
	b.Helper()
	var (
		wg   sync.WaitGroup
		done atomic.Int64
	)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	for w := range benchFlight {
		wg.Go(func() {
			for time.Since(begin) < benchTime {
				if err := pair(ctx, w); err != nil {
					b.Errorf("pair = %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// plain is pairs of the class, one entry each, on one object.
func (h *harness) plain(b *testing.B) func(context.Context, int) error {
	b.Helper()
	oid := "plain." + strconv.FormatUint(randomID(), 36)
	op := librados.NewWrite()
	op.Create(true)
	op.Exec(classQueue, methodInit, encodeInit(128_000_000))
	if _, err := h.d.operate(b.Context(), oid, op, 0); err != nil {
		b.Fatal(err)
	}
	event := bytes.Repeat([]byte("x"), benchEvent)
	return func(ctx context.Context, _ int) error {
		reserve := librados.NewRead()
		step := reserve.Exec(classQueue, methodReserve, encodeReserve(benchEvent, 1))
		if _, err := h.d.io.Operate(ctx, oid, reserve, librados.ReturnVec); err != nil {
			return err
		}
		id, err := decodeReserve(step.Data)
		if err != nil {
			return err
		}
		commit := librados.NewWrite()
		commit.AssertExists()
		commit.Exec(classQueue, methodCommit, encodeCommit(id, event))
		_, err = h.d.io.Operate(ctx, oid, commit, 0)
		return err
	}
}

// sharded is pairs of the driver, over a number of queues.
func (h *harness) sharded(b *testing.B, n int, threads *int) func(context.Context, int) error {
	b.Helper()
	var queues []*Queue
	for i := range n {
		name := fmt.Sprintf("%d.%d.%d", n, i, randomID())
		if err := h.d.Create(b.Context(), name, 128_000_000); err != nil {
			b.Fatal(err)
		}
		q, err := h.d.open(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		queues = append(queues, q)
	}
	event := [][]byte{bytes.Repeat([]byte("x"), benchEvent)}
	intent := bytes.Repeat([]byte("i"), 200)
	var turn atomic.Int64
	return func(ctx context.Context, w int) error {
		q := queues[(int(turn.Add(1)))%n]
		id, err := q.Reserve(ctx, intent, benchEvent, 1)
		if err == nil {
			err = q.Commit(ctx, id, event)
		}
		if w == 0 {
			*threads = max(*threads, countThreads())
		}
		return err
	}
}

// countThreads returns how many threads this process has.
func countThreads() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "Threads:\t")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(line)
	return n
}

// osdTime is what the OSD has used whose process id is in that file.
func osdTime(file string) time.Duration {
	pid, _ := os.ReadFile(file)
	b, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.Atoi(f[11])
	k, _ := strconv.Atoi(f[12])
	return time.Duration(u+k) * 10 * time.Millisecond
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // zero then
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
