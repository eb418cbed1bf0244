package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"herald/queue"
	"herald/store"
)

// Change is what s3api is about to do to one object.
type Change struct {
	Type EventType
	// Also is a second name of the event, or 0: rules that subscribe to both
	// get it twice (RGW, of lifecycle).
	Also      EventType
	Bucket    *store.BucketInfo // its "notification" attribute holds the rules
	Key       string
	VersionID string // of a delete by version; else ""
	Principal string // acting user, "uid" or "tenant$uid"
	RequestID string // as the client sees it in x-amz-request-id
	HostID    string // as in x-amz-id-2; empty: the service's
	// Attrs are the attributes that the object will have, or nil when they
	// are not known yet (deletes; copies before the source is open).
	Attrs store.Attrs
	// TraceParent and TraceState are the request's W3C trace context: those of
	// a TraceParent that is not well-formed are left out.
	TraceParent, TraceState string
	// SourceIP is the client's address, which S3's dialect shows.
	SourceIP string
	// Begin is called with the op of the change, before room for its events is made
	// on a server, so that what else takes a round trip is done beside that. Do may
	// use another op. It must not block; nil: there is nothing to do.
	Begin func(op store.OpID)
}

// Publisher is all of notifications that s3api sees. It may be used
// concurrently.
//
//	pending, err := pub.Reserve(ctx, change)      // ErrFull: answer 503 SlowDown, nothing was touched
//	defer pending.Abort()                         // does nothing after Do
//	... receive the body ...
//	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
//		return w.Commit(ctx, store.CommitOptions{Op: op, ...})
//	})
type Publisher struct{ s *Service }

// CommitFunc carries a change out. op is zero when nobody will ask for the
// outcome. The error is that of the store; ErrUnknownOutcome must not be
// hidden.
type CommitFunc func(ctx context.Context, op store.OpID) (store.Outcome, error)

// Pending is a change between Reserve and its end. It is used by one
// goroutine.
type Pending struct {
	s     *Service
	facts facts
	order string      // facts.orderKey, once it was asked for
	attrs store.Attrs // as in Change
	begin func(op store.OpID)
	held  []*held
	first [1]*held // what held lies in, usually
	syncs []syncPush
	done  bool
}

// Reserve matches the bucket's rules against a change and makes room for its
// events in all persistent topics that want it: in all of them, or in none.
// It holds the room until Do or Abort, however long the body takes.
// Errors: ErrFull.
func (p *Publisher) Reserve(ctx context.Context, c Change) (*Pending, error) {
	s := p.s
	pending := &Pending{s: s, attrs: c.Attrs, begin: c.Begin}
	rules, err := s.rules.Of(c.Bucket, AttrNotification, decodeRules)
	if err != nil {
		return nil, fmt.Errorf("reserve %s/%s: %w", c.Bucket.Name, c.Key, err)
	}
	var first [1]group
	groups := matchNames(first[:0], rules, &c)
	pending.facts = facts{
		typ: c.Type, bucket: c.Bucket.Name, tenant: c.Bucket.Tenant, owner: c.Bucket.Owner, id: c.Bucket.ID,
		key: c.Key, versionID: c.VersionID, principal: c.Principal, requestID: c.RequestID, hostID: c.HostID,
		versioned: c.Bucket.Versioning != store.Unversioned,
	}
	if c.HostID == "" {
		pending.facts.hostID = s.cfg.HostID
	}
	pending.facts.origin = c.origin()
	if len(groups) == 0 {
		return pending, nil
	}
	if err := pending.reserve(ctx, groups); err != nil {
		return nil, fmt.Errorf("reserve %s/%s: %w", c.Bucket.Name, c.Key, err)
	}
	return pending, nil
}

// adopt takes the facts of the change, under the event's name in this intent.
func (in *intent) adopt(f *facts) {
	typ := in.typ
	in.facts = *f
	in.typ = typ
}

// orderKey is facts.orderKey.
func (p *Pending) orderKey() string {
	if p.order == "" {
		p.order = p.facts.orderKey()
	}
	return p.order
}

// reserve sorts the topics into persistent and synchronous ones, and makes
// the reservations.
func (p *Pending) reserve(ctx context.Context, groups []group) error {
	queued := p.first[:0]
	for i := range groups {
		g := &groups[i]
		p.s.metrics.triggered.Add(float64(len(g.rules)))
		topic, _, err := p.s.topics.load(ctx, g.record)
		if errors.Is(err, ErrNoSuchTopic) {
			p.s.metrics.skipped.WithLabelValues("no_such_topic").Inc() // RGW: silently
			p.s.metrics.missingConf.Add(float64(len(g.rules)))
			continue
		}
		if err != nil {
			return err
		}
		if !topic.ownedBy(g.owner) { // or a name that became free would bring a stranger what the buckets of others tell
			p.s.metrics.skipped.WithLabelValues("another_owner").Inc()
			p.s.metrics.missingConf.Add(float64(len(g.rules)))
			continue
		}
		switch {
		case topic.Queued() && topic.Dest.Queue != "":
			shard := shardOf(p.orderKey(), topic.Dest.Shards)
			h := p.newHeld(g, topic)
			h.topic, h.record, h.name = topic, g.record, ShardName(topic.Dest.Queue, shard)
			queued = append(queued, h)
		case topic.Dest.PushEndpoint != "":
			p.syncs = append(p.syncs, syncPush{p.intent(g, topic), topic})
		}
	}
	if len(queued) == 0 {
		return nil
	}
	if err := p.s.Recover(ctx); err != nil {
		return err
	}
	return p.hold(ctx, queued)
}

