package posix

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/journal"
	"herald/store"
	"herald/tests/powerloss"
)

const (
	powerClients = 6
	childEnv     = "HERALD_POWERLOSS_CHILD"
)

// powerOrder is what the child is told: where the store is, and what each
// client's keys hold. Clients with an even number use the versioned bucket.
type powerOrder struct {
	Dir     string
	NoXattr bool
	Seed    uint64
	States  [powerClients]crashState
}

func (o *powerOrder) store() *testStore {
	return &testStore{
		dir: o.Dir, opts: Options{NoXattr: o.NoXattr},
		journal: journal.Options{SegmentBytes: 2 << 20, Segments: 4, CheckpointInterval: 150 * time.Millisecond},
	}
}

func (o *powerOrder) rand(client int) *rand.Rand {
	return rand.New(rand.NewPCG(o.Seed, uint64(client)))
}

func powerBucket(client int) (name string, versioned bool) {
	if client%2 == 0 {
		return "versioned", true
	}
	return "plain", false
}

func (o *powerOrder) change(r *rand.Rand, client, n int) change {
	_, versioned := powerBucket(client)
	return randomChange(r, n, o.States[client], versioned, fmt.Sprintf("%d/", client))
}

// TestPowerLossChild is the process that is killed; see TestPowerLoss.
func TestPowerLossChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("runs as the child of TestPowerLoss")
	}
	var o powerOrder
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		t.Fatal(err)
	}
	d := o.store().open(t)
	var mu sync.Mutex // guards stdout
	say := func(client, n int, what string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println("@", client, n, what)
	}
	var wg sync.WaitGroup
	for client := range powerClients {
		wg.Go(func() {
			name, _ := powerBucket(client)
			b, err := d.OpenBucket(context.Background(), name)
			if err != nil {
				t.Error(err)
				return
			}
			r := o.rand(client)
			for n := 0; ; n++ {
				c := o.change(r, client, n)
				say(client, n, "begun")
				if err := c.do(b); err != nil {
					return // the power is gone
				}
				c.model(o.States[client])
				say(client, n, "done")
			}
		})
	}
	wg.Wait()
	select {} // until it is killed
}

// TestPowerLoss cuts the power of a filesystem while clients change a store on
// it, again and again: what was acknowledged is there, whole, and nothing
// else.
func TestPowerLoss(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for _, noXattr := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoXattr=%t", noXattr), func(t *testing.T) {
			fs := powerloss.Mount(t, 192)
			o := &powerOrder{Dir: fs.Dir, NoXattr: noXattr}
			for i := range o.States {
				o.States[i] = crashState{}
			}
			d := o.store().open(t)
			for i := range 2 {
				name, _ := powerBucket(i)
				if err := d.CreateBucket(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			for round := range rounds {
				powerRound(t, fs, o)
				if t.Failed() {
					t.Fatalf("round %d, seed %d", round, o.Seed)
				}
			}
		})
	}
}

// powerRound runs a child until the power goes, and checks what is left.
func powerRound(t *testing.T, fs *powerloss.FS, o *powerOrder) {
	t.Helper()
	o.Seed = rand.Uint64()
	log := runChild(t, fs, "TestPowerLossChild", o)
	fs.Restore(t)
	d := o.store().open(t)
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 2 {
		name, _ := powerBucket(i)
		got := readBucket(t, d.Driver, name)
		for client := i; client < powerClients; client += 2 {
			o.States[client] = o.check(t, client, log[client], partOf(got, client))
			if t.Failed() {
				files, err := exec.Command("find", o.store().root(), "-path", "*/index", "-prune", "-o", "-type", "f", "-printf", "%P %s %T@ %n %i\n").CombinedOutput()
				t.Logf("the tree (%v):\n%s", err, files)
			}
		}
	}
}

// partOf is a client's part of a bucket.
func partOf(s crashState, client int) crashState {
	out := crashState{}
	for k, v := range s {
		if strings.HasPrefix(k, fmt.Sprintf("%d/", client)) {
			out[k] = v
		}
	}
	return out
}

