package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herald/queue"

	"github.com/prometheus/client_golang/prometheus"
)

// maxListeners is how many streams of live events a gateway keeps open,
// maxListenersOfOne how many of them for one user.
const (
	maxListeners      = 256
	maxListenersOfOne = 64
)

// The errors of Listen, and of LiveEvent.Err.
var (
	// ErrTooManyListeners: the gateway has no room for another.
	ErrTooManyListeners = errors.New("too many listeners")
	// ErrEventGone: the event to resume from is not in the log (any more), so
	// that it cannot be told what came after it.
	ErrEventGone = errors.New("the event to resume from is no longer known")
	// ErrListenerSlow: the listener fell so far behind that events which it had
	// not read were removed.
	ErrListenerSlow = errors.New("the listener was too slow, and missed events")
)

// ListenRequest selects live events.
type ListenRequest struct {
	Tenant, Bucket string   // Bucket empty: all buckets
	BucketID       string   // when set: of this bucket, not of another that had its name
	Owners         []string // when set: of the buckets of these
	Prefix, Suffix string
	Events         EventType // 0: all
	By             string    // who listens, and may have a part of the streams only; empty: does not count
	// Resume is the ID of the last event that was seen; empty: from now on.
	Resume string
}

func (r *ListenRequest) match(e *logEntry) bool {
	return (r.Bucket == "" || r.Bucket == e.Bucket && r.Tenant == e.Tenant) &&
		(r.BucketID == "" || r.BucketID == e.BucketID) && (len(r.Owners) == 0 || slices.Contains(r.Owners, e.Owner)) &&
		(r.Events == 0 || uint64(r.Events)&e.Type != 0) &&
		strings.HasPrefix(string(e.Key), r.Prefix) && strings.HasSuffix(string(e.Key), r.Suffix)
}

// LiveEvent is what a listener gets: a change, or, when Record is nil, news of
// the stream.
type LiveEvent struct {
	// ID is the place in the stream, to resume from.
	ID string
	// Bucket is the store's name of the bucket.
	Bucket, Key string
	// Record is the record's JSON, with an empty configurationId.
	Record []byte
	// Notice tells that events may be missing here.
	Notice string
	// Err ends the stream: ErrListenerSlow, or what failed.
	Err error
}

// streams is the live events: a log that is written only while somebody
// listens, and those who read it.
type streams struct {
	s        *Service
	wanted   atomic.Pointer[wantedSet]
	written  atomic.Bool // there may be a log
	wake     chan struct{}
	readers  atomic.Int32
	trouble  occasional
	changing sync.Mutex         // held while wanted is changed
	lost     prometheus.Counter // entries without room in memory

	mu   sync.Mutex // guards all below
	buf  []*logEntry
	size int            // of buf, in bytes
	by   map[string]int // streams by user
	run  string         // names this process's entries in the log, since somebody listens
	n    uint64         // the number of the last of them
}

func newStreams(s *Service) *streams {
	t := &streams{s: s, wake: make(chan struct{}, 1), by: map[string]int{}}
	t.lost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "herald_listen_lost_total", Help: "Live events that were left out, as too many waited to be written to their log.",
	})
	t.written.Store(true)
	if err := t.readWanted(context.Background()); err != nil { // it is read again soon
		s.log.Warn("look who listens to events", "err", err)
	}
	return t
}

// newRun names the entries anew: nobody knows where the numbers were.
func (t *streams) newRun() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.run, t.n = rand.Text()[:13], 0
}

func (t *streams) ownRun() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run
}

// register adds the figures of live events to a registry.
func (t *streams) register(r prometheus.Registerer) error {
	listeners := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "herald_listeners", Help: "Open streams of live events."},
		func() float64 { return float64(t.readers.Load()) })
	return errors.Join(r.Register(t.lost), r.Register(listeners))
}

