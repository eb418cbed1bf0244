package notify

import (
	"context"
	"errors"
	"sync"
	"time"
)

// dispatcher runs a worker for each queue of each topic.
type dispatcher struct {
	s       *Service
	wg      sync.WaitGroup
	workers map[string]*runningWorker // by queue
	suspect map[string]bool           // queues without a topic, as of the last sweep
	swept   time.Time
}

type runningWorker struct {
	cancel context.CancelFunc
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

// sweepEvery is the pause between looks for queues that nobody needs.
const sweepEvery = time.Minute

func newDispatcher(s *Service) *dispatcher {
	return &dispatcher{s: s, workers: make(map[string]*runningWorker), swept: time.Now()}
}

// run delivers until ctx is done and all workers have returned.
func (d *dispatcher) run(ctx context.Context) {
	defer d.wg.Wait()
	for ctx.Err() == nil {
		if err := d.scan(ctx); err != nil && ctx.Err() == nil {
			d.s.log.Error("look for queues", "err", err)
		}
		timer := time.NewTimer(d.s.opt.ScanEvery)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-d.s.kick:
		}
		timer.Stop()
	}
}

// scan starts workers for new queues and stops those of queues that are gone.
func (d *dispatcher) scan(ctx context.Context) error {
	topics, err := d.s.topics.All(ctx)
	if err != nil {
		return err
	}
	wanted := make(map[string]bool)
	arns := make(map[string]bool)
	for _, t := range topics {
		arns[t.ARN] = true
		if t.Dest.Queue == "" {
			continue
		}
		for i := range t.Dest.Shards {
			name := ShardName(t.Dest.Queue, i)
			wanted[name] = true
			d.ensure(ctx, t, name)
		}
	}
	for name, w := range d.workers {
		if !wanted[name] {
			w.cancel()
			if w.ended() {
				delete(d.workers, name)
			}
		}
	}
	d.s.targets.keep(arns)
	if time.Since(d.swept) >= sweepEvery {
		d.swept = time.Now()
		return d.sweep(ctx, topics)
	}
	return nil
}

// ensure starts a queue's worker unless it runs; one that found its queue gone
// gets another look.
func (d *dispatcher) ensure(ctx context.Context, t *Topic, name string) {
	if w := d.workers[name]; w != nil && !w.ended() {
		return
	}
	wctx, cancel := context.WithCancel(ctx)
	r := &runningWorker{cancel: cancel, done: make(chan struct{})}
	d.workers[name] = r
	w := newWorker(d.s, t, name)
	d.wg.Go(func() {
		defer close(r.done)
		defer cancel()
		w.run(wctx)
	})
}

// sweep deletes queues without a topic that were found so twice: a crash in
// the middle of a topic's deletion leaves them.
func (d *dispatcher) sweep(ctx context.Context, topics []*Topic) error {
	names, err := d.s.cfg.Queues.List(ctx, "")
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(topics))
	for _, t := range topics {
		if t.Dest.Queue != "" {
			known[t.Dest.Queue] = true
		}
	}
	suspect := make(map[string]bool)
	var errs []error
	for _, name := range names {
		base := baseQueue(name)
		if known[base] || known[name] {
			continue
		}
		if !d.suspect[name] {
			suspect[name] = true
			continue
		}
		tenant, topic, ok := topicOfQueue(base)
		if !ok {
			continue // not ours
		}
		d.s.log.Warn("delete queue without a topic", "queue", name)
		errs = append(errs, d.s.topics.sweepOrphan(ctx, name, tenant, topic))
	}
	d.suspect = suspect
	return errors.Join(errs...)
}
