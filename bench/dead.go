package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// deadTopics is the number of topics of dead-endpoint, each with a bucket; the
// endpoint of the last one fails.
const deadTopics = 20

// trouble is a way in which an endpoint fails.
type trouble struct {
	name string
	url  func() (string, error)
}

// theTroubles are all of them.
func theTroubles() []trouble {
	silently := func(scheme string) func() (string, error) {
		return func() (string, error) {
			addr, err := silent()
			return scheme + "://" + addr, err
		}
	}
	return []trouble{
		{"silent", silently("http")}, // accepts and never answers
		{"slow", slowSink},           // answers after 2 s
		{"refused", func() (string, error) { return "http://" + freeAddress(), nil }},
		{"https", silently("https")},
		{"kafka", silently("kafka")},
		{"amqp", silently("amqp")},
		{"nats", silently("nats")},
		{"mqtt", silently("mqtt")},
		{"redis", silently("redis")},
	}
}

// troubleNames are their names, separated by commas.
func troubleNames() string {
	var names []string
	for _, t := range theTroubles() {
		names = append(names, t.name)
	}
	return strings.Join(names, ",")
}

// phase is a stretch of load, and when its events came.
type phase struct {
	first     int            // number of its first PUT
	began     []atomic.Int64 // of each PUT, in nanoseconds; 0: not made
	delivered []atomic.Int64 // of its first event; 0: not yet
}

// most is how many PUTs a phase has room for.
func (b *bench) most() int {
	rate := b.putRate
	if rate == 0 {
		rate = 50_000
	}
	return int(b.seconds.Seconds()*float64(rate)) + 1
}

// deadBench is dead-endpoint while it runs.
type deadBench struct {
	*bench
	s       *server
	sinks   []string              // by topic
	current atomic.Pointer[phase] // takes arrivals
	next    int                   // number of the next PUT
}

func deadName(topic int) string { return fmt.Sprintf("dead-%02d", topic) }

// deadEndpoint compares deliveries of 19 topics while the endpoint of a 20th
// fails with those while it is well, in turns.
func (b *bench) deadEndpoint() error {
	s, err := b.start("dead-endpoint")
	if err != nil {
		return err
	}
	d := &deadBench{bench: b, s: s}
	if err := d.prepare(); err != nil {
		return err
	}
	var names []string
	urls := map[string]string{}
	for _, t := range theTroubles() {
		if !slices.Contains(strings.Split(b.troubles, ","), t.name) {
			continue
		}
		if urls[t.name], err = t.url(); err != nil {
			return err
		}
		names = append(names, t.name)
	}
	if len(names) == 0 {
		return fmt.Errorf("no such troubles: %s", b.troubles)
	}
	// Around each trouble the endpoint is well: what the machine does meanwhile
	// is then the same for both, more or less.
	well, ill := map[string][]others{}, map[string][]others{}
	for round := range b.rounds {
		before, err := d.measure(round, "all are well", d.sinks[deadTopics-1])
		if err != nil {
			return err
		}
		for i := range names {
			name := names[(i+round)%len(names)]
			during, err := d.measure(round, name, urls[name])
			if err != nil {
				return err
			}
			after, err := d.measure(round, "all are well", d.sinks[deadTopics-1])
			if err != nil {
				return err
			}
			well[name] = append(well[name], before, after)
			ill[name] = append(ill[name], during)
			before = after
		}
	}
	for _, name := range names {
		w, i := medianOf(well[name]), medianOf(ill[name])
		ratio(name+": rate of the other topics, of when all are well", i.rate, w.rate, 0.95)
		ratio(name+": rate of the slowest of them", i.slowest, w.slowest, 0.95)
		below(name+": delay from PUT to delivery, median, ms more", milliseconds(i.median-w.median), 10)
		fmt.Printf("CPU      %-60s %5.1f %%: gateway %.0f µs/PUT, %.0f µs when all are well\n", name, 100*i.cpu/w.cpu, i.cpu, w.cpu)
	}
	below("peak memory of the gateway in MiB", float64(peakMemory(s.pid)), 200)
	b.stop()
	return nil
}

// prepare makes buckets and topics, and waits until events come.
func (d *deadBench) prepare() error {
	c := d.s.client()
	defer c.close()
	for topic := range deadTopics {
		url, err := d.sinkOf()
		if err != nil {
			return err
		}
		d.sinks = append(d.sinks, url)
		name := deadName(topic)
		if _, err := c.expect(http.StatusOK, "PUT", "/"+name, "", nil); err != nil {
			return err
		}
		if err := d.s.putTopic(name, url); err != nil {
			return err
		}
		if err := d.s.notify(name, name); err != nil {
			return err
		}
		if _, err := c.expect(http.StatusOK, "PUT", "/"+name+"/first", "", d.body[:64]); err != nil {
			return err
		}
	}
	return d.s.drained()
}

// sinkOf is a topic's endpoint, which notes when events come.
func (d *deadBench) sinkOf() (string, error) {
	return serveSink(func(body []byte) {
		_, rest, _ := bytes.Cut(body, []byte(`"key":"object-`))
		digits, _, _ := bytes.Cut(rest, []byte{'"'})
		n, err := strconv.Atoi(string(digits))
		p := d.current.Load()
		if err != nil || p == nil || n < p.first || n-p.first >= len(p.delivered) {
			return
		}
		p.delivered[n-p.first].CompareAndSwap(0, time.Now().UnixNano())
	})
}

