package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"herald/queue"
	"herald/store"
)

// Topics are the topics of all tenants, as records "topic/TENANT:NAME". Its
// methods may be called concurrently.
//
// A topic's queues exist while its record names them: they are made and
// deleted after the record was changed. Before it a note is written of what is
// to be done (queueNote), so that somebody can do it if the gateway dies. All
// changes hold the topic's guard.
type Topics struct {
	records  store.Records
	queues   queue.Driver
	owner    string // of locks
	shards   int    // of topics that get queues
	capacity int64
	atOnce   int    // calls to the queues
	changed  func() // called after every change
	// undecodable is told of a record that cannot be read, again and again.
	undecodable func(record string, version uint64, err error)
	// unacknowledged, if set, is told of a topic that becomes one: see
	// Topic.Unacknowledged.
	unacknowledged func(*Topic)
	// strangers tells whether gateways with another store serve the queues of
	// that name.
	strangers func(ctx context.Context, queue string) (bool, error)

	writing chan struct{} // holds a token while this process changes a topic
	cache   topicCache
}

// topicCache holds topics by the names of their records.
type topicCache struct {
	mu sync.RWMutex // guards m
	m  map[string]cachedTopic
}

type cachedTopic struct {
	version uint64
	topic   *Topic
}

const (
	topicPrefix = "topic/"
	// topicLockTTL bounds how long a gateway that died in the middle of a
	// change keeps others from changing the topic.
	topicLockTTL = 10 * time.Second
	lockRetry    = 20 * time.Millisecond
	// conflictRetry lets a cached record grow old: see store.Records.
	conflictRetry = 100 * time.Millisecond
)

// TopicCheck decides, under the guard of the change, whether it is allowed.
// cur is nil when the topic is new. Its error is passed on.
type TopicCheck func(cur, next *Topic) error

func topicRecord(tenant, name string) string { return topicPrefix + tenant + ":" + name }

// knownRecord is topicRecord, or "" when no topic has such a name.
func knownRecord(tenant, name string) string {
	if !validRecordPart(tenant) || !validRecordPart(name) {
		return ""
	}
	return topicRecord(tenant, name)
}

// validRecordPart tells whether s can be in a record's name; no topic has
// another name.
func validRecordPart(s string) bool {
	if len(s) > 256 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.$@", rune(c)) {
			return false
		}
	}
	return true
}

// Get returns a topic. Errors: ErrNoSuchTopic.
func (t *Topics) Get(ctx context.Context, tenant, name string) (*Topic, error) {
	topic, _, err := t.get(ctx, tenant, name)
	return topic, err
}

func (t *Topics) get(ctx context.Context, tenant, name string) (*Topic, uint64, error) {
	return t.load(ctx, knownRecord(tenant, name))
}

// load reads the topic of a record; "" is that of no topic.
func (t *Topics) load(ctx context.Context, record string) (*Topic, uint64, error) {
	if record == "" {
		return nil, 0, ErrNoSuchTopic
	}
	data, version, err := t.records.Get(ctx, record)
	if errors.Is(err, store.ErrNoSuchRecord) {
		t.cache.drop(record)
		return nil, 0, ErrNoSuchTopic
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get topic: %w", err)
	}
	if c := t.cache.get(record); c.topic != nil && c.version == version {
		return c.topic, version, nil
	}
	topic := new(Topic)
	if err := json.Unmarshal(data, topic); err != nil {
		return nil, version, fmt.Errorf("%w: %s: %w", errUndecodable, record, err)
	}
	t.cache.put(record, cachedTopic{version, topic})
	return topic, version, nil
}

// Create stores a topic. One that exists keeps its owner, its queues and
// their number; all else is replaced, and what waits in its queues will be
// delivered as the new one says. check may be nil. The record is durable on
// return. Errors: check's.
func (t *Topics) Create(ctx context.Context, topic *Topic, check TopicCheck) (*Topic, error) {
	return t.update(ctx, topic.Tenant(), topic.Name, check, func(cur *Topic) (*Topic, error) {
		next := *topic
		if cur != nil {
			next.Owner, next.Dest.Queue, next.Dest.Shards = cur.Owner, cur.Dest.Queue, cur.Dest.Shards
		}
		return &next, nil
	})
}

