package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// radosStore compares a gateway whose objects and queues are in a Ceph cluster
// with radosgw on the same cluster.
type radosStore struct {
	bench
	conf    string
	osd     int
	gates   []*gate
	rows    string // comma-separated names of rows; "": all
	which   string // the same of gateways
	base    string // another build of the gateway, which takes turns with the others; "": none
	clients []int
	web     *server // nginx, once it was needed

	mu    sync.Mutex // guards table
	table []cell
}

// gate is one of the two gateways.
type gate struct {
	*server
	name     string
	first    int // the oldest small object that DELETE did not take
	next     int // number of the next of them
	noticed  int // number of the next object in the bucket with a topic
	prepared map[string]bool
	clean    func() error // frees the space of what was deleted
}

// mainRadosStore is the command "bench rados-store".
func mainRadosStore(args []string) {
	f := flag.NewFlagSet("rados-store", flag.ExitOnError)
	r := &radosStore{bench: bench{body: randomBody()}}
	f.StringVar(&r.gateway, "gateway", "bin/gateway", "the gateway's `binary`, built with librados")
	f.StringVar(&r.dir, "dir", ".", "`directory` below which the cluster is made")
	f.DurationVar(&r.seconds, "time", 4*time.Second, "`duration` of each load")
	f.IntVar(&r.rounds, "rounds", 3, "rounds; medians are printed")
	f.StringVar(&r.profile, "profile", "", "write a CPU profile of the gateway for each load to this `directory`")
	f.StringVar(&r.rows, "run", "", "comma-separated `rows`, such as put-4KiB,list; default: all")
	f.StringVar(&r.which, "gateways", "radosgw,herald", "comma-separated `names`; with one there is no table")
	f.StringVar(&r.base, "base", "", "another build of the gateway, a `binary`, that takes the same loads as \"base\"")
	clients := f.String("clients", "1,16,128", "comma-separated `numbers` of clients")
	_ = f.Parse(args)
	for _, s := range strings.Split(*clients, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			log.Fatalf("-clients %s: not numbers", *clients)
		}
		r.clients = append(r.clients, n)
	}
	dir, err := os.MkdirTemp(r.dir, "herald-bench-")
	if err != nil {
		log.Fatal(err)
	}
	r.dir = dir
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- r.run() }()
	select {
	case err = <-done:
	case <-interrupted:
		err = errors.New("interrupted")
	}
	if len(r.gates) >= 2 && r.gates[0].name == "radosgw" {
		r.print()
	}
	r.stop()
	_ = os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// run measures all rows.
func (r *radosStore) run() error {
	if err := r.startGates(); err != nil {
		return err
	}
	for _, row := range storeRows() {
		if r.rows != "" && !slices.Contains(strings.Split(r.rows, ","), row.name) {
			continue
		}
		for _, clients := range r.clients {
			c, err := r.measure(row, clients)
			if err != nil {
				return fmt.Errorf("%s with %d clients: %w", row.name, clients, err)
			}
			r.mu.Lock()
			r.table = append(r.table, c)
			r.mu.Unlock()
		}
	}
	return nil
}

// startGates starts the cluster and both gateways.
func (r *radosStore) startGates() error {
	q, err := r.ceph()
	if err != nil {
		return err
	}
	r.conf, r.osd = q.args[3], q.pid
	for _, pool := range []string{"objects", "default.rgw.buckets.data", "default.rgw.buckets.index", "default.rgw.log"} {
		if err := r.ceph1("osd", "pool", "create", pool, "32"); err != nil {
			return err
		}
		if err := r.ceph1("osd", "pool", "application", "enable", pool, "rgw"); err != nil {
			return err
		}
	}
	if strings.Contains(r.which, "radosgw") {
		rgw, err := r.radosgw()
		if err != nil {
			return err
		}
		r.gates = append(r.gates, rgw)
	}
	if !strings.Contains(r.which, "herald") {
		return nil
	}
	if r.base != "" {
		if err := r.herald("base", r.base); err != nil {
			return err
		}
	}
	return r.herald("herald", r.gateway)
}

