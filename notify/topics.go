package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
// A topic's queues exist while its record names them: they are made before the
// record is written and removed after it was changed. What a crash leaves over
// is removed by the dispatcher's sweep. Both hold the topic's guard.
type Topics struct {
	records  store.Records
	queues   queue.Driver
	owner    string // of locks
	shards   int    // of topics that get queues
	capacity int64
	changed  func() // called after every change

	writing chan struct{} // holds a token while this process changes a topic
	cache   sync.Map      // record name -> cachedTopic
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
	if !validRecordPart(tenant) || !validRecordPart(name) {
		return nil, 0, ErrNoSuchTopic
	}
	return t.load(ctx, topicRecord(tenant, name))
}

func (t *Topics) load(ctx context.Context, record string) (*Topic, uint64, error) {
	data, version, err := t.records.Get(ctx, record)
	if errors.Is(err, store.ErrNoSuchRecord) {
		t.cache.Delete(record)
		return nil, 0, ErrNoSuchTopic
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get topic: %w", err)
	}
	if c, ok := t.cache.Load(record); ok && c.(cachedTopic).version == version {
		return c.(cachedTopic).topic, version, nil
	}
	topic := new(Topic)
	if err := json.Unmarshal(data, topic); err != nil {
		return nil, 0, fmt.Errorf("decode %s: %w", record, err)
	}
	t.cache.Store(record, cachedTopic{version, topic})
	return topic, version, nil
}

// Create stores a topic. One that exists keeps its owner, its queues and
// their number; all else is replaced, and what waits in its queues will be
// delivered as the new one says. check may be nil. The record is durable on
// return. Errors: check's.
func (t *Topics) Create(ctx context.Context, topic *Topic, check TopicCheck) (*Topic, error) {
	_, next, err := t.update(ctx, topic.Tenant(), topic.Name, check, func(cur *Topic) (*Topic, error) {
		next := *topic
		if cur != nil {
			next.Owner, next.Dest.Queue, next.Dest.Shards = cur.Owner, cur.Dest.Queue, cur.Dest.Shards
		}
		return &next, nil
	})
	return next, err
}

// SetAttribute changes one attribute. Making a topic not persistent, or its
// endpoint empty, deletes its queues with all that waits in them (RGW).
// check may be nil.
// Errors: ErrNoSuchTopic, ErrInvalidAttribute, ErrInvalidEndpoint, check's.
func (t *Topics) SetAttribute(ctx context.Context, tenant, name, attr, value string, check TopicCheck) (*Topic, error) {
	cur, next, err := t.update(ctx, tenant, name, check, func(cur *Topic) (*Topic, error) {
		if cur == nil {
			return nil, ErrNoSuchTopic
		}
		next, err := cur.WithAttribute(attr, value)
		if err == nil && !next.Queued() && (attr == AttrPersistent || attr == AttrPushEndpoint) {
			next.Dest.Queue = ""
		}
		return next, err
	})
	if err != nil {
		return nil, err
	}
	if cur.Dest.Queue != "" && next.Dest.Queue == "" {
		if err := t.sweep(ctx, cur.Dest.Queue, cur.Dest.Shards); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// update changes a topic's record under its guard: change gets what is there
// (nil: nothing) and returns what shall be; it may be called again.
func (t *Topics) update(ctx context.Context, tenant, name string, check TopicCheck, change func(cur *Topic) (*Topic, error)) (cur, next *Topic, err error) {
	unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	for {
		cur, version, err := t.get(ctx, tenant, name)
		if err != nil && !errors.Is(err, ErrNoSuchTopic) {
			return nil, nil, err
		}
		next, err := change(cur)
		if err != nil {
			return nil, nil, err
		}
		if check != nil {
			if err := check(cur, next); err != nil {
				return nil, nil, err
			}
		}
		err = t.put(ctx, next, version)
		if !errors.Is(err, store.ErrRecordConflict) {
			return cur, next, err
		}
		// What Get gave came from a cache; another gateway was here.
		if err := sleep(ctx, conflictRetry); err != nil {
			return nil, nil, err
		}
	}
}

// put makes the queues that a topic needs and writes its record.
func (t *Topics) put(ctx context.Context, next *Topic, version uint64) error {
	if next.Queued() && next.Dest.Queue == "" {
		next.Dest.Queue = queueOf(next.Tenant(), next.Name)
		if next.Dest.Shards == 0 {
			next.Dest.Shards = t.shards
		}
		if err := t.dropLeft(ctx, next.Dest.Queue); err != nil {
			return err
		}
		if err := t.makeQueues(ctx, next); err != nil {
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
	return nil
}

// Delete removes a topic, its queues and its dead letters. Rules that point
// to it stay, and are skipped. Errors: ErrNoSuchTopic.
func (t *Topics) Delete(ctx context.Context, tenant, name string) error {
	unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return err
	}
	defer unlock()
	cur, version, err := t.get(ctx, tenant, name)
	if err != nil {
		return err
	}
	if err := t.records.Delete(ctx, topicRecord(tenant, name), version); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	t.changed()
	if cur.Dest.Queue == "" {
		return nil
	}
	return t.sweep(ctx, cur.Dest.Queue, cur.Dest.Shards)
}

// makeQueues creates the topic's queues; those that exist stay.
func (t *Topics) makeQueues(ctx context.Context, topic *Topic) error {
	for i := range topic.Dest.Shards {
		err := t.queues.Create(ctx, ShardName(topic.Dest.Queue, i), t.capacity)
		if err != nil && !errors.Is(err, queue.ErrQueueExists) {
			return fmt.Errorf("create queue of topic %s: %w", topic.Name, err)
		}
	}
	return nil
}

// sweep deletes queues: the shards of that name and the dead letters.
func (t *Topics) sweep(ctx context.Context, name string, shards int) error {
	names := []string{deadQueue(name)}
	for i := range shards {
		names = append(names, ShardName(name, i))
	}
	for _, name := range names {
		if err := t.queues.Delete(ctx, name); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return fmt.Errorf("delete queue %s: %w", name, err)
		}
	}
	return nil
}

// dropLeft deletes the queues of that name that the interrupted deletion of an
// earlier topic left: what waits in them went with it.
func (t *Topics) dropLeft(ctx context.Context, name string) error {
	names, err := t.queues.List(ctx, name)
	if err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	for _, q := range names {
		if q != name && baseQueue(q) != name {
			continue
		}
		if err := t.queues.Delete(ctx, q); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return fmt.Errorf("delete queue %s: %w", q, err)
		}
	}
	return nil
}

// repair makes the queues of a topic that should have them and does not (a
// crash may have come between).
func (t *Topics) repair(ctx context.Context, tenant, name string) error {
	unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return err
	}
	defer unlock()
	topic, _, err := t.get(ctx, tenant, name)
	if err != nil || topic.Dest.Queue == "" {
		return err
	}
	return t.makeQueues(ctx, topic)
}

