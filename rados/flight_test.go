//go:build rados

package rados_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"herald/rados"
	"herald/tests/cephtest"
)

// threads counts the threads of this process.
func threads(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("after %v still not: %s", patience, what)
}

func TestOperate_ContextEndsWhileTheOSDIsDead(t *testing.T) {
	conn, io := connect(t, rados.Config{MaxInFlight: 2})
	do(t, io, "here", write(func(op *rados.WriteOp) { op.Create(true) }))
	c := cephtest.Start(t)
	c.KillOSD(t, 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	var left sync.WaitGroup
	for range 3 { // the third waits for the gate
		left.Go(func() {
			op := write(func(op *rados.WriteOp) { op.AssertExists(); op.Append([]byte("x")) })
			if _, err := io.Operate(ctx, "here", op, 0); !errors.Is(err, cause) {
				t.Errorf("Operate = %v, want the context's cause", err)
			}
		})
	}
	eventually(t, "two in flight and one that waits", func() bool {
		s := conn.Stats()
		return s.InFlight == 2 && s.Waiting == 1
	})
	left.Go(func() {
		op := write(func(op *rados.WriteOp) { op.AssertExists(); op.Append([]byte("x")) })
		if _, err := io.Operate(ctx, "here", op, rados.Urgent); !errors.Is(err, cause) {
			t.Errorf("Operate = %v, want the context's cause", err)
		}
	})
	eventually(t, "an urgent one as well", func() bool { return conn.Stats().InFlight == 3 })
	cancel(cause)
	left.Wait()
	eventually(t, "librados gave up", func() bool { return conn.Stats().InFlight == 0 })
	if s := conn.Stats(); s.Abandoned != 3 || s.Done != 4 || s.Waiting != 0 {
		t.Errorf("Stats = %+v", s)
	}
	c.StartOSD(t, 0)
	if got := content(t, io, "here"); got != "" {
		t.Errorf("an operation that was given up before it was sent was done later: %q", got)
	}
}

func TestOperate_OpTimeout(t *testing.T) {
	c := cephtest.Start(t)
	pool, ns := c.Namespace(t)
	_, patient := dial(t, rados.Config{ConfFile: c.Conf}, pool, ns)
	do(t, patient, "o", write(func(op *rados.WriteOp) { op.Create(true) }))
	_, io := dial(t, rados.Config{ConfFile: c.Conf, OpTimeout: 5 * time.Second}, pool, ns)
	c.KillOSD(t, 0)
	defer c.StartOSD(t, 0)
	refused(t, io, "o", write(func(op *rados.WriteOp) { op.Append([]byte("x")) }), syscall.ETIMEDOUT)
}

func TestOperate_ManyInFlightOnFewThreads(t *testing.T) {
	conn, io := connect(t, rados.Config{})
	n := 5000
	if testing.Short() {
		n = 1000
	}
	data := make([]byte, 4096)
	var most, done atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			oid := fmt.Sprint("o", i%256)
			if _, err := io.Operate(t.Context(), oid, write(func(op *rados.WriteOp) { op.WriteFull(data) }), 0); err != nil {
				t.Error(err)
			}
			op := rados.NewRead()
			s := op.Read(0, 4096)
			if _, err := io.Operate(t.Context(), oid, op, 0); err != nil || len(s.Data) != 4096 {
				t.Errorf("read %d bytes, %v", len(s.Data), err)
			}
			if d := done.Add(1); d%100 == 0 {
				now := int64(threads(t))
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
			}
		})
	}
	all.Wait()
	t.Logf("at most %d threads", most.Load())
	if most.Load() >= 100 {
		t.Errorf("%d threads for %d goroutines", most.Load(), n)
	}
	if s := conn.Stats(); s.Blocking != 1 || s.InFlight != 0 || s.Done != uint64(2*n) {
		t.Errorf("Stats = %+v; the one blocking call is IO", s)
	}
}