// Listen returns the changes from now on that match, or from the one after
// req.Resume, those made through other gateways of the store as well, until ctx
// is done or a LiveEvent with Err came, when the channel is closed. Changes of
// one key by one gateway come in their order. What a gateway had not written to
// the log when it died is missing; a Notice says so.
// Errors: ErrTooManyListeners, ErrEventGone.
func (s *Service) Listen(ctx context.Context, req ListenRequest) (<-chan LiveEvent, error) {
	t := s.streams
	if !t.enter(req.By) {
		return nil, ErrTooManyListeners
	}
	c := &cursor{streams: t, req: req, out: make(chan LiveEvent, 16), runs: map[string]*liveRun{}}
	if err := c.begin(ctx); err != nil {
		t.leave(req.By)
		return nil, err
	}
	go func() { // ends with ctx
		defer t.leave(req.By)
		defer close(c.out)
		c.follow(ctx)
	}()
	return c.out, nil
}

// enter makes room for a user's stream, if there is some.
func (t *streams) enter(user string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers.Load() >= maxListeners || user != "" && t.by[user] >= maxListenersOfOne {
		return false
	}
	t.readers.Add(1)
	if user != "" {
		t.by[user]++
	}
	return true
}

// leave undoes enter.
func (t *streams) leave(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers.Add(-1)
	if t.by[user]--; t.by[user] <= 0 {
		delete(t.by, user)
	}
}

// cursor is one listener's place in the log.
type cursor struct {
	*streams
	req    ListenRequest
	out    chan LiveEvent
	runs   map[string]*liveRun
	after  queue.Marker
	place  string // ID of the entry there
	told   string // the last place that the listener knows
	toldAt time.Time
	asked  time.Time // when the wish was last renewed
}

// liveRun is what is known of a gateway that writes the log.
type liveRun struct {
	n    uint64
	seen time.Time
}

// wish is whose events the listener needs in the log.
func (c *cursor) wish() string {
	if c.req.Bucket == "" {
		return ""
	}
	f := facts{tenant: c.req.Tenant, bucket: c.req.Bucket}
	return f.storeName()
}

// begin finds the listener's place. All that happens afterwards is in the log.
func (c *cursor) begin(ctx context.Context) error {
	if err := c.want(ctx, c.wish()); err != nil {
		return err
	}
	c.asked, c.toldAt = time.Now(), time.Now()
	for {
		entries, more, err := c.page(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		for i := range entries {
			c.step(&entries[i])
			if c.req.Resume != "" && c.place == c.req.Resume {
				c.told = c.place
				return nil
			}
		}
		if more {
			continue
		}
		if c.req.Resume != "" {
			return ErrEventGone
		}
		c.forgetDead(nil)
		return nil
	}
}

// page reads on. A log that there is not (yet) is empty.
func (c *cursor) page(ctx context.Context) ([]queue.Entry, bool, error) {
	q, err := c.s.cfg.Queues.Open(ctx, c.logName())
	if err == nil {
		var entries []queue.Entry
		var more bool
		if entries, more, err = q.List(ctx, c.after, streamPage); err == nil {
			return entries, more, nil
		}
	}
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil, false, nil
	}
	return nil, false, err
}

// step takes note of an entry, and returns it if it is new. missed: entries
// before it are not there.
func (c *cursor) step(q *queue.Entry) (e *logEntry, missed bool) {
	c.after = q.Marker
	e, err := decodeLogEntry(q.Data)
	if err != nil {
		return nil, true // of another version
	}
	r := c.runs[e.Run]
	switch {
	case r == nil:
		r = &liveRun{}
		c.runs[e.Run] = r
		missed = e.N != 1
	case e.N <= r.n:
		return nil, false // written twice: an answer was lost
	default:
		missed = e.N != r.n+1
	}
	r.n, r.seen = e.N, q.Enqueued
	if e.Kind == kindEnd {
		delete(c.runs, e.Run)
	}
	c.place = e.id()
	return e, missed
}

