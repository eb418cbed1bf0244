package redis

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/queue"
	"herald/tests/redistest"
)

// put reserves and commits n times.
func put(t *testing.T, q queue.Queue, n int) {
	t.Helper()
	for range n {
		id, err := q.Reserve(t.Context(), []byte("i"), 10, 1)
		if err == nil {
			err = q.Commit(t.Context(), id, [][]byte{[]byte("x")})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantLosses waits until that many losses are told, the latest with this text.
func wantLosses(t *testing.T, d *Driver, n int, text string) {
	t.Helper()
	var latest []Loss
	redistest.Eventually(t, fmt.Sprintf("%d losses are told", n), func() bool {
		var count uint64
		count, latest = d.Losses()
		return count == uint64(n)
	})
	if last := latest[len(latest)-1]; last.Queue != "q" || !strings.Contains(last.Detail, text) {
		t.Errorf("loss = %+v, want %q", last, text)
	}
}

// settled waits until the driver has compared the terms.
func settled(t *testing.T, q queue.Queue, d *Driver) {
	t.Helper()
	term := func() string {
		past := q.(*Queue).past
		past.mu.Lock()
		defer past.mu.Unlock()
		if past.checking {
			return ""
		}
		return past.newest.term
	}
	redistest.Eventually(t, "the terms are compared", func() bool {
		put(t, q, 1)
		r, _, err := q.(*Queue).call(t.Context(), statsScript)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := r.list[2].(string)
		return got == term()
	})
}

// standby is a master with a replica, whose link can be paused, and a driver
// that can be sent from one to the other.
type standby struct {
	master, replica *redistest.Server
	link, front     *redistest.CuttingProxy
	h               *harness
	log             *bytes.Buffer
	q               queue.Queue
}

func newStandby(t *testing.T, opts Options, replica ...string) *standby {
	s := &standby{master: redistest.Start(t), log: &bytes.Buffer{}}
	opts.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	s.link = redistest.StartLink(t, s.master.Addr)
	host, port, _ := net.SplitHostPort(s.link.Addr)
	s.replica = redistest.Start(t, append(replica, "--replicaof", host+" "+port)...)
	redistest.Eventually(t, "the replica follows", func() bool {
		return strings.Contains(s.replica.Do("INFO", "replication").(string), "master_link_status:up")
	})
	s.front = redistest.StartCuttingProxy(t, s.master.Addr)
	s.h = newHarness(t, "redis://"+s.front.Addr, opts)
	if err := s.h.d.Create(t.Context(), "q", 1<<20); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.q, err = s.h.d.Open(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	put(t, s.q, 5)
	if n := s.master.Do("WAIT", 1, 30_000); n != int64(1) {
		t.Fatalf("WAIT = %v", n)
	}
	return s
}

// failover has the replica take over.
func (s *standby) failover() {
	s.master.KillNine()
	s.replica.Promote()
	s.front.SetBackend(s.replica.Addr)
}

func TestLosses_Failover(t *testing.T) {
	s := newStandby(t, Options{})
	s.link.Pause()
	put(t, s.q, 3)
	s.failover()
	put(t, s.q, 10) // more than was lost, so that numbers alone do not tell
	// 3 reservations, 3 commits and their 3 entries.
	wantLosses(t, s.h.d, 1, "9 writes")
	settled(t, s.q, s.h.d)
	put(t, s.q, 10)
	wantLosses(t, s.h.d, 1, "9 writes")
	if !strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("the log has no error:\n%s", s.log)
	}
}

// TestLosses_Other has another driver write first after the failover.
func TestLosses_Other(t *testing.T) {
	s := newStandby(t, Options{})
	s.link.Pause()
	put(t, s.q, 1)
	s.failover()
	other := s.h.Second(t, 0)
	q, err := other.Open(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	put(t, q, 50)
	if _, err := s.q.Stats(t.Context()); err != nil { // a read is enough
		t.Fatal(err)
	}
	wantLosses(t, s.h.d, 1, "3 writes")
}

// TestLosses_Read finds the loss before anybody has written again.
func TestLosses_Read(t *testing.T) {
	s := newStandby(t, Options{})
	s.link.Pause()
	put(t, s.q, 2)
	s.failover()
	if _, _, err := s.q.List(t.Context(), "", 10); err != nil {
		t.Fatal(err)
	}
	wantLosses(t, s.h.d, 1, "6 writes")
	put(t, s.q, 10)
	settled(t, s.q, s.h.d)
	wantLosses(t, s.h.d, 1, "6 writes")
}

func TestLosses_None(t *testing.T) {
	s := newStandby(t, Options{})
	s.failover()
	put(t, s.q, 3)
	settled(t, s.q, s.h.d)
	if n, latest := s.h.d.Losses(); n != 0 {
		t.Errorf("losses = %+v", latest)
	}
}

// TestFailover_Weaker fails over to a server that can lose what it acknowledges:
// that is told, and nothing is reserved there until it cannot any more, if that
// is wanted.
func TestFailover_Weaker(t *testing.T) {
	for _, require := range []bool{false, true} {
		s := newStandby(t, Options{RequireAOF: require}, "--appendfsync", "everysec")
		held, err := s.q.Reserve(t.Context(), []byte("i"), 10, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.master.Do("WAIT", 1, 30_000); n != int64(1) {
			t.Fatalf("WAIT = %v", n)
		}
		s.failover()
		if err := s.q.Commit(t.Context(), held, [][]byte{[]byte("x")}); err != nil { // was promised
			t.Fatal(err)
		}
		reserve := func() error {
			id, err := s.q.Reserve(t.Context(), []byte("i"), 10, 1)
			if err == nil {
				err = s.q.Abort(t.Context(), id)
			}
			return err
		}
		if !require {
			settled(t, s.q, s.h.d)
			if err := reserve(); err != nil {
				t.Errorf("Reserve = %v", err)
			}
		} else {
			redistest.Eventually(t, "Reserve refuses", func() bool { return errors.Is(reserve(), ErrNotDurable) })
			if _, err := s.q.Stats(t.Context()); err != nil {
				t.Errorf("Stats = %v", err)
			}
			s.replica.Do("CONFIG", "SET", "appendfsync", "always")
			redistest.Eventually(t, "Reserve does not refuse", func() bool { return reserve() == nil })
		}
		s.h.close(t)
		if !strings.Contains(s.log.String(), "appendfsync everysec") {
			t.Errorf("the log does not tell:\n%s", s.log)
		}
	}
}

func TestLosses_Queue(t *testing.T) {
	s := newStandby(t, Options{})
	s.master.KillNine()
	s.replica.Promote()
	s.replica.Do("FLUSHALL")
	s.front.SetBackend(s.replica.Addr)
	if _, err := s.q.Stats(t.Context()); err == nil {
		t.Error("Stats of a queue that is gone = nil")
	}
	wantLosses(t, s.h.d, 1, "the queue")
}

func TestLosses_Deleted(t *testing.T) {
	s := newStandby(t, Options{})
	if err := s.h.Second(t, 0).Delete(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.q.Stats(t.Context()); err == nil {
		t.Error("Stats of a deleted queue = nil")
	}
	if n, latest := s.h.d.Losses(); n != 0 {
		t.Errorf("losses = %+v", latest)
	}
}

// TestLosses_File cuts the end of the server's file off, as the loss of power
// does to one that is not flushed.
func TestLosses_File(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	if err := h.d.Create(t.Context(), "q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q, err := h.d.Open(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	put(t, q, 5)
	s.Rewritten() // before that there are two files, of which one goes
	files, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Skipf("append-only files %v, %v: this redis has them elsewhere", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	put(t, q, 4)
	s.KillNine()
	if err := os.Truncate(files[0], info.Size()); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	put(t, q, 1)
	wantLosses(t, h.d, 1, "12 writes")
}

func TestLostSince(t *testing.T) {
	history := " 5 90\na 100 1000\nb 2000 2500\n"
	again := history + "c 3000 4000\nb 4010 5000\n"
	for _, c := range []struct {
		known, now mark
		history    string
		lost       int64
		ok         bool
	}{
		{mark{"c", 3000, 0}, mark{"c", 3000, 0}, history, 0, true},
		{mark{"c", 3000, 0}, mark{"c", 2990, 0}, history, 10, true},
		{mark{"b", 2000, 0}, mark{"c", 3000, 0}, history, 0, true},
		{mark{"b", 1500, 0}, mark{"c", 3000, 0}, history, 0, true},
		{mark{"b", 2001, 0}, mark{"c", 3000, 0}, history, 1, true},
		{mark{"a", 101, 0}, mark{"c", 3000, 0}, history, 1, true},
		{mark{"x", 50, 0}, mark{"c", 3000, 0}, history, 0, false},
		{mark{"", 7, 0}, mark{"c", 3000, 0}, history, 2, true},
		{mark{"b", 2001, 0}, mark{"c", 5100, 0}, again, 1, true},
		{mark{"b", 4010, 0}, mark{"c", 5100, 0}, again, 0, true},
		{mark{"b", 4011, 0}, mark{"c", 5100, 0}, again, 1, true},
		{mark{"c", 3000, 0}, mark{"c", 5100, 0}, again, 0, true},
		{mark{"c", 3001, 0}, mark{"c", 5100, 0}, again, 1, true},
		{mark{"c", 5101, 0}, mark{"c", 5100, 0}, again, 1, true},
		{mark{"b", 4010, 0}, mark{"b", 4010, 0}, "", 0, true},
		{mark{"b", 4010, 0}, mark{"c", 4010, 0}, "rest 1\n", 0, false},
	} {
		lost, ok := lostSince(c.known, c.now, c.history)
		if lost != c.lost || ok != c.ok {
			t.Errorf("lostSince(%v, %v) = %d, %v, want %d, %v", c.known, c.now, lost, ok, c.lost, c.ok)
		}
	}
}
