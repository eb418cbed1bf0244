package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// deliverWanted are the rates that a backlog is to be delivered at.
var deliverWanted = [...]struct {
	scheme string
	rate   float64
}{{"http:", 15_000}, {"https:", 15_000}, {"kafka:", 50_000}}

// deliver fills a topic's queues while its endpoint is dead, gives it another
// endpoint, and measures how fast the backlog goes there. Each round has a
// gateway and a backlog of its own.
func (b *bench) deliver() error {
	var err error
	endpoint := b.endpoint
	switch endpoint {
	case "":
		endpoint, err = b.sink()
	case "kafka":
		endpoint, err = b.kafka()
	}
	if err != nil {
		return err
	}
	var best result
	peak := 0
	for round := range b.rounds {
		r, memory, err := b.deliverOnce(endpoint)
		if err != nil {
			return err
		}
		fmt.Printf("round %d  %9.0f events/s  gateway CPU %4.1f µs/event, this program %4.1f µs/event, peak memory %d MiB\n",
			round+1, r.rate(), r.each(r.cpu), r.each(r.ownCPU), memory)
		peak = max(peak, memory)
		if best.requests == 0 || r.rate() > best.rate() {
			best = r
		}
	}
	for _, w := range deliverWanted {
		if strings.HasPrefix(endpoint, w.scheme) {
			ratio("backlog of "+strconv.Itoa(b.backlog)+" events, of the rate wanted ("+w.scheme+")", best.rate(), w.rate, 1)
		}
	}
	below("peak memory of the gateway in MiB, filling included", float64(peak), 200)
	return nil
}

// deliverOnce returns also the gateway's peak of memory in MiB.
func (b *bench) deliverOnce(endpoint string) (result, int, error) {
	defer b.stop()
	s, err := b.start("deliver", "--queue-capacity", "4000000000", "--durability", "relaxed")
	if err != nil {
		return result{}, 0, err
	}
	if err := s.addTopic("http://" + freeAddress() + "/"); err != nil {
		return result{}, 0, err
	}
	filled, err := load(b.clients, b.backlog, time.Hour, s.pid, s.client, func(c *client, n int) (int64, error) {
		_, err := c.expect(http.StatusOK, "PUT", objectPath(n), "", b.body[:64])
		return 64, err
	})
	if err != nil {
		return result{}, 0, err
	}
	fmt.Printf("filled   %s  peak memory %d MiB\n", filled, peakMemory(s.pid))
	r, err := b.profiled(s, "deliver", func() (result, error) {
		began, cpu, own := time.Now(), cpuTime(s.pid), cpuTime(os.Getpid())
		if err := s.addTopic(endpoint); err != nil {
			return result{}, err
		}
		if err := s.drained(); err != nil {
			return result{}, err
		}
		return result{requests: filled.requests, elapsed: time.Since(began), cpu: cpuTime(s.pid) - cpu, ownCPU: cpuTime(os.Getpid()) - own}, nil
	})
	return r, peakMemory(s.pid), err
}

// drained waits until no event waits in any topic.
func (s *server) drained() error {
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		n, err := s.metric("herald_topic_entries{")
		if err != nil || n == 0 {
			return err
		}
	}
	return fmt.Errorf("events still wait after 10 minutes")
}

// metric is the sum of the samples that begin so.
func (s *server) metric(name string) (float64, error) {
	resp, err := http.Get("http://" + s.ops + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	sum, found := 0.0, false
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), name) {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if err := lines.Err(); err != nil || found {
		return sum, err
	}
	return 0, fmt.Errorf("no metric %s", name)
}
