package redistest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is the number of a Cluster's hash slots.
const slots = 16384

// Cluster is a Redis Cluster: masters first, then replicas, of which number i
// follows at first master i modulo their number.
type Cluster struct {
	Nodes []*Server

	t       testing.TB
	masters int
}

// StartCluster starts a Cluster. Each master has that many replicas.
func StartCluster(t testing.TB, masters, replicas int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, masters: masters}
	args = append([]string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "5000", // a pause of a busy machine is no failure
		"--cluster-replica-validity-factor", "0"}, args...)
	for range masters * (1 + replicas) {
		c.Nodes = append(c.Nodes, Start(t, args...))
	}
	for i, n := range c.Nodes {
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < masters {
			n.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		}
		first := strings.Split(c.Nodes[0].Addr, ":")
		if i > 0 {
			n.Do("CLUSTER", "MEET", first[0], first[1])
		}
	}
	c.waitKnown()
	for i, n := range c.Nodes[masters:] {
		n.Do("CLUSTER", "REPLICATE", c.Nodes[i%masters].Do("CLUSTER", "MYID"))
	}
	c.WaitReady()
	return c
}

// waitKnown waits until each node knows all others.
func (c *Cluster) waitKnown() {
	c.t.Helper()
	want := fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Nodes))
	Eventually(c.t, "all nodes meet", func() bool {
		for _, n := range c.Nodes {
			if !strings.Contains(n.Do("CLUSTER", "INFO").(string), want) {
				return false
			}
		}
		return true
	})
}

// WaitReady waits until all nodes run, agree that the Cluster is well, and
// every replica is connected to its master.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	Eventually(c.t, "the Cluster is well", func() bool {
		masters := 0
		for _, n := range c.Nodes {
			info, err := n.try("CLUSTER", "INFO")
			if err != nil || !strings.Contains(info, "cluster_state:ok") {
				return false
			}
			repl, err := n.try("INFO", "replication")
			switch {
			case err != nil:
				return false
			case strings.Contains(repl, "role:master"):
				masters++
			case !strings.Contains(repl, "master_link_status:up"):
				return false
			}
		}
		return masters == c.masters
	})
}

// try sends a command whose reply is text.
func (s *Server) try(args ...any) (string, error) {
	client := s.client(lookTimeout)
	defer func() { _ = client.Close() }()
	return client.Do(context.Background(), args...).Text()
}

// Masters returns the nodes that are masters now and run.
func (c *Cluster) Masters() []*Server {
	var m []*Server
	for _, n := range c.Nodes {
		if info, err := n.try("INFO", "replication"); err == nil && strings.Contains(info, "role:master") {
			m = append(m, n)
		}
	}
	return m
}

// MasterOf returns the node that holds the key.
func (c *Cluster) MasterOf(key string) *Server {
	c.t.Helper()
	var found *Server
	Eventually(c.t, "the key's master", func() bool {
		for _, n := range c.Masters() {
			// Another node answers MOVED.
			if _, err := n.try("TYPE", key); err == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// MoveSlot moves the key's slot with all its keys from one node to another, as
// redis-cli --cluster reshard does.
func (c *Cluster) MoveSlot(key string, from, to *Server) {
	c.t.Helper()
	slot := from.Do("CLUSTER", "KEYSLOT", key)
	toID, fromID := to.Do("CLUSTER", "MYID"), from.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := strings.Cut(to.Addr, ":")
	for {
		keys, _ := from.Do("CLUSTER", "GETKEYSINSLOT", slot, 10).([]any)
		if len(keys) == 0 {
			break
		}
		from.Do(append([]any{"MIGRATE", host, port, "", 0, 60_000, "KEYS"}, keys...)...)
	}
	to.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	for _, n := range c.Nodes {
		n.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}

// Failover kills a master and waits until a replica has taken its place. The
// killed one stays down.
func (c *Cluster) Failover(master *Server) {
	c.t.Helper()
	master.KillNine()
	Eventually(c.t, "a replica is promoted", func() bool {
		masters := c.Masters()
		if len(masters) != c.masters {
			return false
		}
		for _, n := range masters {
			if info, err := n.try("CLUSTER", "INFO"); err != nil || !strings.Contains(info, "cluster_state:ok") {
				return false
			}
		}
		return true
	})
}

// URL names the Cluster.
func (c *Cluster) URL() string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Client returns a client of the whole. The caller closes it.
func (c *Cluster) Client() *redis.ClusterClient {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ReadTimeout: startTimeout, WriteTimeout: startTimeout})
}

// FlushAll empties all masters.
func (c *Cluster) FlushAll() {
	c.t.Helper()
	for _, n := range c.Nodes {
		if _, err := n.try("FLUSHALL"); err != nil && !isReadOnly(err) {
			c.t.Fatal(err)
		}
	}
}

func isReadOnly(err error) bool {
	var e redis.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Error(), "READONLY")
}