// follow reads until ctx is done or the stream has to end.
func (c *cursor) follow(ctx context.Context) {
	for n := 0; ctx.Err() == nil; {
		entries, more, err := c.page(ctx)
		switch {
		case errors.Is(err, queue.ErrNoSuchMarker):
			c.send(ctx, LiveEvent{ID: c.told, Err: ErrListenerSlow})
			return
		case err != nil:
			n++
			if _, ok := c.trouble.say(); ok && ctx.Err() == nil {
				c.s.log.Warn("read live events", "err", err)
			}
			_ = sleep(ctx, backoff(n, time.Second)) // its end is seen above
			continue
		}
		n = 0
		if !c.pass(ctx, entries) {
			return
		}
		c.renew(ctx)
		if !more {
			c.forgetDead(func(run string) {
				c.send(ctx, LiveEvent{ID: c.place, Notice: "a gateway is gone (" + run + "): its last events may be missing"})
			})
			c.tell(ctx)
			c.await(ctx)
		}
	}
}

// pass hands on what matches. It is false when the stream has ended.
func (c *cursor) pass(ctx context.Context, entries []queue.Entry) bool {
	for i := range entries {
		e, missed := c.step(&entries[i])
		if missed {
			c.send(ctx, LiveEvent{ID: c.told, Err: ErrListenerSlow})
			return false
		}
		if e == nil || e.Kind != "" || !c.req.match(e) {
			continue
		}
		f := facts{tenant: e.Tenant, bucket: e.Bucket}
		if !c.send(ctx, LiveEvent{ID: e.id(), Bucket: f.storeName(), Key: string(e.Key), Record: e.Record}) {
			return false
		}
	}
	return true
}

func (c *cursor) send(ctx context.Context, e LiveEvent) bool {
	select {
	case c.out <- e:
		c.told, c.toldAt = e.ID, time.Now()
		return true
	case <-ctx.Done():
		return false
	}
}

// tell gives the listener its place now and then, also when nothing happens
// that it waits for: what it knows must not grow too old to resume from.
func (c *cursor) tell(ctx context.Context) {
	if c.place != c.told && (c.told == "" || time.Since(c.toldAt) > c.s.opt.ListenKeep/8) {
		c.send(ctx, LiveEvent{ID: c.place})
	}
}

// renew keeps the wish alive.
func (c *cursor) renew(ctx context.Context) {
	if time.Since(c.asked) < c.s.opt.ListenKeep/8 {
		return
	}
	if err := c.want(ctx, c.wish()); err != nil {
		if _, ok := c.trouble.say(); ok && ctx.Err() == nil {
			c.s.log.Warn("go on listening", "err", err)
		}
		return
	}
	c.asked = time.Now()
}

// forgetDead tells of gateways that show no more that they live. At the end of
// the log only.
func (c *cursor) forgetDead(tell func(run string)) {
	own := c.ownRun()
	for name, r := range c.runs {
		if name != own && (c.s.alone || time.Since(r.seen) > streamDead) {
			delete(c.runs, name)
			if tell != nil {
				tell(name)
			}
		}
	}
}

// await returns when there may be more, at the latest after a second.
func (c *cursor) await(ctx context.Context) {
	const limit, poll = time.Second, 100 * time.Millisecond
	q, err := c.s.cfg.Queues.Open(ctx, c.logName())
	w, ok := q.(queue.Waiter)
	if err != nil || !ok {
		_ = sleep(ctx, poll) // its end is seen by the caller
		return
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := w.Wait(wait, c.after); err != nil && wait.Err() == nil {
		_ = sleep(ctx, poll)
	}
}

// ParseStreamID tells whether s can be the ID of an event of a stream.
func ParseStreamID(s string) bool {
	run, n, ok := strings.Cut(s, "-")
	if !ok || run == "" || len(s) > 64 {
		return false
	}
	_, err := strconv.ParseUint(n, 10, 64)
	return err == nil
}