// rss is the resident memory of this process in bytes.
func rss(t testing.TB) int64 {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, resident int64
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// TestOperate_KeepsNoMemory moves far more than what may stay resident, by
// every kind of step that allocates in C, half of it for waiters that leave.
func TestOperate_KeepsNoMemory(t *testing.T) {
	_, io := connect(t, rados.Config{MaxInFlight: 64})
	n := 20_000
	switch {
	case os.Getenv("HERALD_LONG") != "":
		n = 100_000
	case testing.Short():
		n = 3000
	}
	data := make([]byte, 64<<10)
	do(t, io, "o", write(func(op *rados.WriteOp) {
		op.WriteFull(data)
		op.OmapSet(rados.Pair{Key: "k", Value: data[:16<<10]})
		op.SetXattr("a", data[:1000])
	}))
	newQueue(t, io, "q")
	run := func(n int) {
		var all sync.WaitGroup
		var next atomic.Int64
		for range 32 {
			all.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					moveMuch(t, io, i, data)
				}
			})
		}
		all.Wait()
	}
	run(n / 10)
	before := rss(t)
	run(n)
	after := rss(t)
	t.Logf("resident before %d MiB, after %d operations %d MiB", before>>20, n, after>>20)
	if after-before > 64<<20 && !raceDetector { // whose memory grows by itself
		t.Errorf("%d MiB more are resident after %d operations of 64 KiB", (after-before)>>20, n)
	}
}

func moveMuch(t *testing.T, io *rados.IO, i int64, data []byte) {
	var op rados.Op
	oid := "o"
	switch i % 20 {
	case 0:
		oid, op = fmt.Sprint("w", i%16), write(func(op *rados.WriteOp) { op.WriteFull(data) })
	case 1:
		oid = "q"
		r := rados.NewRead()
		r.Exec("2pc_queue", "2pc_queue_get_capacity", nil)
		op = r
	case 2:
		oid = "absent"
		r := rados.NewRead()
		r.Read(0, 64<<10)
		r.OmapGetVals("", "", 10)
		r.Xattrs()
		op = r
	default:
		r := rados.NewRead()
		if i%3 == 0 {
			r.ReadInto(0, make([]byte, 64<<10))
		} else {
			r.Read(0, 64<<10)
		}
		r.OmapGetVals("", "", 10)
		r.OmapGetByKeys("k")
		r.GetXattr("a")
		op = r
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if i%2 == 0 { // leave while librados works
		time.AfterFunc(time.Duration(i%7)*100*time.Microsecond, cancel)
	}
	_, err := io.Operate(ctx, oid, op, 0)
	if err != nil && !errors.Is(err, context.Canceled) && !(oid == "absent" && errors.Is(err, syscall.ENOENT)) {
		t.Error(err)
	}
}

// TestOperate_OSDRestarts kills the OSD while operations run: each is done
// exactly once, and answers as if nothing had happened.
func TestOperate_OSDRestarts(t *testing.T) {
	_, io := connect(t, rados.Config{MaxInFlight: 64})
	c := cephtest.Start(t)
	newQueue(t, io, "q")
	kills := 3
	if testing.Short() {
		kills = 1
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		mu       sync.Mutex // guards the next two
		ids      []string
		appended = map[string]int{}
		all      sync.WaitGroup
	)
	for i := range 16 {
		all.Go(func() {
			oid := fmt.Sprint("o", i%4)
			for ctx.Err() == nil {
				if _, err := operate(t, io, oid, write(func(op *rados.WriteOp) { op.Append([]byte("x")) }), 0); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				id, err := reserve(t, io)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				appended[oid]++
				mu.Unlock()
			}
		})
	}
	moreDone := func() {
		mu.Lock()
		target := len(ids) + 200
		mu.Unlock()
		eventually(t, "200 reservations more", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(ids) >= target || t.Failed()
		})
	}
	for range kills {
		moreDone()
		if err := c.RestartOSD(0); err != nil {
			t.Error(err)
		}
	}
	moreDone()
	stop()
	all.Wait()
	for oid, want := range appended {
		if got := len(content(t, io, oid)); got != want {
			t.Errorf("%s has %d bytes after %d appends", oid, got, want)
		}
	}
	sort.Strings(ids)
	if n := len(slices.Compact(ids)); n != len(ids) || slices.Contains(ids, "") {
		t.Errorf("%d reservations, %d different ids, or one is empty", len(ids), n)
	}
	t.Logf("%d operations across %d kills", 2*len(ids), kills)
}

// reserve makes a reservation and aborts it again.
func reserve(t *testing.T, io *rados.IO) (string, error) {
	w := rados.NewWrite()
	s := w.ExecOut("2pc_queue", "2pc_queue_reserve", unhex(t, "01010c000000 0100000000000000 00000080"))
	if _, err := operate(t, io, "q", w, rados.ReturnVec); err != nil {
		return "", fmt.Errorf("reserve: %w", err)
	}
	if len(s.Data) != 10 {
		return "", fmt.Errorf("reserve answered %x", s.Data)
	}
	_, err := operate(t, io, "q", write(func(op *rados.WriteOp) { op.Exec("2pc_queue", "2pc_queue_abort", s.Data) }), 0)
	return string(s.Data), err
}

