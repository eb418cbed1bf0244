package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// result is one measured load.
type result struct {
	requests int
	bytes    int64 // of bodies
	elapsed  time.Duration
	median   time.Duration
	p99      time.Duration
	cpu      time.Duration // of the server, user and system; 0: not known
	queueCPU time.Duration // of the queues' server; 0: there is none
	ownCPU   time.Duration // of this program: clients, and endpoint of events
}

func (r result) rate() float64 { return float64(r.requests) / r.elapsed.Seconds() }

func (r result) mib() float64 { return float64(r.bytes) / (1 << 20) / r.elapsed.Seconds() }

func (r result) String() string {
	s := fmt.Sprintf("%9.0f/s  median %8s  p99 %8s", r.rate(), r.median.Round(time.Microsecond), r.p99.Round(time.Microsecond))
	if r.bytes > 0 && r.bytes/int64(r.requests) >= 1<<20 {
		s = fmt.Sprintf("%9.0f MiB/s", r.mib())
	}
	if r.cpu > 0 {
		s += fmt.Sprintf("  server CPU %4.0f µs/request", r.each(r.cpu))
	}
	if r.queueCPU > 0 {
		s += fmt.Sprintf(", queue %4.0f µs", r.each(r.queueCPU))
	}
	if r.cpu > 0 {
		s += fmt.Sprintf(", clients %4.0f µs", r.each(r.ownCPU))
	}
	return s
}

// each is a time in microseconds for each request.
func (r result) each(t time.Duration) float64 {
	return float64(t.Microseconds()) / float64(max(r.requests, 1))
}

// load runs op from several workers for a time, or until total requests were
// made (0: no bound), and measures it. op gets the worker's client and a
// number that no other call gets.
func load(workers, total int, duration time.Duration, pid int, newWorker func() *client, op func(c *client, n int) (int64, error)) (result, error) {
	var (
		next, bytes atomic.Int64
		stop        atomic.Bool
		wg          sync.WaitGroup
		mu          sync.Mutex // guards latencies and firstErr
		latencies   []time.Duration
		firstErr    error
	)
	before, own := cpuTime(pid), cpuTime(os.Getpid())
	start := time.Now()
	timer := time.AfterFunc(duration, func() { stop.Store(true) })
	defer timer.Stop()
	for range workers {
		wg.Go(func() {
			c := newWorker()
			if c != nil {
				defer c.close()
			}
			var mine []time.Duration
			for !stop.Load() {
				n := int(next.Add(1)) - 1
				if total > 0 && n >= total {
					break
				}
				began := time.Now()
				size, err := op(c, n)
				if err != nil {
					mu.Lock()
					firstErr = err
					mu.Unlock()
					stop.Store(true)
					break
				}
				mine = append(mine, time.Since(began))
				bytes.Add(size)
			}
			mu.Lock()
			latencies = append(latencies, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	r := result{requests: len(latencies), bytes: bytes.Load(), elapsed: time.Since(start), cpu: cpuTime(pid) - before, ownCPU: cpuTime(os.Getpid()) - own}
	if firstErr != nil {
		return r, firstErr
	}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		r.median, r.p99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	}
	return r, nil
}

// cpuTime is the user and system time that a process has used, its children
// not counted; 0 where it cannot be read.
func cpuTime(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11]) // fields 14 and 15 of proc(5), in ticks of 10 ms
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// peakMemory is a process's VmHWM in MiB.
func peakMemory(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(value)[0])
			return kb >> 10
		}
	}
	return 0
}
