package journal

import (
	"errors"
	"fmt"
	"maps"
	"sort"
	"sync"
	"syscall"
	"time"
)

// Checkpoint makes durable what the clients have applied, and releases the
// ring before it. Run does it when it is time; it may be called besides.
func (j *Journal) Checkpoint() error {
	j.checkpointing.Lock()
	defer j.checkpointing.Unlock()
	if err := j.checkpoint(false); err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.poison(fmt.Errorf("checkpoint journal: %w", err))
		return j.err
	}
	return nil
}

// checkpoint is Checkpoint; with clean the header says that nothing needs to
// be replayed if that is so.
func (j *Journal) checkpoint(clean bool) error {
	begin := time.Now()
	j.opts.Fault("journal.checkpoint.begin")
	if err := j.Wait(j.End()); err != nil {
		return err
	}
	j.mu.Lock()
	if j.err != nil {
		defer j.mu.Unlock()
		return j.err
	}
	last, tail := j.last, j.cur.start
	j.mu.Unlock()

	lsns, err := j.askClients()
	if err != nil {
		return err
	}
	j.opts.Fault("journal.checkpoint.clients")
	if err := j.syncAll(); err != nil {
		return err
	}
	j.opts.Fault("journal.checkpoint.synced")
	maps.Copy(j.head.done, lsns)
	release := j.releasable(j.head.done, last, tail)
	j.head.start = release
	if clean && release == tail {
		j.head.clean = true
	}
	if err := writeHeader(j.dir, &j.head); err != nil {
		return err
	}
	j.opts.Fault("journal.checkpoint.header")
	j.release(release)
	if err := j.tellFlushed(lsns); err != nil {
		return err
	}
	if j.opts.OnCheckpoint != nil {
		j.opts.OnCheckpoint(time.Since(begin))
	}
	return nil
}

// askClients calls all clients' Checkpoint at the same time, as some may wait
// for requests that need another. A client without space keeps its records:
// it is not in the answer.
func (j *Journal) askClients() (map[Stream]LSN, error) {
	lsns := make(map[Stream]LSN, len(j.clients))
	var (
		mu    sync.Mutex // guards lsns and first
		first error
		wg    sync.WaitGroup
	)
	for s, c := range j.clients {
		wg.Go(func() {
			lsn, err := c.Checkpoint()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				lsns[s] = lsn
			case errors.Is(err, syscall.ENOSPC):
			case first == nil:
				first = fmt.Errorf("stream %d: %w", s, err)
			}
		})
	}
	wg.Wait()
	return lsns, first
}

// tellFlushed tells the clients what is durable now.
func (j *Journal) tellFlushed(lsns map[Stream]LSN) error {
	for s, lsn := range lsns {
		if err := j.clients[s].Flushed(lsn); err != nil {
			return fmt.Errorf("stream %d: %w", s, err)
		}
	}
	return nil
}

// syncAll flushes the filesystems of the journal and of the clients; also in
// relaxed mode, so that what is lost there is about a checkpoint's interval.
func (j *Journal) syncAll() error {
	if err := syncfs(j.fs); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	for s, c := range j.clients {
		if c, ok := c.(Syncer); ok {
			if err := c.Syncfs(); err != nil {
				return fmt.Errorf("syncfs of stream %d: %w", s, err)
			}
		}
	}
	return nil
}

// releasable returns the start of a batch such that no client needs one
// before it. A client whose LSN is not older than its last record of before
// the checkpoint needs nothing before the tail of then.
func (j *Journal) releasable(done map[Stream]LSN, last [256]LSN, tail uint64) uint64 {
	pos := tail
	for s := range j.clients {
		if lsn := done[s]; lsn < last[s] {
			pos = min(pos, uint64(lsn))
		}
	}
	if pos == tail {
		return tail
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// The last batch that begins at or before pos may hold the next record.
	i := sort.Search(len(j.marks), func(i int) bool { return j.marks[i] > pos })
	if i == 0 {
		return j.released
	}
	return max(j.released, j.marks[i-1])
}

// release lets the ring be used up to pos, and wakes those who wait for it.
func (j *Journal) release(pos uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if pos > j.released {
		j.stalled = false
	}
	j.released, j.asked = pos, false
	j.limit = pos + j.ring.size()
	i := sort.Search(len(j.marks), func(i int) bool { return j.marks[i] >= pos })
	j.marks = append(j.marks[:0], j.marks[i:]...)
	j.stats.Checkpoints++
	j.room.Broadcast()
}