// SetAttribute changes one attribute. Making a topic not persistent, or its
// endpoint empty, deletes its queues with all that waits in them (RGW).
// check may be nil.
// Errors: ErrNoSuchTopic, ErrInvalidAttribute, ErrInvalidEndpoint, check's.
func (t *Topics) SetAttribute(ctx context.Context, tenant, name, attr, value string, check TopicCheck) (*Topic, error) {
	return t.update(ctx, tenant, name, check, func(cur *Topic) (*Topic, error) {
		if cur == nil {
			return nil, ErrNoSuchTopic
		}
		next, err := cur.WithAttribute(attr, value)
		if err == nil && !next.Queued() && (attr == AttrPersistent || attr == AttrPushEndpoint) {
			next.Dest.Queue = ""
		}
		return next, err
	})
}

// update changes a topic's record under its guard: change gets what is there
// (nil: nothing) and returns what shall be; it may be called again.
func (t *Topics) update(ctx context.Context, tenant, name string, check TopicCheck, change func(cur *Topic) (*Topic, error)) (*Topic, error) {
	work, unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for {
		cur, version, err := t.get(work, tenant, name)
		if err != nil && !errors.Is(err, ErrNoSuchTopic) {
			return nil, err
		}
		next, err := change(cur)
		if err != nil {
			return nil, err
		}
		if check != nil {
			if err := check(cur, next); err != nil {
				return nil, err
			}
		}
		err = t.put(work, cur, next, version)
		if !errors.Is(err, store.ErrRecordConflict) {
			if why := next.Unacknowledged(); err == nil && why != "" && t.unacknowledged != nil && (cur == nil || cur.Unacknowledged() != why) {
				t.unacknowledged(next)
			}
			return next, err
		}
		// What Get gave came from a cache; another gateway was here.
		if err := sleep(work, conflictRetry); err != nil {
			return nil, err
		}
	}
}

// put writes a topic's record, and makes or deletes its queues. The topic's
// guard is held. Errors: store.ErrRecordConflict.
func (t *Topics) put(ctx context.Context, cur, next *Topic, version uint64) error {
	had := cur != nil && cur.Dest.Queue != ""
	if next.Queued() && next.Dest.Queue == "" {
		next.Dest.Queue = queueOf(next.Tenant(), next.Name)
		next.Dest.Shards = cmp.Or(next.Dest.Shards, t.shards)
	}
	has := next.Dest.Queue != ""
	var note queueNote
	if had != has {
		note = queueNote{Queue: queueOf(next.Tenant(), next.Name), Shards: next.Dest.Shards, Delete: had}
		if err := t.begin(ctx, next.Tenant(), next.Name, &note); err != nil {
			return err
		}
	}
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("store topic %s: %w", next.Name, err)
	}
	if _, err := t.records.Put(ctx, topicRecord(next.Tenant(), next.Name), data, version); err != nil {
		return fmt.Errorf("store topic %s: %w", next.Name, err)
	}
	t.changed()
	if has { // also those that are gone without our doing
		if err := t.makeQueues(ctx, next); err != nil {
			return err
		}
	}
	if had != has {
		return t.carryOut(ctx, next.Tenant(), next.Name, &note)
	}
	return nil
}

// Delete removes a topic, its queues and its dead letters. Rules that point
// to it stay, and are skipped. Gateways with another store that have a topic of
// that name lose what waits in its queues. Errors: ErrNoSuchTopic.
func (t *Topics) Delete(ctx context.Context, tenant, name string) error {
	work, unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return err
	}
	defer unlock()
	for {
		cur, version, err := t.get(work, tenant, name)
		if err != nil {
			return err
		}
		err = t.remove(work, cur, version)
		if !errors.Is(err, store.ErrRecordConflict) {
			return err
		}
		if err := sleep(work, conflictRetry); err != nil { // as in update
			return err
		}
	}
}

