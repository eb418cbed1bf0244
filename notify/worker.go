package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"herald/queue"
)

// worker delivers one queue while it holds the queue's lease. One goroutine
// owns all of its state; pushes run beside it and report back.
type worker struct {
	s            *Service
	tenant, name string // of the topic
	queueName    string
	limit        int // pushes at once

	q    queue.Queue
	hold *holding // the queue's lease

	topic  *Topic  // as of the current round
	target *target // its endpoint

	win      *window
	cursor   queue.Marker // the last entry that was listed
	more     bool         // there may be entries after it
	found    bool         // the last list had entries
	waiting  bool         // a goroutine waits for one
	arrived  chan error   // and says so here
	jobs     chan job     // what pushers take
	pushers  int
	results  chan pushed
	inflight int
	stopped  bool // pushes are being cancelled; their failures do not count
	scanned  time.Time
	restAt   time.Time // since when it has nothing to do; zero: it has

	acked   []*item
	failed  []queue.Attempt
	flushed time.Time
	behind  []*item   // acked, and kept back
	since   time.Time // when the first of them was

	wg sync.WaitGroup // pushes, and the one that waits
}

// job is one entry to be pushed.
type job struct {
	ctx    context.Context
	it     *item
	target *target
	pause  time.Duration // the endpoint's longest, after failures
}

// pushed is the report of a push.
type pushed struct {
	it     *item
	result Result
}

var (
	// errGone ends a worker: its queue or topic is no more.
	errGone = errors.New("queue is gone")
	// errRest ends a session: the queue was empty for long.
	errRest = errors.New("queue is empty")
)

const (
	// sessionPause is the pause before a queue is tried again after an error,
	// or when another gateway has it.
	sessionPause = time.Second
	// topicPoll is how often a blocked worker looks whether the topic was
	// changed, and for entries that grew too old.
	topicPoll = 500 * time.Millisecond
	// pollPause is the pause between lists of a queue that cannot wait; it
	// grows up to maxPollPause while the queue is empty.
	pollPause    = 100 * time.Millisecond
	maxPollPause = time.Second
	// Acks are gathered: that many, or for that long.
	ackBatch = 64
	ackDelay = 20 * time.Millisecond
	// singleDelay is how long those are kept back that would be acked one by one,
	// because an earlier one is on its way: soon they go with it.
	singleDelay = 250 * time.Millisecond
	// listDelay is how long a busy worker lets entries gather.
	listDelay = 20 * time.Millisecond
)

func newWorker(s *Service, t *Topic, queueName string) *worker {
	return &worker{
		s: s, tenant: t.Tenant(), name: t.Name, queueName: queueName,
		limit: max(1, s.opt.Inflight/max(1, t.Dest.Shards)),
	}
}

// run delivers until ctx is done or the queue is gone.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.turn(ctx)
		switch {
		case errors.Is(err, errRest):
			continue
		case errors.Is(err, errGone), errors.Is(err, queue.ErrNoSuchQueue):
			w.s.handles.Delete(w.queueName) // it may be one of before
			return
		case errors.Is(err, queue.ErrLocked):
			w.s.working.set(w.queueName, false)
		case err != nil && ctx.Err() == nil:
			if silent, ok := w.s.trouble.say(); ok {
				w.s.log.Error("queue worker", "queue", w.queueName, "err", err, "more", silent)
			}
		}
		_ = sleep(ctx, sessionPause) // its end is that of the loop
	}
}

// turn is a session, or at first a wait for something to do where others may
// have the queue open: while it is empty nobody needs its lease, and thousands
// of them need no renewal. A panic ends it as an error does.
func (w *worker) turn(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			w.s.metrics.workerPanics.Inc()
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if w.s.remote {
		if err := w.awaitFirst(ctx); err != nil {
			return err
		}
	}
	return w.session(ctx)
}

