package notify

import (
	"context"
	"encoding/json"
	"time"
)

// TopicStats are a topic's figures, summed over its queues.
type TopicStats struct {
	Reservations int64
	Size         int64 // bytes of entries
	Entries      int64
	Oldest       time.Time `json:"-"` // when the oldest entry came; zero when empty
}

// TopicStats returns a topic's figures; zero for one without queues.
// Errors: ErrNoSuchTopic.
func (s *Service) TopicStats(ctx context.Context, tenant, name string) (TopicStats, error) {
	return TopicStats{}, ErrNoSuchTopic
}

// DumpEntry is one waiting entry, as `radosgw-admin topic dump` shows it.
type DumpEntry struct {
	Queue    string          `json:"queue"`
	Marker   string          `json:"marker"`
	Attempts int             `json:"attempts"`
	Entry    json.RawMessage `json:"entry"` // {"event":{record},"push_endpoint":...}
}

// Dump returns the entries that wait, oldest first within each queue, at most
// max (0: 1000). Errors: ErrNoSuchTopic.
func (s *Service) Dump(ctx context.Context, tenant, name string, max int) ([]DumpEntry, error) {
	return nil, ErrNoSuchTopic
}

// TopicHealth is the readiness of one topic.
type TopicHealth struct {
	Topic  string `json:"topic"` // ARN
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
}

// Health returns the readiness of every topic that has queues or an endpoint:
// not ready when its endpoint cannot be opened or is failing.
func (s *Service) Health(ctx context.Context) ([]TopicHealth, error) { return nil, nil }

// DeadLetter is an entry that was given up.
type DeadLetter struct {
	Marker    string          `json:"marker"`
	Time      time.Time       `json:"time"`
	Reason    string          `json:"reason"` // "time_to_live", "max_retries", "rejected", "undecodable"
	Attempts  int             `json:"attempts"`
	LastError string          `json:"last_error,omitempty"`
	Queue     string          `json:"queue"`
	Entry     json.RawMessage `json:"entry,omitempty"` // as in DumpEntry
	Raw       []byte          `json:"raw,omitempty"`   // of an undecodable entry
}

// DeadLetters lists a topic's dead letters after a marker, oldest first, at
// most max (0: 1000). Errors: ErrNoSuchTopic.
func (s *Service) DeadLetters(ctx context.Context, tenant, name, after string, max int) ([]DeadLetter, error) {
	return nil, ErrNoSuchTopic
}

// Redrive puts dead letters back into the topic's queues, with a fresh age and
// no attempts: those with the markers, or all. It returns how many.
// Errors: ErrNoSuchTopic, ErrNotQueued, ErrFull.
func (s *Service) Redrive(ctx context.Context, tenant, name string, markers ...string) (int, error) {
	return 0, ErrNoSuchTopic
}

// PurgeDeadLetters drops dead letters: those with the markers, or all. It
// returns how many. Errors: ErrNoSuchTopic.
func (s *Service) PurgeDeadLetters(ctx context.Context, tenant, name string, markers ...string) (int, error) {
	return 0, ErrNoSuchTopic
}