// remove is the guarded part of Delete.
func (t *Topics) remove(ctx context.Context, cur *Topic, version uint64) error {
	note := queueNote{Queue: cur.Dest.Queue, Shards: cur.Dest.Shards, Delete: true}
	if note.Queue != "" {
		if err := t.begin(ctx, cur.Tenant(), cur.Name, &note); err != nil {
			return err
		}
	}
	err := t.records.Delete(ctx, topicRecord(cur.Tenant(), cur.Name), version)
	if err != nil && !errors.Is(err, store.ErrNoSuchRecord) { // else an earlier try did it
		return fmt.Errorf("delete topic %s: %w", cur.Name, err)
	}
	t.changed()
	if note.Queue == "" {
		return nil
	}
	return t.carryOut(ctx, cur.Tenant(), cur.Name, &note)
}

// List returns a page of a tenant's topics in byte order of their names: those
// after a name, at most max (0: all). next is the name to go on after, empty
// at the end.
func (t *Topics) List(ctx context.Context, tenant, after string, max int) (topics []*Topic, next string, err error) {
	if !validRecordPart(tenant) {
		return nil, "", nil
	}
	prefix := topicRecord(tenant, "")
	marker, want := "", 0
	if after != "" {
		marker = prefix + after
	}
	if max > 0 {
		want = max + 1
	}
	names, err := t.records.List(ctx, prefix, marker, want)
	if err != nil {
		return nil, "", fmt.Errorf("list topics: %w", err)
	}
	if max > 0 && len(names) > max {
		names = names[:max]
		next = strings.TrimPrefix(names[max-1], prefix)
	}
	topics, _, err = t.loadAll(ctx, names)
	return topics, next, err
}

// All returns the topics of all tenants, but those whose records cannot be
// read.
func (t *Topics) All(ctx context.Context) ([]*Topic, error) {
	topics, _, err := t.all(ctx)
	return topics, err
}

// all is All, and tells whether these are really all.
func (t *Topics) all(ctx context.Context) (topics []*Topic, complete bool, err error) {
	names, err := t.records.List(ctx, topicPrefix, "", 0)
	if err != nil {
		return nil, false, fmt.Errorf("list topics: %w", err)
	}
	t.prune(names)
	return t.loadAll(ctx, names)
}

// prune leaves only topics of those records in the cache.
func (t *Topics) prune(names []string) {
	exists := make(map[string]bool, len(names))
	for _, name := range names {
		exists[name] = true
	}
	t.cache.mu.Lock()
	defer t.cache.mu.Unlock()
	maps.DeleteFunc(t.cache.m, func(name string, _ cachedTopic) bool { return !exists[name] })
}

func (c *topicCache) get(record string) cachedTopic {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[record]
}

func (c *topicCache) put(record string, topic cachedTopic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]cachedTopic)
	}
	c.m[record] = topic
}

func (c *topicCache) drop(record string) {
	if c.get(record).topic == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, record)
}

func (t *Topics) loadAll(ctx context.Context, names []string) (topics []*Topic, complete bool, err error) {
	topics, complete = make([]*Topic, 0, len(names)), true
	for _, name := range names {
		topic, version, err := t.load(ctx, name)
		switch {
		case errors.Is(err, ErrNoSuchTopic):
			continue // deleted meanwhile
		case errors.Is(err, errUndecodable):
			t.undecodable(name, version, err)
			complete = false
			continue
		case err != nil:
			return nil, false, err
		}
		topics = append(topics, topic)
	}
	return topics, complete, nil
}

// SubscribedBuckets returns the names ("tenant:bucket" or "bucket") of the
// buckets with a rule for the topic. It reads every bucket's record.
func (t *Topics) SubscribedBuckets(ctx context.Context, arn string) ([]string, error) {
	const prefix = "bucket/"
	names, err := t.records.List(ctx, prefix, "", 0)
	if err != nil {
		return nil, fmt.Errorf("subscribed buckets: %w", err)
	}
	out := []string{}
	for _, name := range names {
		data, _, err := t.records.Get(ctx, name)
		if errors.Is(err, store.ErrNoSuchRecord) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("subscribed buckets: %w", err)
		}
		var info store.BucketInfo
		if json.Unmarshal(data, &info) != nil {
			continue // fsck's business
		}
		rules, err := ParseRules(info.Attrs[AttrNotification])
		if err == nil && slices.ContainsFunc(rules, func(r Rule) bool { return r.TopicARN == arn }) {
			out = append(out, strings.TrimPrefix(name, prefix))
		}
	}
	return out, nil
}
