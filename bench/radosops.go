package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// osdOps is how many operations of clients an OSD has done.
type osdOps struct{ reads, writes int }

func (a osdOps) minus(b osdOps) osdOps { return osdOps{a.reads - b.reads, a.writes - b.writes} }

// per is operations per request, as "writes+reads".
func (a osdOps) per(requests int) string {
	n := float64(max(requests, 1))
	return fmt.Sprintf("%.2f+%.2f", float64(a.writes)/n, float64(a.reads)/n)
}

// operations asks the OSD of a cluster in a directory, by its admin socket.
func operations(dir string) (ops osdOps, err error) {
	conn, err := net.DialTimeout("unix", filepath.Join(dir, "osd.0.asok"), time.Second)
	if err != nil {
		return ops, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(`{"prefix":"perf dump","logger":"osd"}` + "\x00")); err != nil {
		return ops, err
	}
	var size uint32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return ops, err
	}
	var answer struct {
		OSD struct {
			Reads  int `json:"op_r"`
			Writes int `json:"op_w"`
			Both   int `json:"op_rw"`
		} `json:"osd"`
	}
	err = json.NewDecoder(io.LimitReader(conn, int64(size))).Decode(&answer)
	return osdOps{answer.OSD.Reads, answer.OSD.Writes + answer.OSD.Both}, err
}

// bare is what a request cannot do without: how long single operations of 4 KiB
// take, one at a time, as Ceph's own tool measures them, and a GET of a file of
// that size from nginx.
type bare struct{ write, read, http time.Duration }

var averageLatency = regexp.MustCompile(`Average Latency\(s\): +([0-9.]+)`)

// bareOperations measures writes of new objects, reads of them, and GETs of
// files.
func (r *radosStore) bareOperations() (b bare, err error) {
	tool := func(args ...string) (time.Duration, error) {
		out, err := exec.Command("rados", append([]string{"-c", r.conf, "-p", "objects", "-N", "bare"}, args...)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("rados bench: %w\n%s", err, out)
		}
		m := averageLatency.FindSubmatch(out)
		if m == nil {
			return 0, nil
		}
		seconds, err := strconv.ParseFloat(string(m[1]), 64)
		return time.Duration(seconds * float64(time.Second)), err
	}
	if b.write, err = tool("bench", "2", "write", "-b", "4096", "-t", "1", "--no-cleanup"); err != nil {
		return b, err
	}
	if b.read, err = tool("bench", "2", "rand", "-t", "1"); err != nil {
		return b, err
	}
	if _, err = tool("cleanup"); err != nil {
		return b, err
	}
	b.http, err = r.bareGET()
	return b, err
}

// bareGET measures GETs of a file of 4 KiB from nginx, by one client.
func (r *radosStore) bareGET() (time.Duration, error) {
	if r.web == nil {
		root, err := r.freshDir("web")
		if err != nil {
			return 0, err
		}
		if err := os.MkdirAll(root, 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(root, "file"), r.bodyOf(4<<10), 0o644); err != nil {
			return 0, err
		}
		web, err := r.nginx(root)
		if err != nil {
			return 0, err
		}
		r.web = web
	}
	res, err := load(1, 0, 2*time.Second, 0, r.web.client, func(c *client, _ int) (int64, error) {
		status, _, err := c.do("GET", "/file", "", nil, false)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("GET from nginx = %d", status)
		}
		return 4 << 10, err
	})
	return res.elapsed / time.Duration(max(res.requests, 1)), err
}

// medianBare returns the medians of all three.
func medianBare(all []bare) (m bare) {
	if len(all) == 0 {
		return m
	}
	median := func(of func(bare) time.Duration) time.Duration {
		slices.SortFunc(all, func(a, b bare) int { return int(of(a) - of(b)) })
		return of(all[len(all)/2])
	}
	m.write = median(func(b bare) time.Duration { return b.write })
	m.read = median(func(b bare) time.Duration { return b.read })
	m.http = median(func(b bare) time.Duration { return b.http })
	return m
}

// leaves tells how long a request may take for the wanted ratio, and how many
// bare operations fit.
func (c *cell) leaves() string {
	rate := c.samples["radosgw"].rate()
	if c.clients != 1 || c.bare.write == 0 || rate == 0 {
		return ""
	}
	mean := time.Duration(float64(time.Second) / rate)
	room := time.Duration(float64(mean) / c.row.want)
	return fmt.Sprintf("%s, 1 client: a request takes radosgw %.2f ms, and may take %.2f ms; a bare write takes %.2f ms, a bare read %.2f ms, a GET from nginx %.2f ms; operations for each request, writes+reads: %s / %s",
		c.row.name, ms(mean), ms(room), ms(c.bare.write), ms(c.bare.read), ms(c.bare.http),
		c.samples["radosgw"].ops.per(c.samples["radosgw"].requests), c.samples["herald"].ops.per(c.samples["herald"].requests))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
