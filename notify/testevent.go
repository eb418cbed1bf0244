package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"herald/store"
)

// Configured tells the endpoints of topics in S3's dialect that rules of a
// bucket were put: they get S3's s3:TestEvent, through the topic's queue where
// it has one. What cannot be told is logged: the rules stand all the same.
func (p *Publisher) Configured(ctx context.Context, b *store.BucketInfo, rules []Rule, requestID, hostID string) {
	var told []string
	for _, r := range rules {
		if slices.Contains(told, r.TopicARN) {
			continue
		}
		told = append(told, r.TopicARN)
		if err := p.s.announce(ctx, b, r.TopicARN, requestID, hostID); err != nil {
			p.s.log.Warn("test event", "topic", r.TopicARN, "bucket", b.Name, "err", err)
		}
	}
}

func (s *Service) announce(ctx context.Context, b *store.BucketInfo, arn, requestID, hostID string) error {
	tenant, name, err := ParseTopicARN(arn)
	if err != nil {
		return err
	}
	topic, err := s.topics.Get(ctx, tenant, name)
	if err != nil || topic.dialect() != dialectAWS || topic.Dest.PushEndpoint == "" {
		return err
	}
	now := time.Now()
	e := entry{
		created: now, order: store.StoreName(b.Tenant, b.Name) + "/", arn: topic.ARN,
		record: testMessage(b.Name, requestID, hostID, now),
	}
	if topic.Queued() && topic.Dest.Queue != "" && s.cfg.EntryFormat == EntriesOwn {
		err := s.requeue(ctx, topic, &e)
		if errors.Is(err, ErrFull) && topic.Arg(ArgWhenFull) != fullReject {
			s.drop(topic, fullDropNew, 1)
			return nil
		}
		return err
	}
	_, err = s.pushOnce(ctx, topic, &e)
	return err
}

// pushOnce sends one entry now, past the queue, and returns the endpoint's
// answer: the error is why there was none that acked it.
func (s *Service) pushOnce(ctx context.Context, topic *Topic, e *entry) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.PushTimeout)
	defer cancel()
	target := s.targets.of(topic)
	r := target.push(ctx, e)[0]
	target.report(r, s.opt.MaxBackoff)
	return r.Status, r.Err
}

// TestResult is the answer to a test event.
type TestResult struct {
	Topic    string  `json:"topic"`    // ARN
	Endpoint string  `json:"endpoint"` // without secrets
	Status   string  `json:"status"`   // "acked", "retry" or "rejected"
	Error    string  `json:"error,omitempty"`
	Seconds  float64 `json:"seconds"`
	Message  string  `json:"message"` // that was sent
}

// TestTopic sends a test event to a topic's endpoint now, past its queue. It is
// a record like any other, of a bucket and key of those names, or in S3's
// dialect an s3:TestEvent. Errors: ErrNoSuchTopic, ErrInvalidEndpoint.
func (s *Service) TestTopic(ctx context.Context, tenant, name, bucket, rule, key string) (TestResult, error) {
	topic, err := s.topics.Get(ctx, tenant, name)
	if err != nil {
		return TestResult{}, err
	}
	if topic.Dest.PushEndpoint == "" {
		return TestResult{}, fmt.Errorf("%w: the topic has no push-endpoint", ErrInvalidEndpoint)
	}
	now := time.Now()
	const request = "test"
	f := facts{typ: ObjectCreatedPut, bucket: bucket, tenant: tenant, key: key, owner: topic.Owner, principal: topic.Owner, requestID: request, hostID: s.cfg.HostID}
	e := entry{created: now, order: f.orderKey(), arn: topic.ARN}
	if topic.dialect() == dialectAWS {
		e.record = testMessage(bucket, request, s.cfg.HostID, now)
	} else {
		e.record = appendShown(nil, &f, s.region, rule, topic.OpaqueData, shown{obj: &store.Info{ETag: emptyETag}, seq: uint64(now.UnixNano()), when: now})
	}
	ev := e.event()
	start := time.Now()
	status, err := s.pushOnce(ctx, topic, &e)
	out := TestResult{
		Topic: topic.ARN, Endpoint: RedactEndpoint(topic.Dest.PushEndpoint), Status: status.String(),
		Seconds: time.Since(start).Seconds(), Message: string(ev.Message()),
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out, nil
}