// others are the deliveries of all topics but the last one during a phase.
type others struct {
	rate    float64 // events/s
	slowest float64 // events/s of the slowest topic
	median  time.Duration
	p99     time.Duration
	cpu     float64 // of the gateway, in µs per PUT
}

// measure loads all topics for a while.
func (d *deadBench) measure(round int, name, url string) (o others, err error) {
	if err := d.s.putTopic(deadName(deadTopics-1), url); err != nil {
		return o, err
	}
	p := &phase{first: d.next, began: make([]atomic.Int64, d.most()), delivered: make([]atomic.Int64, d.most())}
	d.current.Store(p)
	cpu, start := cpuTime(d.s.pid), time.Now()
	r, err := d.profiled(d.s, "dead-endpoint "+name, func() (result, error) { return d.loadPhase(p, start) })
	if err != nil {
		return o, err
	}
	d.next += len(p.began)
	o, err = p.await(start)
	o.cpu = float64((cpuTime(d.s.pid) - cpu).Microseconds()) / float64(max(r.requests, 1))
	fmt.Printf("round %d  %-14s %6.0f PUTs/s, the others' deliveries %6.0f/s, slowest topic %6.1f/s, delay median %8s  p99 %8s, gateway CPU %4.0f µs/PUT\n",
		round+1, name, r.rate(), o.rate, o.slowest, o.median.Round(10*time.Microsecond), o.p99.Round(10*time.Microsecond), o.cpu)
	if err != nil {
		return o, fmt.Errorf("%s: %w", name, err)
	}
	if url == d.sinks[deadTopics-1] {
		return o, d.s.drained()
	}
	// What waits is delivered before the next phase begins.
	waiting, err := d.s.metric("herald_topic_entries{")
	if err != nil {
		return o, err
	}
	mended := time.Now()
	if err := d.s.putTopic(deadName(deadTopics-1), d.sinks[deadTopics-1]); err != nil {
		return o, err
	}
	err = d.s.drained()
	fmt.Printf("         %.0f events that waited were delivered within %s of the change to an endpoint that is well\n", waiting, time.Since(mended).Round(10*time.Millisecond))
	return o, err
}

// loadPhase PUTs small objects at the wanted rate, to the buckets in turns.
func (d *deadBench) loadPhase(p *phase, start time.Time) (result, error) {
	return load(d.clients, len(p.began), d.seconds, d.s.pid, d.s.client, func(c *client, n int) (int64, error) {
		if d.putRate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(d.putRate))))
		}
		p.began[n].Store(time.Now().UnixNano())
		path := fmt.Sprintf("/%s/object-%08d", deadName(n%deadTopics), p.first+n)
		_, err := c.expect(http.StatusOK, "PUT", path, "", d.body[:64])
		return 64, err
	})
}

// errNotDelivered: that is no matter of rates.
var errNotDelivered = errors.New("events did not come within a minute")

// await waits for the events of the phase but the last topic's, and measures
// them from start.
func (p *phase) await(start time.Time) (o others, err error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		o, whole := p.others(start)
		if whole {
			return o, nil
		}
		if time.Now().After(deadline) {
			return o, errNotDelivered
		}
	}
}

// others measures; whole is false when events are missing.
func (p *phase) others(start time.Time) (o others, whole bool) {
	var (
		delays []time.Duration
		counts [deadTopics - 1]int
		lasts  [deadTopics - 1]int64
	)
	for n := range p.began {
		topic, began := n%deadTopics, p.began[n].Load()
		if began == 0 || topic == deadTopics-1 {
			continue
		}
		at := p.delivered[n].Load()
		if at == 0 {
			return o, false
		}
		delays = append(delays, time.Duration(at-began))
		counts[topic]++
		lasts[topic] = max(lasts[topic], at)
	}
	if len(delays) == 0 {
		return o, true
	}
	for topic, count := range counts {
		rate := float64(count) / time.Unix(0, lasts[topic]).Sub(start).Seconds()
		if topic == 0 || rate < o.slowest {
			o.slowest = rate
		}
	}
	o.rate = float64(len(delays)) / time.Unix(0, slices.Max(lasts[:])).Sub(start).Seconds()
	slices.Sort(delays)
	o.median, o.p99 = delays[len(delays)/2], delays[len(delays)*99/100]
	return o, true
}

// medianOf takes the median of each figure.
func medianOf(all []others) others {
	return others{
		rate:    median(all, func(o others) float64 { return o.rate }),
		slowest: median(all, func(o others) float64 { return o.slowest }),
		median:  time.Duration(median(all, func(o others) float64 { return float64(o.median) })),
		p99:     time.Duration(median(all, func(o others) float64 { return float64(o.p99) })),
		cpu:     median(all, func(o others) float64 { return o.cpu }),
	}
}

func median(all []others, of func(others) float64) float64 {
	var list []float64
	for _, o := range all {
		list = append(list, of(o))
	}
	slices.Sort(list)
	mid := len(list) / 2
	if len(list)%2 == 0 {
		return (list[mid-1] + list[mid]) / 2
	}
	return list[mid]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// silent accepts connections and never answers. It returns the address.
func silent() (string, error) {
	return listen(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// slowSink answers after 2 s. It returns the URL.
func slowSink() (string, error) {
	return serveSink(func([]byte) { time.Sleep(2 * time.Second) })
}