// session holds the lease once.
func (w *worker) session(ctx context.Context) (err error) {
	hold, work, err := takeLease(ctx, w.s.cfg.Queues.Locker(), queue.OwnerLock+w.queueName, w.s.owner, w.s.opt.Lease)
	if err != nil {
		return err
	}
	defer hold.release()
	w.s.working.set(w.queueName, true)
	w.hold = hold
	if w.q, err = w.s.openQueue(ctx, w.queueName); err != nil {
		return err
	}
	if w.s.remote { // from here nobody acks what this session may push
		if err := w.ack(work, queue.Ack{}); err != nil {
			return err
		}
	}
	w.win, w.cursor, w.more, w.waiting = newWindow(w.s.opt.Window), "", true, false
	w.arrived, w.results = make(chan error, 1), make(chan pushed, w.limit)
	w.jobs, w.pushers = make(chan job, w.limit), 0
	w.inflight, w.stopped, w.topic, w.target = 0, false, nil, nil
	w.acked, w.failed, w.behind, w.restAt = nil, nil, nil, time.Time{}
	err = w.serve(ctx, work)
	if lost := hold.check(); lost != nil {
		w.s.metrics.leasesLost.Inc()
		return fmt.Errorf("lease lost: %w", lost)
	}
	return err
}

// serve delivers until ctx is done, the lease ends or something fails. What
// changes the queue, and the pushes, run under work: they outlive ctx by the
// time that draining takes, but not the lease.
func (w *worker) serve(ctx, work context.Context) (err error) {
	pushCtx, cancel := context.WithCancel(work)
	defer func() {
		drainErr := w.drain(ctx, work, cancel)
		if err == nil {
			err = drainErr
		}
	}()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(work, func() { stop(context.Cause(work)) })()
	for ctx.Err() == nil {
		if err := w.refresh(ctx); err != nil {
			return err
		}
		if err := w.fill(ctx); err != nil {
			return err
		}
		blocked, err := w.step(work, pushCtx)
		if err != nil {
			return err
		}
		if err := w.flush(work, false); err != nil {
			return err
		}
		if err := w.wait(ctx, work, pushCtx, blocked); err != nil {
			return err
		}
	}
	return nil
}

// refresh reads the topic anew, so that changes of it hold for what waits
// already.
func (w *worker) refresh(ctx context.Context) error {
	topic, err := w.s.topics.Get(ctx, w.tenant, w.name)
	if errors.Is(err, ErrNoSuchTopic) || err == nil && topic.Dest.Queue == "" {
		return errGone
	}
	if err != nil {
		return err
	}
	if topic == w.topic {
		return nil
	}
	target := w.s.targets.of(topic)
	if w.topic != nil && target != w.target {
		w.win.hurry()
	}
	w.topic, w.target = topic, target
	return nil
}

// fill lists entries into the window's room, unless that is too small to be
// worth it.
func (w *worker) fill(ctx context.Context) error {
	room := w.win.room()
	if !w.more || room <= 0 || !w.win.roomy() && !w.win.empty() {
		return nil
	}
	list, more, err := w.q.List(ctx, w.cursor, room)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	w.more, w.found = more, len(list) > 0
	if w.found {
		w.restAt = time.Time{}
	}
	now := time.Now()
	for _, e := range list {
		w.cursor = e.Marker
		it := &item{marker: e.Marker, raw: e.Data, since: e.Enqueued, attempts: e.Attempts}
		if it.entry, err = decodeEntry(e.Data); err != nil {
			// An order of its own: it must not hold up any key.
			it.entry.order = "\x00" + string(e.Marker)
			it.lastErr = errUndecodable.Error()
		} else if e.Attempts > 0 {
			it.notBefore = e.LastTry.Add(w.pause(e.Attempts))
		}
		if it.since.IsZero() { // not by this clock, but by which it is not known
			it.since = it.entry.created
		}
		w.win.add(it, now)
	}
	return nil
}

// limits are the topic's, or the gateway's where it has none.
func (w *worker) limits() (ttl time.Duration, retries int) {
	d, o := &w.topic.Dest, &w.s.opt
	return time.Duration(d.TimeToLive.Or(o.TimeToLive)) * time.Second, int(d.MaxRetries.Or(o.MaxRetries))
}

