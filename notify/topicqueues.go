package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"herald/queue"
	"herald/store"
)

// queueNote is a record "topic-queues/TENANT:NAME": a change of a topic has
// begun that makes or deletes its queues, and has not ended. It is the only
// reason to touch queues that no topic of ours names: those of gateways with
// other stores may be beside ours. While there is a note no topic of that name
// gets queues, since that begins with a note of its own.
type queueNote struct {
	Queue  string `json:"queue"` // the first one
	Shards int    `json:"shards"`
	Delete bool   `json:"delete"` // else they are made

	version uint64
}

const notePrefix = "topic-queues/"

func noteRecord(tenant, name string) string { return notePrefix + tenant + ":" + name }

// begin writes a note, after what an earlier one tells of was done. The
// topic's guard is held.
func (t *Topics) begin(ctx context.Context, tenant, name string, note *queueNote) error {
	data, err := json.Marshal(note)
	if err != nil {
		return fmt.Errorf("note change of topic %s: %w", name, err)
	}
	for {
		if err := t.finish(ctx, tenant, name); err != nil {
			return err
		}
		note.version, err = t.records.Put(ctx, noteRecord(tenant, name), data, 0)
		if !errors.Is(err, store.ErrRecordConflict) {
			return err
		}
		if err := sleep(ctx, conflictRetry); err != nil { // as in update
			return err
		}
	}
}

// carryOut deletes the queues if that was noted, and ends the change. The
// topic's guard is held.
func (t *Topics) carryOut(ctx context.Context, tenant, name string, note *queueNote) error {
	if note.Delete {
		if err := t.deleteQueues(ctx, note); err != nil {
			return err
		}
	}
	err := t.records.Delete(ctx, noteRecord(tenant, name), note.version)
	if err != nil && !errors.Is(err, store.ErrNoSuchRecord) {
		return fmt.Errorf("end change of topic %s: %w", name, err)
	}
	return nil
}

// finish ends the change that a gateway did not live to end, if there is one:
// queues are made if the topic names them, and deleted if it does not, unless
// gateways with another store serve them. The topic's guard is held.
func (t *Topics) finish(ctx context.Context, tenant, name string) error {
	for {
		err := t.finishOnce(ctx, tenant, name)
		if !errors.Is(err, store.ErrRecordConflict) {
			return err
		}
		if err := sleep(ctx, conflictRetry); err != nil { // as in update
			return err
		}
	}
}

// finishOnce may give store.ErrRecordConflict: what was read was old.
func (t *Topics) finishOnce(ctx context.Context, tenant, name string) error {
	data, version, err := t.records.Get(ctx, noteRecord(tenant, name))
	if errors.Is(err, store.ErrNoSuchRecord) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read note of topic %s: %w", name, err)
	}
	var note queueNote
	if err := json.Unmarshal(data, &note); err != nil {
		return fmt.Errorf("%w: note of topic %s: %w", errUndecodable, name, err)
	}
	// That this succeeds is the proof that the note still stands.
	if note.version, err = t.records.Put(ctx, noteRecord(tenant, name), data, version); err != nil {
		return fmt.Errorf("take over note of topic %s: %w", name, err)
	}
	topic, _, err := t.get(ctx, tenant, name)
	if err != nil && !errors.Is(err, ErrNoSuchTopic) {
		return err
	}
	used := topic != nil && topic.Dest.Queue != ""
	switch {
	case used:
		note.Delete = false
		if err := t.makeQueues(ctx, topic); err != nil {
			return err
		}
	case note.Delete:
		if note.Delete, err = t.mayDelete(ctx, &note); err != nil {
			return err
		}
	}
	return t.carryOut(ctx, tenant, name, &note)
}

// mayDelete is asked long after a deletion began.
func (t *Topics) mayDelete(ctx context.Context, note *queueNote) (bool, error) {
	others, err := t.strangers(ctx, note.Queue)
	return !others, err
}

// unfinished returns the notes that there are, with their versions.
func (t *Topics) unfinished(ctx context.Context) (map[string]uint64, error) {
	names, err := t.records.List(ctx, notePrefix, "", 0)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	notes := make(map[string]uint64, len(names))
	for _, name := range names {
		_, version, err := t.records.Get(ctx, name)
		if errors.Is(err, store.ErrNoSuchRecord) {
			continue
		}
		if err != nil {
			return nil, err
		}
		notes[name] = version
	}
	return notes, nil
}

// sweep ends the changes that are as they were in seen, those of the last
// sweep: the gateways that began them are gone. It returns those of now.
func (t *Topics) sweep(ctx context.Context, seen map[string]uint64) (map[string]uint64, error) {
	notes, err := t.unfinished(ctx)
	if err != nil {
		return nil, fmt.Errorf("list unfinished changes of topics: %w", err)
	}
	var errs []error
	for record, version := range notes {
		if seen[record] != version {
			continue
		}
		tenant, name, _ := strings.Cut(strings.TrimPrefix(record, notePrefix), ":")
		work, unlock, err := t.lock(ctx, tenant, name)
		if err == nil {
			err = t.finish(work, tenant, name)
			unlock()
		}
		errs = append(errs, err)
	}
	return notes, errors.Join(errs...)
}

