package notify

import (
	"cmp"
	"context"
	"errors"

	"herald/store"
)

// Explained tells what one rule of a bucket would do with an event.
type Explained struct {
	Notification string `json:"notification"` // id
	Kind         string `json:"kind"`         // "Topic", "Queue" or "CloudFunction"
	Matched      bool   `json:"matched"`
	Reason       string `json:"reason,omitempty"` // why not
	Topic        string `json:"topic"`            // ARN
	// Delivery is "persistent", "synchronous", or "none" of a topic that is
	// gone or has no endpoint.
	Delivery string `json:"delivery"`
	Dialect  string `json:"dialect,omitempty"`
	Endpoint string `json:"endpoint,omitempty"` // without secrets
	// EndpointState is "ok", or why events wait, if only for another try.
	EndpointState string `json:"endpoint_state,omitempty"`
	WhenFull      string `json:"when_full,omitempty"`
	// Unacknowledged is the attribute for which events count as delivered that
	// nobody has acknowledged; empty: none.
	Unacknowledged string `json:"unacknowledged,omitempty"`
	Queue          string `json:"queue,omitempty"` // the shard that the event goes to
	Entries        int64  `json:"entries"`         // that wait in it
	Bytes          int64  `json:"bytes"`
	Capacity       int64  `json:"capacity,omitempty"` // in bytes
}

// ExplainChange tells for each of a bucket's rules what it would do with an
// event on an object with those attributes.
func (s *Service) ExplainChange(ctx context.Context, b *store.BucketInfo, typ EventType, key string, attrs store.Attrs) ([]Explained, error) {
	rules, err := ParseRules(b.Attrs[AttrNotification])
	if err != nil {
		return nil, err
	}
	out := []Explained{}
	for _, m := range Explain(rules, typ, key, attrs) {
		e := Explained{Notification: m.Rule.ID, Kind: string(m.Rule.Kind), Matched: m.Matched, Reason: m.Reason, Topic: m.Rule.TopicARN, Delivery: "none"}
		if e.Kind == "" {
			e.Kind = "Topic"
		}
		if err := s.explainTopic(ctx, &e, b, key, m.Rule.TopicOwner); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// endpointHealth is nil, or why a topic's events wait.
func (s *Service) endpointHealth(ctx context.Context, topic *Topic) error {
	target := s.targets.peek(topic.ARN)
	if target != nil {
		return errors.Join(target.health(), s.stuck(topic))
	}
	if err := checkEndpoint(s.endpoint(topic)); err != nil {
		return err
	}
	return errors.Join(s.CheckEndpoint(ctx, topic), s.stuck(topic))
}

// lately is nil, or how the latest push failed, be it the first one: health has
// more patience. t may be nil.
func (t *target) lately() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastErr
}

// explainTopic tells of the rule's topic, whose owner was once the one given.
func (s *Service) explainTopic(ctx context.Context, e *Explained, b *store.BucketInfo, key, owner string) error {
	tenant, name, err := ParseTopicARN(e.Topic)
	if err != nil {
		e.EndpointState = err.Error()
		return nil
	}
	topic, err := s.topics.Get(ctx, tenant, name)
	if errors.Is(err, ErrNoSuchTopic) {
		e.EndpointState = "the topic is gone: the rule is passed over"
		return nil
	}
	if err != nil {
		return err
	}
	if !topic.ownedBy(owner) {
		e.EndpointState = "the topic is another owner's than when the notification was put: the rule is passed over"
		return nil
	}
	e.Dialect = topic.dialect()
	if topic.Dest.PushEndpoint == "" {
		e.EndpointState = "the topic has no push-endpoint: nothing is sent"
		return nil
	}
	e.Delivery, e.Endpoint, e.EndpointState = "synchronous", RedactEndpoint(topic.Dest.PushEndpoint), "ok"
	if err := cmp.Or(s.endpointHealth(ctx, topic), s.targets.peek(topic.ARN).lately()); err != nil {
		e.EndpointState = err.Error()
	}
	if !topic.Queued() || topic.Dest.Queue == "" {
		return nil
	}
	e.Delivery, e.WhenFull = "persistent", topic.Arg(ArgWhenFull)
	if e.WhenFull == "" {
		e.WhenFull = fullReject
	}
	e.Unacknowledged = topic.Unacknowledged()
	f := facts{bucket: b.Name, tenant: b.Tenant, key: key}
	e.Queue = ShardName(topic.Dest.Queue, shardOf(f.orderKey(), topic.Dest.Shards))
	st, err := s.queueStats(ctx, e.Queue)
	if err != nil {
		return err
	}
	e.Entries, e.Bytes, e.Capacity = st.Entries, st.Bytes, st.Capacity
	return nil
}