// pause is the time between an entry's attempts: retry_sleep_duration where
// it is set, else one that grows. To a topic that wants none a short one is
// given: a dead endpoint is not asked in a tight loop.
func (w *worker) pause(attempts int) time.Duration {
	if d := w.topic.Dest.RetrySleep.Or(w.s.opt.RetrySleep); d > 0 {
		return time.Duration(d) * time.Second
	}
	return backoff(attempts-1, w.maxPause())
}

// maxPause bounds pauses that grow.
func (w *worker) maxPause() time.Duration {
	switch d := w.topic.Dest.RetrySleep; {
	case d == 0:
		return min(time.Second, w.s.opt.MaxBackoff)
	case d.Or(w.s.opt.RetrySleep) > 0:
		return min(time.Duration(d.Or(w.s.opt.RetrySleep))*time.Second, w.s.opt.MaxBackoff)
	}
	return w.s.opt.MaxBackoff
}

// verdict is the reason to give an entry up, or "".
func (w *worker) verdict(it *item, now time.Time) string {
	ttl, retries := w.limits()
	switch {
	case it.entry.arn == "":
		return reasonUndecodable
	case ttl > 0 && now.Sub(it.since) > ttl:
		return reasonTTL
	case retries > 0 && it.attempts > retries:
		return reasonRetries
	}
	return ""
}

// step gives up what is over its limits and starts what may go. blocked is a
// time until which the endpoint takes nothing, or zero.
func (w *worker) step(work, pushCtx context.Context) (blocked time.Time, err error) {
	if err := w.expire(work); err != nil {
		return time.Time{}, err
	}
	_, retries := w.limits()
	for w.inflight < w.limit {
		now := time.Now()
		it := w.win.next(now)
		if it == nil {
			return time.Time{}, nil
		}
		if reason := w.verdict(it, now); reason != "" {
			if err := w.bury(work, reason, it); err != nil {
				return time.Time{}, err
			}
			continue
		}
		if err := w.hold.check(); err != nil {
			return time.Time{}, err
		}
		// With a limit on attempts every entry has its own, as in RGW; else a
		// dead endpoint is asked by one entry for all.
		if retries == 0 {
			if ok, pause := w.target.admit(now); !ok {
				w.win.unget(it)
				return now.Add(pause), nil
			}
		}
		w.start(pushCtx, it)
	}
	return time.Time{}, nil
}

// expire gives up entries that grew too old while they could not be sent.
func (w *worker) expire(ctx context.Context) error {
	ttl, _ := w.limits()
	if ttl == 0 || time.Since(w.scanned) < topicPoll/2 {
		return nil
	}
	for {
		now := time.Now()
		old := w.win.takeExpired(func(it *item) bool { return now.Sub(it.since) > ttl }, deadPage)
		if len(old) == 0 {
			w.scanned = now
			return nil
		}
		if err := w.bury(ctx, reasonTTL, old...); err != nil {
			return err
		}
	}
}

// bury makes dead letters of entries that were taken from the window.
func (w *worker) bury(ctx context.Context, reason string, items ...*item) error {
	if err := w.hold.check(); err != nil {
		return err
	}
	letters := make([]deadLetter, len(items))
	for i, it := range items {
		if it.lastErr == "" { // never sent, because the endpoint took nothing
			if err := w.target.health(); err != nil {
				it.lastErr = err.Error()
			}
		}
		letters[i] = deadLetter{Reason: reason, Attempts: it.attempts, LastError: it.lastErr, Queue: w.queueName, Raw: it.raw}
	}
	if err := w.s.dead.bury(ctx, w.topic.Dest.Queue, letters...); err != nil {
		return err
	}
	w.s.fault("notify.dead")
	w.s.metrics.dead.WithLabelValues(topicLabel(w.topic), reason).Add(float64(len(items)))
	w.s.log.Warn("events given up", "queue", w.queueName, "reason", reason, "events", len(items), "err", items[0].lastErr)
	now := time.Now()
	for _, it := range items {
		w.win.finish(it, now)
		w.acked = append(w.acked, it)
	}
	return nil
}

