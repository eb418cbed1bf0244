package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
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

// bare is how long single operations of 4 KiB take, one at a time, as Ceph's own
// tool measures them.
type bare struct{ write, read time.Duration }

var averageLatency = regexp.MustCompile(`Average Latency\(s\): +([0-9.]+)`)

// bareOperations measures writes of new objects, and reads of them.
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
	_, err = tool("cleanup")
	return b, err
}

// medianBare returns the medians of both.
func medianBare(all []bare) (m bare) {
	if len(all) == 0 {
		return m
	}
	slices.SortFunc(all, func(a, b bare) int { return int(a.write - b.write) })
	m.write = all[len(all)/2].write
	slices.SortFunc(all, func(a, b bare) int { return int(a.read - b.read) })
	m.read = all[len(all)/2].read
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
	return fmt.Sprintf("%s, 1 client: a request takes radosgw %.2f ms, and may take %.2f ms; a bare write takes %.2f ms, a bare read %.2f ms; operations for each request, writes+reads: %s / %s",
		c.row.name, ms(mean), ms(room), ms(c.bare.write), ms(c.bare.read),
		c.samples["radosgw"].ops.per(c.samples["radosgw"].requests), c.samples["herald"].ops.per(c.samples["herald"].requests))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