// herald starts a build of the gateway, in namespaces of its own.
func (r *radosStore) herald(name, binary string) error {
	defer func(was string) { r.gateway = was }(r.gateway)
	r.gateway = binary
	s, err := r.start(name, "--queue", "rados://queues/"+name, "--queue.rados.conf", r.conf,
		"--store", "rados://objects/"+name, "--store.rados.conf", r.conf, "--log-level", "warn")
	if err != nil {
		return err
	}
	r.gates = append(r.gates, &gate{server: s, name: name, prepared: map[string]bool{}, clean: func() error { return nil }})
	return nil
}

// ceph1 runs one command of the cluster.
func (r *radosStore) ceph1(args ...string) error {
	return run("ceph", append([]string{"-c", r.conf}, args...)...)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// radosgw starts Ceph's own gateway, without logs, and makes a user and the
// bucket "bench". It makes the pools that are not there.
func (r *radosStore) radosgw() (*gate, error) {
	addr := freeAddress()
	_, port, _ := strings.Cut(addr, ":")
	dir := filepath.Dir(r.conf)
	err := run("tests/ceph.sh", "radosgw", dir, "bench", port, "--rgw-frontends", "beast endpoint="+addr+" tcp_nodelay=1",
		"--debug-rgw", "0/0", "--debug-ms", "0/0", "--debug-objecter", "0/0", "--debug-rados", "0/0",
		"--rgw-enable-ops-log", "false", "--rgw-enable-usage-log", "false")
	if err != nil {
		return nil, err
	}
	err = run("radosgw-admin", "-c", r.conf, "user", "create", "--uid", "bench", "--display-name", "bench",
		"--access-key", accessKey, "--secret-key", secretKey)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "client.bench.pid"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, err
	}
	g := &gate{server: &server{addr: addr, pid: pid}, name: "radosgw", prepared: map[string]bool{}}
	g.clean = func() error { return run("radosgw-admin", "-c", r.conf, "gc", "process", "--include-all") }
	c := g.client()
	defer c.close()
	_, err = c.expect(200, "PUT", "/bench", "", nil)
	return g, err
}

// sample is one load of one gateway.
type sample struct {
	result
	osd     time.Duration // CPU
	ops     osdOps
	peak    int // MiB
	threads int
}

// cell is a row of the table: one kind of request by so many clients.
type cell struct {
	row     storeRow
	clients int
	samples map[string]sample // by gateway: the round with the median rate
	bare    bare              // with one client
}

// measure has both gateways take the same load, in turns.
func (r *radosStore) measure(row storeRow, clients int) (cell, error) {
	c := cell{row: row, clients: clients, samples: map[string]sample{}}
	all := map[string][]sample{}
	var floors []bare
	for round := range r.roundsOf(row, clients) {
		if clients == 1 && !row.heavy {
			b, err := r.bareOperations()
			if err != nil {
				return c, err
			}
			floors = append(floors, b)
		}
		for i := range r.gates {
			g := r.gates[(i+round)%len(r.gates)]
			s, err := r.sample(row, g, clients)
			if err != nil {
				return c, fmt.Errorf("%s: %w", g.name, err)
			}
			fmt.Printf("%-12s %4d clients  round %d  %-8s %s, OSD %4.0f µs, %s operations, peak %d MiB, %d threads\n", row.name, clients, round+1,
				g.name, s.result, perRequest(s.osd, s.requests), s.ops.per(s.requests), s.peak, s.threads)
			all[g.name] = append(all[g.name], s)
		}
	}
	c.bare = medianBare(floors)
	for name, samples := range all {
		slices.SortFunc(samples, func(a, b sample) int { return int(1000 * (a.rate() - b.rate())) })
		c.samples[name] = samples[len(samples)/2]
	}
	return c, nil
}

