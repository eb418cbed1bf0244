package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinel calls its master.
const MasterName = "herald"

// Pair is a master, a replica, and a Sentinel that watches them.
type Pair struct {
	Servers  [2]*Server // at first: master, replica
	Sentinel *Server

	t testing.TB
}

// StartSentinel starts a Pair. args are more options of both servers.
func StartSentinel(t testing.TB, args ...string) *Pair {
	t.Helper()
	p := &Pair{t: t}
	p.Servers[0] = Start(t, args...)
	host, port, _ := net.SplitHostPort(p.Servers[0].Addr)
	p.Servers[1] = Start(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	p.Sentinel = prepare(t, nil)
	conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor %s %s %s 1\n"+
		"sentinel down-after-milliseconds %[4]s 5000\nsentinel failover-timeout %[4]s 5000\n",
		p.Sentinel.port(), p.Sentinel.Dir, p.Sentinel.logFile(), MasterName, host, port)
	file := filepath.Join(p.Sentinel.Dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Sentinel.launch(exec.Command("redis-server", file, "--sentinel")); err != nil {
		t.Fatal(err)
	}
	p.Sentinel.waitReady()
	p.WaitReady()
	return p
}

// WaitReady waits until one server is master, the other follows it, and the
// Sentinel knows both.
func (p *Pair) WaitReady() {
	p.t.Helper()
	Eventually(p.t, "the replica follows, and the Sentinel knows it", func() bool {
		m := p.Master()
		if m == nil {
			return false
		}
		for _, s := range p.Servers {
			if s == m {
				continue
			}
			if info, err := s.try("INFO", "replication"); err != nil || !strings.Contains(info, "master_link_status:up") {
				return false
			}
		}
		info, err := p.Sentinel.try("INFO", "sentinel")
		return err == nil && strings.Contains(info, "status=ok,address="+m.Addr+",slaves=1")
	})
}

// Master returns the server that the Sentinel names, if it says so itself.
func (p *Pair) Master() *Server {
	c := redis.NewSentinelClient(&redis.Options{Addr: p.Sentinel.Addr, MaxRetries: -1, DisableIdentity: true})
	defer func() { _ = c.Close() }()
	addr, err := c.GetMasterAddrByName(context.Background(), MasterName).Result()
	if err != nil || len(addr) != 2 {
		return nil
	}
	for _, s := range p.Servers {
		if s.Addr != net.JoinHostPort(addr[0], addr[1]) {
			continue
		}
		if info, err := s.try("INFO", "replication"); err == nil && strings.Contains(info, "role:master") {
			return s
		}
	}
	return nil
}

// Failover kills the master and waits until the other has taken its place. The
// killed one stays down.
func (p *Pair) Failover() (killed *Server) {
	p.t.Helper()
	killed = p.Master()
	if killed == nil {
		p.t.Fatal("no master")
	}
	killed.KillNine()
	Eventually(p.t, "the replica is promoted", func() bool {
		m := p.Master()
		return m != nil && m != killed
	})
	return killed
}

// URL names the pair by its Sentinel.
func (p *Pair) URL() string { return "redis+sentinel://" + p.Sentinel.Addr + "/" + MasterName + "/0" }
