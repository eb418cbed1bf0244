package notify

import (
	"context"
	"errors"
	"sync"
	"time"
)

// dispatcher runs a worker for each queue that is this gateway's to deliver.
type dispatcher struct {
	s       *Service
	wg      sync.WaitGroup
	workers map[string]*runningWorker // by queue
	labels  map[string]time.Time      // of topics that have figures: when they were last there
}

type runningWorker struct {
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it returned
}

func (w *runningWorker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// errMoved ends a worker whose queue is another gateway's from now on, or gone.
var errMoved = errors.New("another gateway delivers it")

func newDispatcher(s *Service) *dispatcher {
	return &dispatcher{s: s, workers: make(map[string]*runningWorker), labels: make(map[string]time.Time)}
}

// run delivers until ctx is done and all workers have returned.
func (d *dispatcher) run(ctx context.Context) {
	defer d.wg.Wait()
	defer d.s.sharing.leaveAll() // while the workers drain
	for ctx.Err() == nil {
		if err := d.scan(ctx); err != nil && ctx.Err() == nil {
			if silent, ok := d.s.trouble.say(); ok {
				d.s.log.Error("look for queues", "err", err, "more", silent)
			}
		}
		timer := time.NewTimer(d.s.sharing.every())
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-d.s.kick:
		}
		timer.Stop()
	}
}

// scan starts workers for queues that became this gateway's and stops those of
// queues that are gone, or another's.
func (d *dispatcher) scan(ctx context.Context) error {
	began := time.Now()
	topics, err := d.s.topics.All(ctx)
	if err != nil {
		return err
	}
	err = d.s.sharing.update(ctx, topics)
	wanted := make(map[string]bool)
	arns := make(map[string]bool)
	for _, t := range topics {
		arns[t.ARN] = true
		d.labels[topicLabel(t)] = began
		for _, i := range d.s.sharing.ours(t) {
			name := ShardName(t.Dest.Queue, i)
			wanted[name] = true
			d.ensure(ctx, t, name)
		}
	}
	for name, w := range d.workers {
		if !wanted[name] {
			w.cancel(errMoved)
			if w.ended() {
				delete(d.workers, name)
			}
		}
	}
	for _, label := range d.s.targets.keep(arns, began) {
		d.labels[label] = began
	}
	d.forgetFigures(began)
	return err
}

// forgetFigures drops those of topics that were gone before the last push to
// them can have begun.
func (d *dispatcher) forgetFigures(now time.Time) {
	for label, seen := range d.labels {
		if now.Sub(seen) > d.s.opt.ConnectTimeout+d.s.opt.PushTimeout {
			d.s.metrics.forget(label)
			delete(d.labels, label)
		}
	}
}

// ensure starts a queue's worker unless it runs; one that found its queue gone
// gets another look.
func (d *dispatcher) ensure(ctx context.Context, t *Topic, name string) {
	if w := d.workers[name]; w != nil && !w.ended() {
		return
	}
	wctx, cancel := context.WithCancelCause(ctx)
	r := &runningWorker{cancel: cancel, done: make(chan struct{})}
	d.workers[name] = r
	w := newWorker(d.s, t, name)
	d.wg.Go(func() {
		defer close(r.done)
		defer cancel(nil)
		defer d.s.working.set(name, false)
		defer d.s.stalled.drop(name)
		w.run(wctx)
	})
}
