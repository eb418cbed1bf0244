package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"
)

// worker delivers one queue while it holds the queue's lease. One goroutine
// owns all of its state; pushes run beside it and report back.
type worker struct {
	s            *Service
	tenant, name string // of the topic
	queueName    string
	limit        int // pushes at once, of one event each

	q    queue.Queue
	hold *holding // the queue's lease

	stall *atomic.Int64 // see stalls

	topic  *Topic  // as of the current round
	target *target // its endpoint

	win      *window
	share    shareKind    // what the window counts as
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
		limit: max(1, s.opt.Inflight/max(1, t.Dest.Shards)), stall: s.stalled.of(queueName),
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
	defer w.claim(shareNone)
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
		if err := w.fill(ctx, work); err != nil {
			return err
		}
		w.watch(false)
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
	if topic == w.topic && !w.target.closed.Load() { // by who had an older topic
		return nil
	}
	target := w.s.targets.of(topic)
	if w.topic != nil && target != w.target {
		w.win.hurry()
	}
	w.topic, w.target = topic, target
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
	case it.bad:
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
	for w.inflight < w.atOnce() {
		now := time.Now()
		it, err := w.next(work, now)
		if err != nil || it == nil {
			return time.Time{}, err
		}
		if err := w.hold.check(); err != nil {
			return time.Time{}, err
		}
		// With a limit on attempts every entry has its own, as in RGW; else a
		// dead endpoint is asked by one entry for all.
		if _, retries := w.limits(); retries == 0 {
			if ok, pause := w.target.admit(now); !ok {
				w.win.unget(it)
				return now.Add(pause), nil
			}
		}
		items := []*item{it}
		for most := w.target.batch(); len(items) < most; {
			if it, err = w.next(work, now); err != nil {
				return time.Time{}, err
			}
			if it == nil {
				break
			}
			items = append(items, it)
		}
		w.start(pushCtx, items)
	}
	return time.Time{}, nil
}

// next takes the next entry that is to be sent; what is over its limits is
// given up.
func (w *worker) next(ctx context.Context, now time.Time) (*item, error) {
	for {
		it := w.win.next(now)
		if it == nil {
			return nil, nil
		}
		reason := w.verdict(it, now)
		if reason == "" {
			return it, nil
		}
		if err := w.bury(ctx, reason, it); err != nil {
			return nil, err
		}
	}
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
	w.watch(true)
	now := time.Now()
	for _, it := range items {
		w.win.finish(it, now)
		w.acked = append(w.acked, it)
	}
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
	if single && len(w.behind) > 0 {
		for _, it := range w.behind {
			ack.Done = append(ack.Done, it.marker)
		}
		w.win.drop(w.behind)
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