// intent is what a topic's part of the change is about, but for the facts.
func (p *Pending) intent(g *group, topic *Topic) intent {
	in := intent{store: p.s.cfg.StoreID, maker: p.s.maker(), arn: topic.ARN, rules: g.rules}
	in.typ = g.typ
	return in
}

// newHeld makes a reservation's intent, and what points to it, of one piece.
func (p *Pending) newHeld(g *group, topic *Topic) *held {
	one := &struct {
		held
		intent
	}{intent: p.intent(g, topic)}
	one.in = &one.intent
	return &one.held
}

// hold reserves in all of the queues, under a new op id, or in none.
func (p *Pending) hold(ctx context.Context, queued []*held) error {
	p.facts.op = store.NewOpID()
	var names []string
	if len(queued) > 1 {
		for _, h := range queued {
			names = append(names, h.name)
		}
	}
	for _, h := range queued {
		h.in.adopt(&p.facts)
		h.in.queues = names
		h.in.fit(h.topic)
		h.code = h.in.encode()
	}
	if p.begin != nil && p.s.remote {
		p.begin(p.facts.op)
		p.begin = nil
	}
	err := p.reserveAll(ctx, queued)
	if err != nil {
		p.abortAll()
		return err
	}
	if len(p.held) == 0 {
		p.facts.op = store.OpID{} // nobody will ask
	}
	p.s.fault("notify.reserved")
	return nil
}

// reserveAll makes the reservations: one after the other, or all at once where
// each takes a round trip. After an error some may stand.
func (p *Pending) reserveAll(ctx context.Context, queued []*held) error {
	if len(queued) == 1 {
		p.reserveFor(ctx, queued[0])
	} else {
		p.reserveSome(ctx, queued)
	}
	var first error
	p.held = queued[:0]
	for _, h := range queued {
		switch {
		case h.err == nil && h.queue != nil:
			p.held = append(p.held, h)
		case errors.Is(h.err, ErrNoSuchTopic):
			p.s.metrics.skipped.WithLabelValues("topic_deleted").Inc()
		case errors.Is(h.err, errDropped):
		default:
			first = cmp.Or(first, h.err)
		}
	}
	return first
}

// reserveSome is reserveFor each, until one fails.
func (p *Pending) reserveSome(ctx context.Context, queued []*held) {
	var failed atomic.Bool
	parallel(len(queued), p.s.atOnce(), func(i int) {
		if !failed.Load() && !p.reserveFor(ctx, queued[i]) {
			failed.Store(true)
		}
	})
}

// reserveFor makes one reservation. It is false, and h.err says why, when the
// change must not go on.
func (p *Pending) reserveFor(ctx context.Context, h *held) bool {
	h.err = p.s.reserveOne(ctx, h, h.in.estimate(p.s.region, h.topic, p.attrs, p.attrs != nil))
	if h.err == nil {
		p.s.live.add(h)
	}
	return h.err == nil || errors.Is(h.err, ErrNoSuchTopic) || errors.Is(h.err, errDropped)
}

// maxRepairs is how often the queues of a topic are made again before it is
// given up to find them.
const maxRepairs = 3

// reserveOne makes a reservation. Errors: ErrFull, ErrNoSuchTopic, errDropped.
func (s *Service) reserveOne(ctx context.Context, h *held, size int64) error {
	for try := 0; ; try++ {
		err := s.reserveRoom(ctx, h, size)
		if !errors.Is(err, queue.ErrFull) {
			return err
		}
		q, err := s.openQueue(ctx, h.name)
		if err != nil {
			return err
		}
		if err := s.makeRoom(s.reserveContext(ctx), h.topic, q, size, len(h.in.rules), try); err != nil {
			if errors.Is(err, ErrFull) {
				s.metrics.full.WithLabelValues(topicLabel(h.topic)).Inc()
			}
			return err
		}
	}
}

// reserveRoom makes a reservation where there is room. Errors: queue.ErrFull,
// ErrNoSuchTopic.
func (s *Service) reserveRoom(ctx context.Context, h *held, size int64) error {
	for try := 0; ; try++ {
		q, err := s.openQueue(ctx, h.name)
		if err == nil {
			h.id, err = q.Reserve(s.reserveContext(ctx), h.code, size, len(h.in.rules))
		}
		switch {
		case err == nil:
			h.queue = q
			return nil
		case !errors.Is(err, queue.ErrNoSuchQueue) || try == maxRepairs:
			return err
		}
		// A handle that was kept is the likely reason.
		if _, kept := s.handles.LoadAndDelete(h.name); kept && try == 0 {
			continue
		}
		if err := s.topics.repair(ctx, h.topic.Tenant(), h.topic.Name); err != nil {
			return err
		}
	}
}

