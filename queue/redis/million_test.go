package redis

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/redistest"
)

// TestMillion has a million entries and 100,000 reservations in a queue, and
// looks how long each kind of call keeps the server busy.
func TestMillion(t *testing.T) {
	entries, held := 1_000_000, 100_000
	if os.Getenv("HERALD_LONG") != "1" {
		entries, held = 100_000, 5000
	}
	s := redistest.Start(t, "--appendfsync", "no")
	h := newHarness(t, s.URL(), Options{})
	q := mustCreate(t, h.d, "q")
	l := &latency{t: t, s: s, strict: os.Getenv("HERALD_LONG") == "1"}
	l.begin("fill, with 64 at once")
	fill(t, q, entries, held)
	l.end()

	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := q.List(ctx, "", 1)
	must(err)
	page := func(after queue.Marker) []queue.Entry {
		list, _, err := q.List(ctx, after, 1000)
		must(err)
		return list
	}
	l.measure("Reserve and Commit", 100, func() { put(t, q, 1) })
	l.measure("List of 1,000 entries, front", 20, func() { page("") })
	middle := queue.Marker(fmt.Sprintf("%013d", number(t, first[0])+uint64(entries)))
	l.measure("List of 1,000 entries, middle", 20, func() { page(middle + first[0].Marker[13:]) })
	l.measure("Stats", 100, func() { _, err := q.Stats(ctx); must(err) })
	l.measure("Reservations, the oldest 1,000", 10, func() {
		_, err := q.Reservations(ctx, time.Now().Add(time.Hour), 1000)
		must(err)
	})
	l.measure("Ack of 1,000 up to a marker", 20, func() {
		list := page("")
		must(q.Ack(ctx, queue.Ack{UpTo: list[len(list)-1].Marker}))
	})
	l.measure("Ack of 1,000 single entries", 20, func() {
		var ack queue.Ack
		for _, e := range page("") {
			ack.Done = append(ack.Done, e.Marker)
		}
		must(q.Ack(ctx, ack))
	})
	l.measure("Ack with 1,000 attempts", 5, func() {
		var ack queue.Ack
		for _, e := range page("") {
			ack.Failed = append(ack.Failed, queue.Attempt{Marker: e.Marker, Attempts: 1, LastTry: time.Now()})
		}
		must(q.Ack(ctx, ack))
	})
	l.measure("Check", 1, func() {
		if found, err := h.d.Check(ctx, "q", true); err != nil || len(found) > 0 {
			t.Errorf("Check = %v, %v", found, err)
		}
	})
	last, _, err := q.List(ctx, middle+first[0].Marker[13:], 1)
	must(err)
	l.measure("Ack of half of all up to a marker", 1, func() { must(q.Ack(ctx, queue.Ack{UpTo: last[0].Marker})) })
	l.measure("Delete", 1, func() { must(h.d.Delete(ctx, "q")) })
}

func number(t *testing.T, e queue.Entry) uint64 {
	t.Helper()
	n, ok := markerNumber(e.Marker)
	if !ok {
		t.Fatalf("marker %s", e.Marker)
	}
	return n
}

func fill(t *testing.T, q queue.Queue, entries, held int) {
	data := make([][]byte, 5)
	for i := range data {
		data[i] = make([]byte, 300)
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range entries / 64 / len(data) {
				id, err := q.Reserve(t.Context(), make([]byte, 300), 1500, len(data))
				if err == nil {
					err = q.Commit(t.Context(), id, data)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			for range held / 64 {
				if _, err := q.Reserve(t.Context(), make([]byte, 300), 1, 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// latency reads the server's own record of how long it worked on scripts.
type latency struct {
	t    *testing.T
	s    *redistest.Server
	name string

	strict bool // else it only reports: the machine may be busy
}

func (l *latency) begin(name string) {
	l.name = name
	l.s.Do("CONFIG", "RESETSTAT")
}

// measure tells the time of the calls, and fails when most take a millisecond.
// The server's clock runs on when it is not run itself: single ones may take
// longer on a busy machine.
func (l *latency) measure(name string, n int, f func()) {
	l.t.Helper()
	l.begin(name)
	for range n {
		f()
	}
	l.end()
}

func (l *latency) end() {
	l.t.Helper()
	stats := l.s.Do("INFO", "commandstats").(string)
	calls, micros := 0, 0
	for _, m := range regexp.MustCompile(`cmdstat_eval(?:sha)?:calls=(\d+),usec=(\d+)`).FindAllStringSubmatch(stats, -1) {
		c, _ := strconv.Atoi(m[1])
		u, _ := strconv.Atoi(m[2])
		calls, micros = calls+c, micros+u
	}
	quantiles := l.s.Do("INFO", "latencystats").(string)
	found := regexp.MustCompile(`latency_percentiles_usec_evalsha:(\S+)`).FindString(quantiles)
	found = strings.TrimPrefix(found, "latency_percentiles_usec_evalsha:")
	l.t.Logf("%-36s %7d scripts, mean %4d us, %s", l.name, calls, micros/max(calls, 1), found)
	if m := regexp.MustCompile(`p50=([\d.]+)`).FindStringSubmatch(found); m != nil {
		if p50, _ := strconv.ParseFloat(m[1], 64); p50 > 1000 && l.strict {
			l.t.Errorf("%s: half of the scripts take more than %.0f us", l.name, p50)
		}
	}
}