// progress is how far a client came.
type progress struct{ begun, done int }

// check compares what is there with what the client was told, and returns it.
func (o *powerOrder) check(t *testing.T, client int, p progress, got crashState) crashState {
	t.Helper()
	r := o.rand(client)
	what := ""
	for n := range p.done {
		c := o.change(r, client, n)
		c.model(o.States[client])
		if gocmp.Equal(got[c.key], o.States[client][c.key]) {
			continue // as far as it is now
		}
		what += fmt.Sprint(n, " ", c.what, "\n")
	}
	before := gocmp.Diff(o.States[client], got)
	if p.begun == p.done {
		if before != "" {
			t.Errorf("client %d (-want +got):\n%s\nafter\n%s", client, before, what)
		}
		return got
	}
	next := o.States[client].clone()
	c := o.change(r, client, p.done)
	c.model(next)
	if after := gocmp.Diff(next, got); before != "" && after != "" {
		t.Errorf("client %d: neither before %s (-want +got):\n%s\nnor after:\n%s\nafter\n%s", client, c.what, before, after, what)
	}
	return got
}

// runChild runs a test as a child with its order, cuts the power, and tells how far each client came.
func runChild(t *testing.T, fs *powerloss.FS, test string, o any) (log [powerClients]progress) {
	t.Helper()
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdin = strings.NewReader(string(order))
	cmd.Stderr = io.Discard // it may complain of what it cannot write
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	var once sync.Once
	var noise strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer once.Do(func() { close(first) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var client, n int
			var what string
			if _, err := fmt.Sscanf(lines.Text(), "@ %d %d %s", &client, &n, &what); err != nil {
				_, _ = io.WriteString(&noise, lines.Text()+"\n")
				continue
			}
			if what == "done" {
				log[client].done = n + 1
				once.Do(func() { close(first) })
			} else {
				log[client].begun = n + 1
			}
		}
	}()
	<-first
	time.Sleep(time.Duration(100+rand.IntN(900)) * time.Millisecond)
	fs.Cut(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-done
	_ = cmd.Wait() // killed
	total := 0
	for _, p := range log {
		total += p.done
	}
	t.Logf("%d changes done before the power went", total)
	if total == 0 {
		t.Errorf("nothing was done: %s", noise.String())
	}
	return log
}

// TestDiskFull fills a filesystem: what does not fit is refused and leaves
// nothing behind; what was there stays; room makes all well again.
func TestDiskFull(t *testing.T) {
	fs := powerloss.Mount(t, 96)
	s := newTestStore(t, Options{})
	s.dir = fs.Dir
	d := s.open(t)
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1 << 20, 100_000, 1}
	var last []string
	for _, size := range sizes {
		data := strings.Repeat("x", size)
		for n := 0; ; n++ {
			key := fmt.Sprintf("%d/%d", size, n)
			err := putObject(b, key, data, store.CommitOptions{Versioning: store.Enabled})
			if errors.Is(err, store.ErrNoSpace) {
				break
			}
			if err != nil {
				t.Fatalf("put %s: %v", key, err)
			}
			if n == 20_000 {
				break // small ones fit for long
			}
			last = append(last, key)
		}
	}
	for _, key := range last {
		if _, err := b.Stat(t.Context(), key, ""); err != nil {
			t.Fatalf("Stat(%q) = %v", key, err)
		}
	}
	if list, _ := os.ReadDir(filepath.Join(s.root(), home, "staging")); len(list) != 0 {
		t.Errorf("left in staging: %v", list)
	}
	for _, key := range last[:20] {
		info, err := b.Stat(t.Context(), key, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Remove(t.Context(), key, info.VersionID, store.RemoveOptions{}); err != nil {
			t.Fatalf("remove %s: %v", key, err)
		}
	}
	d.space.at = time.Time{}
	mustPut(t, b, "again", strings.Repeat("y", 1<<20))
}