// sweepOrphan deletes a queue whose topic is gone or has no queues any more.
func (t *Topics) sweepOrphan(ctx context.Context, queueName, tenant, name string) error {
	unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return err
	}
	defer unlock()
	topic, _, err := t.get(ctx, tenant, name)
	if err != nil && !errors.Is(err, ErrNoSuchTopic) {
		return err
	}
	if topic != nil && topic.Dest.Queue != "" {
		return nil
	}
	err = t.queues.Delete(ctx, queueName)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return nil
	}
	return err
}

// lock is the topic's guard against changes by this gateway and others.
// Changes of topics are rare: within a process they wait for each other.
func (t *Topics) lock(ctx context.Context, tenant, name string) (unlock func(), err error) {
	if !validRecordPart(tenant) || !validRecordPart(name) {
		return nil, ErrNoSuchTopic
	}
	select {
	case t.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	lease, err := acquire(ctx, t.queues.Locker(), topicRecord(tenant, name), t.owner, topicLockTTL)
	if err != nil {
		<-t.writing
		return nil, fmt.Errorf("lock topic %s: %w", name, err)
	}
	return func() {
		// An error leaves the lock to its time to live.
		_ = lease.Release(context.WithoutCancel(ctx))
		<-t.writing
	}, nil
}

// acquire waits for a lock.
func acquire(ctx context.Context, l queue.Locker, name, owner string, ttl time.Duration) (queue.Lease, error) {
	for {
		lease, err := l.Acquire(ctx, name, owner, ttl)
		if !errors.Is(err, queue.ErrLocked) {
			return lease, err
		}
		if err := sleep(ctx, lockRetry); err != nil {
			return nil, err
		}
	}
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
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
	topics, err = t.loadAll(ctx, names)
	return topics, next, err
}

// All returns the topics of all tenants.
func (t *Topics) All(ctx context.Context) ([]*Topic, error) {
	names, err := t.records.List(ctx, topicPrefix, "", 0)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	return t.loadAll(ctx, names)
}

func (t *Topics) loadAll(ctx context.Context, names []string) ([]*Topic, error) {
	topics := make([]*Topic, 0, len(names))
	for _, name := range names {
		topic, _, err := t.load(ctx, name)
		if errors.Is(err, ErrNoSuchTopic) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		topics = append(topics, topic)
	}
	return topics, nil
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