// roundsOf is how often a row is measured.
func (r *radosStore) roundsOf(row storeRow, clients int) int {
	switch {
	case !row.heavy:
		return r.rounds
	case clients >= 64:
		return 1
	}
	return max(1, r.rounds-1)
}

// sample has a gateway take a load. CPU time is counted until the cluster is
// quiet again, as both gateways do things behind their answers.
func (r *radosStore) sample(row storeRow, g *gate, clients int) (s sample, err error) {
	if row.prepare != nil {
		if err := row.prepare(r, g, clients); err != nil {
			return s, fmt.Errorf("prepare: %w", err)
		}
	}
	r.quiet()
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.pid), []byte("5"), 0) // begins VmHWM anew
	stop, threads := make(chan struct{}), make(chan int)
	go func() { threads <- mostThreads(g.pid, stop) }()
	gateCPU, osdCPU := cpuTime(g.pid), cpuTime(r.osd)
	ops, err := operations(filepath.Dir(r.conf))
	if err != nil {
		return s, err
	}
	s.result, err = r.profiled(g.server, fmt.Sprintf("%s-%d", row.name, clients), func() (result, error) { return row.load(r, g, clients) })
	s.peak = peakMemory(g.pid)
	close(stop)
	s.threads = <-threads
	r.quiet()
	s.cpu, s.osd = cpuTime(g.pid)-gateCPU, cpuTime(r.osd)-osdCPU
	if now, err := operations(filepath.Dir(r.conf)); err == nil {
		s.ops = now.minus(ops)
	}
	if err == nil && row.after != nil {
		err = row.after(r, g, clients)
	}
	return s, err
}

// quiet waits until the OSD has next to nothing to do, or some seconds.
func (r *radosStore) quiet() {
	const step = 200 * time.Millisecond
	for range 15 {
		before := cpuTime(r.osd)
		time.Sleep(step)
		if cpuTime(r.osd)-before <= step/20 {
			return
		}
	}
}

// mostThreads is the largest number of threads that a process has until stop.
func mostThreads(pid int, stop chan struct{}) int {
	most := 0
	for {
		if tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)); err == nil {
			most = max(most, len(tasks))
		}
		select {
		case <-stop:
			return most
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func perRequest(cpu time.Duration, requests int) float64 {
	return float64(cpu.Microseconds()) / float64(max(requests, 1))
}

// print prints the table of what was measured, as Markdown.
func (r *radosStore) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Printf("\nradosgw / Herald; CPU in µs per request\n\n")
	fmt.Println("| | clients | requests/s | ratio | wanted | p99, ms | CPU, gateway | CPU, OSD | peak, MiB | threads |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for _, c := range r.table {
		a, b := c.samples["radosgw"], c.samples["herald"]
		verdict := ""
		if b.rate() < c.row.want*a.rate() {
			verdict = " **missed**"
		}
		if b.cpu.Seconds()*a.rate()*a.elapsed.Seconds() > a.cpu.Seconds()*b.rate()*b.elapsed.Seconds() {
			verdict += " **more CPU**"
		}
		fmt.Printf("| %s | %d | %s / %s | %.2f | %.1f%s | %s / %s | %.0f / %.0f | %.0f / %.0f | %d / %d | %d / %d |\n",
			c.row.name, c.clients, figure(a.rate()), figure(b.rate()), b.rate()/a.rate(), c.row.want, verdict,
			figure(float64(a.p99.Microseconds())/1000), figure(float64(b.p99.Microseconds())/1000),
			perRequest(a.cpu, a.requests), perRequest(b.cpu, b.requests), perRequest(a.osd, a.requests), perRequest(b.osd, b.requests),
			a.peak, b.peak, a.threads, b.threads)
	}
	fmt.Println()
	for _, c := range r.table {
		if line := c.leaves(); line != "" {
			fmt.Println(line)
		}
	}
}

// figure has three digits at least.
func figure(f float64) string {
	switch {
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}