func TestClose_WaitsAndRefuses(t *testing.T) {
	conn, io := connect(t, rados.Config{})
	var all sync.WaitGroup
	var done atomic.Int64
	for i := range 200 {
		all.Go(func() {
			_, err := io.Operate(t.Context(), fmt.Sprint("o", i), write(func(op *rados.WriteOp) { op.WriteFull([]byte("x")) }), 0)
			switch {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, rados.ErrClosed):
				t.Error(err)
			}
		})
	}
	runtime.Gosched()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if s := conn.Stats(); s.InFlight != 0 || s.Done != uint64(done.Load()) {
		t.Errorf("Stats = %+v, %d succeeded", s, done.Load())
	}
	if _, err := conn.IO(io.Pool, "x"); !errors.Is(err, rados.ErrClosed) {
		t.Errorf("IO after Close = %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestOperate_FullPoolRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("a quota takes seconds to bite")
	}
	c := cephtest.Start(t)
	pool := c.Pool(t)
	_, io := dial(t, rados.Config{ConfFile: c.Conf}, pool, "")
	newQueue(t, io, "q")
	c.Ceph(t, "osd", "pool", "set-quota", pool, "max_objects", "1")
	n := 0
	eventually(t, "a write is refused", func() bool {
		n++
		_, err := operate(t, io, fmt.Sprint("o", n), write(func(op *rados.WriteOp) { op.WriteFull([]byte("x")) }), 0)
		if err != nil && !errors.Is(err, syscall.EDQUOT) {
			t.Fatal(err)
		}
		return err != nil
	})
	w := rados.NewWrite()
	w.ExecOut("2pc_queue", "2pc_queue_reserve", unhex(t, queueReserve))
	if _, err := operate(t, io, "q", w, rados.ReturnVec); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("reserve in a full pool = %v", err)
	}
	// Only growth in bytes and objects counts: an omap may still grow.
	do(t, io, "o1", write(func(op *rados.WriteOp) { op.OmapSet(pair("k", "v")); op.SetXattr("a", []byte("v")) }))
	do(t, io, "o1", write(func(op *rados.WriteOp) { op.Remove() }))
}

func TestObjects_OfOneNamespace(t *testing.T) {
	conn, io := connect(t, rados.Config{})
	other, err := conn.IO(io.Pool, io.Namespace+"-other")
	if err != nil {
		t.Fatal(err)
	}
	do(t, other, "x", write(func(op *rados.WriteOp) { op.Create(true) }))
	want := []string{"a", "b", "c"}
	for _, oid := range want {
		do(t, io, oid, write(func(op *rados.WriteOp) { op.Create(true) }))
	}
	var got []string
	for oid, err := range io.Objects(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, oid)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Objects = %v, want %v", got, want)
	}
	if same, err := conn.IO(io.Pool, io.Namespace); err != nil || same != io {
		t.Errorf("IO again = %p, %v; want %p", same, err, io)
	}
}

func TestConnect_Errors(t *testing.T) {
	c := cephtest.Start(t)
	conn, _ := connect(t, rados.Config{})
	if _, err := conn.IO("no-such-pool", ""); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("IO of an absent pool = %v", err)
	}
	if id := conn.ID(); id == 0 {
		t.Error("ID is 0")
	}
	if fsid, err := conn.FSID(); err != nil || len(fsid) != 36 {
		t.Errorf("FSID = %q, %v", fsid, err)
	}
	if _, err := rados.Connect(t.Context(), rados.Config{ConfFile: c.Conf + ".absent"}); err == nil {
		t.Error("Connect without a file succeeds")
	}
	_, err := rados.Connect(t.Context(), rados.Config{ConfFile: c.Conf, Options: map[string]string{"no_such_option": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("Connect with a wrong option = %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	nobody := rados.Config{ConfFile: c.Conf, ConnectTimeout: 2 * time.Second, Options: map[string]string{"mon_host": "[v2:127.0.0.1:1/0]"}}
	if _, err := rados.Connect(ctx, nobody); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Connect to nobody, with a deadline = %v", err)
	}
	if _, err := rados.Connect(t.Context(), nobody); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("Connect to nobody = %v", err)
	}
}
