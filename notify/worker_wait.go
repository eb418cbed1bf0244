package notify

import (
	"context"
	"errors"
	"time"

	"herald/queue"
)

// wait returns when there may be something to do.
func (w *worker) wait(ctx, pushCtx context.Context, blocked time.Time) error {
	if w.win.empty() && w.inflight == 0 && len(w.acked)+len(w.failed) == 0 {
		if w.more {
			return nil
		}
		if !w.waiting {
			return w.idle(ctx)
		}
	}
	if w.more && w.win.roomy() {
		// More fits: only look whether something came meanwhile.
		return w.collect(ctx)
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
		if err := w.done(ctx, p); err != nil {
			return err
		}
		return w.collect(ctx)
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
	at := w.renewAt
	switch {
	case len(w.acked)+len(w.failed) > 0:
		at = time.Now().Add(ackDelay)
	case !w.win.empty():
		at = time.Now().Add(topicPoll)
	}
	for _, t := range [...]time.Time{blocked, w.win.due(), w.renewAt} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// idle waits for the first entry of an empty queue, without a goroutine of
// its own.
func (w *worker) idle(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, w.renewAt)
	defer cancel()
	if err := w.await(ctx, w.cursor); err != nil && ctx.Err() == nil {
		return err
	}
	w.more = true
	return nil
}

// await returns when there is an entry after the marker, or may be.
func (w *worker) await(ctx context.Context, after queue.Marker) error {
	if waiter, ok := w.q.(queue.Waiter); ok {
		return waiter.Wait(ctx, after)
	}
	return sleep(ctx, pollPause)
}

// awaitArrival waits beside the worker.
func (w *worker) awaitArrival(ctx context.Context) {
	if w.waiting {
		return
	}
	w.waiting = true
	after := w.cursor
	w.wg.Go(func() {
		err := w.await(ctx, after)
		if ctx.Err() != nil {
			err = nil
		}
		w.arrived <- err // has room
	})
}

// drain ends a session: pushes in flight may finish for a while, what they
// delivered is acked, and nothing runs on.
func (w *worker) drain(cancel context.CancelFunc) error {
	ctx, stop := context.WithTimeout(context.Background(), w.s.opt.DrainTimeout+5*time.Second)
	defer stop()
	timer := time.AfterFunc(w.s.opt.DrainTimeout, cancel)
	defer timer.Stop()
	w.stopped = true
	var errs []error
	for w.inflight > 0 {
		if err := w.done(ctx, <-w.results); err != nil {
			errs = append(errs, err)
		}
	}
	cancel()
	w.wg.Wait()
	if w.target != nil {
		errs = append(errs, w.flush(ctx, true))
	}
	return errors.Join(errs...)
}
