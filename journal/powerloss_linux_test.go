package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"herald/tests/powerloss"
)

// keeper applies records to a file that only checkpoints flush, as real
// clients do.
type keeper struct {
	*model
	path string
}

func (k *keeper) Checkpoint() (LSN, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := os.OpenFile(k.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintf(f, "%020d", k.applied) // in place: there is always a number
	return k.applied, errors.Join(err, f.Close())
}

// TestPowerLoss cuts the power under load, again and again: what was waited
// for is in the journal, or in what the client had written before a
// checkpoint.
func TestPowerLoss(t *testing.T) {
	fs := powerloss.Mount(t, 64)
	dir := filepath.Join(fs.Dir, "journal")
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		k := &keeper{model: newModel(), path: filepath.Join(fs.Dir, "client")}
		j := openKeeper(t, dir, k)
		acked := loadUntilCut(t, j, k, fs)
		crash(j)
		fs.Restore(t)

		k = &keeper{model: newModel(), path: k.path}
		j = openKeeper(t, dir, k)
		var checkpointed LSN
		if b, err := os.ReadFile(k.path); err == nil {
			n, err := strconv.ParseUint(string(b), 10, 64)
			if err != nil {
				t.Errorf("the client's file: %v", err)
			}
			checkpointed = LSN(n)
		}
		first := LSN(1 << 62)
		for lsn := range k.records {
			first = min(first, lsn)
		}
		for lsn, p := range acked {
			if got, ok := k.records[lsn]; ok && got != p || !ok && lsn > checkpointed {
				t.Fatalf("round %d: record %d %.20q came back as %.20q; checkpointed %d, first replayed %d, %d acked",
					round, lsn, p, got, checkpointed, first, len(acked))
			}
			if _, ok := k.records[lsn]; !ok && lsn > first {
				t.Fatalf("round %d: record %d is missing after %d", round, lsn, first)
			}
		}
		t.Logf("round %d: %d acked, %d replayed", round, len(acked), len(k.records))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func openKeeper(t *testing.T, dir string, k *keeper) *Journal {
	t.Helper()
	opts := small()
	opts.SegmentBytes, opts.StallTimeout = 1<<20, time.Hour // loads end with the power only
	j, err := Open(dir, opts)
	if err == nil {
		err = j.Register(1, k)
	}
	if err == nil {
		err = j.Recover()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Abandon() }) // does nothing after Close
	return j
}

// loadUntilCut returns what was acknowledged.
func loadUntilCut(t *testing.T, j *Journal, k *keeper, fs *powerloss.FS) map[LSN]string {
	stop := run(t, j)
	var (
		mu    sync.Mutex
		acked = make(map[LSN]string)
		wg    sync.WaitGroup
		cut   = make(chan struct{})
		once  sync.Once
	)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				p := fmt.Sprintf("%d/%d %0*d", w, i, (i*37)%3000, 0)
				lsn, err := j.Append(1, []byte(p))
				if err == nil {
					err = j.Wait(lsn)
				}
				if err != nil {
					return // no power
				}
				k.apply(lsn)
				mu.Lock()
				acked[lsn] = p
				if len(acked) == 3000 {
					once.Do(func() { close(cut) })
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-cut:
	case <-time.After(5 * time.Minute): // however slow the disk is
		t.Error("3,000 records took longer than 5 minutes")
	}
	fs.Cut(t)
	wg.Wait()
	_ = stop() // answers that there is no power
	return acked
}
