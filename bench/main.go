// Command bench measures the gateway against what the machine allows in the
// same run, and prints ratios: see README.md in its directory.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settings are the command's flags.
type settings struct {
	gateway  string        // binary
	dir      string        // where data directories are made; removed at the end
	seconds  time.Duration // of each load
	rounds   int
	clients  int
	queues   string // of queue-put
	keys     int    // of the listing
	queued   int    // events that wait while memory is read
	backlog  int    // events of deliver
	endpoint string // of deliver; "": a sink of this program
	profile  string // directory for CPU profiles of the gateway; "": none
	troubles string // of dead-endpoint
	putRate  int    // per second, of dead-endpoint; 0: as many as the clients can
}

// scenario is one thing that is measured.
type scenario struct {
	name, help string
	run        func(*bench) error
}

func scenarios() []scenario {
	return []scenario{
		{"put", "durable 4 KiB PUTs against the bare program, relaxed mode, and a persistent topic", (*bench).puts},
		{"get", "4 KiB GETs against nginx", (*bench).gets},
		{"large", "1 GiB GET against nginx, 1 GiB PUT against MD5 and the disk", (*bench).large},
		{"list", "pages of 1,000 keys out of many, memory with as many waiting events", (*bench).list},
		{"deliver", "the rate at which a backlog of events goes to an endpoint", (*bench).deliver},
		{"dead-endpoint", "what 19 topics lose when the endpoint of a 20th fails", (*bench).deadEndpoint},
		{"queue-put", "durable 4 KiB PUTs with a persistent topic whose queues are embedded, on Redis and in a Ceph cluster, against none", (*bench).queuePuts},
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 && os.Args[1] == "rados-store" {
		mainRadosStore(os.Args[2:])
		return
	}
	var s settings
	flag.StringVar(&s.gateway, "gateway", "bin/gateway", "the gateway's `binary`")
	flag.StringVar(&s.dir, "dir", ".", "`directory` below which data are kept while measuring")
	flag.DurationVar(&s.seconds, "time", 5*time.Second, "`duration` of each load")
	flag.IntVar(&s.rounds, "rounds", 3, "rounds; the median is printed")
	flag.IntVar(&s.clients, "clients", 32, "clients")
	flag.StringVar(&s.queues, "queues", "embedded,redis,rados", "comma-separated `kinds` of queues that queue-put measures")
	flag.IntVar(&s.keys, "keys", 1_000_000, "keys in the bucket that is listed")
	flag.IntVar(&s.queued, "queued", 1_000_000, "events that wait while memory is read")
	flag.StringVar(&s.profile, "profile", "", "write a CPU profile of the gateway for each load to this `directory`")
	flag.IntVar(&s.backlog, "backlog", 200_000, "events that deliver delivers")
	flag.StringVar(&s.endpoint, "endpoint", "", "`URL` that deliver delivers to, or \"kafka\": a broker that it starts (make deps); default: an HTTP sink of this program")
	flag.StringVar(&s.troubles, "troubles", troubleNames(), "comma-separated `ways` in which dead-endpoint has an endpoint fail")
	flag.IntVar(&s.putRate, "puts", 1000, "PUTs per second of dead-endpoint; 0: as many as the clients can")
	run := flag.String("run", "", "comma-separated `scenarios`; default: all")
	flag.Parse()
	dir, err := os.MkdirTemp(s.dir, "herald-bench-")
	if err != nil {
		log.Fatal(err)
	}
	s.dir = dir
	b := &bench{settings: s, body: randomBody()}
	for _, sc := range scenarios() {
		if *run != "" && !slices.Contains(strings.Split(*run, ","), sc.name) {
			continue
		}
		fmt.Printf("\n== %s: %s\n", sc.name, sc.help)
		if err = sc.run(b); err != nil {
			err = fmt.Errorf("%s: %w", sc.name, err)
			break
		}
	}
	b.stop()
	b.stopBrokers()
	// Only now: a filesystem is slow for minutes after many deletions.
	_ = os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// bench is a run: what it started is stopped at the end.
type bench struct {
	settings
	body    []byte // 4 KiB, random
	procs   []*exec.Cmd
	brokers []*exec.Cmd // which stop leaves running
	ends    []func()    // what else stop does
	dirs    int
}

// freshDir returns a directory that nothing was deleted from.
func (b *bench) freshDir(name string) (string, error) {
	b.dirs++
	dir := filepath.Join(b.dir, fmt.Sprintf("%02d-%s", b.dirs, name))
	return filepath.Abs(dir)
}

// alternate runs all loads in each round, each round beginning with another,
// since a load pays for what the one before it left dirty, and returns for each
// load the run with the median rate.
func (b *bench) alternate(loads []namedLoad) (map[string]result, error) {
	all := map[string][]result{}
	for round := range b.rounds {
		for i := range loads {
			l := loads[(i+round)%len(loads)]
			settle()
			r, err := l.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			fmt.Printf("round %d  %-28s %s\n", round+1, l.name, r)
			all[l.name] = append(all[l.name], r)
		}
	}
	medians := map[string]result{}
	for name, rs := range all {
		slices.SortFunc(rs, func(a, b result) int { return int(a.rate() - b.rate()) })
		medians[name] = rs[len(rs)/2]
	}
	return medians, nil
}

// settlePause is how long a load waits for what the one before left behind.
const settlePause = 2 * time.Second

// settle has what the last load wrote reach the disk, and what it left to be
// done be done: else the next load pays for it.
func settle() {
	flushAll()
	time.Sleep(settlePause)
}

type namedLoad struct {
	name string
	run  func() (result, error)
}

// ratio prints one bar.
func ratio(what string, got, of, want float64) {
	verdict := "met"
	if got/of < want {
		verdict = "MISSED"
	}
	fmt.Printf("bar      %-60s %5.1f %% (wanted %.0f %%): %s\n", what, 100*got/of, 100*want, verdict)
}

// below prints a bar that is met by what is less.
func below(what string, got, bound float64) {
	verdict := "met"
	if got >= bound {
		verdict = "MISSED"
	}
	fmt.Printf("bar      %-60s %5.1f (wanted under %.0f): %s\n", what, got, bound, verdict)
}