// makeQueues creates the topic's queues; those that exist stay.
func (t *Topics) makeQueues(ctx context.Context, topic *Topic) error {
	errs := make([]error, topic.Dest.Shards)
	parallel(len(errs), t.atOnce, func(i int) {
		err := t.queues.Create(ctx, ShardName(topic.Dest.Queue, i), t.capacity)
		if err != nil && !errors.Is(err, queue.ErrQueueExists) {
			errs[i] = fmt.Errorf("create queue of topic %s: %w", topic.Name, err)
		}
	})
	return errors.Join(errs...)
}

// deleteQueues deletes what a note names, and last the dead letters, which are
// made only where there is a queue. Before each it looks whether the guard is
// still held: else there may be another topic of that name by now.
func (t *Topics) deleteQueues(ctx context.Context, note *queueNote) error {
	errs := make([]error, note.Shards)
	remove := func(name string) error {
		if ctx.Err() != nil {
			return fmt.Errorf("delete queue %s: %w", name, context.Cause(ctx))
		}
		if err := t.queues.Delete(ctx, name); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
			return fmt.Errorf("delete queue %s: %w", name, err)
		}
		return nil
	}
	parallel(len(errs), t.atOnce, func(i int) { errs[i] = remove(ShardName(note.Queue, i)) })
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return remove(deadQueue(note.Queue))
}

// repair makes the queues of a topic that should have them and does not: a
// gateway with another store deleted a topic of that name, or a crash came
// between. Errors: ErrNoSuchTopic, also when it has no queues.
func (t *Topics) repair(ctx context.Context, tenant, name string) error {
	work, unlock, err := t.lock(ctx, tenant, name)
	if err != nil {
		return err
	}
	defer unlock()
	topic, err := t.confirm(work, tenant, name)
	if err != nil {
		return err
	}
	if topic.Dest.Queue == "" {
		return ErrNoSuchTopic
	}
	return t.makeQueues(work, topic)
}

// makeDead creates the queue of a topic's dead letters.
// Errors: queue.ErrNoSuchQueue: the topic has no queues any more.
func (t *Topics) makeDead(ctx context.Context, base string, capacity int64) error {
	tenant, name, ok := topicOfQueue(base)
	if !ok {
		return queue.ErrNoSuchQueue
	}
	work, unlock, err := t.lock(ctx, tenant, name)
	if errors.Is(err, ErrNoSuchTopic) {
		return queue.ErrNoSuchQueue
	}
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := t.queues.Open(work, base); err != nil {
		return fmt.Errorf("dead letters of %s: %w", base, err)
	}
	topic, err := t.confirm(work, tenant, name)
	if errors.Is(err, ErrNoSuchTopic) || err == nil && topic.Dest.Queue != base {
		return queue.ErrNoSuchQueue
	}
	if err != nil {
		return err
	}
	err = t.queues.Create(work, deadQueue(base), capacity)
	if err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return fmt.Errorf("create %s: %w", deadQueue(base), err)
	}
	return nil
}

// confirm returns a topic as it is, which Get need not: its record is written
// as it was. The topic's guard is held. Errors: ErrNoSuchTopic.
func (t *Topics) confirm(ctx context.Context, tenant, name string) (*Topic, error) {
	for {
		topic, version, err := t.get(ctx, tenant, name)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(topic)
		if err != nil {
			return nil, fmt.Errorf("confirm topic %s: %w", name, err)
		}
		_, err = t.records.Put(ctx, topicRecord(tenant, name), data, version)
		if !errors.Is(err, store.ErrRecordConflict) {
			return topic, err
		}
		if err := sleep(ctx, conflictRetry); err != nil { // as in update
			return nil, err
		}
	}
}

// lock is the topic's guard against changes by this gateway and others. work
// does not end with ctx, a change that has begun is brought to its end, but
// with the guard. Changes of topics are rare: within a process they wait for
// each other.
func (t *Topics) lock(ctx context.Context, tenant, name string) (work context.Context, unlock func(), err error) {
	if !validRecordPart(tenant) || !validRecordPart(name) {
		return nil, nil, ErrNoSuchTopic
	}
	select {
	case t.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	h, work, err := t.acquire(ctx, topicRecord(tenant, name))
	if err != nil {
		<-t.writing
		return nil, nil, fmt.Errorf("lock topic %s: %w", name, err)
	}
	return work, func() {
		h.release()
		<-t.writing
	}, nil
}

// acquire waits for a lock.
func (t *Topics) acquire(ctx context.Context, name string) (*holding, context.Context, error) {
	for pause := lockRetry; ; pause = min(2*pause, 10*lockRetry) {
		h, work, err := takeLease(ctx, t.queues.Locker(), name, t.owner, topicLockTTL)
		if !errors.Is(err, queue.ErrLocked) {
			return h, work, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, nil, err
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
