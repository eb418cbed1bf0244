package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
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
	by     string // who named it
	pusher Pusher
	err    error // why there is no pusher
	aws    bool  // its events are in S3's dialect
	closed atomic.Bool
	used   time.Time // when of returned it last; guarded by targets.mu

	mu       sync.Mutex // guards all below
	failures int        // in a row
	refusals int        // the last of these: about the events
	until    time.Time  // no push before
	probing  bool       // one push is on its way to find out
	lastErr  error
	changed  chan struct{} // closed when pushes may go again
}

// breakAfter failures in a row no more pushes go but for a single probe after
// each pause.
const breakAfter = 5

// refusalPause is the pause between pushes to an endpoint that lives, but has
// refused the last events: others it may take.
const refusalPause = 10 * time.Millisecond

// minBackoff is the first pause.
const minBackoff = 100 * time.Millisecond

// of returns the target of a topic as it is now. One whose endpoint was
// changed is replaced; what is in flight there fails or ends by itself.
func (t *targets) of(topic *Topic) *target {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur := t.by[topic.ARN]
	if cur != nil && cur.url == topic.Dest.PushEndpoint && cur.args == topic.Dest.Args && cur.by == topic.namedBy() {
		cur.used = time.Now()
		return cur
	}
	if cur != nil {
		cur.close()
	}
	next := &target{
		s: t.s, label: topicLabel(topic), url: topic.Dest.PushEndpoint, args: topic.Dest.Args, by: topic.namedBy(),
		changed: make(chan struct{}), aws: topic.dialect() == dialectAWS, used: time.Now(),
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

// keep closes the targets of topics that were gone at a time, and returns their
// labels. One that was used since may be of a newer topic.
func (t *targets) keep(exists map[string]bool, at time.Time) (gone []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for arn, target := range t.by {
		if !exists[arn] && target.used.Before(at) {
			target.close()
			delete(t.by, arn)
			gone = append(gone, target.label)
		}
	}
	return gone
}

func (t *targets) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, target := range t.by {
		target.close()
	}
	t.by = nil
}

func (t *target) close() {
	t.closed.Store(true)
	if t.pusher != nil {
		_ = t.pusher.Close() // connections only
	}
}

func (s *Service) endpoint(topic *Topic) Endpoint {
	return Endpoint{
		URL: topic.Dest.PushEndpoint, Args: topic.Dest.Args, Topic: topic.Name,
		ConnectTimeout: s.opt.ConnectTimeout, Timeout: s.opt.PushTimeout,
		Dial: s.dial(topic), DialName: s.dialName(topic), CleartextSecrets: s.opt.CleartextSecrets,
		ReadFile: s.fileReader(topic),
		shared:   &s.endpoints, room: s.httpRoom,
	}
}

// push sends entries and counts the results.
func (t *target) push(ctx context.Context, entries ...*entry) []Result {
	m := t.s.metrics
	n := float64(len(entries))
	m.pending.Add(n)
	defer m.pending.Sub(n)
	inflight := m.inflight.WithLabelValues(t.label)
	inflight.Add(n)
	defer inflight.Sub(n)
	start := time.Now()
	results := t.send(ctx, entries)
	m.pushSeconds.WithLabelValues(t.label).Observe(time.Since(start).Seconds())
	var of [Rejected + 1]int
	for _, r := range results {
		of[r.Status]++
	}
	for status, n := range of {
		if n > 0 {
			m.pushes.WithLabelValues(t.label, Status(status).String()).Add(float64(n))
		}
	}
	m.pushOK.Add(float64(of[Acked]))
	m.pushFailed.Add(float64(of[Retry] + of[Rejected]))
	return results
}

// send is push without the figures. A panic is a failure.
func (t *target) send(ctx context.Context, entries []*entry) (results []Result) {
	all := func(err error) []Result {
		out := make([]Result, len(entries))
		for i := range out {
			out[i] = Result{Retry, err}
		}
		return out
	}
	if t.pusher == nil {
		return all(t.err)
	}
	defer func() {
		if p := recover(); p != nil {
			t.s.metrics.workerPanics.Inc()
			t.s.log.Error("pusher panicked", "topic", t.label, "panic", p, "stack", string(debug.Stack()))
			results = all(fmt.Errorf("pusher panicked: %v", p))
		}
	}()
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i] = t.event(e)
	}
	return t.pusher.Push(ctx, events)
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
		if r.refused() {
			t.refusals++
		} else {
			t.refusals = 0
		}
		switch {
		case t.refusals >= breakAfter:
			t.until = time.Now().Add(refusalPause)
		case t.failures >= breakAfter:
			t.until = time.Now().Add(backoff(t.failures-breakAfter, limit))
		}
		if later := r.pause(); later > 0 { // as it asks
			t.failures, t.until = max(t.failures, breakAfter), time.Now().Add(later)
		}
	} else {
		t.failures, t.refusals, t.lastErr = 0, 0, nil
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

// dead tells whether the endpoint takes nothing, as far as is known.
func (t *target) dead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil || t.failures >= breakAfter && t.refusals < breakAfter
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
