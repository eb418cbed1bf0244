package notify

import (
	"cmp"
	"context"
	"errors"
	"time"

	"herald/queue"
)

// job is one push.
type job struct {
	ctx    context.Context
	items  []*item // of different keys
	target *target
	pause  time.Duration // the endpoint's longest, after failures
}

// pushed is the report of a push.
type pushed struct {
	items   []*item
	results []Result
}

// A worker has batchesAtOnce pushes of many events on their way: one is
// collected, encoded and acked while others travel. Where a topic has many
// queues it has fewer, but two, since records are large: batchesOfTopic over all
// of them.
const (
	batchesAtOnce  = 4
	batchesOfTopic = 16
)

// atOnce is how many pushes a worker may have on their way.
func (w *worker) atOnce() int {
	if w.target.batch() > 1 {
		return min(w.limit, batchesAtOnce, max(2, batchesOfTopic/max(1, w.topic.Dest.Shards)))
	}
	return w.limit
}

// start has entries pushed beside the worker, by goroutines that stay until the
// end of the session: a push takes a large stack.
func (w *worker) start(ctx context.Context, items []*item) {
	for _, it := range items {
		if it.attempts > 0 {
			w.s.metrics.retries.WithLabelValues(w.target.label).Inc()
		}
	}
	w.inflight++
	if w.pushers < w.inflight {
		w.pushers++
		jobs, results := w.jobs, w.results
		w.wg.Go(func() {
			for j := range jobs {
				results <- j.push() // has room for all
			}
		})
	}
	w.jobs <- job{ctx, items, w.target, w.maxPause()} // likewise
}

func (j *job) push() pushed {
	results := j.send()
	// One for the endpoint's health: it is well if it took any.
	r := results[0]
	for _, other := range results {
		if other.Status != Retry {
			r = other
			break
		}
	}
	if j.ctx.Err() != nil && r.Status == Retry {
		j.target.cancelProbe() // says nothing about the endpoint
	} else {
		j.target.report(r, j.pause)
	}
	return pushed{j.items, results}
}

// send makes the records and pushes them.
func (j *job) send() []Result {
	results := make([]Result, len(j.items))
	entries := make([]*entry, 0, len(j.items))
	at := make([]int, 0, len(j.items))
	for i, it := range j.items {
		e, err := decodeEntry(it.raw)
		if err != nil { // never: its head was read
			results[i] = Result{Rejected, err}
			continue
		}
		entries, at = append(entries, &e), append(at, i)
	}
	if len(entries) == 0 {
		return results
	}
	for k, r := range j.target.push(j.ctx, entries...) {
		results[at[k]] = r
	}
	return results
}

// done takes the report of a push. After an error, which ends the session, it
// still takes what was delivered: that is not sent again.
func (w *worker) done(ctx context.Context, p pushed) error {
	w.inflight--
	var first error
	for i, it := range p.items {
		if first == nil || p.results[i].Status == Acked {
			first = cmp.Or(first, w.settle(ctx, it, p.results[i]))
		}
	}
	return first
}

// settle takes the result of one entry.
func (w *worker) settle(ctx context.Context, it *item, r Result) error {
	now := time.Now()
	switch {
	case r.Status == Acked:
		w.s.fault("notify.pushed")
		w.s.metrics.delivery.WithLabelValues(w.target.label).Observe(now.Sub(it.since).Seconds())
		w.watch(true)
		w.win.finish(it, now)
		w.acked = append(w.acked, it)
		return nil
	case w.stopped, errors.Is(r.Err, errPoolClosed): // says nothing about the endpoint as it is now
		w.win.unget(it)
		return nil
	}
	it.attempts++
	it.lastErr = r.Err.Error()
	if r.Status == Rejected {
		return w.bury(ctx, reasonRejected, it)
	}
	if reason := w.verdict(it, now); reason != "" {
		return w.bury(ctx, reason, it)
	}
	w.s.log.Debug("push failed", "queue", w.queueName, "key", it.order, "attempts", it.attempts, "err", it.lastErr)
	w.failed = append(w.failed, queue.Attempt{Marker: it.marker, Attempts: it.attempts, LastTry: now})
	w.win.retry(it, now.Add(max(w.pause(it.attempts), r.pause())), now)
	return nil
}
