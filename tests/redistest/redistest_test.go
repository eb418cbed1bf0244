package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRestart(t *testing.T) {
	s := Start(t)
	s.Do("SET", "a", "1")
	s.KillNine()
	s.Restart()
	if got := s.Do("GET", "a"); got != "1" {
		t.Errorf("a = %v after kill -9, want 1", got)
	}
}

func TestCuttingProxy(t *testing.T) {
	s := Start(t)
	p := StartCuttingProxy(t, s.Addr)
	c := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	defer func() { _ = c.Close() }()
	p.CutAfter(3)
	for i := range 5 {
		err := c.Incr(context.Background(), "n").Err()
		if lost := i == 2; lost != (err != nil) {
			t.Errorf("Incr number %d = %v", i+1, err)
		}
	}
	if got := s.Do("GET", "n"); got != "5" {
		t.Errorf("n = %v, want 5: each command was executed", got)
	}
	if p.Cuts() != 1 || p.Seen() != 5 {
		t.Errorf("%d cuts, %d commands, want 1, 5", p.Cuts(), p.Seen())
	}
}

func TestTLS(t *testing.T) {
	s, _ := StartTLS(t)
	s.Do("SET", "a", "1")
}

func TestCluster_Failover(t *testing.T) {
	c := StartCluster(t, 3, 1)
	client := c.Client()
	defer func() { _ = client.Close() }()
	if err := client.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	old := c.MasterOf("a")
	c.Failover(old)
	if c.MasterOf("a") == old {
		t.Error("the killed node is master still")
	}
	old.Restart()
	c.WaitReady()
}

func TestSentinel_Failover(t *testing.T) {
	p := StartSentinel(t)
	p.Failover().Restart()
	p.WaitReady()
}
