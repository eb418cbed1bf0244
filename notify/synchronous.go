package notify

import (
	"context"
	"errors"
	"sync"

	"herald/store"
)

// syncPush is a topic that is pushed to within the request.
type syncPush struct {
	in    intent
	topic *Topic
}

// pushSync pushes to all synchronous topics at once, and waits for them.
func (p *Pending) pushSync(ctx context.Context, out *store.Outcome) {
	var wg sync.WaitGroup
	for i := range p.syncs {
		push := &p.syncs[i]
		push.in.adopt(&p.facts)
		push.in.fit(push.topic)
		wg.Go(func() { p.s.pushNow(ctx, push, out) })
	}
	wg.Wait()
}

// pushNow is one attempt, with a deadline, to where the topic points now; when a
// change of the topic ended it, there is another one, to where it points then.
// Failure is counted and logged.
func (s *Service) pushNow(ctx context.Context, push *syncPush, out *store.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.PushTimeout)
	defer cancel()
	var entries []*entry
	for try := range 2 {
		switch topic, err := s.topics.Get(ctx, push.topic.Tenant(), push.topic.Name); {
		case errors.Is(err, ErrNoSuchTopic), err == nil && topic.Dest.PushEndpoint == "":
			s.metrics.skipped.WithLabelValues("topic_deleted").Inc()
			return
		case err == nil:
			push.topic = topic
		}
		target := s.targets.of(push.topic)
		if try == 0 {
			entries = s.syncEntries(push, out)
		}
		if len(entries) > 0 {
			entries = s.pushSome(ctx, target, push, entries, try == 0)
		}
		if len(entries) == 0 {
			return
		}
	}
}

// syncEntries are what a synchronous topic is sent.
func (s *Service) syncEntries(push *syncPush, out *store.Outcome) []*entry {
	var entries []*entry
	for _, data := range push.in.entries(s.region, push.topic, out) {
		e, err := decodeEntry(data)
		if err != nil {
			s.log.Error("synchronous push", "topic", push.topic.ARN, "err", err) // cannot be: it is our own
			continue
		}
		entries = append(entries, &e)
	}
	return entries
}

// pushSome pushes entries and returns, where more tries are left, those that
// failed since the target is no longer the topic's.
func (s *Service) pushSome(ctx context.Context, target *target, push *syncPush, entries []*entry, more bool) (again []*entry) {
	for i, r := range target.push(ctx, entries...) {
		if r.Status == Retry && more && target.closed.Load() {
			again = append(again, entries[i])
			continue
		}
		target.report(r, s.opt.MaxBackoff) // for its health; the next is sent all the same
		if r.Status != Acked {
			s.log.Warn("synchronous push failed", "topic", push.topic.ARN, "bucket", push.in.bucket, "key", push.in.key, "err", r.Err)
		}
	}
	return again
}
