package journal

import (
	"context"
	"sync"
	"time"
)

// Run flushes records for which nobody waits, prepares segments, and does
// checkpoints, until ctx is done or the journal is poisoned (then it returns
// why). Nobody else does: without Run, Append blocks when the ring is full.
func (j *Journal) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := j.ring.prepareAll(ctx.Done()); err != nil {
			j.mu.Lock()
			j.poison(err)
			j.mu.Unlock()
		}
	})
	wg.Go(func() { j.runFlush(ctx) })
	tick := time.NewTicker(j.opts.CheckpointInterval)
	defer tick.Stop()
	due := false
	progress := time.Now()
	for {
		if err := j.Err(); err != nil {
			return err
		}
		used, before, pressed := j.fill()
		if !pressed {
			progress = time.Now()
		}
		if pressed || due && used > 0 {
			if err := j.Checkpoint(); err != nil {
				return err
			}
			// What was released may be used again by now.
			if _, now, _ := j.fill(); now > before || used == 0 {
				progress = time.Now()
			} else if pressed {
				j.stall(time.Since(progress))
				sleep(ctx, j.opts.FlushDelay)
			}
		}
		due = false
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			due = true
		case <-j.kick:
		}
	}
}

// fill returns how much of the ring is used, up to where it was released, and
// whether that presses.
func (j *Journal) fill() (used, released uint64, pressed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	used = j.cur.start - j.released
	if len(j.cur.buf) > batchHeader {
		used = j.cur.end() - j.released
	}
	return used, j.released, j.waiting > 0 || used > j.ring.size()/2
}

// stall notes that checkpoints have released nothing for d, because a client
// holds on to its records (its disk is full). After a while nobody waits any
// longer.
func (j *Journal) stall(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiting > 0 && d > j.opts.StallTimeout {
		j.stalled = true
		j.room.Broadcast()
	}
}

// runFlush flushes what nobody waits for. While there is nothing it sleeps
// until wakeRun.
func (j *Journal) runFlush(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.dirty:
		}
		for idle := false; !idle; {
			if !sleep(ctx, j.opts.FlushDelay) {
				return
			}
			j.armed.Store(false)
			end, durable := j.End(), j.Durable()
			idle = end <= durable
			if !idle {
				j.armed.Store(true)
				_ = j.Wait(end) // sticky: Run returns it
			}
			if j.Err() != nil {
				return
			}
		}
	}
}

// wakeRun tells runFlush that there are records, and Run when the ring is half
// full. j.mu is held.
func (j *Journal) wakeRun() {
	if !j.armed.Load() {
		j.armed.Store(true)
		select {
		case j.dirty <- struct{}{}:
		default:
		}
	}
	if !j.asked && j.cur.end()-j.released > j.ring.size()/2 {
		j.asked = true
		j.kickRun()
	}
}

// kickRun makes Run look at once.
func (j *Journal) kickRun() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// sleep answers false when ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Close does a last checkpoint, marks the journal clean and closes it. Run
// must have ended; the clients' drivers must still be able to answer
// Checkpoint. Appends that wait get ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	state := j.state
	j.state = stateClosed
	j.room.Broadcast()
	j.mu.Unlock()
	if state == stateClosed {
		return nil
	}
	var err error
	if state == stateReady {
		j.checkpointing.Lock()
		err = j.checkpoint(true)
		j.checkpointing.Unlock()
	}
	if cerr := j.releaseFiles(); err == nil {
		err = cerr
	}
	return err
}

// Abandon closes the journal's files without a checkpoint and without
// flushing, as the end of the process would. It is for tests of what happens
// next; Run must have ended.
func (j *Journal) Abandon() error {
	j.mu.Lock()
	j.state = stateClosed
	if j.err == nil {
		j.err = ErrClosed
	}
	inflight := j.inflight
	j.room.Broadcast()
	j.mu.Unlock()
	if inflight != nil {
		<-inflight.done
	}
	return j.releaseFiles()
}
