package notify

import (
	"context"
	"errors"
	"time"

	"herald/queue"
)

// wait returns when there may be something to do.
func (w *worker) wait(ctx, work, pushCtx context.Context, blocked time.Time) error {
	if w.win.empty() && w.inflight == 0 && len(w.acked)+len(w.failed) == 0 {
		if w.more {
			return nil
		}
		if w.restAt.IsZero() {
			w.restAt = time.Now()
		}
		if w.s.remote && time.Since(w.restAt) >= w.s.opt.Lease {
			return errRest
		}
		if !w.waiting {
			return w.idle(ctx)
		}
	}
	if w.more && w.win.roomy() {
		// More fits: only look whether something came meanwhile.
		return w.collect(work)
	}
	if !w.more && w.win.room() > 0 {
		w.awaitArrival(pushCtx)
	}
	timer := time.NewTimer(time.Until(w.deadline(blocked)))
	defer timer.Stop()
	var wake <-chan struct{}
	if !blocked.IsZero() {
		wake = w.target.wake()
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	case err := <-w.arrived:
		w.waiting, w.more = false, true
		if err != nil {
			return err
		}
	case p := <-w.results:
		if err := w.done(work, p); err != nil {
			return err
		}
		return w.collect(work)
	}
	return nil
}

// collect takes the reports that are there.
func (w *worker) collect(ctx context.Context) error {
	for {
		select {
		case p := <-w.results:
			if err := w.done(ctx, p); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// deadline is when something must be looked at, whatever happens.
func (w *worker) deadline(blocked time.Time) time.Time {
	now := time.Now()
	at := now.Add(w.s.opt.Lease)
	switch {
	case len(w.acked)+len(w.failed) > 0:
		at = now.Add(ackDelay)
	case len(w.behind) > 0:
		at = w.since.Add(singleDelay)
	case !w.win.empty():
		at = now.Add(topicPoll)
	case w.s.remote && !w.restAt.IsZero():
		at = w.restAt.Add(w.s.opt.Lease)
	}
	for _, t := range [...]time.Time{blocked, w.win.due(), w.win.passAt()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// idle waits for the first entry of an empty queue, without a goroutine of
// its own. Now and then it looks anew.
func (w *worker) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.s.opt.Lease)
	defer cancel()
	if err := w.await(ctx, w.cursor, pollPause); err != nil && ctx.Err() == nil {
		return err
	}
	w.more = true
	return nil
}

// await returns when there is an entry after the marker, or may be: of a queue
// that cannot tell, after a pause.
func (w *worker) await(ctx context.Context, after queue.Marker, pause time.Duration) error {
	if waiter, ok := w.q.(queue.Waiter); ok {
		return waiter.Wait(ctx, after)
	}
	return sleep(ctx, pause)
}

// awaitFirst waits for an entry without the lease.
func (w *worker) awaitFirst(ctx context.Context) (err error) {
	if w.q, err = w.s.openQueue(ctx, w.queueName); err != nil {
		return err
	}
	for pause := pollPause; ; pause = min(2*pause, maxPollPause) {
		list, _, err := w.q.List(ctx, "", 1)
		if err != nil || len(list) > 0 {
			return err
		}
		w.s.working.set(w.queueName, true) // as far as can be seen
		w.stall.Store(0)
		if err := w.await(ctx, "", pause); err != nil {
			return err
		}
	}
}

// awaitArrival waits beside the worker. After a list that had entries it does
// not ask whether there are more, but lets some gather.
func (w *worker) awaitArrival(ctx context.Context) {
	if w.waiting {
		return
	}
	w.waiting = true
	after, found := w.cursor, w.found
	w.wg.Go(func() {
		var err error
		if found {
			err = sleep(ctx, listDelay)
		} else {
			err = w.await(ctx, after, pollPause)
		}
		if ctx.Err() != nil {
			err = nil
		}
		w.arrived <- err // has room
	})
}

// drain ends a session: pushes in flight may finish for a while, what they
// delivered is acked, and nothing runs on. After the lease nothing counts.
func (w *worker) drain(ctx, work context.Context, cancel context.CancelFunc) error {
	patience := w.s.opt.DrainTimeout
	if errors.Is(context.Cause(ctx), errMoved) { // there is no hurry
		patience = max(patience, w.s.opt.ConnectTimeout+w.s.opt.PushTimeout)
	}
	timer := time.AfterFunc(patience, cancel)
	defer timer.Stop()
	work, stop := context.WithTimeout(work, patience+5*time.Second)
	defer stop()
	w.stopped = true
	var errs []error
	for w.inflight > 0 {
		p := <-w.results
		if w.hold.check() != nil {
			w.inflight--
			continue
		}
		if err := w.done(work, p); err != nil {
			errs = append(errs, err)
		}
	}
	cancel()
	close(w.jobs)
	w.wg.Wait()
	if w.target != nil && w.hold.check() == nil {
		errs = append(errs, w.flush(work, true))
	}
	return errors.Join(errs...)
}