// start has one entry pushed beside the worker, by goroutines that stay until
// the end of the session: a push takes a large stack.
func (w *worker) start(ctx context.Context, it *item) {
	if it.attempts > 0 {
		w.s.metrics.retries.WithLabelValues(w.target.label).Inc()
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
	w.jobs <- job{ctx, it, w.target, w.maxPause()} // likewise
}

func (j *job) push() pushed {
	r := safePush(j.ctx, j.target, j.it)
	if j.ctx.Err() != nil && r.Status == Retry {
		j.target.cancelProbe() // says nothing about the endpoint
	} else {
		j.target.report(r, j.pause)
	}
	return pushed{j.it, r}
}

// safePush makes a failure of a panic.
func safePush(ctx context.Context, t *target, it *item) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			t.s.metrics.workerPanics.Inc()
			r = Result{Retry, fmt.Errorf("pusher panicked: %v", p)}
		}
	}()
	return t.push(ctx, []Event{{Record: it.entry.record, Key: it.entry.order}})[0]
}

// done takes the report of a push.
func (w *worker) done(ctx context.Context, p pushed) error {
	w.inflight--
	now := time.Now()
	it := p.it
	switch {
	case p.result.Status == Acked:
		w.s.fault("notify.pushed")
		w.s.metrics.delivery.WithLabelValues(w.target.label).Observe(now.Sub(it.since).Seconds())
		w.win.finish(it, now)
		w.acked = append(w.acked, it)
		return nil
	case w.stopped:
		w.win.unget(it)
		return nil
	}
	it.attempts++
	it.lastErr = p.result.Err.Error()
	if p.result.Status == Rejected {
		return w.bury(ctx, reasonRejected, it)
	}
	if reason := w.verdict(it, now); reason != "" {
		return w.bury(ctx, reason, it)
	}
	w.s.log.Debug("push failed", "queue", w.queueName, "key", it.entry.order, "attempts", it.attempts, "err", it.lastErr)
	w.failed = append(w.failed, queue.Attempt{Marker: it.marker, Attempts: it.attempts, LastTry: now})
	w.win.retry(it, now.Add(w.pause(it.attempts)), now)
	return nil
}

// flush tells the queue what became of entries: when there is enough to tell,
// or nothing else to do.
func (w *worker) flush(ctx context.Context, all bool) error {
	n := len(w.acked) + len(w.failed)
	single := all || w.inflight == 0 || len(w.behind) > 0 && time.Since(w.since) >= singleDelay
	if n == 0 && (len(w.behind) == 0 || !single) || !single && n < ackBatch && time.Since(w.flushed) < ackDelay {
		return nil
	}
	ack := queue.Ack{UpTo: w.win.cut(), Failed: w.failed}
	if len(w.behind) == 0 {
		w.since = time.Now()
	}
	w.behind = slices.DeleteFunc(append(w.behind, w.acked...), func(it *item) bool { return it.state == itemGone })
	if single {
		for _, it := range w.behind {
			ack.Done = append(ack.Done, it.marker)
		}
		w.behind = nil
	}
	w.acked, w.failed, w.flushed = nil, nil, time.Now()
	if ack.UpTo == "" && len(ack.Done)+len(ack.Failed) == 0 {
		return nil
	}
	return w.ack(ctx, ack)
}

// ack passes the fence along. One that is too old ends the session.
func (w *worker) ack(ctx context.Context, ack queue.Ack) error {
	if err := w.hold.check(); err != nil {
		return err
	}
	ack.Fence = w.hold.lease.Fence()
	err := w.q.Ack(ctx, ack)
	if errors.Is(err, queue.ErrFenced) {
		w.hold.fenced()
	}
	if err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}
