package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// queuePuts compares PUTs that cause an event, for queues on a server, with
// PUTs that cause none.
func (b *bench) queuePuts() error {
	kinds := map[string]func() (queueServer, error){"embedded": embedded, "redis": b.redis, "rados": b.ceph}
	version, err := exec.Command(b.gateway, "version").Output()
	if err != nil {
		return err
	}
	sink, err := b.sink()
	if err != nil {
		return err
	}
	const none = "no topic"
	base, err := b.start("queue-put-none")
	if err != nil {
		return err
	}
	loads := []namedLoad{b.queueLoad(none, base, 0)}
	for _, kind := range strings.Split(b.queues, ",") {
		begin, ok := kinds[kind]
		if !ok {
			return fmt.Errorf("no queue of kind %q", kind)
		}
		if kind == "rados" && !strings.Contains(string(version), kind) {
			fmt.Printf("skipped  %s: %s was built without it (make build-rados)\n", kind, b.gateway)
			continue
		}
		q, err := begin()
		if err != nil {
			return err
		}
		for name, endpoint := range map[string]string{kind + ", events wait": "http://" + freeAddress() + "/", kind + deliveredMeanwhile: sink} {
			s, err := b.start(strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-"), q.args...)
			if err == nil {
				err = s.addTopic(endpoint)
			}
			if err != nil {
				return err
			}
			loads = append(loads, b.queueLoad(name, s, q.pid))
		}
	}
	slices.SortFunc(loads[1:], func(a, b namedLoad) int { return strings.Compare(a.name, b.name) })
	m, err := b.alternate(loads)
	if err != nil {
		return err
	}
	for _, l := range loads[1:] {
		want := 0.85
		if strings.HasPrefix(l.name, "embedded") {
			want = 0.9
		}
		ratio("PUT 4 KiB with a persistent topic of none: "+l.name, m[l.name].rate(), m[none].rate(), want)
		processorTime(l.name, m[l.name], m[none])
	}
	b.stop()
	return nil
}

// processorTime prints what a request takes of the processors, and what it would
// make of the rate if nothing else bounded it: other programs disturb it less
// than they do the rate.
func processorTime(name string, got, of result) {
	all := func(r result) float64 { return r.each(r.cpu + r.queueCPU + r.ownCPU) }
	fmt.Printf("CPU      %-60s %5.1f %%: gateway %.0f + %.0f, queue %.0f, clients and endpoint %.0f + %.0f µs/request\n", name, 100*all(of)/all(got),
		of.each(of.cpu), got.each(got.cpu)-of.each(of.cpu), got.each(got.queueCPU), of.each(of.ownCPU), got.each(got.ownCPU)-of.each(of.ownCPU))
}

// queueServer is what was started for a gateway's queues.
type queueServer struct {
	args []string // of the gateway
	pid  int      // 0: not known
}

// deliveredMeanwhile is the end of names of loads whose events are taken.
const deliveredMeanwhile = ", delivered meanwhile"

func (b *bench) queueLoad(name string, s *server, queuePID int) namedLoad {
	delivered := strings.HasSuffix(name, deliveredMeanwhile)
	first := new(int)
	return namedLoad{name, func() (result, error) {
		gateway, queue, own := cpuTime(s.pid), cpuTime(queuePID), cpuTime(os.Getpid())
		r, err := b.profiled(s, "queue-put "+name, func() (result, error) { return b.putLoad(s, first) })
		if err == nil && delivered {
			err = s.drained() // what is left must not be sent during the next load, and belongs to this one
		}
		r.cpu, r.queueCPU, r.ownCPU = cpuTime(s.pid)-gateway, cpuTime(queuePID)-queue, cpuTime(os.Getpid())-own
		return r, err
	}}
}

// embedded needs no server, but room for what waits.
func embedded() (queueServer, error) {
	return queueServer{args: []string{"--queue-capacity", "4000000000"}}, nil
}

// redis starts a Redis server that flushes its file with every change.
func (b *bench) redis() (q queueServer, err error) {
	dir, err := b.freshDir("redis")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return q, err
	}
	addr := freeAddress()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", "--dir", dir, "--logfile", filepath.Join(dir, "log"), "--bind", "127.0.0.1", "--port", port,
		"--daemonize", "no", "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err := cmd.Start(); err != nil {
		return q, fmt.Errorf("start redis: %w", err)
	}
	b.procs = append(b.procs, cmd)
	for range 1000 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return queueServer{[]string{"--queue", "redis://" + addr}, cmd.Process.Pid}, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return q, errors.New("redis does not answer")
}

// ceph starts a cluster with one OSD.
func (b *bench) ceph() (q queueServer, err error) {
	dir, err := b.freshDir("ceph")
	if err != nil {
		return q, err
	}
	script := func(args ...string) error {
		cmd := exec.Command("tests/ceph.sh", args...)
		cmd.Stderr = os.Stderr
		return cmd.Run()
	}
	b.ends = append(b.ends, func() { _ = script("stop", dir) })
	if err := script("start", dir); err != nil {
		return q, fmt.Errorf("start ceph: %w", err)
	}
	conf := filepath.Join(dir, "ceph.conf")
	if out, err := exec.Command("ceph", "-c", conf, "osd", "pool", "create", "queues").CombinedOutput(); err != nil {
		return q, fmt.Errorf("create a pool: %w\n%s", err, out)
	}
	q.args = []string{"--queue", "rados://queues", "--queue.rados.conf", conf}
	if data, err := os.ReadFile(filepath.Join(dir, "osd.0.pid")); err == nil {
		q.pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	return q, nil
}