// reserveContext is the request's, or where the queues are on a server one that
// ends soon, whether or not the client goes.
func (s *Service) reserveContext(ctx context.Context) context.Context {
	if !s.remote {
		return ctx
	}
	return s.reserveBy.get(context.Background(), reserveTimeout)
}

// Do runs the commit without the request's cancellation and under a guard per
// bucket and key, so that entries enter their queues in the order of the
// changes; it then commits the entries, and pushes to synchronous topics with
// a deadline after the guard was released. Where queues are on a server the
// entries are committed after Do returned, still under the guard: what was
// reserved is durable. Its error is that of commit: a
// failed push does not fail the request. When the outcome is unknown the
// reservations are left to the resolver, and to the next change of the key: it
// gives ErrFull while they cannot be ended. A reservation that was lost
// meanwhile (the process slept too long) is made again before commit, which may
// give ErrFull as well.
func (p *Pending) Do(ctx context.Context, commit CommitFunc) (store.Outcome, error) {
	if p.done {
		return store.Outcome{}, errors.New("notify: Pending used twice")
	}
	p.done = true
	// From here the client cannot split what belongs together.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.s.opt.CommitTimeout)
	defer cancel()
	out, err := p.commit(ctx, commit)
	if err != nil || !out.Changed {
		return out, err
	}
	if len(p.syncs) > 0 {
		p.pushSync(ctx, &out)
	}
	return out, nil
}

// commit is the guarded part of Do.
func (p *Pending) commit(ctx context.Context, commit CommitFunc) (store.Outcome, error) {
	end := &ending{s: p.s}
	if len(p.held) > 0 || p.s.streams.wants(&p.facts) {
		var err error
		if end.lock, err = p.s.lockKey(ctx, p.orderKey()); err != nil {
			p.abortAll()
			return store.Outcome{}, err
		}
		end.locked = true
	}
	end.held, p.held = p.held, nil
	defer func() { // also when commit panics
		if end != nil {
			end.close()
		}
	}()
	if err := p.ready(ctx, end); err != nil {
		end.abort()
		return store.Outcome{}, err
	}
	end.op = openOp{ref: p.facts.ref(), held: end.held}
	end.left = &end.op
	out, err := commit(ctx, p.facts.op)
	switch {
	case errors.Is(err, store.ErrUnknownOutcome):
		p.s.log.Error("outcome unknown, left to the resolver", "bucket", p.facts.bucket, "key", p.facts.key, "err", err)
		return out, err
	case err != nil:
		end.abort()
		return out, err
	case !out.Changed && !p.s.mustWait(&out):
		end.abort()
		p.forget(ctx)
		return out, nil
	}
	p.s.fault("notify.committed")
	if out.Changed && p.s.streams.wants(&p.facts) {
		p.s.streams.publish(&p.facts, &out)
	}
	end.left.outcome, end.left.known = out, true
	if len(end.held) > 0 && p.s.mustWait(&out) {
		return out, nil // a late one from now on
	}
	if p.s.remote && len(end.held) > 0 && end.behind() {
		end = nil
		return out, nil
	}
	end.enqueue(context.Background())
	return out, nil
}

// ready is what has to be true at the point of no return: that events of
// earlier changes of the key are in their queues, and that the reservations
// stand. Errors: ErrFull.
func (p *Pending) ready(ctx context.Context, end *ending) error {
	if len(end.held) == 0 {
		return nil
	}
	if err := p.s.catchUp(ctx, p.orderKey()); err != nil {
		return err
	}
	return p.ensure(ctx, end)
}

// ensure makes sure that the reservations still stand, before the point of no
// return. If one was lost its op may have been barred: all are made anew,
// under another op.
func (p *Pending) ensure(ctx context.Context, end *ending) error {
	intact := true
	for _, h := range end.held {
		if p.s.live.fresh(h, p.s.opt.StaleAge*2/3) {
			continue
		}
		if err := p.s.live.renew(ctx, h); err != nil {
			p.s.log.Warn("reservation lost, made again", "queue", h.name, "err", err)
			intact = false
		}
	}
	if intact {
		return nil
	}
	var again []*held
	for _, h := range end.held {
		again = append(again, &held{in: h.in, topic: h.topic, record: h.record, name: h.name})
	}
	end.abort()
	err := p.hold(ctx, again)
	end.held, p.held = p.held, nil
	return err
}

// forget tells the store that nobody will ask for the op again.
func (p *Pending) forget(ctx context.Context) {
	if p.facts.op.IsZero() {
		return
	}
	p.s.forget(ctx, p.facts.ref())
}

// Abort gives the reserved room back. After Do it does nothing.
func (p *Pending) Abort() {
	if p.done {
		return
	}
	p.done = true
	p.abortAll()
}

// abortAll ends all reservations of an op that did not happen.
func (p *Pending) abortAll() {
	p.s.abort(p.held)
	p.held = nil
}
