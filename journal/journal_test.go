package journal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"herald/tests/leaktest"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// small is a ring of 1 MiB that wraps soon.
func small() Options {
	return Options{SegmentBytes: 256 << 10, FlushDelay: 5 * time.Millisecond, CheckpointInterval: 20 * time.Millisecond}
}

// model is a client that remembers its records. What it was given before a
// Checkpoint it keeps "in files": saved.
type model struct {
	mu      sync.Mutex // guards what follows
	records map[LSN]string
	order   []LSN
	applied LSN // Checkpoint answers this
	hold    bool
	flushed LSN
}

func newModel() *model { return &model{records: make(map[LSN]string)} }

func (m *model) Replay(lsn LSN, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[lsn] = string(p)
	m.order = append(m.order, lsn)
	m.applied = lsn
	return nil
}

func (m *model) apply(lsn LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.hold {
		m.applied = max(m.applied, lsn)
	}
}

func (m *model) Checkpoint() (LSN, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, nil
}

func (m *model) Flushed(lsn LSN) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushed = lsn
	return nil
}

func (m *model) values() []string {
	var v []string
	for _, lsn := range m.order {
		v = append(v, m.records[lsn])
	}
	return v
}

// start opens and recovers a journal with one client for each stream given.
func start(t testing.TB, dir string, opts Options, clients ...*model) *Journal {
	t.Helper()
	j, err := tryStart(dir, opts, clients...)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func tryStart(dir string, opts Options, clients ...*model) (*Journal, error) {
	j, err := Open(dir, opts)
	if err != nil {
		return nil, err
	}
	for i, c := range clients {
		if err := j.Register(Stream(i+1), c); err != nil {
			return nil, err
		}
	}
	return j, j.Recover()
}

// crash drops a journal as SIGKILL would.
func crash(j *Journal) { _ = j.Abandon() }

// run runs Run until the function it returns is called.
func run(t testing.TB, j *Journal) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func mustAppend(t testing.TB, j *Journal, s Stream, payload string) LSN {
	t.Helper()
	lsn, err := j.Append(s, []byte(payload))
	if err != nil {
		t.Fatalf("Append(%q) = %v", payload, err)
	}
	return lsn
}

func mustWait(t testing.TB, j *Journal, lsn LSN) {
	t.Helper()
	if err := j.Wait(lsn); err != nil {
		t.Fatalf("Wait(%d) = %v", lsn, err)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, opts := range []Options{{}, {NoDirect: true}, {NoSync: true}, small()} {
		dir := t.TempDir()
		j := start(t, dir, opts, newModel(), newModel())
		var want1, want2 []string
		for i := range 300 {
			p := fmt.Sprintf("record %d %s", i, bytes.Repeat([]byte{'x'}, i*7))
			if i%3 == 0 {
				mustAppend(t, j, 2, p)
				want2 = append(want2, p)
			} else {
				mustAppend(t, j, 1, p)
				want1 = append(want1, p)
			}
			if i%10 == 0 {
				mustWait(t, j, j.End())
			}
		}
		mustWait(t, j, j.End())
		crash(j)
		c1, c2 := newModel(), newModel()
		j = start(t, dir, opts, c1, c2)
		if d := cmp.Diff(want1, c1.values()); d != "" {
			t.Errorf("stream 1 (-want +got):\n%s", d)
		}
		if d := cmp.Diff(want2, c2.values()); d != "" {
			t.Errorf("stream 2 (-want +got):\n%s", d)
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		c1, c2 = newModel(), newModel()
		j = start(t, dir, opts, c1, c2)
		if len(c1.order)+len(c2.order) != 0 {
			t.Errorf("%d records after a clean end", len(c1.order)+len(c2.order))
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}
