package notify

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"herald/queue"
)

// defaultDump is how many entries Dump and DeadLetters give unless told.
const defaultDump = 1000

// TopicStats are a topic's figures, summed over its queues. The JSON form is
// that inside radosgw-admin's "Topic Stats".
type TopicStats struct {
	Reservations int64
	Size         int64 // bytes of entries
	Entries      int64
	Oldest       time.Time `json:"-"` // when the oldest entry came; zero when empty
}

func (t *TopicStats) add(st queue.Stats) {
	t.Reservations += st.Reservations
	t.Size += st.Bytes
	t.Entries += st.Entries
	if !st.Oldest.IsZero() && (t.Oldest.IsZero() || st.Oldest.Before(t.Oldest)) {
		t.Oldest = st.Oldest
	}
}

func (t *TopicStats) age() time.Duration {
	if t.Oldest.IsZero() {
		return 0
	}
	return max(time.Since(t.Oldest), 0)
}

func (s *Service) queueStats(ctx context.Context, name string) (queue.Stats, error) {
	q, err := s.cfg.Queues.Open(ctx, name)
	if err != nil {
		return queue.Stats{}, err
	}
	return q.Stats(ctx)
}

// TopicStats returns a topic's figures; zero for one without queues.
// Errors: ErrNoSuchTopic.
func (s *Service) TopicStats(ctx context.Context, tenant, name string) (TopicStats, error) {
	var sum TopicStats
	topic, err := s.topics.Get(ctx, tenant, name)
	if err != nil || topic.Dest.Queue == "" {
		return sum, err
	}
	for i := range topic.Dest.Shards {
		st, err := s.queueStats(ctx, ShardName(topic.Dest.Queue, i))
		if errors.Is(err, queue.ErrNoSuchQueue) {
			continue
		}
		if err != nil {
			return sum, err
		}
		sum.add(st)
	}
	return sum, nil
}

// DumpEntry is one waiting entry, as `radosgw-admin topic dump` shows it.
type DumpEntry struct {
	Queue    string          `json:"queue"`
	Marker   string          `json:"marker"`
	Attempts int             `json:"attempts"`
	Entry    json.RawMessage `json:"entry"` // {"event":{record},"push_endpoint":...}
}

// Dump returns the entries that wait, oldest first within each queue, at most
// max (0: 1000), without secrets. Entries that cannot be decoded are left out:
// they become dead letters. Errors: ErrNoSuchTopic.
func (s *Service) Dump(ctx context.Context, tenant, name string, max int) ([]DumpEntry, error) {
	topic, err := s.topics.Get(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	out := []DumpEntry{}
	if topic.Dest.Queue == "" {
		return out, nil
	}
	if max <= 0 {
		max = defaultDump
	}
	for i := range topic.Dest.Shards {
		shard := ShardName(topic.Dest.Queue, i)
		q, err := s.cfg.Queues.Open(ctx, shard)
		if errors.Is(err, queue.ErrNoSuchQueue) {
			continue
		}
		if err != nil {
			return nil, err
		}
		show := func(e queue.Entry) (bool, error) {
			if len(out) >= max {
				return false, nil
			}
			if entry, err := decodeEntry(e.Data); err == nil {
				out = append(out, DumpEntry{shard, string(e.Marker), e.Attempts, entry.dump()})
			}
			return true, nil
		}
		if err := eachWaiting(ctx, q, max, show); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// eachWaiting calls f with the entries of a queue, then with at most max that
// wait in an outbox before it. These are read first: what is moved meanwhile is
// not missed, and told from what is there by being equal.
func eachWaiting(ctx context.Context, q queue.Queue, max int, f func(queue.Entry) (bool, error)) error {
	var unsent []queue.Entry
	if sender, ok := q.(queue.Sender); ok {
		var err error
		if unsent, err = sender.Unsent(ctx, max); err != nil {
			return err
		}
	}
	there := make(map[string]bool, len(unsent))
	for _, e := range unsent {
		there[string(e.Data)] = false
	}
	err := eachEntry(ctx, q, "", func(e queue.Entry) (bool, error) {
		if _, ok := there[string(e.Data)]; ok {
			there[string(e.Data)] = true
		}
		return f(e)
	})
	for _, e := range unsent {
		if err != nil {
			return err
		}
		if !there[string(e.Data)] {
			_, err = f(e)
		}
	}
	return err
}

// TopicHealth is the readiness of one topic.
type TopicHealth struct {
	Topic  string `json:"topic"` // ARN
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

// Health returns the readiness of every topic with an endpoint: one is not
// ready when its endpoint cannot be used or fails again and again, or when its
// events are stuck: see Options.StuckAfter.
func (s *Service) Health(ctx context.Context) ([]TopicHealth, error) {
	topics, err := s.topics.All(ctx)
	if err != nil {
		return nil, err
	}
	out := []TopicHealth{}
	for _, t := range topics {
		if t.Dest.PushEndpoint == "" {
			continue
		}
		h := TopicHealth{Topic: t.ARN, Ready: true}
		if err := s.endpointHealth(ctx, t); err != nil {
			h.Ready, h.Detail = false, strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		out = append(out, h)
	}
	return out, nil
}

// Recovered tells whether the reservations that a crash left behind were all
// resolved; before that no queue is delivered, and persistent topics take no
// event.
func (s *Service) Recovered() bool { return s.recovered.Load() }
