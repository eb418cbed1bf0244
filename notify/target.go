package notify

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// targets are the endpoints in use, one per topic, so that a dead one delays
// nothing but its own topic.
type targets struct {
	s  *Service
	mu sync.Mutex // guards by
	by map[string]*target
}

// target is a topic's endpoint: its pusher, and what is known of its health.
type target struct {
	s      *Service
	label  string // of the topic, in metrics
	url    string
	args   string
	pusher Pusher
	err    error // why there is no pusher

	mu       sync.Mutex // guards all below
	failures int        // in a row
	until    time.Time  // no push before
	probing  bool       // one push is on its way to find out
	lastErr  error
	changed  chan struct{} // closed when pushes may go again
}

// breakAfter failures in a row no more pushes go but for a single probe after
// each pause.
const breakAfter = 5

// minBackoff is the first pause.
const minBackoff = 100 * time.Millisecond

// of returns the target of a topic as it is now. One whose endpoint was
// changed is replaced; what is in flight there fails or ends by itself.
func (t *targets) of(topic *Topic) *target {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur := t.by[topic.ARN]
	if cur != nil && cur.url == topic.Dest.PushEndpoint && cur.args == topic.Dest.Args {
		return cur
	}
	if cur != nil {
		cur.close()
	}
	next := &target{
		s: t.s, label: topicLabel(topic), url: topic.Dest.PushEndpoint, args: topic.Dest.Args,
		changed: make(chan struct{}),
	}
	next.pusher, next.err = t.s.open(t.s.endpoint(topic))
	if t.by == nil {
		t.by = make(map[string]*target)
	}
	t.by[topic.ARN] = next
	return next
}

// peek returns the target if it is in use.
func (t *targets) peek(arn string) *target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[arn]
}

// keep closes the targets of topics that are gone.
func (t *targets) keep(exists map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for arn, target := range t.by {
		if !exists[arn] {
			target.close()
			delete(t.by, arn)
		}
	}
}

func (t *targets) closeAll() { t.keep(nil) }

func (t *target) close() {
	if t.pusher != nil {
		_ = t.pusher.Close() // connections only
	}
}

func (s *Service) endpoint(topic *Topic) Endpoint {
	return Endpoint{
		URL: topic.Dest.PushEndpoint, Args: topic.Dest.Args, Topic: topic.Name,
		ConnectTimeout: s.opt.ConnectTimeout, Timeout: s.opt.PushTimeout,
	}
}

// push sends events and counts the results.
func (t *target) push(ctx context.Context, events []Event) []Result {
	m := t.s.metrics
	m.pending.Add(float64(len(events)))
	defer m.pending.Sub(float64(len(events)))
	start := time.Now()
	var results []Result
	if t.pusher == nil {
		results = make([]Result, len(events))
		for i := range results {
			results[i] = Result{Retry, t.err}
		}
	} else {
		results = t.pusher.Push(ctx, events)
	}
	m.pushSeconds.WithLabelValues(t.label).Observe(time.Since(start).Seconds())
	for _, r := range results {
		m.pushes.WithLabelValues(t.label, r.Status.String()).Inc()
		if r.Status == Acked {
			m.pushOK.Inc()
		} else {
			m.pushFailed.Inc()
		}
	}
	return results
}

// admit asks whether a push may go now. If not, wait is the pause until it is
// worth asking again; changed may come earlier.
func (t *target) admit(now time.Time) (ok bool, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failures < breakAfter:
		return true, 0
	case now.Before(t.until):
		return false, t.until.Sub(now)
	case t.probing:
		return false, time.Second // its end is told by changed
	}
	t.probing = true
	return true, 0
}

// wake is closed when a refusal of admit is over.
func (t *target) wake() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// report tells how a push went. limit is the longest pause.
func (t *target) report(r Result, limit time.Duration) {
	t.mu.Lock()
	before := t.failures
	t.probing = false
	if r.Status == Retry {
		t.failures++
		t.lastErr = r.Err
		if t.failures >= breakAfter {
			t.until = time.Now().Add(backoff(t.failures-breakAfter, limit))
		}
	} else {
		t.failures, t.lastErr = 0, nil
	}
	after := t.failures
	if before >= breakAfter {
		close(t.changed)
		t.changed = make(chan struct{})
	}
	t.mu.Unlock()
	switch {
	case after == breakAfter:
		t.s.log.Warn("endpoint fails", "topic", t.label, "failures", after, "err", r.Err)
	case before >= breakAfter && after == 0:
		t.s.log.Info("endpoint is well again", "topic", t.label, "failures", before)
	}
}

// trust lets pushes go at once: somebody says that the endpoint is well again.
func (t *target) trust() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures >= breakAfter {
		t.failures = breakAfter - 1 // one more failure, and it is left alone again
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// cancelProbe gives back an admission that was not used.
func (t *target) cancelProbe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.probing {
		t.probing = false
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// health is nil, or why the endpoint is not well.
func (t *target) health() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if t.failures >= breakAfter {
		return t.lastErr
	}
	return nil
}

// backoff is the pause after n+1 failures: it doubles up to limit, with jitter
// of half of it.
func backoff(n int, limit time.Duration) time.Duration {
	d := limit
	if n < 20 {
		d = min(minBackoff<<n, limit)
	}
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d/2+1)
}
